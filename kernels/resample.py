"""The kernels that do the steps of a batch on the CPU: `resample` and `finish`.

A `STEP` row says for one image which kind of step it gets, between which sizes, and which window
of the result is wanted; addresses are those of pixel (0, 0), even where only a window of the
picture is in memory. `resample` writes the window as pixels, for a next step; `finish` sends it on,
through colours and the `emit_pixels` of the output's type, into the batch.

What makes the pixels of a kind is a `Routine` that they call by address. So only those are compiled
that a program needs: see `_StepTask.prepare`.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numba import carray, types

from gpuio.kernels.arrays import BYTES, arguments, array_at
from gpuio.kernels.bilinear import resize_to_planes, warp_to_planes
from gpuio.kernels.blur import blur_pixels
from gpuio.kernels.color_steps import color_kinds, color_routines
from gpuio.kernels.native import call, device_function, load64, stack, store64
from gpuio.kernels.output import Form, emit_pixels, emit_planes
from gpuio.kernels.parallel import Task
from gpuio.kernels.pixels import STEP_ROW, pixel_step, row_address
from gpuio.kernels.resize import (
    area_pixels,
    block_pixels,
    cubic_pixels,
    lanczos_pixels,
    linear_pixels,
    nearest_pixels,
)
from gpuio.kernels.steps import (
    COLOR_STEP,
    MOST_KINDS,
    STEP,
    ColorKind,
    OutputType,
    StepKind,
    resize_kinds,
    table_bytes,
)
from gpuio.kernels.warp import (
    border_pixels,
    linear_warp_pixels,
    nearest_warp_pixels,
    smooth_warp_pixels,
)

_STEP_BYTES, _COLOR_BYTES = STEP.itemsize, COLOR_STEP.itemsize
_LONG = types.int64
_TABLES = types.uint64, types.uint64
_RGB = 3
_PIXELS = {
    StepKind.NEAREST: nearest_pixels,
    StepKind.LINEAR: linear_pixels,
    StepKind.CUBIC: cubic_pixels,
    StepKind.AREA: area_pixels,
    StepKind.LANCZOS: lanczos_pixels,
    StepKind.AREA_LINEAR: linear_pixels,
    StepKind.AREA_INTEGER: block_pixels,
    StepKind.WARP_NEAREST: nearest_warp_pixels,
    StepKind.WARP_LINEAR: linear_warp_pixels,
    StepKind.WARP_CUBIC: smooth_warp_pixels,
    StepKind.WARP_LANCZOS: smooth_warp_pixels,
    StepKind.BORDER: border_pixels,
    StepKind.BLUR: blur_pixels,
}
_PLANES = {StepKind.LINEAR: resize_to_planes, StepKind.WARP_LINEAR: warp_to_planes}
_ROUTINES = np.dtype(
    [
        ("pixels", np.uint64, MOST_KINDS),  # by kind, what makes its pixels
        ("planes", np.uint64, MOST_KINDS),  # by kind, what takes them on to the batch at once
        ("emit_pixels", np.uint64, (len(OutputType), len(Form))),
        ("emit_planes", np.uint64, len(OutputType)),
        ("colors", np.uint64, len(ColorKind)),
    ]
)
"""Addresses of compiled routines, 0 where one is not needed so far."""


class _StepTask(Task):
    """A kernel over the rows of a STEP table; it calls the routines of their kinds."""

    routines = np.zeros(1, _ROUTINES)

    def prepare(self, args, count):
        """Compile the routines that the first `count` rows need, and pass their addresses."""
        address, channels, *output = args
        table = carray(ctypes.c_void_p(address), count, STEP)
        routines, colored = self.routines[0], np.count_nonzero(table["color"])
        kinds = set(table["kind"].tolist()) - {StepKind.SKIP}
        straight = set()  # kinds that may go through planes into the batch
        if output and channels == _RGB and not output[1] and colored < count:
            straight = set() if table["mean_image"].any() else kinds & _PLANES.keys()
        others = kinds if colored else kinds - straight
        for kind in straight:
            routines["planes"][kind] = _PLANES[kind].address
        for kind in others - {StepKind.COPY}:
            routine = _PIXELS[kind] if kind in _PIXELS else pixel_step(kind)
            routines["pixels"][kind] = routine.address
        if output and straight:
            routines["emit_planes"][output[0]] = emit_planes[output[0]].address
        if output and others:
            plain = Form.INTERLEAVED if output[1] else Form.PLANES
            form = Form.ANY if channels != _RGB or table["mean_image"].any() else plain
            routines["emit_pixels"][output[0], form] = emit_pixels[output[0], form].address
        if colored:
            kinds = color_kinds(address, count)
            for kind, routine in color_routines.items():
                if kinds >> kind & 1:
                    routines["colors"][kind] = routine.address
        return [*args, self.routines.ctypes.data]


def lend_memory(table, channels):
    """Let each row of a STEP table have memory of its own, where there is no worker's.

    Args:
        table: (N,) STEP, `taps` and `scratch` of which are written.
        channels: 1, 3 or 4.

    Returns:
        That memory, which must be kept until the kernels are done.
    """
    tables = table_bytes(table, channels)
    pixels = table["rows"].astype(np.int64) * table["cols"] * channels
    sizes = tables + -(-pixels // 64) * 64
    memory = np.empty(int(sizes.sum()) + 64, np.uint8)
    start = -(-memory.ctypes.data // 64) * 64 + np.cumsum(sizes) - sizes
    table["taps"], table["scratch"] = start, start + tables
    return memory


@device_function(types.void(STEP_ROW, _LONG, BYTES, _LONG))
def _copy_rows(step, channels, out, pitch):
    size, skip = step.cols * channels, np.uint64(step.x * channels)
    for y in range(step.rows):
        source = array_at(row_address(step, step.y + y) + skip, size, np.uint8)
        row = out[y * pitch : y * pitch + size]
        for k in range(size):
            row[k] = source[k]


@device_function(types.void(types.uint64, types.int64, types.uint64, types.uint64))
def _copy_step(table, item, base, at):
    """Copy a row of a STEP table to address `at`, with its source as an address."""
    source = table + np.uint64(item * _STEP_BYTES)
    for k in range(0, _STEP_BYTES, 8):
        store64(at + np.uint64(k), load64(source + np.uint64(k)))
    step = array_at(at, 1, STEP)[0]
    if step.src_in_scratch != 0:
        step.src += base


@device_function(types.void(STEP_ROW, types.uint64, _LONG, types.uint64, _LONG, *_TABLES))
def _make_pixels(step, at, channels, to, pitch, tables, routines):
    """The window of the step at address `at` as pixels at address `to`, with its colours."""
    ways = array_at(routines, 1, _ROUTINES)[0]
    if step.kind == StepKind.COPY:
        _copy_rows(step, channels, array_at(to, step.rows * pitch, np.uint8), pitch)
    else:
        call(ways.pixels[step.kind], (at, channels, to, pitch, tables))
    if step.color != 0:
        nbytes = (step.rows - 1) * pitch + step.cols * channels
        for k in range(step.color_count):
            color = step.color + np.uint64(k * _COLOR_BYTES)
            kind = array_at(color, 1, COLOR_STEP)[0].kind
            if kind != ColorKind.NONE:
                call(ways.colors[kind], (to, nbytes, color))


@_StepTask
def resample(args, item, worker, base):
    """A row of a STEP table: its window, as interleaved uint8 pixels at `dst`, with its colours.

    `dst` is an offset into the worker's memory where it has one. Kind SKIP does nothing. Rows of
    pixels that change their colours follow each other without a gap.

    Args:
        args: Address of the table, channels; behind them the address of _ROUTINES.
    """
    arg, at = arguments(args, 3), stack(_STEP_BYTES)
    _copy_step(arg[0], item, base, at)
    step = array_at(at, 1, STEP)[0]
    if step.kind != StepKind.SKIP:
        to, tables = step.dst + base, step.taps + base
        _make_pixels(step, at, np.int64(arg[1]), to, step.dst_pitch, tables, arg[2])


@_StepTask
def finish(args, item, worker, base):
    """A row of a STEP table: its window, its colours, normalized, into the batch.

    Kind SKIP does nothing.

    Args:
        args: Address of the table, channels, an OutputType, 1 for a batch that is (N, H, W, C);
            behind them the address of _ROUTINES.
    """
    arg, at = arguments(args, 5), stack(_STEP_BYTES)
    _copy_step(arg[0], item, base, at)
    step = array_at(at, 1, STEP)[0]
    if step.kind == StepKind.SKIP:
        return
    channels, output, interleaved = np.int64(arg[1]), np.int64(arg[2]), arg[3] != 0
    routines = array_at(arg[4], 1, _ROUTINES)[0]
    plain = step.color == 0 and step.mean_image == 0 and not interleaved
    if plain and channels == _RGB and routines.planes[step.kind] != 0:
        emit = routines.emit_planes[output]
        call(routines.planes[step.kind], (at, emit, step.taps + base))
        return
    if step.kind == StepKind.COPY and step.color == 0:
        pitch = step.src_pitch
        first = step.src + np.uint64(step.y * pitch + step.x * channels)
    else:
        pitch, first = np.int64(step.cols * channels), step.scratch + base
        _make_pixels(step, at, channels, first, pitch, step.taps + base, arg[4])
    form = Form.INTERLEAVED if interleaved else Form.PLANES
    if channels != _RGB or step.mean_image != 0:
        form = Form.ANY
    call(routines.emit_pixels[output, form], (at, first, pitch, channels, np.int64(arg[3])))


def resize(image, height, width, inter=1):
    """One image, resized in the calling thread without the GIL.

    Args:
        image: (H, W, C) or (H, W) uint8, C contiguous channels of 1, 3 or 4.
        height: Height of the result, in pixels.
        width: Width of the result, in pixels.
        inter: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos.

    Returns:
        (height, width, C) or (height, width) uint8.
    """
    image = np.ascontiguousarray(image)
    rows, cols = image.shape[:2]
    channels = image.shape[2] if image.ndim == 3 else 1
    out = np.empty((height, width, *image.shape[2:]), np.uint8)
    step = np.zeros(1, STEP)
    step["src"], step["src_pitch"] = image.ctypes.data, cols * channels
    step["dst"], step["dst_pitch"] = out.ctypes.data, width * channels
    sizes = np.array([[rows, cols]]), np.array([[height, width]])
    step["kind"] = resize_kinds(*sizes, np.array([inter]))
    step["src_height"], step["src_width"] = rows, cols
    step["dst_height"], step["dst_width"] = height, width
    step["rows"], step["cols"] = height, width
    memory = lend_memory(step, channels)
    resample(1, 1, step.ctypes.data, channels)
    del memory
    return out
