"""Resizes on the CPU: every interpolation of MXNet, a window at a time, to the last bit.

Rows are resized along x as they are first wanted, kept, and blended along y.

Source of the formulas: OpenCV 3.4, modules/imgproc/src/resize.cpp, which MXNet 1.9.1 bundles.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arithmetic import (
    area_term,
    block_level,
    block_reciprocal,
    cubic_term,
    cubic_vector,
    cubic_weight,
    fixed_level,
    fixed_term,
    in_cubic_vector,
    linear_across,
    linear_down,
    nearest,
    saturate,
)
from gpuio.kernels.arrays import BYTES, FLOATS, INTS, SHORTS, array_at, cut
from gpuio.kernels.native import device_function, stack
from gpuio.kernels.pixels import STEP_ROW, pixel_routine, row_address
from gpuio.kernels.steps import AREA_EXTRA, STEP, TAPS
from gpuio.kernels.taps import area_taps, cubic_taps, lanczos_taps, two_taps

_INT, _LONG = types.int32, types.int64
_RING = types.Array(types.int32, 2, "C")
_TABLES = types.Tuple((INTS, INTS, INTS, INTS, types.uint64))


@device_function(types.void(BYTES, INTS, INTS, INTS, _LONG, _LONG))
def _linear_across(source, index, weight, out, cols, channels):
    """One source row, resized along x, in 1/2048 of a level, less the four lowest bits."""
    left, right = index[:cols], index[cols:]
    left_weight, right_weight = weight[:cols], weight[cols:]
    if channels == 3:
        for x in range(cols):
            a, b = np.uint32(left[x]), np.uint32(right[x])
            u, v = left_weight[x], right_weight[x]
            k = 3 * x
            out[k] = linear_across(source[a], source[b], u, v)
            out[k + 1] = linear_across(source[a + 1], source[b + 1], u, v)
            out[k + 2] = linear_across(source[a + 2], source[b + 2], u, v)
    else:
        for x in range(cols):
            a, b = np.uint32(left[x]), np.uint32(right[x])
            u, v = left_weight[x], right_weight[x]
            for c in range(channels):
                out[channels * x + c] = linear_across(source[a + c], source[b + c], u, v)


@device_function(
    types.void(INTS, INTS, _INT, _INT, BYTES, _LONG),
    types.void(SHORTS, SHORTS, _INT, _INT, BYTES, _LONG),
)
def blend_rows(upper, lower, u, v, out, size):
    """Two results of `linear_across`, `size` values each, along y into one of levels."""
    for k in range(size):
        out[k] = linear_down(upper[k], lower[k], u, v)


@device_function(types.void(BYTES, INTS, INTS, _LONG, INTS, _LONG, _LONG))
def _taps_across(source, index, weight, taps, out, cols, channels):
    """One source row, resized along x with a fixed number of taps, in 1/2048."""
    one, two = np.uint32(1), np.uint32(2)
    if channels == 3:
        for x in range(cols):
            red, green, blue = np.int32(0), np.int32(0), np.int32(0)
            for k in range(taps):
                at, share = np.uint32(index[k * cols + x]), weight[k * cols + x]
                red = np.int32(red + fixed_term(source[at], share))
                green = np.int32(green + fixed_term(source[at + one], share))
                blue = np.int32(blue + fixed_term(source[at + two], share))
            out[3 * x], out[3 * x + 1], out[3 * x + 2] = red, green, blue
        return
    for x in range(cols):
        for c in range(channels):
            total = np.int32(0)
            for k in range(taps):
                at, share = np.uint32(index[k * cols + x] + c), weight[k * cols + x]
                total = np.int32(total + fixed_term(source[at], share))
            out[channels * x + c] = total


@device_function(types.void(BYTES, INTS, FLOATS, _LONG, FLOATS, _LONG, _LONG))
def _area_across(source, index, weight, taps, out, cols, channels):
    """One source row, resized along x to the sums of an area average."""
    one, two = np.uint32(1), np.uint32(2)
    if channels == 3:
        for x in range(cols):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for k in range(taps):
                at, share = np.uint32(index[k * cols + x]), weight[k * cols + x]
                red = red + area_term(source[at], share)
                green = green + area_term(source[at + one], share)
                blue = blue + area_term(source[at + two], share)
            out[3 * x], out[3 * x + 1], out[3 * x + 2] = red, green, blue
        return
    for x in range(cols):
        for c in range(channels):
            total = np.float32(0)
            for k in range(taps):
                at, share = np.uint32(index[k * cols + x] + c), weight[k * cols + x]
                total = total + area_term(source[at], share)
            out[channels * x + c] = total


@device_function(_INT(*[_INT] * 4, *[types.float32] * 4))
def _cubic_level(a, b, c, d, fa, fb, fc, fd):
    value = cubic_term(a, fa) + cubic_term(b, fb)
    value = value + cubic_term(c, fc)
    value = value + cubic_term(d, fd)
    return saturate(np.int32(nearest(value)))


@device_function(types.void(_RING, INTS, INTS, *[_LONG] * 3, types.boolean, BYTES, _LONG))
def _cubic_down(ring, slot, weight, first, whole, channels, in_order, out, size):
    """Four rows into one: float32 where the vector code of OpenCV runs, integers in its tail.

    The tail is the values of the whole row after the last multiple of eight, in the order in
    which OpenCV has them: for MXNet's iterators in C++ blue before green before red.

    Args:
        ring: (8, size) int32 rows resized along x.
        slot: (4,) rows of `ring`.
        weight: (4,) int32, in 1/2048.
        first: Where this window starts in the whole row, in values.
        whole: Values of the whole row.
        channels: 1, 3 or 4.
        in_order: Whether OpenCV has the colours in the order in which they are here.
        out: (size,) uint8.
        size: Values in the window.
    """
    a, b, c, d = ring[slot[0]], ring[slot[1]], ring[slot[2]], ring[slot[3]]
    fa, fb = cubic_weight(weight[0]), cubic_weight(weight[1])
    fc, fd = cubic_weight(weight[2]), cubic_weight(weight[3])
    # From here on, some values may be in the tail.
    start = min(max(cubic_vector(whole) - channels - first, 0), size)
    for k in range(start):
        out[k] = _cubic_level(a[k], b[k], c[k], d[k], fa, fb, fc, fd)
    for k in range(start, size):
        if in_cubic_vector(first + k, whole, channels, in_order):
            out[k] = _cubic_level(a[k], b[k], c[k], d[k], fa, fb, fc, fd)
        else:
            total = a[k] * weight[0] + b[k] * weight[1] + c[k] * weight[2] + d[k] * weight[3]
            out[k] = fixed_level(np.int32(total))


@device_function(types.void(_RING, INTS, INTS, BYTES, _LONG))
def _lanczos_down(ring, slot, weight, out, size):
    a, b, c, d = ring[slot[0]], ring[slot[1]], ring[slot[2]], ring[slot[3]]
    e, f, g, h = ring[slot[4]], ring[slot[5]], ring[slot[6]], ring[slot[7]]
    for k in range(size):
        total = a[k] * weight[0] + b[k] * weight[1] + c[k] * weight[2] + d[k] * weight[3]
        total += e[k] * weight[4] + f[k] * weight[5] + g[k] * weight[6] + h[k] * weight[7]
        out[k] = fixed_level(np.int32(total))


@device_function(
    types.void(
        STEP_ROW, _LONG, _LONG, INTS, FLOATS, INTS, FLOATS, _LONG, _LONG, *[FLOATS] * 2, BYTES
    )
)
def _area_row(
    step, y, channels, columns, across, rows, down, row_taps, column_taps, across_row, sums, out
):
    """One output row of an area average over shrinking axes, accumulated as OpenCV does."""
    size = step.cols * channels
    sums[:size] = 0
    for j in range(row_taps):
        beta = down[j * step.rows + y]
        if beta == 0:
            continue
        source = array_at(row_address(step, rows[j * step.rows + y]), 1, np.uint8)
        _area_across(source, columns, across, column_taps, across_row, step.cols, channels)
        for k in range(size):
            sums[k] += area_term(across_row[k], beta)
    for k in range(size):
        out[k] = saturate(np.int32(nearest(sums[k])))


@device_function(types.void(STEP_ROW, *[_LONG] * 4, BYTES))
def _block_row(step, y, channels, height, width, out):
    """One output row of an area average over whole blocks."""
    reciprocal = block_reciprocal(height, width)
    top, left = (step.y + y) * height, step.x * width
    if height == 2 and width == 2:
        skip = np.uint64(left * channels)
        upper = array_at(row_address(step, top) + skip, 1, np.uint8)
        lower = array_at(row_address(step, top + 1) + skip, 1, np.uint8)
        for x in range(step.cols):
            for c in range(channels):
                at = np.uint32(2 * x * channels + c)
                beside = np.uint32(at + channels)
                total = np.int32(upper[at]) + np.int32(upper[beside])
                total += np.int32(lower[at]) + np.int32(lower[beside])
                out[channels * x + c] = block_level(total, height, width, reciprocal)
        return
    for x in range(step.cols):
        for c in range(channels):
            total = np.int32(0)
            for j in range(height):
                source = array_at(row_address(step, top + j), 1, np.uint8)
                start = (left + x * width) * channels + c
                for k in range(width):
                    total += np.int32(source[np.uint32(start + k * channels)])
            out[channels * x + c] = block_level(total, height, width, reciprocal)


def _axis_tables(fill_axis):
    """A function that makes the tables of both axes with one of kernels/taps.py."""

    @device_function(_TABLES(STEP_ROW, _LONG, types.uint64))
    def fill(step, channels, tables):
        """Tables of a kind with a fixed number of taps, at address `tables`.

        Returns:
            Source pixels and weights of the columns, those of the rows, and the address behind.
        """
        taps, cols, rows = np.int64(TAPS[step.kind]), np.int64(step.cols), np.int64(step.rows)
        columns, free = cut(tables, cols * taps, np.int32)
        lines, free = cut(free, rows * taps, np.int32)
        column_weights, free = cut(free, cols * taps, np.int32)
        line_weights, free = cut(free, rows * taps, np.int32)
        width = (step.kind, step.src_width, step.dst_width, step.x, cols, channels, True)
        fill_axis(*width, columns, column_weights)
        height = (step.kind, step.src_height, step.dst_height, step.y, rows, 1, False)
        fill_axis(*height, lines, line_weights)
        return columns, column_weights, lines, line_weights, free

    return fill


_two_tables, _cubic_tables, _lanczos_tables = map(
    _axis_tables, (two_taps, cubic_taps, lanczos_taps)
)


@pixel_routine
def nearest_pixels(at, channels, to, pitch, tables):
    """Write the window of a STEP row of kind NEAREST; arguments as `pixel_routine` says."""
    step = array_at(at, 1, STEP)[0]
    out = array_at(to, step.rows * pitch, np.uint8)
    cols, rows = np.int64(step.cols), np.int64(step.rows)
    columns, _, lines, _, _ = _two_tables(step, channels, tables)
    for y in range(rows):
        source = array_at(row_address(step, lines[y]), 1, np.uint8)
        row = out[y * pitch : y * pitch + cols * channels]
        for x in range(cols):
            for c in range(channels):
                row[channels * x + c] = source[np.uint32(columns[x] + c)]


@pixel_routine
def linear_pixels(at, channels, to, pitch, tables):
    """Write the window of a STEP row of kind LINEAR or AREA_LINEAR; see `pixel_routine`."""
    step = array_at(at, 1, STEP)[0]
    out = array_at(to, step.rows * pitch, np.uint8)
    cols, rows = np.int64(step.cols), np.int64(step.rows)
    size = cols * channels
    columns, column_weights, lines, weights, free = _two_tables(step, channels, tables)
    ring = array_at(free, (2, size), np.int32)  # rows of the source, resized along x
    held = array_at(stack(8), 2, np.int32)  # which rows they are
    held[0] = held[1] = -1
    for y in range(rows):
        for k in range(2):
            wanted = lines[k * rows + y]
            if held[wanted & 1] != wanted:
                source = array_at(row_address(step, wanted), 1, np.uint8)
                _linear_across(source, columns, column_weights, ring[wanted & 1], cols, channels)
                held[wanted & 1] = wanted
        upper, lower = ring[lines[y] & 1], ring[lines[rows + y] & 1]
        row = out[y * pitch : y * pitch + size]
        blend_rows(upper, lower, weights[y], weights[rows + y], row, size)


def _smooth_pixels(fill_tables, blend, taps):
    """The routine of a kind with more than two taps along each axis.

    Args:
        fill_tables: A function of `_axis_tables`.
        blend: `blend(step, channels, ring, slot, weight, row, size)` makes a row of levels.
        taps: Taps along each axis.
    """

    def smooth_pixels(at, channels, to, pitch, tables):
        """Write the window of a STEP row of kind CUBIC or LANCZOS; see `pixel_routine`."""
        step = array_at(at, 1, STEP)[0]
        out = array_at(to, step.rows * pitch, np.uint8)
        cols, rows = np.int64(step.cols), np.int64(step.rows)
        size = cols * channels
        columns, column_weights, lines, weights, free = fill_tables(step, channels, tables)
        ring = array_at(free, (taps, size), np.int32)  # rows of the source, resized along x
        held = array_at(stack(32), 8, np.int32)  # which rows they are
        slot = array_at(stack(32), 8, np.int32)  # where the rows for row `y` are
        weight = array_at(stack(32), 8, np.int32)  # theirs
        for k in range(taps):
            held[k] = -1
        for y in range(rows):
            for k in range(taps):
                wanted, weight[k] = lines[k * rows + y], weights[k * rows + y]
                slot[k] = wanted % taps
                if held[slot[k]] != wanted:
                    source = array_at(row_address(step, wanted), 1, np.uint8)
                    line = ring[slot[k]]
                    _taps_across(source, columns, column_weights, taps, line, cols, channels)
                    held[slot[k]] = wanted
            row = out[y * pitch : y * pitch + size]
            blend(step, channels, ring, slot, weight, row, size)

    return pixel_routine(smooth_pixels, str(taps))


_BLEND = types.void(STEP_ROW, _LONG, _RING, INTS, INTS, BYTES, _LONG)


@device_function(_BLEND)
def _blend_cubic(step, channels, ring, slot, weight, row, size):
    whole, first = step.dst_width * channels, step.x * channels
    _cubic_down(ring, slot, weight, first, whole, channels, step.fill == 1, row, size)


@device_function(_BLEND)
def _blend_lanczos(step, channels, ring, slot, weight, row, size):
    _lanczos_down(ring, slot, weight, row, size)


cubic_pixels = _smooth_pixels(_cubic_tables, _blend_cubic, 4)
"""Writes the window of a STEP row of kind CUBIC; see `pixel_routine`."""
lanczos_pixels = _smooth_pixels(_lanczos_tables, _blend_lanczos, 8)
"""Writes the window of a STEP row of kind LANCZOS; see `pixel_routine`."""


@pixel_routine
def area_pixels(at, channels, to, pitch, tables):
    """Write the window of a STEP row of kind AREA; arguments as `pixel_routine` says."""
    step = array_at(at, 1, STEP)[0]
    out = array_at(to, step.rows * pitch, np.uint8)
    cols, rows = np.int64(step.cols), np.int64(step.rows)
    size = cols * channels
    row_taps = np.int64(step.src_height // step.dst_height + AREA_EXTRA)
    column_taps = np.int64(step.src_width // step.dst_width + AREA_EXTRA)
    columns, free = cut(tables, cols * column_taps, np.int32)
    lines, free = cut(free, rows * row_taps, np.int32)
    across, free = cut(free, cols * column_taps, np.float32)
    down, free = cut(free, rows * row_taps, np.float32)
    sums, free = cut(free, size, np.float32)
    line = array_at(free, size, np.float32)
    width = (step.src_width, step.dst_width, step.x, cols, column_taps, channels)
    area_taps(*width, columns, across)
    area_taps(step.src_height, step.dst_height, step.y, rows, row_taps, 1, lines, down)
    for y in range(rows):
        row = out[y * pitch : y * pitch + size]
        _area_row(
            step, y, channels, columns, across, lines, down, row_taps, column_taps, line, sums, row
        )  # fmt: skip


@pixel_routine
def block_pixels(at, channels, to, pitch, tables):
    """Write the window of a STEP row of kind AREA_INTEGER; arguments as `pixel_routine` says."""
    step = array_at(at, 1, STEP)[0]
    out = array_at(to, step.rows * pitch, np.uint8)
    height, width = step.src_height // step.dst_height, step.src_width // step.dst_width
    for y in range(step.rows):
        row = out[y * pitch : y * pitch + step.cols * channels]
        _block_row(step, y, channels, height, width, row)
