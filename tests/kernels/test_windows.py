"""Kernels touch no byte beside the window that they are given, at any edge of a picture.

A window lies between pages that nobody may touch, with no byte to spare; only addresses of
pixel (0, 0) are known, which may lie in such a page. So do result and scratch. A read outside ends
the process, so all of it runs in one of its own, which says what it was about to do.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fences import Fences

from gpuio.kernels.resample import finish, resample
from gpuio.kernels.steps import NORM, STEP, OutputType, StepKind, table_bytes
from gpuio.kernels.warp import weight_table
from gpuio.transforms.geometry import ResampleChain

SIZES = ((64, 20000), (5, 30000), (30000, 21), (61, 83), (2, 3), (1, 1))
"""Heights and widths of pictures."""
WINDOWS = ((36, 36), (7, 53), (1, 1))
"""Heights and widths of windows; not all are whole vectors."""
TAPS = {StepKind.WARP_CUBIC: 4, StepKind.WARP_LANCZOS: 8}
POISON = 0xA5
TESTS = Path(__file__).parents[1]


def turned(size, canvas):
    """Canvas to source: a slight turn, so that rows of the canvas cross rows of the source."""
    a, b = np.cos(0.3), np.sin(0.3)
    return np.array([[a, b * size[1] / canvas[0] / 9, 0.4, -b / 99, size[0] / canvas[0], -0.7]])


def moves(size):
    """By name, what one picture goes through: functions of a `ResampleChain`."""
    height, width = size
    for inter in range(5):
        for name, scale in (("smaller", 0.43), ("larger", 1.31), ("half", 0.5)):
            to = np.maximum(1, np.array([[height, width]]) * scale).astype(np.int64)
            yield (
                f"resize {name} by method {inter}",
                lambda chain, to=to, inter=inter: chain.resize(to, np.array([inter])),
            )
    canvas = np.array([[height + 3, width + 5]])
    for kind in (
        StepKind.WARP_NEAREST,
        StepKind.WARP_LINEAR,
        StepKind.WARP_CUBIC,
        StepKind.WARP_LANCZOS,
    ):
        matrices = {"turned": turned(size, canvas[0]), "moved": np.array([[1, 0, 0.3, 0, 1, 0.6]])}
        for name, matrix in matrices.items():
            yield (
                f"warp {name} of kind {kind}",
                lambda chain, kind=kind, matrix=matrix: chain.warp(
                    canvas, np.array([kind]), matrix, 77
                ),
            )
    yield "border", lambda chain: chain.border(2, 9)


def corners(whole, window):
    """(y, x, height, width) of windows in the corners and in the middle of a picture."""
    height, width = np.minimum(whole, window)
    for place in itertools.product((0, 0.5, 1), repeat=2):
        y, x = (int(share * (all_ - part)) for share, all_, part in zip(
            place, whole, (height, width), strict=True
        ))  # fmt: skip
        if 0.5 not in place or place == (0.5, 0.5):
            yield y, x, height, width


def step_of(chain, channels):
    """The STEP row of a chain's only step, without addresses, and what it points to."""
    (step,) = chain.steps
    row = np.zeros(1, STEP)
    row["kind"], row["margin"], row["fill"] = step.kind, step.margin, step.fill
    row["src_height"], row["src_width"] = step.source.T
    row["dst_height"], row["dst_width"] = step.size.T
    row["y"], row["x"], row["rows"], row["cols"] = step.box.T
    row["dst_pitch"] = row["cols"] * channels
    norm = np.zeros(NORM, np.float32)
    row["norm"] = norm.ctypes.data
    held = [norm]
    if step.matrix is not None:
        held.append(np.ascontiguousarray(step.matrix))
        row["matrix"] = held[-1].ctypes.data
    if int(step.kind[0]) in TAPS:
        held.append(weight_table(TAPS[int(step.kind[0])]))
        row["weights"] = held[-1].ctypes.data
    return row, held


