from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.kernels.float_resize import resize
from gpuio.kernels.resample import resize as resize_bytes
from gpuio.testing import draw

NEAREST, LINEAR, CUBIC, AREA, LANCZOS = range(5)
SIZES = [(9, 7), (10, 15), (33, 41), (20, 50), (1, 1), (5, 6)]


@pytest.fixture
def image():
    return draw(20, 30, seed=4).astype(np.float32)


def linear(count, size):
    """(size, count) weights of bilinear interpolation along one axis."""
    place = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    low = np.floor(place).astype(int)
    weights = np.zeros((size, count))
    np.add.at(weights, (np.arange(size), low), 1 - (place - low))
    np.add.at(weights, (np.arange(size), np.minimum(low + 1, count - 1)), place - low)
    return weights


def area(count, size):
    """(size, count) weights of the average over what an output pixel covers."""
    edges = np.arange(size + 1) * count / size
    cells = np.arange(count)
    low = np.maximum(edges[:-1, None], cells)
    high = np.minimum(edges[1:, None], cells + 1)
    return np.maximum(high - low, 0) * size / count


def by_axes(image, weights, height, width):
    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("ya,xb,abc->yxc", rows, columns, image)


@pytest.mark.parametrize("size", SIZES)
def test_bilinear_is_that_of_numpy(image, size):
    npt.assert_allclose(resize(image, *size, LINEAR), by_axes(image, linear, *size), atol=1e-3)


@pytest.mark.parametrize("size", [(9, 7), (10, 15), (1, 1), (20, 8), (5, 6)])
def test_area_is_the_average_of_what_is_covered(image, size):
    npt.assert_allclose(resize(image, *size, AREA), by_axes(image, area, *size), atol=0.1)


@pytest.mark.parametrize("inter", range(5))
@pytest.mark.parametrize("size", SIZES)
def test_bytes_are_rounded_floats(image, inter, size):
    exact = np.clip(resize(image, *size, inter), 0, 255)
    npt.assert_allclose(exact, resize_bytes(image.astype(np.uint8), *size, inter), atol=1.1)


@pytest.mark.parametrize("inter", range(5))
def test_doubles_agree_with_singles(image, inter):
    for size in SIZES:
        single = resize(image, *size, inter)
        double = resize(image.astype(np.float64), *size, inter)
        assert (single.dtype, double.dtype) == (np.float32, np.float64)
        npt.assert_allclose(single, double, atol=1e-3)


@pytest.mark.parametrize("inter", range(5))
def test_any_number_of_channels(image, inter):
    for channels in (1, 2, 5):
        planes = np.resize(image, (20, 30, channels))
        got = resize(planes, 13, 11, inter)
        for c in range(channels):
            npt.assert_array_equal(
                got[..., c : c + 1], resize(planes[..., c : c + 1], 13, 11, inter)
            )


def test_values_are_neither_rounded_nor_cut(image):
    sharp = np.where(image > 128, np.float32(1e4), np.float32(-1e4))
    assert np.abs(resize(sharp, 41, 61, LANCZOS)).max() > 1e4
    assert (resize(image / 100, 13, 11, CUBIC) % 1).any()


def test_a_view_is_read_where_it_lies(image):
    view = image[::2, ::-1]
    npt.assert_array_equal(resize(view, 7, 7, LINEAR), resize(view.copy(), 7, 7, LINEAR))
    same = resize(view, 10, 30, NEAREST)
    npt.assert_array_equal(same, view)
    assert not np.shares_memory(same, view)
