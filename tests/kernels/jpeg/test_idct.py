"""The inverse DCT, against T.81's formula, a matrix of integers, and libjpeg's overflows."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import simplejpeg
from jpeg_alone import decoded
from numba import njit
from plain_jpeg import plain_jpeg

from gpuio.kernels.jpeg.entropy import ZIGZAG
from gpuio.kernels.jpeg.vector import BLOCKS, samples_of_1, samples_of_4, samples_of_8


@njit
def samples(kept, coefficients, quantisation, out, pitch):
    if kept == 1:
        return samples_of_1(coefficients, quantisation, out, pitch)
    if kept == 4:
        return samples_of_4(coefficients, quantisation, out, pitch)
    return samples_of_8(coefficients, quantisation, out, pitch)


def compiled(blocks, quantisation, kept=8):
    """(BLOCKS, 8, 8) samples of (BLOCKS, 8, 8) coefficients, and whether some are too large."""
    side_by_side = np.ascontiguousarray(blocks.reshape(BLOCKS, 64).T, np.int16)
    factors, out = np.ascontiguousarray(quantisation, np.int16), np.zeros((8, 8 * BLOCKS), np.uint8)
    above = samples(
        kept, side_by_side.ctypes.data, factors.ctypes.data, out.ctypes.data, 8 * BLOCKS
    )
    return out.reshape(8, BLOCKS, 8).transpose(1, 0, 2), above


def matrix():
    """(8, 8) int64: samples along an axis from coefficients, in units of 1 / 8192."""

    def fix(value):
        return round(value * 8192)

    one, a = 8192, fix(0.541196100)
    even = np.zeros((4, 8), np.int64)
    even[:, 0], even[:, 4] = one, (one, -one, -one, one)
    even[:, 2] = np.array([1, 0, 0, -1]) * (a + fix(0.765366865)) + np.array([0, 1, -1, 0]) * a
    even[:, 6] = np.array([1, 0, 0, -1]) * a + np.array([0, 1, -1, 0]) * (a - fix(1.847759065))
    z1, z2, z5 = -fix(0.899976223), -fix(2.562915447), fix(1.175875602)
    z3, z4 = z5 - fix(1.961570560), z5 - fix(0.390180644)
    odd = np.zeros((4, 8), np.int64)
    odd[:, 1::2] = [
        [fix(1.501321110) + z1 + z4, z5, z4, z1 + z5],
        [z5, fix(3.072711026) + z2 + z3, z2 + z5, z3],
        [z4, z2 + z5, fix(2.053119869) + z2 + z4, z5],
        [z1 + z5, z3, z5, fix(0.298631336) + z1 + z3],
    ]
    return np.concatenate([even + odd, (even - odd)[::-1]])


def plain_samples(blocks, quantisation):
    """As `compiled`, by products of matrices; values have to be small."""
    values = blocks.astype(np.int64) * quantisation.reshape(8, 8)
    rows = matrix() @ values + (1 << 10) >> 11
    return np.clip((rows @ matrix().T + (1 << 17) >> 18) + 128, 0, 255)


def exact_samples(blocks, quantisation):
    """As `compiled`, by the real-valued formula: T.81, A.3.3."""
    x, u = np.mgrid[:8, :8]
    cosines = np.cos((2 * x + 1) * u * np.pi / 16) * np.where(u == 0, np.sqrt(0.5), 1) / 2
    return np.clip(cosines @ (blocks * quantisation.reshape(8, 8)) @ cosines.T + 128, 0, 255)


def blocks_of(seed, kept=8):
    """(BLOCKS, 8, 8) coefficients as pictures have them, and (64,) quantisation."""
    rng = np.random.default_rng(seed)
    quantisation = rng.integers(1, 50, 64)
    size = 900 / (1 + np.add.outer(np.arange(8), np.arange(8)) ** 2) / quantisation.reshape(8, 8)
    blocks = np.rint(rng.normal(0, 1, (BLOCKS, 8, 8)) * size).astype(np.int64)
    blocks[:, kept:], blocks[:, :, kept:] = 0, 0
    return blocks, quantisation


def test_the_matrix_is_that_of_the_cosines():
    x, u = np.mgrid[:8, :8]
    cosines = np.cos((2 * x + 1) * u * np.pi / 16) * np.where(u == 0, 1, np.sqrt(2))
    assert np.abs(matrix() - 8192 * cosines).max() < 2


@pytest.mark.parametrize("kept", [1, 4, 8])
def test_samples_are_those_of_the_matrices_and_near_the_formula(kept):
    for seed in range(200):
        blocks, quantisation = blocks_of(seed, kept)
        made, above = compiled(blocks, quantisation, kept)
        np.testing.assert_array_equal(made, plain_samples(blocks, quantisation))
        assert np.abs(made - exact_samples(blocks, quantisation)).max() < 1
        assert above == 0


@pytest.mark.parametrize(("kept", "least"), [(1, 8), (1, 4), (4, 8)])
def test_with_few_coefficients_all_ways_are_one(kept, least):
    blocks, quantisation = blocks_of(7, kept)
    made = [compiled(blocks, quantisation, way)[0] for way in (kept, least)]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("kept", [1, 4, 8])
@pytest.mark.parametrize(("value", "above"), [(8191, 0), (-8192, 0), (8192, 1), (-8193, 1)])
def test_values_of_the_first_row_that_libjpeg_may_let_wrap_around_are_told(kept, value, above):
    blocks = np.zeros((BLOCKS, 8, 8), np.int64)
    blocks[5, 0, kept - 1] = value
    assert compiled(blocks, np.ones(64), kept)[1] == above


def coded(blocks):
    return blocks.reshape(-1, 64)[:, list(ZIGZAG)]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="libjpeg overflows otherwise elsewhere")
def test_overflows_are_those_of_libjpeg_s_vector_code():
    rng = np.random.default_rng(1)
    for bits in range(8, 15):
        blocks = rng.integers(-(1 << bits), 1 << bits, (40, 8, 8))
        blocks[:, rng.random((8, 8)) < 0.5] = 0
        blocks[:, 0] = rng.integers(-2000, 2000, (40, 8))
        data = plain_jpeg(coded(blocks), np.ones(64))
        np.testing.assert_array_equal(decoded(data, 1), simplejpeg.decode_jpeg(data, "GRAY"))


def test_products_wrap_around_in_16_bits_as_in_libjpeg():
    blocks = np.zeros((3, 8, 8), np.int64)
    blocks[:, 3, 2], blocks[:, 0, 0] = (1000, -777, 16), 5
    data = plain_jpeg(coded(blocks), np.full(64, 65535) - np.arange(64))
    np.testing.assert_array_equal(decoded(data, 1), simplejpeg.decode_jpeg(data, "GRAY"))


def test_a_picture_with_too_large_a_value_is_declined():
    blocks = np.zeros((9, 8, 8), np.int64)
    assert decoded(plain_jpeg(coded(blocks), np.full(64, 9)), 1) is not None
    blocks[8, 0, 0] = 1000
    assert decoded(plain_jpeg(coded(blocks), np.full(64, 9)), 1) is None
