"""From the planes of a JPEG to pixels on a CUDA device, with the bits of libjpeg-turbo.

A JPEG holds luma and two planes of chroma, which may be smaller. Chroma is enlarged as
libjpeg-turbo does it: "fancy", where each pixel is 3/4 of the nearer sample and 1/4 of the next, or
plain, where it is the nearer sample.

Source: libjpeg-turbo 3, jdsample.c (enlarging) and jdcolor.c (colours), as far as formulas go.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, types

from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.device_output import store_pixels
from gpuio.kernels.device_pixels import FOUR_LEVELS, field_offsets, pixel_address
from gpuio.kernels.native import device_function, load8, load32, load64

YUV_JOB = np.dtype(
    [
        ("luma", np.uint64),  # addresses of the planes
        ("blue", np.uint64),
        ("red", np.uint64),
        ("dst", np.uint64),  # of the first pixel, RGB
        ("luma_pitch", np.int64),  # bytes between rows
        ("chroma_pitch", np.int64),
        ("dst_pitch", np.int64),
        ("rows", np.int32),  # of luma and of the picture
        ("cols", np.int32),
        ("chroma_rows", np.int32),
        ("chroma_cols", np.int32),
        ("down", np.int32),  # rows of luma for each of chroma, 1 or 2
        ("across", np.int32),
        ("fancy", np.int32),  # 1, or 0 for plain
    ],
    align=True,
)
"""One picture."""

_I32, _I64, _U64 = np.int32, np.int64, np.uint64
_INT, _LONG, _ADDRESS = types.int32, types.int64, types.uint64
_AT_ONCE = 4  # pixels of a thread
_BLOCK = (32, 4, 1)
_FEWEST = 3  # columns of chroma that libjpeg-turbo enlarges smoothly along a row
_ROW_BYTES = YUV_JOB.itemsize

_LUMA, _BLUE, _RED, _DST = field_offsets(YUV_JOB, "luma blue red dst")
_LUMA_PITCH, _CHROMA_PITCH, _DST_PITCH = field_offsets(YUV_JOB, "luma_pitch chroma_pitch dst_pitch")
_ROWS, _COLS, _CHROMA_ROWS, _CHROMA_COLS, _DOWN, _ACROSS, _FANCY = field_offsets(
    YUV_JOB, "rows cols chroma_rows chroma_cols down across fancy"
)


@device_function(_INT(_ADDRESS, _INT, _INT, _INT, _LONG, _INT))
def _column(plane, y, other, x, pitch, weight):
    """A column of two rows: `weight` times the one, 3 or 4, and what is missing to 4 the other."""
    here = _I32(load8(pixel_address(plane, y, pitch, x)))
    if weight == 4:
        return _I32(4 * here)
    return _I32(3 * here + _I32(load8(pixel_address(plane, other, pitch, x))))


@device_function(_INT(_ADDRESS, _LONG, *[_INT] * 7))
def _chroma(plane, pitch, y, x, rows, cols, down, across, fancy):
    """The level of a plane of chroma at a pixel.

    Args:
        plane: Address of its first sample.
        pitch: Bytes between its rows.
        y: Row of the pixel.
        x: Its column.
        rows: Rows of the plane.
        cols: Columns of the plane.
        down: Rows of pixels for each of its rows.
        across: Columns of pixels for each of its columns.
        fancy: Whether it is enlarged smoothly.
    """
    j, i = y // down, x // across
    smooth_x = fancy != 0 and across == 2 and cols >= _FEWEST
    smooth_y = fancy != 0 and down == 2 and (smooth_x or across == 1)
    other, odd_y, odd_x = j, y & 1, x & 1
    if smooth_y:
        other = min(max(j - 1 + 2 * odd_y, 0), rows - 1)
    weight = _I32(3 if smooth_y else 4)
    here = _column(plane, _I32(j), _I32(other), _I32(i), pitch, weight)  # quarters
    if not smooth_x:
        if not smooth_y:
            return here >> 2
        return (here + 1 + odd_y) >> 2
    beside = min(max(i - 1 + 2 * odd_x, 0), cols - 1)
    if smooth_y:
        total = 3 * here + _column(plane, _I32(j), _I32(other), _I32(beside), pitch, weight)
        return (total + 8 - odd_x) >> 4
    if beside == i:
        return here >> 2
    next_one = _column(plane, _I32(j), _I32(other), _I32(beside), pitch, weight)
    return ((3 * here + next_one >> 2) + 1 + odd_x) >> 2


@device_function(_INT(_INT))
def _level(value):
    return min(max(value, 0), 255)


@device_function(FOUR_LEVELS(*[_INT] * 3))
def _colored(luma, blue, red):
    """Red, green, blue and 0 of a pixel."""
    blue, red = _I32(blue - 128), _I32(red - 128)
    return (
        _level(luma + ((_I32(91881) * red + _I32(32768)) >> 16)),
        _level(luma + ((_I32(-22554) * blue - _I32(46802) * red + _I32(32768)) >> 16)),
        _level(luma + ((_I32(116130) * blue + _I32(32768)) >> 16)),
        _I32(0),
    )


@device_function(FOUR_LEVELS(_ADDRESS, _INT, _INT))
def _pixel(job, y, x):
    """A pixel of the picture of the YUV_JOB row at an address."""
    luma = _I32(load8(pixel_address(load64(job + _LUMA), y, _I64(load64(job + _LUMA_PITCH)), x)))
    pitch = _I64(load64(job + _CHROMA_PITCH))
    rows, cols = load32(job + _CHROMA_ROWS), load32(job + _CHROMA_COLS)
    down, across, fancy = load32(job + _DOWN), load32(job + _ACROSS), load32(job + _FANCY)
    blue = _chroma(load64(job + _BLUE), pitch, y, x, rows, cols, down, across, fancy)
    red = _chroma(load64(job + _RED), pitch, y, x, rows, cols, down, across, fancy)
    return _colored(luma, blue, red)


def _yuv_to_rgb(table):
    """What one thread of YUV_TO_RGB does: four pixels of a row.

    Args:
        table: uint64, address of the (N,) YUV_JOB table.
    """
    first = _I32((cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) * _AT_ONCE)
    y = _I32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    job = table + _U64(cuda.blockIdx.z) * _U64(_ROW_BYTES)
    rows, cols = load32(job + _ROWS), load32(job + _COLS)
    if y < rows and first < cols:
        last, count = _I32(cols - 1), _I32(min(cols - first, _AT_ONCE))
        p, q = _pixel(job, y, first), _pixel(job, y, _I32(min(first + 1, last)))
        r, s = (
            _pixel(job, y, _I32(min(first + 2, last))),
            _pixel(job, y, _I32(min(first + 3, last))),
        )
        to = pixel_address(load64(job + _DST), y, _I64(load64(job + _DST_PITCH)), 3 * first)
        store_pixels(to, p, q, r, s, count, 3, 1)


def yuv_grid(kernel, table):
    """Blocks along x, y and z of a launch that serves all of a table.

    Args:
        kernel: YUV_TO_RGB.
        table: (N,) YUV_JOB, on the host; N is at least 1, and at most 65535.
    """
    rows, cols = (int(table[side].max()) for side in ("rows", "cols"))
    width, height, _ = kernel.block
    return -(-cols // (_AT_ONCE * width)), -(-rows // height), len(table)


YUV_TO_RGB = DeviceKernel("yuv_to_rgb", _yuv_to_rgb, types.void(_ADDRESS), _BLOCK)
"""`(table)`: the RGB pictures of all rows."""
