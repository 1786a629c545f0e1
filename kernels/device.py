"""The kernels of a CUDA device: SAMPLE and FINISH, and how all are compiled and launched.

They take a STEP table in device memory, and do together what the CPU's `resample` and `finish` do:
SAMPLE makes the pixels of steps, COLOR of device_color.py changes their colours in place, FINISH
makes the pixels of the last step and writes them into the batch. A thread has one pixel. One launch
serves a batch; `grid` says with how many blocks.

Only devices import this; it needs numba-cuda, but no driver before `compile_device`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, types

from gpuio.kernels.arithmetic import bfloat16_bits, float16_bits, normalized, shifted
from gpuio.kernels.device_pixels import (
    FOUR_LEVELS,
    field_offsets,
    pixel_address,
    step_pixel,
    store_pixel,
)
from gpuio.kernels.native import (
    device_function,
    load32,
    load64,
    load_float,
    store8,
    store16,
    store_float,
)
from gpuio.kernels.steps import (
    FIRST_PIXEL_STEP,
    STEP,
    OutputType,
    PixelFunction,
    StepKind,
)

_I32, _I64, _U64 = np.int32, np.int64, np.uint64
_WORD = np.uint64(4)
_INT, _LONG, _ADDRESS = types.int32, types.int64, types.uint64
_STEP_BYTES = STEP.itemsize

# A block of SAMPLE and FINISH: a warp writes neighbours; it is small, as registers are many.
_PIXELS = (32, 4, 1)

_DST, _NORM, _MEAN_IMAGE, _DST_PITCH, _KIND, _MIRROR = field_offsets(
    STEP, "dst norm mean_image dst_pitch kind mirror"
)
_ROWS, _COLS, _Y, _X = field_offsets(STEP, "rows cols y x")
_SRC, _SRC_PITCH, _SRC_HEIGHT, _SRC_WIDTH, _WEIGHTS = field_offsets(
    STEP, "src src_pitch src_height src_width weights"
)


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
        kernel: SAMPLE, FINISH, or a kernel of `sample_own`.
        table: (N,) STEP, on the host; N is at least 1, and at most 65535.
    """
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

FINISH = DeviceKernel("finish", _finish, types.void(*_TABLE, types.int32, types.int32), _PIXELS)
"""`(table, channels, output, interleaved)`: the window of each row, normalized, mirrored and cast,
into the batch at `dst`; Task `finish` without colours. Kind SKIP does nothing."""
