"""The kernels of a CUDA device: SAMPLE, COLOR and FINISH, and how they are compiled and launched.

They take a STEP table in device memory, and do together what the CPU's `resample` and `finish` do:
SAMPLE makes the pixels of steps, COLOR changes their colours in place, FINISH makes the pixels of
the last step and writes them into the batch. A thread has one pixel, or some of a picture's. One
launch serves a batch; `grid` says with how many blocks.

Only devices import this; it needs numba-cuda, but no driver before `compile_device`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, njit, types

from gpuio.kernels.arithmetic import bfloat16_bits, float16_bits, normalized, shifted
from gpuio.kernels.color import gray_of, hls_moved, luma, mean_level, moved, scaled
from gpuio.kernels.device_pixels import (
    FOUR_LEVELS,
    field_offsets,
    load_pixel,
    pixel_address,
    step_pixel,
    store_pixel,
)
from gpuio.kernels.native import (
    device_function,
    load32,
    load64,
    load_float,
    mul_rn,
    store8,
    store16,
    store_float,
)
from gpuio.kernels.steps import (
    COLOR_STEP,
    FIRST_PIXEL_STEP,
    STEP,
    ColorKind,
    OutputType,
    PixelFunction,
    StepKind,
)

_F32, _I32, _I64, _U64 = np.float32, np.int32, np.int64, np.uint64
_WORD = np.uint64(4)
_INT, _LONG, _ADDRESS = types.int32, types.int64, types.uint64
_THREE_INTS = types.UniTuple(types.int32, 3)
_STEP_BYTES, _COLOR_BYTES = STEP.itemsize, COLOR_STEP.itemsize
THREADS = 256
"""Threads in a block of COLOR."""

# A block of SAMPLE and FINISH: a warp writes neighbours; it is small, as registers are many.
_PIXELS = (32, 4, 1)

_DST, _NORM, _MEAN_IMAGE, _COLOR, _DST_PITCH, _KIND, _MIRROR = field_offsets(
    STEP, "dst norm mean_image color dst_pitch kind mirror"
)
_ROWS, _COLS, _COLOR_COUNT, _Y, _X = field_offsets(STEP, "rows cols color_count y x")
_SRC, _SRC_PITCH, _SRC_HEIGHT, _SRC_WIDTH, _WEIGHTS = field_offsets(
    STEP, "src src_pitch src_height src_width weights"
)
_COLOR_KIND, _A, _B, _C = field_offsets(COLOR_STEP, "kind a b c")


@dataclass(frozen=True)
class DeviceKernel:
    """A kernel and how it is launched.

    Attributes:
        name: For messages.
        body: What one thread does: a module-level function, so that its code is kept on disk.
        signature: Numba's types of the arguments of `body`.
        block: Threads of a block, along x, y and z.
        synchronises: Whether the threads of a block wait for each other.
        own: The kind of PIXEL_STEPS that the kernel makes; its code is not kept on disk. 0 for
            kernels of gpuio.
    """

    name: str
    body: Callable[..., None]
    signature: Any
    block: tuple[int, int, int]
    synchronises: bool = False
    own: int = 0


def _sample(table, channels):
    """What one thread of SAMPLE does.

    Args:
        table: uint64, address of the (N,) STEP table.
        channels: int32, 1, 3 or 4.
    """
    x = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = _I32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
    kind, rows, cols = load32(step + _KIND), load32(step + _ROWS), load32(step + _COLS)
    if kind != StepKind.SKIP and kind < FIRST_PIXEL_STEP and y < rows and x < cols:
        pixel = step_pixel(step, kind, y, x, rows, cols, channels)
        pitch = _I64(load64(step + _DST_PITCH))
        store_pixel(pixel_address(load64(step + _DST), y, pitch, x * channels), pixel, channels)


@device_function(types.void(_ADDRESS, _INT, _ADDRESS, _ADDRESS, _LONG, _LONG, _INT))
def _emit(norm, value, means, out, pixel, place, output):
    """Write one value, normalized, into the batch.

    Args:
        norm: Address of its mean; gain and bias are 4 and 8 values on.
        value: int32, the level.
        means: Address of its channel in the mean image, or 0.
        out: Address of the image in the batch.
        pixel: Where the pixel was before it was mirrored, from which its mean is taken.
        place: Where the value goes.
        output: An OutputType.
    """
    mean = load_float(norm)
    if means != _U64(0):
        mean = load_float(means + _WORD * _U64(pixel))
    if (
        output == OutputType.FLOAT32
        or output == OutputType.FLOAT16
        or output == OutputType.BFLOAT16
    ):
        gain, bias = load_float(norm + _U64(16)), load_float(norm + _U64(32))
        real = normalized(value, mean, gain, bias)
        if output == OutputType.FLOAT32:
            store_float(out + _U64(4 * place), real)
        elif output == OutputType.FLOAT16:
            store16(out + _U64(2 * place), float16_bits(real))
        else:
            store16(out + _U64(2 * place), bfloat16_bits(real))
    elif output == OutputType.INT8:
        store8(out + _U64(place), shifted(value, mean))
    else:
        store8(out + _U64(place), value)


def _finish(table, channels, output, interleaved):
    """What one thread of FINISH does.

    Args:
        table: uint64, address of the (N,) STEP table.
        channels: int32, 1, 3 or 4.
        output: int32, an OutputType.
        interleaved: int32, 1 for a batch that is (N, H, W, C).
    """
    x = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = _I32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
    kind, rows, cols = load32(step + _KIND), load32(step + _ROWS), load32(step + _COLS)
    if kind != StepKind.SKIP and y < rows and x < cols:
        norm, means, out = load64(step + _NORM), load64(step + _MEAN_IMAGE), load64(step + _DST)
        plane = _I64(rows) * cols
        pixel = _I64(y) * cols + x
        place, apart = pixel, plane  # of the first value, and from each to the next
        if load32(step + _MIRROR) != 0:
            place = _I64(y) * cols + (cols - 1 - x)
        if interleaved != 0:
            place, apart = place * channels, _I64(1)
        first, second, third, fourth = step_pixel(step, kind, y, x, rows, cols, channels)
        _emit(norm, first, means, out, pixel, place, output)
        if channels != 1:
            next_mean = _U64(0)
            if means != _U64(0):
                next_mean = _WORD * _U64(plane)
            means, place = means + next_mean, place + apart
            _emit(norm + _WORD, second, means, out, pixel, place, output)
            means, place = means + next_mean, place + apart
            _emit(norm + _U64(8), third, means, out, pixel, place, output)
            if channels == 4:
                means, place = means + next_mean, place + apart
                _emit(norm + _U64(12), fourth, means, out, pixel, place, output)


@device_function(_THREE_INTS(*[_INT] * 6))
def _hls_moved(red, green, blue, hue, lightness, satur):
    return hls_moved(red, green, blue, hue, lightness, satur)


@device_function(types.float32(_ADDRESS, _ADDRESS))
def _mean_level(total, count):
    return mean_level(total, count)


@device_function(_THREE_INTS(_ADDRESS, *[_INT] * 4, types.float32))
def _colored(step, kind, red, green, blue, rest):
    """A pixel after one colour step.

    Args:
        step: Address of the COLOR_STEP row.
        kind: Its ColorKind.
        red: int32, a level.
        green: int32.
        blue: int32.
        rest: float32, what CONTRAST adds.
    """
    a = load_float(step + _A)
    if kind == ColorKind.BRIGHTNESS or kind == ColorKind.CONTRAST or kind == ColorKind.SATURATION:
        shift = _F32(0)
        if kind == ColorKind.CONTRAST:
            shift = rest
        elif kind == ColorKind.SATURATION:
            shift = mul_rn(_F32(gray_of(red, green, blue)), _F32(1) - a)
        red, green, blue = scaled(red, a, shift), scaled(green, a, shift), scaled(blue, a, shift)
    elif kind == ColorKind.GRAY:
        red = luma(red, green, blue)
        green, blue = red, red
    else:
        b, c = load_float(step + _B), load_float(step + _C)
        if kind == ColorKind.HLS:
            red, green, blue = _hls_moved(red, green, blue, _I32(a), _I32(b), _I32(c))
        else:
            red, green, blue = moved(red, a), moved(green, b), moved(blue, c)
    return red, green, blue


@device_function(_LONG(_ADDRESS, _INT, _INT, types.float32, _ADDRESS, _LONG, *[_INT] * 5))
def _color_pixels(steps, begin, end, rest, picture, pitch, rows, cols, channels, first, stride):
    """Take every `stride`th pixel of a picture through colour steps; the sum of their grays.

    Args:
        steps: Address of COLOR_STEP rows.
        begin: The first row that applies; no row after it is CONTRAST.
        end: The row after the last one.
        rest: float32 that the row `begin` adds if it is CONTRAST.
        picture: Address of pixel 0.
        pitch: Bytes between rows of pixels.
        rows: Rows of pixels.
        cols: Pixels of a row.
        channels: 1, 3 or 4; all steps but BRIGHTNESS take 3.
        first: The first pixel to take.
        stride: Pixels from one to the next.
    """
    total = _I64(0)
    for k in range(first, rows * cols, stride):
        y = _I32(np.uint32(k) // np.uint32(cols))
        at = pixel_address(picture, y, pitch, channels * (k - y * cols))
        red, green, blue, alpha = load_pixel(at, channels)
        for number in range(begin, end):
            step = _color_step(steps, number)
            kind = load32(step + _COLOR_KIND)
            if kind != ColorKind.NONE:
                red, green, blue = _colored(step, kind, red, green, blue, rest)
                # Pictures of four channels have no other step than BRIGHTNESS.
                alpha = scaled(alpha, load_float(step + _A), _F32(0))
        total += gray_of(red, green, blue)
        store_pixel(at, (red, green, blue, alpha), channels)
    return total


@njit(inline="always")
def _color_step(steps, number):
    """The address of COLOR_STEP row `number`."""
    return steps + _U64(number) * _U64(_COLOR_BYTES)


def _color(table, channels):
    """What one block of COLOR does: the colour steps of one picture, in their order.

    CONTRAST needs the mean gray of the picture as it then is. So the steps are taken in runs which
    such a step begins: the threads take all pixels through a run, add up their grays, and wait for
    each other.

    Args:
        table: uint64, address of the (N,) STEP table.
        channels: int32, 1, 3 or 4.
    """
    totals = cuda.shared.array(1, types.int64)
    step = table + _U64(cuda.blockIdx.x) * _U64(_STEP_BYTES)
    steps, kind = load64(step + _COLOR), load32(step + _KIND)
    if steps != _U64(0) and kind != StepKind.SKIP:  # the same for all threads of a block
        rows, cols = load32(step + _ROWS), load32(step + _COLS)
        picture, pitch = load64(step + _DST), _I64(load64(step + _DST_PITCH))
        first, stride = _I32(cuda.threadIdx.x), _I32(cuda.blockDim.x)
        number = load32(step + _COLOR_COUNT)
        begin, rest = _I32(0), _F32(0)
        for end in range(number):
            contrast = _color_step(steps, end)
            if load32(contrast + _COLOR_KIND) == ColorKind.CONTRAST:
                total = _color_pixels(
                    steps, begin, end, rest, picture, pitch, rows, cols, channels, first, stride
                )
                cuda.syncthreads()  # all have read the total before
                if cuda.threadIdx.x == 0:
                    totals[0] = 0
                cuda.syncthreads()
                cuda.atomic.add(totals, 0, total)
                cuda.syncthreads()
                mean = _mean_level(_U64(totals[0]), _U64(rows * cols))
                rest = mul_rn(_F32(1) - load_float(contrast + _A), mean)
                begin = _I32(end)
        _color_pixels(
            steps, begin, number, rest, picture, pitch, rows, cols, channels, first, stride
        )


def sample_own(own: int, pixel: PixelFunction) -> DeviceKernel:
    """A kernel as SAMPLE for the kind `own` of PIXEL_STEPS alone, whose function is `pixel`."""
    make = device_function(FOUR_LEVELS(_ADDRESS, _LONG, *[_INT] * 5, _ADDRESS))(pixel)

    def body(table, channels):
        x = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        y = _I32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
        step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
        if load32(step + _KIND) == own and y < load32(step + _ROWS) and x < load32(step + _COLS):
            height, width = load32(step + _SRC_HEIGHT), load32(step + _SRC_WIDTH)
            top, left = _I32(load32(step + _Y) + y), _I32(load32(step + _X) + x)
            src, src_pitch = load64(step + _SRC), _I64(load64(step + _SRC_PITCH))
            values = load64(step + _WEIGHTS)
            levels = make(src, src_pitch, height, width, channels, top, left, values)
            to, pitch = load64(step + _DST), _I64(load64(step + _DST_PITCH))
            store_pixel(pixel_address(to, y, pitch, x * channels), levels, channels)

    return DeviceKernel(f"sample {own}", body, types.void(*_TABLE), _PIXELS, own=own)


def grid(kernel, table):
    """Blocks along x, y and z of a launch that serves all of a table.

    Args:
        kernel: A `DeviceKernel`.
        table: (N,) STEP, on the host; N is at least 1, and at most 65535 for SAMPLE and FINISH.
    """
    if kernel.synchronises:
        return len(table), 1, 1
    used = table[table["kind"] != StepKind.SKIP]
    rows, cols = (max(1, int(used[side].max(initial=1))) for side in ("rows", "cols"))
    width, height, _ = kernel.block
    return -(-cols // width), -(-rows // height), len(table)


def compile_device(kernel):
    """A `DeviceKernel` for the current device: `compiled[grid, kernel.block, stream](*arguments)`.

    Code is kept on disk for each kind of device.
    """
    # Without optimisation across libraries it is, for each capability, what `ptx` gives.
    return cuda.jit(kernel.signature, cache=not kernel.own, lto=False)(kernel.body)


def ptx(kernel, capability):
    """A `DeviceKernel` as PTX for a compute capability such as (9, 0); this takes no driver."""
    text, _ = cuda.compile_ptx(kernel.body, kernel.signature, cc=capability)
    return text


_TABLE = (types.uint64, types.int32)
SAMPLE = DeviceKernel("sample", _sample, types.void(*_TABLE), _PIXELS)
"""`(table, channels)`: the window of each row, as pixels at `dst`; Task `resample` without colours.
Kind SKIP does nothing, nor do those of PIXEL_STEPS."""

COLOR = DeviceKernel("color", _color, types.void(*_TABLE), (THREADS, 1, 1), synchronises=True)
"""`(table, channels)`: of each row with a `color` that is not SKIP, the picture at `dst`, in
place: its colour steps in their order. A block takes a picture."""

FINISH = DeviceKernel("finish", _finish, types.void(*_TABLE, types.int32, types.int32), _PIXELS)
"""`(table, channels, output, interleaved)`: the window of each row, normalized, mirrored and cast,
into the batch at `dst`; Task `finish` without colours. Kind SKIP does nothing."""
