"""From planes of samples to rows of pixels: upsampling of chroma, and conversion of colours.

A plane holds the samples of one row of MCUs, and a row above and below them. Chroma that is sampled
half as often is made whole by libjpeg's "fancy" method, of which the samples lie between those that
are stored; other chroma is repeated.

Source: libjpeg-turbo 3, jdsample.c, jdcolor.c, jdmainct.c (rows at the edges of a picture).
"""

from __future__ import annotations

from numba import njit

from gpuio.kernels.jpeg.header import RGB, YCBCR
from gpuio.kernels.jpeg.vector import (
    STRIP,
    repeat_across,
    smooth_across,
    smooth_both,
    smooth_down,
    store_colors,
    store_planes,
)
from gpuio.kernels.jpeg.words import load_u8, store_8

REPEATED, ACROSS, DOWN, BOTH, FOURTH = range(5)
"""How chroma is made whole: by repetition along x; smoothly along x, y or both; by repetition to
four times along x."""

MARGIN = 64
"""Bytes of a plane to the left and right of its samples, of which some are read."""


@njit(nogil=True, error_model="numpy")
def copy_row(source, to, nbytes):
    """Copy the bytes of a row between two addresses."""
    for k in range(nbytes):
        store_8(to + k, load_u8(source + k))


@njit(nogil=True, error_model="numpy")
def upsample(way, factor, plane, pitch, y, x, count, out):
    """Make a row of chroma whole.

    Args:
        way: REPEATED, ACROSS, DOWN, BOTH or FOURTH.
        factor: 2 where chroma is sampled half as often along y, else 1.
        plane: Address of the sample (0, 0) of the row of MCUs.
        pitch: Bytes between its rows.
        y: Row that is wanted, from the first of the row of MCUs on; it may be -1.
        x: First column that is wanted, as stored.
        count: Number of columns that are wanted, as stored.
        out: Address to write to, and 3 * STRIP bytes behind what is wanted.
    """
    near = plane + (y >> 1 if factor == 2 else y) * pitch + x
    far = near + (pitch if y & 1 else -pitch)
    for k in range(0, count, STRIP):
        if way == BOTH:
            smooth_both(near + k, far + k, out + 2 * k)
        elif way == ACROSS:
            smooth_across(near + k, out + 2 * k)
        elif way == DOWN:
            smooth_down(near + k, far + k, 2 if y & 1 else 1, out + k)
        else:
            repeat_across(near + k, out + 2 * k)
    if way == FOURTH:
        for k in range((count - 1) // STRIP * STRIP, -1, -STRIP):
            repeat_across(out + 2 * k + STRIP, out + 4 * k + 2 * STRIP)
            repeat_across(out + 2 * k, out + 4 * k)


@njit(nogil=True, error_model="numpy")
def store_row(rows, color, channels, reverse, cols, out, end, spare):
    """Write a row of pixels.

    Args:
        rows: Three addresses of the row's samples, of which STRIP more than `cols` are read.
        color: GRAY, YCBCR or RGB; where `channels` is 1, the first samples are the pixels.
        channels: 1 or 3.
        reverse: 1 for the colours in the order blue, green, red; else 0.
        cols: Number of pixels.
        out: Address to write to. What follows there is overwritten, up to `end`.
        end: Address behind the last byte that may be written.
        spare: Address of 3 * STRIP bytes.
    """
    first, second, third = rows
    if color == RGB and reverse:
        first, third = third, first
    if channels == 1:
        copy_row(first, out, cols)
        return
    for x in range(0, cols, STRIP):
        whole = out + 3 * (x + STRIP) <= end
        to = out + 3 * x if whole else spare
        if color == YCBCR:
            store_colors(first + x, second + x, third + x, reverse, to)
        else:
            store_planes(first + x, second + x, third + x, to)
        if not whole:
            copy_row(spare, out + 3 * x, 3 * min(STRIP, cols - x))
