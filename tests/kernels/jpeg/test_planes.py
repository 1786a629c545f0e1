"""From planes of samples to pixels: upsampling, colours and edges, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import compiled
from numba import njit

from gpuio.kernels.jpeg.header import GRAY, RGB, YCBCR
from gpuio.kernels.jpeg.layout import ACROSS, BOTH, DOWN, FOURTH, REPEATED
from gpuio.kernels.jpeg.planes import store_row, upsample
from gpuio.kernels.jpeg.vector import STRIP, store_colors

write_row, make_whole = compiled(store_row), compiled(upsample)

COUNTS = (1, 2, 5, 31, 32, 33, 64, 100)
UNTOUCHED = 0xA5


@njit
def all_colors(luma, blue, red, reverse, out, count):
    for k in range(0, count, STRIP):
        store_colors(luma + k, blue + k, red + k, reverse, out + 3 * k)


def plain_colors(luma, blue, red):
    """(..., 3) levels of red, green and blue: jdcolor.c's formulas, in units of 1 / 65536."""
    luma, blue, red = luma.astype(np.int32), blue.astype(np.int32) - 128, red.astype(np.int32) - 128
    half = 1 << 15
    added = (
        91881 * red + half >> 16,
        -22554 * blue - 46802 * red + half >> 16,
        116130 * blue + half >> 16,
    )
    return np.stack([np.clip(luma + part, 0, 255) for part in added], axis=-1)


def plain_upsampled(way, near, far, odd):
    """A row of whole chroma from (N + 2,) samples of two rows, the first and last beside it."""
    near, far = near.astype(np.int64), far.astype(np.int64)
    if way == DOWN:
        return (3 * near + far + (2 if odd else 1) >> 2)[1:-1]
    if way in (REPEATED, FOURTH):
        return np.repeat(near[1:-1], 2 if way == REPEATED else 4)
    row, first, second, shift = (3 * near + far, 8, 7, 4) if way == BOTH else (near, 1, 2, 2)
    left = 3 * row[1:-1] + row[:-2] + first >> shift
    right = 3 * row[1:-1] + row[2:] + second >> shift
    return np.stack([left, right], axis=1).reshape(-1)


def test_colours_are_jdcolor_s_for_all_chroma():
    luma = np.array([0, 1, 60, 127, 128, 200, 254, 255], np.uint8)
    every = np.meshgrid(luma, *[np.arange(256, dtype=np.uint8)] * 2, indexing="ij")
    planes = [np.ascontiguousarray(plane).reshape(-1) for plane in every]
    wanted = plain_colors(*planes)
    for reverse in (0, 1):
        out = np.zeros((len(planes[0]), 3), np.uint8)
        addresses = [plane.ctypes.data for plane in planes]
        all_colors(*addresses, reverse, out.ctypes.data, len(out))
        np.testing.assert_array_equal(out[:, ::-1] if reverse else out, wanted)


@pytest.mark.parametrize("way", [REPEATED, ACROSS, DOWN, BOTH, FOURTH])
@pytest.mark.parametrize("odd", [0, 1])
def test_chroma_is_made_whole_as_in_jdsample(way, odd):
    rng = np.random.default_rng(way)
    for count in COUNTS:
        near, far = rng.integers(0, 256, (2, count + 2 * STRIP + 2), np.uint8)
        out = np.full(4 * count + 5 * STRIP, UNTOUCHED, np.uint8)
        make_whole(way, near[1:].ctypes.data, far[1:].ctypes.data, odd, count, out.ctypes.data)
        wanted = plain_upsampled(way, near[: count + 2], far[: count + 2], odd)
        np.testing.assert_array_equal(out[: len(wanted)], wanted)
        assert (out[len(wanted) + 4 * STRIP :] == UNTOUCHED).all()


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("color", [GRAY, YCBCR, RGB])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_row_of_pixels_ends_where_it_has_to(color, reverse, channels):
    rng = np.random.default_rng(color)
    for cols in COUNTS:
        planes = list(rng.integers(0, 256, (3, cols + STRIP), np.uint8))
        if color == GRAY:
            planes = planes[:1] * 3
        out = np.full(3 * cols + 200, UNTOUCHED, np.uint8)
        spare = np.zeros(3 * STRIP, np.uint8)
        at = out[100:].ctypes.data
        addresses = (*(plane.ctypes.data for plane in planes), color, channels, reverse, cols)
        write_row(*addresses, at, at + channels * cols, spare.ctypes.data)
        luma, blue, red = (plane[:cols] for plane in planes)
        wanted = plain_colors(luma, blue, red) if color == YCBCR else np.stack([luma, blue, red], 1)
        wanted = luma if channels == 1 else wanted[:, :: -1 if reverse else 1]
        inside = out[100 : 100 + channels * cols]
        np.testing.assert_array_equal(inside, wanted.reshape(-1))
        assert (out[:100] == UNTOUCHED).all()
        assert (out[100 + channels * cols :] == UNTOUCHED).all()
