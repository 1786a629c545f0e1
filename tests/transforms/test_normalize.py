"""From levels to the batch: MXNet's formula, in the order of its float32 operations."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.testing import draw
from gpuio.transforms.normalize import Normalization, round_half_away

F32 = np.float32
MEAN, STD = (123.68, 116.779, 103.939, 0.5), (58.393, 57.12, 57.375, 255)
CHANNELS = pytest.mark.parametrize("channels", [1, 3, 4])


def planes(values, channels):
    return np.array(values[:channels], F32)[:, None, None]


def batch_of(stage, images, normalization, **options):
    shape = (images[0].shape[2], *images[0].shape[:2])
    return stage.run(stage.plan_of(normalization, data_shape=shape, **options), images)


@CHANNELS
def test_float32_is_the_formula(stage, channels):
    image = draw(20, 30, channels)
    got = batch_of(stage, [image], Normalization(MEAN, STD, 0.5)).data[0]
    gain, bias = F32(0.5) / planes(STD, channels), F32(0) / planes(STD, channels)
    pixels = image.transpose(2, 0, 1).astype(F32)
    npt.assert_array_equal(got, (pixels - planes(MEAN, channels)) * gain + bias)


@CHANNELS
def test_gain_and_offset_of_each_image_come_before_the_deviation(stage, channels):
    images = [draw(20, 30, channels, seed=number) for number in range(5)]
    batch = batch_of(
        stage, images, Normalization(MEAN, STD, 3),
        max_random_contrast=0.4, max_random_illumination=25,
    )  # fmt: skip
    for image, got, gain, offset in zip(
        images, batch.data, batch.sampled["gain"], batch.sampled["offset"], strict=True
    ):
        pixels = image.transpose(2, 0, 1).astype(F32) - planes(MEAN, channels)
        times, plus = gain * F32(3) / planes(STD, channels), offset * F32(3) / planes(STD, channels)
        npt.assert_array_equal(got, pixels * times + plus)


@CHANNELS
def test_int8_takes_the_rounded_mean_off_and_nothing_else(stage, channels):
    image = draw(20, 30, channels)
    got = batch_of(
        stage, [image], Normalization((100.5, 12.4, 200.6, 3), STD, 7), dtype="int8"
    ).data
    mean = np.array([101, 12, 201, 3][:channels])[:, None, None]
    expected = np.clip(image.transpose(2, 0, 1).astype(int) - mean, -128, 127)
    npt.assert_array_equal(got[0], expected)


@CHANNELS
def test_uint8_is_the_picture(stage, channels):
    image = draw(20, 30, channels)
    got = batch_of(stage, [image], Normalization(MEAN, STD, 7), dtype="uint8").data[0]
    npt.assert_array_equal(got, image.transpose(2, 0, 1))


@pytest.mark.parametrize("scale", [1, 1e-3, 1e-6, 500])
def test_float16_is_the_nearest_to_float32(stage, scale):
    image, normalization = draw(20, 30), Normalization(MEAN, STD, scale)
    single = batch_of(stage, [image], normalization).data
    half = batch_of(stage, [image], normalization, dtype="float16").data
    npt.assert_array_equal(half, single.astype(np.float16))


@pytest.mark.parametrize(
    ("dtype", "normalization", "options"),
    [
        ("float16", Normalization(MEAN, STD, 3e4), {}),
        ("float16", Normalization(std=(1, 1, 0.001, 1)), {}),
        ("float16", Normalization(), {"max_random_illumination": 66_000}),
        ("float16", Normalization(), {"max_random_contrast": 300}),
        ("float32", Normalization(scale=3e38), {}),
        ("float32", Normalization(image=np.full((3, 20, 30), np.nan, F32)), {}),
    ],
)
def test_values_that_the_output_cannot_hold_are_refused(stage, dtype, normalization, options):
    with pytest.raises(ValueError, match=f"mean, std, scale.* and {dtype} holds up to"):
        batch_of(stage, [draw(20, 30)], normalization, dtype=dtype, **options)
    batch_of(stage, [draw(20, 30)], normalization, dtype="uint8", **options)


@CHANNELS
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_mean_image_replaces_the_means_where_the_pixel_was(stage, channels, dtype, layout):
    image = draw(20, 30, channels)
    mean = np.random.default_rng(0).uniform(0, 255, (channels, 20, 30)).astype(F32)
    mean[:, 0, 0] = 2.5  # rounds away from 0
    normalization = Normalization(MEAN, STD, 2, mean)
    options = {"dtype": dtype, "layout": layout, "mirror": True}
    got = batch_of(stage, [image], normalization, **options).data[0]
    pixels = image.transpose(2, 0, 1).astype(F32)
    expected = {
        "float32": (pixels - mean) * (F32(2) / planes(STD, channels)),
        "int8": np.clip(pixels - np.floor(mean + F32(0.5)), -128, 127),
        "uint8": pixels,
    }[dtype][..., ::-1]
    npt.assert_array_equal(got, expected.transpose(1, 2, 0) if layout == "NHWC" else expected)


@CHANNELS
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
def test_layouts_and_mirrors_hold_the_same_values(stage, channels, dtype):
    images, normalization = [draw(20, 31, channels)], Normalization(MEAN, STD, 2)
    plain = batch_of(stage, images, normalization, dtype=dtype).data
    turned = batch_of(stage, images, normalization, dtype=dtype, layout="NHWC", mirror=True).data
    npt.assert_array_equal(turned.transpose(0, 3, 1, 2)[..., ::-1], plain)


def test_halves_round_away_from_zero():
    values = [0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, 2.4, -2.6]
    npt.assert_array_equal(round_half_away(values), [1, 2, 3, -1, -3, 0, 2, -3])


def test_a_mean_image_of_another_shape_is_refused(stage):
    mean = np.zeros((3, 20, 31), F32)
    with pytest.raises(
        ValueError, match=r"mean_img must be of shape \(3, 20, 30\), got \(3, 20, 31\)"
    ):
        batch_of(stage, [draw(20, 30)], Normalization(image=mean))