def run(row, how, channels, source, pitch, out, areas):
    row["src"], row["src_pitch"], row["dst"] = np.uint64(source % 2**64), pitch, out.ctypes.data
    nbytes = int(table_bytes(row, channels)[0]), int(row["rows"][0] * row["cols"][0] * channels)
    tables, scratch = (
        fences.at(size, at_end=True) for fences, size in zip(areas[2:], nbytes, strict=True)
    )
    tables[:], scratch[:] = POISON, POISON
    row["taps"], row["scratch"] = tables.ctypes.data, scratch.ctypes.data
    if how == "pixels":
        resample(1, 1, row.ctypes.data, channels)
    else:
        finish(1, 1, row.ctypes.data, channels, OutputType.UINT8, how == "NHWC")


def check(image, move, window, channels, areas):
    """All windows of one size of one picture, after one step."""
    inner, outer, *_ = areas
    chain = ResampleChain(np.array([image.shape[:2]]))
    move(chain)
    for box in corners(chain.size[0], window):
        chain.finish(np.array([box]))
        row, held = step_of(chain, channels)
        y, x, rows, cols = chain.window[0]
        part = image[y : y + rows, x : x + cols]
        for how in ("pixels", "NCHW", "NHWC"):
            wanted = np.empty(box[2] * box[3] * channels, np.uint8)
            run(row, how, channels, image.ctypes.data, image.strides[0], wanted, areas)
            for at_end in (True, False):
                source = inner.at(part.size, at_end=at_end)
                source[:] = part.reshape(-1)
                out = outer.at(wanted.size, at_end=at_end)
                out[:] = 0
                pitch = int(cols * channels)
                first = source.ctypes.data - int(y) * pitch - int(x) * channels
                run(row, how, channels, first, pitch, out, areas)
                assert (out == wanted).all(), (box, how, at_end)
        del held


def check_far_down(areas):
    """A warp of a picture whose rows lie further apart than 32 bits can say."""
    inner, outer, *_ = areas
    width, at, window = 1500, 1_000_000, (20, 53)
    image = np.random.default_rng(1).integers(0, 256, (61, width, 3), dtype=np.uint8)
    for kind in (
        StepKind.WARP_NEAREST,
        StepKind.WARP_LINEAR,
        StepKind.WARP_CUBIC,
        StepKind.WARP_LANCZOS,
    ):
        made = []
        for skipped in (0, at):
            chain = ResampleChain(np.array([(skipped + 61, width)]))
            matrix = np.array([[1, 0.01, 9.3, 0, 1, skipped + 20.6]])
            chain.warp(np.array([window]), np.array([kind]), matrix, 0)
            chain.finish(np.array([(0, 0, *window)]))
            row, held = step_of(chain, 3)
            source = inner.at(image.size, at_end=False)
            source[:] = image.reshape(-1)
            for how in ("pixels", "NCHW"):
                out = outer.at(window[0] * window[1] * 3, at_end=True)
                first = source.ctypes.data - skipped * 3 * width
                run(row, how, 3, first, 3 * width, out, areas)
                made.append(out.copy())
            del held
        assert (made[0] == made[2]).all()
        assert (made[1] == made[3]).all()


def main():
    rng = np.random.default_rng(0)
    areas = [Fences(nbytes) for nbytes in (1 << 20, 1 << 16, 1 << 20, 1 << 16)]
    for size, channels in itertools.product(SIZES, (1, 3, 4)):
        image = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
        for (name, move), window in itertools.product(moves(size), WINDOWS):
            print(f"{size}, {channels} channels: {window} of {name}", flush=True)
            check(image, move, window, channels, areas)
    print("far down", flush=True)
    check_far_down(areas)
    print("all", flush=True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_no_kernel_touches_a_byte_outside_of_its_window():
    command = [sys.executable, "-X", "faulthandler", __file__]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    last = found.stdout.splitlines()[-1:]
    assert found.returncode == 0, f"{last}: {found.stderr[-3000:]}"
    assert last == ["all"]


if __name__ == "__main__":
    main()
