"""Pictures decoded to a half, a quarter or an eighth of their size are those of libjpeg-turbo."""

from __future__ import annotations

import itertools
import platform

import numpy as np
import pytest
import simplejpeg
from jpeg_alone import JpegAlone
from plain_jpeg import plain_jpeg
from robustness.formats import join_jpeg, split_jpeg

from gpuio.kernels.jpeg.entropy import ZIGZAG
from gpuio.kernels.jpeg.reduced import reduced_samples
from gpuio.testing import draw, encode

SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")
SCALES = (4, 2, 1)
SIZES = (
    (1, 1), (7, 9), (8, 33), (16, 5), (17, 64), (40, 31), (67, 130), (9, 600), (600, 9),
    (129, 300),
)  # fmt: skip
QUALITIES = (30, 85, 100)


def jpeg(sampling, height, width, quality=85, *, noise=20.0):
    count = 1 if sampling == "Gray" else 3
    rng = np.random.default_rng(height * 1000 + width)
    noisy = draw(height, width, count, seed=height) + rng.normal(0, noise, (height, width, count))
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    return simplejpeg.encode_jpeg(pixels, quality, "RGB" if count == 3 else "GRAY", sampling)


def reduced_size(data, scale):
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    return -(-height * scale // 8), -(-width * scale // 8)


def libjpegs(data, scale, order="RGB"):
    height, width = reduced_size(data, scale)
    pixels = simplejpeg.decode_jpeg(data, order, min_height=height, min_width=width)
    assert pixels.shape[:2] == (height, width)
    return pixels


@pytest.fixture(scope="module")
def decoder():
    return JpegAlone()


def opened(decoder, data, scale):
    job = decoder.open(data)
    job["scale"], job["reduced"] = scale, reduced_samples.address
    return job


def whole(data, scale):
    return (0, 0, *reduced_size(data, scale))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_pixels_are_those_of_libjpeg(decoder, sampling, scale):
    for (height, width), quality in itertools.product(SIZES, QUALITIES):
        data = jpeg(sampling, height, width, quality)
        job = opened(decoder, data, scale)
        for channels, order in ((3, "RGB"), (3, "BGR"), (1, "GRAY")):
            pixels = decoder.decode(job, whole(data, scale), channels, reverse=order == "BGR")
            wanted = libjpegs(data, scale, order)
            np.testing.assert_array_equal(pixels, wanted, f"{height} x {width}, {order}")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("saves", [False, True])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_windows_are_parts_of_the_picture(decoder, sampling, saves, scale):
    data = jpeg(sampling, 233, 410)
    wanted, job = libjpegs(data, scale), opened(decoder, data, scale)
    height, width = wanted.shape[:2]
    rng = np.random.default_rng(scale)
    for y, x in itertools.product((0, height // 2, height - 1), (0, width // 3, width - 1)):
        rows, cols = rng.integers(1, height - y + 1), rng.integers(1, width - x + 1)
        pixels = decoder.decode(job, (y, x, rows, cols), saves=saves)
        np.testing.assert_array_equal(pixels, wanted[y : y + rows, x : x + cols])
    assert job["known"] == saves


def test_checkpoints_of_one_size_are_those_of_every_other(decoder):
    data = jpeg("420", 233, 410)
    job = opened(decoder, data, 8)
    decoder.decode(job, saves=True)
    assert job["known"]
    job["scale"] = 4
    part = decoder.decode(job, (50, 20, 30, 100), saves=True)
    np.testing.assert_array_equal(part, libjpegs(data, 4)[50:80, 20:120])


@pytest.mark.parametrize("scale", SCALES)
def test_restart_markers_and_other_codes(decoder, scale):
    for options in ({"restart_marker_blocks": 3}, {"optimize": True}, {"keep_rgb": True}):
        data = encode(draw(70, 90, seed=3), "JPEG", quality=85, **options)
        pixels = decoder.decode(opened(decoder, data, scale), whole(data, scale))
        np.testing.assert_array_equal(pixels, libjpegs(data, scale))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="libjpeg overflows otherwise elsewhere")
def test_overflows_are_those_of_libjpeg_s_vector_code(decoder, scale):
    rng = np.random.default_rng(scale)
    for bits in (*range(8, 15), 13, 14, 14):
        blocks = rng.integers(-(1 << bits), 1 << bits, (40, 8, 8))
        blocks[:, rng.random((8, 8)) < 0.5] = 0
        blocks[:, 0] = rng.integers(-2000, 2000, (40, 8))
        data = plain_jpeg(blocks.reshape(-1, 64)[:, list(ZIGZAG)], np.ones(64))
        pixels = decoder.decode(opened(decoder, data, scale), whole(data, scale), 1)
        np.testing.assert_array_equal(pixels, libjpegs(data, scale, "GRAY"))


@pytest.mark.parametrize("scale", SCALES)
def test_samples_are_near_the_means_of_those_of_the_whole_picture(decoder, scale):
    rng, by = np.random.default_rng(scale), 8 // scale
    blocks = np.rint(rng.normal(0, 12, (40, 8, 8))).astype(np.int64)
    data = plain_jpeg(blocks.reshape(-1, 64)[:, list(ZIGZAG)], np.ones(64))
    samples = decoder.decode(decoder.open(data), None, 1)[..., 0].astype(np.float64)
    height, width = samples.shape
    means = samples.reshape(height // by, by, width // by, by).mean(axis=(1, 3))
    pixels = decoder.decode(opened(decoder, data, scale), whole(data, scale), 1)[..., 0]
    assert np.abs(pixels - means).max() < 1


@pytest.mark.parametrize("scale", SCALES)
def test_coefficients_that_are_too_large_are_left_to_libjpeg(decoder, scale):
    segments, scan = split_jpeg(jpeg("420", 40, 50))
    large = [(m, body[:1] + b"\xff" * 64 if m == 0xDB else body) for m, body in segments]
    data = join_jpeg(large, scan)
    assert decoder.decode(opened(decoder, data, scale), whole(data, scale)) is None


@pytest.mark.parametrize(
    ("value", "factor"), [(-4100, 1), (-1030, 1), (1020, 1), (4091, 1), (2, 65535), (4, 65036)]
)
def test_means_of_blocks_are_clipped(decoder, value, factor):
    data = plain_jpeg([[0] * 64, [value, *[0] * 63]], [factor] * 64)
    pixels = decoder.decode(opened(decoder, data, 1), whole(data, 1), 1)
    np.testing.assert_array_equal(pixels, libjpegs(data, 1, "GRAY"))


@pytest.mark.parametrize(("value", "factor"), [(4092, 1), (-4101, 1), (8191, 1), (256, 256)])
def test_means_for_which_libjpeg_s_table_wraps_around_are_left_to_it(decoder, value, factor):
    data = plain_jpeg([[0] * 64, [value, *[0] * 63]], [factor] * 64)
    assert decoder.decode(opened(decoder, data, 1), whole(data, 1), 1) is None


@pytest.mark.parametrize("scale", SCALES)
def test_damage_is_found(decoder, scale):
    data = jpeg("420", 40, 50)
    cut = data[: len(data) * 3 // 4] + b"\xff\xd9"
    assert decoder.decode(opened(decoder, cut, scale), (0, 0, 1, 1)) is None
