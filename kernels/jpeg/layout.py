"""Where the stages of the decoder keep what they make of a picture, and which parts they make.

The scratch memory of a picture holds a plane for each component, of the samples of one row of MCUs
and of a row above and below them, then two rows of whole chroma, then the bytes of the scan.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.jpeg.entropy import TAIL
from gpuio.kernels.jpeg.header import JOB
from gpuio.kernels.jpeg.vector import BLOCKS, STRIP
from gpuio.kernels.native import device_function

REPEATED, ACROSS, DOWN, BOTH, FOURTH, WHOLE = range(6)
"""How chroma is made whole: by repetition along x; smoothly along x, y or both; by repetition to
four times along x; or not at all, as its rows are whole."""

MARGIN = 64
"""Bytes of a plane to the left and right of its samples, of which some are read."""

LAYOUT = np.dtype(
    [
        ("height", np.int64),  # of the picture, in the size to which it is decoded
        ("width", np.int64),
        ("mcus_high", np.int64),  # MCUs of the picture
        ("mcus_wide", np.int64),
        ("groups", np.int64),  # of `BLOCKS` MCUs, side by side
        ("first_row", np.int64),  # rows of MCUs that are made
        ("last_row", np.int64),
        ("first_group", np.int64),
        ("last_group", np.int64),
        ("last_mcu", np.int64),  # the last one of a row that is made
        ("last_y", np.int64),  # of the window
        ("last_x", np.int64),
        ("count", np.int64),  # planes that are made: 1 or 3
        ("way", np.int64),  # how chroma is made whole
        ("wide", np.int64),  # how many times more luma there is along x
        ("high", np.int64),
        ("reach", np.int64),  # rows of pixels beside its own that a row of MCUs has part in
        ("chroma_height", np.int64),  # of the picture, before chroma is made whole
        ("chroma_width", np.int64),
        ("sizes", np.int64, (3,)),  # samples that are made of a block, along each axis
        ("planes", np.int64, (3,)),  # address of the first sample of a row of MCUs
        ("pitches", np.int64, (3,)),
        ("heights", np.int64, (3,)),  # rows of a plane that belong to a row of MCUs
        ("chroma", np.int64, (2,)),  # addresses of rows of whole chroma
        ("scan", np.int64),  # address for the bytes of a scan
        ("pixels", np.int64),  # address of the window's pixels
        ("pixels_end", np.int64),
        ("pixels_pitch", np.int64),
    ],
    align=True,
)

_ROW = from_dtype(JOB)


@device_function(types.int64(_ROW))
def _groups(row):
    return -(-np.int64(row.width) // (8 * BLOCKS * row.across[0]))


@device_function(types.int64(_ROW, types.int64))
def block_size(row, component):
    """Samples that are made of a block of a component, along each axis.

    Where a picture is decoded to a smaller size, chroma that is sampled half as often along both
    axes gets twice as many: then it is whole.

    Source: libjpeg-turbo 3, jdmaster.c (jpeg_calc_output_dimensions).
    """
    across, down = row.across[component], row.down[component]
    if row.scale < 8 and row.across[0] == 2 * across and row.down[0] == 2 * down:
        return 2 * np.int64(row.scale)
    return np.int64(row.scale)


@device_function(types.int64(_ROW, types.int64))
def _pitch(row, component):
    return _groups(row) * block_size(row, component) * BLOCKS * row.across[component] + 2 * MARGIN


@device_function(types.int64(_ROW, types.int64))
def _plane_bytes(row, component):
    return _pitch(row, component) * (block_size(row, component) * row.down[component] + 2)


@device_function(types.int64(_ROW))
def _chroma_bytes(row):
    return _pitch(row, 0) + 4 * STRIP


@device_function(types.int64(_ROW), inline=False)
def scratch_bytes(row):
    """Bytes of memory that the decoder takes for a picture, besides its pixels.

    Args:
        row: A JOB.
    """
    nbytes = row.nbytes - row.scan + 8 + TAIL + 2 * _chroma_bytes(row)
    for c in range(row.components):
        nbytes += _plane_bytes(row, c)
    return nbytes


@device_function(types.int64(*[types.int64] * 4))
def _way(width, wide, high, size):
    """How the chroma of a picture is made whole.

    Args:
        width: Of the picture.
        wide: How many times more luma there is along x.
        high: The same along y.
        size: Samples that are made of a block of luma, along each axis.

    Source: libjpeg-turbo 3, jdsample.c (jinit_upsampler).
    """
    if wide == 4:
        return FOURTH
    if wide == 2:
        if width <= 4 or size == 1:  # too narrow: two samples, or one; or too small
            return REPEATED
        return BOTH if high == 2 else ACROSS
    return DOWN if high == 2 and size > 1 else WHOLE


@device_function(types.void(_ROW, from_dtype(LAYOUT), types.int64, types.uint64), inline=False)
def lay_out(row, layout, channels, base):
    """Fill in a LAYOUT.

    Args:
        row: A JOB with a window.
        layout: A LAYOUT.
        channels: 1 or 3, of the pixels.
        base: Address of the worker's memory.
    """
    across, down, size = np.int64(row.across[0]), np.int64(row.down[0]), np.int64(row.scale)
    layout.height, layout.width = -(-row.height * size // 8), -(-row.width * size // 8)
    layout.groups = _groups(row)
    layout.mcus_wide, layout.mcus_high = (
        -(-row.width // (8 * across)),
        -(-row.height // (8 * down)),
    )
    at = np.int64(base) + row.scratch
    for c in range(row.components):
        pitch = _pitch(row, c)
        layout.sizes[c] = block_size(row, c)
        layout.pitches[c], layout.heights[c] = pitch, layout.sizes[c] * row.down[c]
        layout.planes[c] = at + pitch + MARGIN
        at += _plane_bytes(row, c)
    layout.chroma[0], layout.chroma[1] = at, at + _chroma_bytes(row)
    layout.scan = at + 2 * _chroma_bytes(row)

    layout.count, layout.way, layout.wide, layout.high = 1, WHOLE, 1, 1
    if row.components == 3 and channels == 3:
        layout.count = 3
        if layout.sizes[1] == size:
            layout.wide, layout.high = across // row.across[1], down // row.down[1]
        layout.way = _way(layout.width, layout.wide, layout.high, size)
    layout.chroma_height = -(-layout.height // layout.high)
    layout.chroma_width = -(-layout.width // layout.wide)
    layout.reach = 1 if layout.way == DOWN or layout.way == BOTH else 0

    layout.last_y, layout.last_x = row.y + row.rows - 1, row.x + row.cols - 1
    layout.first_row = max(row.y - layout.reach, 0) // (size * down)
    layout.last_row = min(layout.last_y + layout.reach, layout.height - 1) // (size * down)
    first_x = max(row.x - 2 * layout.wide, 0)
    last_x = min(layout.last_x + 2 * layout.wide, layout.width - 1)
    layout.first_group = first_x // (size * BLOCKS * across)
    layout.last_group = last_x // (size * BLOCKS * across)
    layout.last_mcu = last_x // (size * across)
    layout.pixels, layout.pixels_pitch = np.int64(base) + row.dst, np.int64(row.cols) * channels
    layout.pixels_end = layout.pixels + layout.pixels_pitch * row.rows
