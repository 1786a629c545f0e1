"""Colours on a device: in Python they have the CPU's bits; compiled they are lean."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import numpy.testing as npt
import pytest
from device_code import CAPABILITIES, Memory, check_code, noise
from ptx import run as run_ptx

pytest.importorskip("numba.cuda")

from gpuio.devices.launches import contrasts
from gpuio.kernels import device_color, simulated
from gpuio.kernels.color_steps import color_image
from gpuio.kernels.device import ptx
from gpuio.kernels.steps import COLOR_STEP, STEP, ColorKind, StepKind

BRIGHT, PLAIN, VIVID = (
    (ColorKind.BRIGHTNESS, 1.21),
    (ColorKind.CONTRAST, 0.63),
    (ColorKind.SATURATION, 1.7),
)
SHIFT, GRAY = (ColorKind.SHIFT, 3.7, -300.0, -0.4), (ColorKind.GRAY,)
COLORS = [
    *permutations((BRIGHT, PLAIN, VIVID)),
    [(ColorKind.HLS, 33, -20, 41)],
    [(ColorKind.HLS, -90, 120, -70)],
    [SHIFT],
    [GRAY],
    [PLAIN, BRIGHT, PLAIN, (ColorKind.HLS, 5, 6, 7), (ColorKind.CONTRAST, 1.8)],
    [(ColorKind.NONE,), VIVID, (ColorKind.NONE,), GRAY, PLAIN],
    [SHIFT, GRAY, BRIGHT, VIVID],
    [],
]
STEPS_OF_A_PICTURE = 5


def uploaded(memory, colors):
    """(N, K) COLOR_STEP of lists of steps, NONE where a list has fewer."""
    rows = memory.add(np.zeros((len(colors), STEPS_OF_A_PICTURE), COLOR_STEP))
    for row, steps in zip(rows, colors, strict=True):
        for place, (kind, *parameters) in enumerate(steps):
            row[place] = (kind, *parameters, *[0] * (3 - len(parameters)))
    return rows


class Pictures:
    """A picture for each list of colour steps, and one without colours, with its STEP table."""

    def __init__(self, colors, size, channels, *, skew=0, seed=0):
        self.memory, self.channels = Memory(), channels
        self.colors = uploaded(self.memory, colors)
        rows, cols = size
        nbytes = rows * cols * channels
        # A byte between the pictures that nothing may write; they begin anywhere.
        pitch = -(-(nbytes + 1) // 4) * 4 + skew
        self.whole = noise((len(colors) + 1, pitch), seed)
        self.pixels = self.whole[:, :nbytes]
        for row in self.pixels:
            self.memory.add(row, writable=True)
        self.table = np.zeros(len(colors) + 1, STEP)
        self.table["color"][:-1] = self.colors.ctypes.data + self.colors.strides[0] * np.arange(
            len(colors)
        )
        self.table["color_count"] = STEPS_OF_A_PICTURE
        self.table["dst"] = self.whole.ctypes.data + pitch * np.arange(len(self.table))
        self.table["rows"], self.table["cols"] = size

    def expected(self):
        """`whole` after the CPU's steps."""
        whole = self.whole.copy()
        for row, steps, step in zip(whole, self.colors, self.table, strict=False):
            if step["kind"] != StepKind.SKIP:
                color_image(row[: self.pixels.shape[1]], steps)
        return whole

    def run(self, *, backwards=False, threads=32, compiled=False):
        """`whole` after the device's."""
        table, color = self.memory.add(self.table), device_color
        if not compiled:
            color = simulated.load(self.memory).modules["gpuio.kernels.device_color"]
        kernel = color.COLOR if self.channels == 3 else color.BRIGHTEN
        kernel = replace(kernel, block=(threads, 1, 1))
        grid = device_color.color_grid(kernel, table, self.channels)

        def launch(*args):
            if compiled:
                run_ptx(ptx(kernel, (9, 0)), grid, kernel.block, args, self.memory)
            else:
                simulated.simulate(kernel, grid, args, backwards=backwards)

        if self.channels != 3:
            launch(table.ctypes.data, self.channels)
            return self.whole
        used = table[(table["color"] != 0) & (table["kind"] != StepKind.SKIP)]
        count = contrasts(used, [(self.colors.ctypes.data, self.colors)])
        totals = self.memory.add(np.zeros((count, len(table)), np.int64), writable=True)
        for run in range(count + 1):
            launch(table.ctypes.data, totals.ctypes.data, run)
        return self.whole


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("skew", [0, 1])
def test_color_is_color_image(backwards, skew):
    pictures = Pictures(COLORS, (5, 6), 3, skew=skew)
    expected = pictures.expected()
    npt.assert_array_equal(pictures.run(backwards=backwards), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 3), (2, 2), (7, 1)])
def test_pictures_of_any_size(size):
    pictures = Pictures([COLORS[0], [PLAIN], [GRAY]], size, 3)
    expected = pictures.expected()
    npt.assert_array_equal(pictures.run(), expected)


def test_the_sums_of_many_blocks_make_one_mean():
    pictures = Pictures([[PLAIN, VIVID, PLAIN]], (36, 41), 3)
    kernel = replace(device_color.COLOR, block=(32, 1, 1))
    assert device_color.color_grid(kernel, pictures.table, 3) == (3, 1, 2)
    expected = pictures.expected()
    npt.assert_array_equal(pictures.run(threads=32), expected)


def test_a_picture_to_skip_is_left_alone():
    pictures = Pictures([[GRAY], [PLAIN]], (3, 4), 3)
    pictures.table["kind"][0] = StepKind.SKIP
    expected = pictures.expected()
    npt.assert_array_equal(pictures.run(), expected)
    npt.assert_array_equal(expected[0], pictures.whole[0])


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("skew", [0, 1])
def test_brightness_is_of_all_channels(channels, skew):
    pictures = Pictures(
        [[BRIGHT], [(ColorKind.NONE,), BRIGHT, BRIGHT]], (5, 7), channels, skew=skew
    )
    expected = pictures.expected()
    npt.assert_array_equal(pictures.run(), expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.slow
def test_compiled_code_has_the_colours_of_the_cpu(channels):
    """Its PTX, run in Python: many pictures of one block, and one of three."""
    colors = COLORS if channels == 3 else [[BRIGHT]]
    for lists, size in (colors, (5, 7)), (colors[:1], (36, 41)):
        pictures = Pictures(lists, size, channels)
        expected = pictures.expected()
        npt.assert_array_equal(pictures.run(compiled=True), expected)


@pytest.mark.parametrize(
    "kernel", [device_color.COLOR, device_color.BRIGHTEN], ids=lambda k: k.name
)
@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
@pytest.mark.slow
def test_compiles_to_single_precision_that_rounds_each_operation(kernel, capability):
    check_code(kernel, capability, registers=72)
