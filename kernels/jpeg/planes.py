"""From planes of samples to rows of pixels: upsampling of chroma, and conversion of colours.

Chroma that is sampled half as often is made whole by libjpeg's "fancy" method, whose samples lie
between those that are stored; other chroma is repeated. Rows at the edge between two rows of MCUs
need samples of both, so the last row of pixels of one is made with the next.

Source: libjpeg-turbo 3, jdsample.c, jdcolor.c, jdmainct.c (rows at the edges of a picture).
"""

from __future__ import annotations

from numba import from_dtype, types

from gpuio.kernels.jpeg.header import JOB, RGB, YCBCR
from gpuio.kernels.jpeg.layout import ACROSS, BOTH, DOWN, FOURTH, LAYOUT, MARGIN, WHOLE
from gpuio.kernels.jpeg.vector import (
    STRIP,
    copy,
    repeat_across,
    smooth_across,
    smooth_both,
    smooth_down,
    store_colors,
    store_planes,
)
from gpuio.kernels.jpeg.words import load_u8, store_8
from gpuio.kernels.native import device_function

_LAYOUT = from_dtype(LAYOUT)


@device_function(
    types.void(*[types.int64] * 3, types.boolean, types.int64, types.int64), inline=False
)
def upsample(way, near, far, odd, count, out):
    """Make a row of chroma whole.

    Args:
        way: REPEATED, ACROSS, DOWN, BOTH or FOURTH.
        near: Address of the first sample that is wanted of the nearest row.
        far: The same of the row that is nearest on the other side, for DOWN and BOTH.
        odd: Whether the row lies below the nearest one.
        count: Number of samples that are wanted, as stored.
        out: Address to write to; as many as 4 * STRIP bytes behind what is wanted are overwritten.
    """
    for k in range(0, count, STRIP):
        if way == BOTH:
            smooth_both(near + k, far + k, out + 2 * k)
        elif way == ACROSS:
            smooth_across(near + k, out + 2 * k)
        elif way == DOWN:
            smooth_down(near + k, far + k, 2 if odd else 1, out + k)
        else:
            repeat_across(near + k, out + 2 * k)
    if way == FOURTH:  # once more, from the right to the left
        for k in range((count - 1) // STRIP * STRIP, -1, -STRIP):
            repeat_across(out + 2 * k + STRIP, out + 4 * k + 2 * STRIP)
            repeat_across(out + 2 * k, out + 4 * k)


@device_function(types.void(*[types.int64] * 10), inline=False)
def store_row(first, second, third, color, channels, reverse, cols, out, end, spare):
    """Write a row of pixels.

    Args:
        first: Address of the row's samples of the first component, of which STRIP more than `cols`
            may be read.
        second: The same of the second component.
        third: The same of the third one.
        color: GRAY, YCBCR or RGB; where `channels` is 1, the first samples are the pixels.
        channels: 1 or 3.
        reverse: 1 for the colours in the order blue, green, red; else 0.
        cols: Number of pixels.
        out: Address to write to. What follows there is overwritten, up to `end`.
        end: Address behind the last byte that may be written.
        spare: Address of 3 * STRIP bytes.
    """
    if channels == 1:
        copy(first, out, cols)
        return
    if color == RGB and reverse:
        first, third = third, first
    for x in range(0, cols, STRIP):
        whole = out + 3 * (x + STRIP) <= end
        to = out + 3 * x if whole else spare
        if color == YCBCR:
            store_colors(first + x, second + x, third + x, reverse, to)
        else:
            store_planes(first + x, second + x, third + x, to)
        if not whole:
            copy(spare, out + 3 * x, 3 * min(STRIP, cols - x))


@device_function(types.void(_LAYOUT, types.int64), inline=False)
def extend_chroma(layout, my):
    """Repeat the samples at the edges of a picture beyond these, as smoothing takes them.

    Args:
        layout: A LAYOUT.
        my: Row of MCUs.
    """
    rows = min(layout.heights[1], layout.chroma_height - my * layout.heights[1])
    for c in range(1, 3):
        plane, pitch = layout.planes[c], layout.pitches[c]
        for k in range(rows):
            line = plane + k * pitch
            if layout.first_group == 0:
                store_8(line - 1, load_u8(line))
            if layout.last_group == layout.groups - 1:
                end = line + layout.chroma_width
                store_8(end, load_u8(end - 1))
        if layout.reach and my == 0:
            copy(plane - MARGIN, plane - MARGIN - pitch, pitch)
        if layout.reach and my == layout.mcus_high - 1:
            last = plane - MARGIN + (rows - 1) * pitch
            copy(last, last + pitch, pitch)


@device_function(types.void(_LAYOUT), inline=False)
def keep_last_rows(layout):
    """Keep the last row of each plane for the next row of MCUs, above its first one."""
    for c in range(3):
        plane, pitch = layout.planes[c] - MARGIN, layout.pitches[c]
        copy(plane + (layout.heights[c] - 1) * pitch, plane - pitch, pitch)


@device_function(types.void(from_dtype(JOB), _LAYOUT, *[types.int64] * 4), inline=False)
def store_rows(row, layout, my, channels, reverse, spare):
    """Write the rows of pixels that a row of MCUs, and what was kept of the one before, make whole.

    Args:
        row: A JOB.
        layout: Its LAYOUT.
        my: Row of MCUs.
        channels: 1 or 3, of the pixels.
        reverse: As for `store_row`.
        spare: As for `store_row`.
    """
    top = my * layout.heights[0]
    begin = max(top - layout.reach, row.y)
    end = top + layout.heights[0] - layout.reach
    end = layout.last_y + 1 if my == layout.last_row else min(end, layout.last_y + 1)
    x = row.x // layout.wide
    count = layout.last_x // layout.wide - x + 1
    for y in range(begin, end):
        line = y - top
        first = layout.planes[0] + line * layout.pitches[0] + row.x
        second = third = first
        if layout.count == 3:
            pitch = layout.pitches[1]
            offset = (line >> 1 if layout.high == 2 else line) * pitch + x
            second, third = layout.planes[1] + offset, layout.planes[2] + offset
            if layout.way != WHOLE:
                odd = line & 1
                other = pitch if odd else -pitch
                upsample(layout.way, second, second + other, odd, count, layout.chroma[0])
                upsample(layout.way, third, third + other, odd, count, layout.chroma[1])
                skipped = row.x - x * layout.wide
                second, third = layout.chroma[0] + skipped, layout.chroma[1] + skipped
        out = layout.pixels + (y - row.y) * layout.pixels_pitch
        args = (channels, reverse, row.cols, out, layout.pixels_end, spare)
        store_row(first, second, third, row.color, *args)
