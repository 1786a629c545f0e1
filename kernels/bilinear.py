"""The fast path of the CPU for RGB: bilinear resize or warp, normalized, into the batch.

The arithmetic is that of resize.py and warp.py, in an order that suits vectors: rows resized along
x are kept as planes, and go from there straight into the batch. Both give the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arithmetic import FAR, linear_across
from gpuio.kernels.arrays import DOUBLES, INTS, SHORTS, address, array_at, cut
from gpuio.kernels.native import call, device_function, stack
from gpuio.kernels.pixels import STEP_ROW
from gpuio.kernels.resize import blend_rows
from gpuio.kernels.routine import Routine
from gpuio.kernels.steps import STEP, StepKind
from gpuio.kernels.taps import two_taps
from gpuio.kernels.vector import LANES, blend_pixels, warp_pixels
from gpuio.kernels.warp import column_places, line_places, row_place, warp_linear

CHANNELS = 3
_LONG = types.int64
_PLANES = types.void(types.uint64, types.uint64, types.uint64)


def _planes_routine(body):
    """Make `body(at, emit, tables)` a `Routine`; see `resize_to_planes` for the arguments."""
    return Routine(body, _PLANES)


@device_function(_LONG(_LONG))
def _padded(count):
    """`count`, rounded up to whole vectors."""
    return (count + LANES - 1) // LANES * LANES


@device_function(types.void(types.uint64, INTS, INTS, _LONG, SHORTS, _LONG))
def _across(source, index, weight, cols, line, stride):
    """One source row along x into three planes of int16, `stride` values from one to the next.

    One byte behind a pixel is read, too, which belongs to the window in every row but its last.
    """
    size = np.uint64(4 * cols)
    left, left_weight = address(index), address(weight)
    for x in range(0, cols, LANES):
        skip = np.uint64(4 * x)
        blend_pixels(
            source, left + skip, left + size + skip, left_weight + skip, left_weight + size + skip,
            address(line) + np.uint64(2 * x), np.uint64(2 * stride),
        )  # fmt: skip


@device_function(types.void(types.uint64, INTS, INTS, _LONG, SHORTS, _LONG), inline=False)
def _across_last(source, index, weight, cols, line, stride):
    """As `_across`, for the last row of a window: no byte behind a pixel is read."""
    row = array_at(source, 1, np.uint8)  # longer: places are those of `index`
    for x in range(cols):
        left, right = np.uint32(index[x]), np.uint32(index[cols + x])
        u, v = weight[x], weight[cols + x]
        for c in range(CHANNELS):
            a, b = row[left + np.uint32(c)], row[right + np.uint32(c)]
            line[c * stride + x] = linear_across(a, b, u, v)


@_planes_routine
def resize_to_planes(at, emit, tables):
    """Finish a STEP row of kind LINEAR with three channels and without colour or mean image.

    Args:
        at: Address of the row; its `dst` is the image in a batch that is (N, 3, H, W).
        emit: Address of the `emit_planes` of the batch.
        tables: Address of `table_bytes` bytes that may be used.
    """
    step = array_at(at, 1, STEP)[0]
    cols, rows = np.int64(step.cols), np.int64(step.rows)
    stride = _padded(cols)
    size = CHANNELS * stride
    index, free = cut(tables, 2 * stride, np.int32)
    weight, free = cut(free, 2 * stride, np.int32)
    part, free = cut(free, 2 * cols, np.int32)
    part_weight, free = cut(free, 2 * cols, np.int32)
    places, free = cut(free, 2 * rows, np.int32)
    share, free = cut(free, 2 * rows, np.int32)
    ring, free = cut(free, (2, size), np.int16)
    row, free = cut(free, size, np.uint8)
    width = (StepKind.LINEAR, step.src_width, step.dst_width, step.x, cols, CHANNELS, True)
    two_taps(*width, part, part_weight)
    for k in range(2):
        for x in range(cols):
            index[k * stride + x] = part[k * cols + x]
            weight[k * stride + x] = part_weight[k * cols + x]
        for x in range(cols, stride):
            index[k * stride + x] = part[(k + 1) * cols - 1]  # in the window
            weight[k * stride + x] = 0
    height = (StepKind.LINEAR, step.src_height, step.dst_height, step.y, rows, 1, False)
    two_taps(*height, places, share)
    even = odd = np.int32(-1)  # rows of the source that are in the ring
    last = places[2 * rows - 1]
    for y in range(rows):
        for k in range(2):
            wanted = places[k * rows + y]
            if (odd if wanted & 1 else even) != wanted:
                source = step.src + np.uint64(wanted * step.src_pitch)
                if wanted == last:
                    _across_last(source, index, weight, stride, ring[wanted & 1], stride)
                else:
                    _across(source, index, weight, stride, ring[wanted & 1], stride)
                even, odd = (even, wanted) if wanted & 1 else (wanted, odd)
        upper, lower = ring[places[y] & 1], ring[places[rows + y] & 1]
        blend_rows(upper, lower, share[y], share[rows + y], row, size)
        call(emit, (at, address(row), stride, np.int64(y)))


@device_function(_LONG(STEP_ROW, DOUBLES, DOUBLES))
def _last_line(step, matrix, column_ys):
    """The largest y, in whole pixels, at which a warp reads for its window."""
    first, last = row_place(matrix, step.y)[1], row_place(matrix, step.y + step.rows - 1)[1]
    place = max(first, last) + max(column_ys[0], column_ys[step.cols - 1]) + 16
    return np.int64(min(max(place, -FAR), FAR)) >> 10


@_planes_routine
def warp_to_planes(at, emit, tables):
    """Finish a STEP row of kind WARP_LINEAR with three channels and without colour or mean image.

    A row of the canvas is a straight line in the source: where both ends of sixteen pixels lie
    in it, all do. The last row of the source that is wanted is read pixel by pixel, as the vector
    code reads one byte behind each.

    Args:
        at: Address of the row; its `dst` is the image in a batch that is (N, 3, H, W).
        emit: Address of the `emit_planes` of the batch.
        tables: Address of `table_bytes` bytes that may be used.
    """
    step = array_at(at, 1, STEP)[0]
    cols = np.int64(step.cols)
    stride = _padded(cols)
    matrix = array_at(step.matrix, 6, np.float64)
    column_xs, free = cut(tables, stride, np.float64)
    column_ys, free = cut(free, stride, np.float64)
    xs, free = cut(free, stride, np.int32)
    ys, free = cut(free, stride, np.int32)
    row, free = cut(free, CHANNELS * stride, np.uint8)
    pixel = array_at(stack(4), CHANNELS, np.uint8)
    column_places(matrix, step.x, cols, column_xs, column_ys)
    for x in range(cols, stride):
        column_xs[x], column_ys[x] = column_xs[cols - 1], column_ys[cols - 1]
    image = array_at(step.src, 1, np.uint8)  # longer: places are checked one by one
    source, pitch = step.src, np.uint64(step.src_pitch)
    picture = (image, step.src_height, step.src_width, step.src_pitch, CHANNELS, step.fill)
    right = np.int64(step.src_width - 1) << 10
    bottom = min(np.int64(step.src_height - 2), _last_line(step, matrix, column_ys)) << 10
    for y in range(step.rows):
        line_places(matrix, step.y + y, np.int32(16), column_xs, column_ys, xs, ys)
        for x in range(0, stride, LANES):
            last = x + LANES - 1
            low, high = min(xs[x], xs[last]), max(xs[x], xs[last])
            top, floor = min(ys[x], ys[last]), max(ys[x], ys[last])
            if low >= 0 and top >= 0 and high < right and floor < bottom:
                skip, first = np.uint64(4 * x), np.uint64(top >> 10) * pitch
                warp_pixels(
                    source, pitch, first, address(xs) + skip, address(ys) + skip,
                    address(row) + np.uint64(x), np.uint64(stride),
                )  # fmt: skip
            else:
                for k in range(x, min(x + LANES, cols)):
                    warp_linear(*picture, xs[k : k + 1], ys[k : k + 1], 1, pixel)
                    for c in range(CHANNELS):
                        row[c * stride + k] = pixel[c]
        call(emit, (at, address(row), stride, np.int64(y)))
