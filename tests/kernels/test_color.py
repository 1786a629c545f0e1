"""Colours: MXNet's formulas, written a second time for whole arrays."""

from __future__ import annotations

import colorsys
from itertools import permutations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from gpuio.kernels.color import mean_level
from gpuio.kernels.color_steps import color_image
from gpuio.kernels.steps import COLOR_STEP, ColorKind
from gpuio.testing import draw

F32 = np.float32
FACTORS = [0, 0.1, 0.5, 0.999, 1, 1.37, 2, 3]


def pictures():
    """Noise, waves, and all 32 768 colours of five bits."""
    rng = np.random.default_rng(0)
    levels = np.arange(4, 256, 8, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 32, 3)
    noise = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    extremes = noise // 128 * 255
    return {"noise": noise, "waves": draw(40, 50), "extremes": extremes, "all": cube}


PICTURES = pytest.mark.parametrize("image", pictures().values(), ids=list(pictures()))


def apply(image, *steps):
    """What the kernel makes of (H, W, 3) `image`; each step is a ColorKind and its parameters."""
    rows = np.zeros(len(steps), COLOR_STEP)
    for row, (kind, *parameters) in zip(rows, steps, strict=True):
        row["kind"] = kind
        for name, value in zip("abc", parameters, strict=False):
            row[name] = value
    out = np.ascontiguousarray(image).copy()
    color_image(out.reshape(-1), rows)
    return out


def level(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def gray(image):
    red, green, blue = np.moveaxis(image.astype(np.int64), -1, 0)
    return (1868 * red + 9617 * green + 4899 * blue + 8192) >> 14


def brightness(image, factor):
    return level(image.astype(F32) * F32(factor))


def contrast(image, factor):
    rest = (F32(1) - F32(factor)) * F32(gray(image).mean())
    return level(image.astype(F32) * F32(factor) + rest)


def saturation(image, factor):
    rest = gray(image).astype(F32) * (F32(1) - F32(factor))
    return level(image.astype(F32) * F32(factor) + rest[..., None])


JITTERS = {
    ColorKind.BRIGHTNESS: brightness,
    ColorKind.CONTRAST: contrast,
    ColorKind.SATURATION: saturation,
}


@PICTURES
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", JITTERS)
def test_each_jitter_is_its_formula(image, kind, factor):
    npt.assert_array_equal(apply(image, (kind, factor)), JITTERS[kind](image, factor))


@pytest.mark.parametrize("order", [*permutations(JITTERS)], ids=lambda kinds: kinds[0].name)
def test_steps_apply_in_the_order_stored(order):
    factors = dict(zip(JITTERS, (F32(1.4), F32(0.6), F32(1.7)), strict=True))
    image = expected = draw(30, 40)
    for kind in order:
        expected = JITTERS[kind](expected, factors[kind])
    npt.assert_array_equal(apply(image, *((kind, factors[kind]) for kind in order)), expected)


def test_two_steps_of_a_kind_are_two():
    image = draw(30, 40)
    once = apply(image, (ColorKind.CONTRAST, 0.6))
    twice = apply(image, (ColorKind.CONTRAST, 0.6), (ColorKind.NONE,), (ColorKind.CONTRAST, 1.9))
    npt.assert_array_equal(twice, contrast(once, 1.9))
    assert not np.array_equal(once, twice)


def test_gray_before_saturation_is_not_gray_after_it():
    image = draw(30, 40)
    gray, more = (ColorKind.GRAY,), (ColorKind.SATURATION, 1.8)
    before, after = apply(image, gray, more), apply(image, more, gray)
    npt.assert_array_equal(after[..., 0], after[..., 2])
    assert not np.array_equal(before, after)


@PICTURES
@pytest.mark.parametrize("shift", [(0, 0, 0), (3.7, -0.2, -200), (-1.5, 0.5, 300), (0.9, -0.9, 1)])
def test_lighting_adds_and_cuts(image, shift):
    red, green, blue = shift
    values = np.trunc(image.astype(F32) + np.array(shift, F32))
    expected = np.clip(values, 0, 255).astype(np.uint8)
    got = apply(image, (ColorKind.SHIFT, red, green, blue))
    npt.assert_array_equal(got, expected)


def to_hls(image):
    """Hue in half degrees, lightness and saturation in levels, as MXNet rounds them."""
    red, green, blue = np.moveaxis(image.astype(F32) * (F32(1) / F32(255)), -1, 0)
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    delta, total = high - low, high + low
    colored = delta > F32(1.1920929e-7)
    light = total * F32(0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        satur = np.where(light < F32(0.5), delta / total, delta / (F32(2) - total))
        unit = F32(60) / delta
        hue = np.where(
            high == green, (blue - red) * unit + F32(120), (red - green) * unit + F32(240)
        )
        hue = np.where(high == red, (green - blue) * unit, hue)
    hue = np.where(hue < 0, hue + F32(360), hue)
    hue, satur = np.where(colored, hue, F32(0)), np.where(colored, satur, F32(0))
    return tuple(level(x).astype(int) for x in (hue * F32(0.5), light * F32(255), satur * F32(255)))


def from_hls(hue, lightness, satur):
    unit = F32(1) / F32(255)
    light, s = lightness.astype(F32) * unit, satur.astype(F32) * unit
    upper = np.where(light <= F32(0.5), light * (F32(1) + s), light + s - light * s)
    lower = F32(2) * light - upper
    place = hue.astype(F32) * (F32(6) / F32(180))
    place = np.where(place >= 6, place - F32(6), place)
    sector = np.floor(place).astype(int)
    part = place - sector.astype(F32)
    falls, rises = lower + (upper - lower) * (F32(1) - part), lower + (upper - lower) * part
    red = np.choose(sector, [upper, falls, lower, lower, rises, upper])
    green = np.choose(sector, [rises, upper, upper, falls, lower, lower])
    blue = np.choose(sector, [lower, lower, rises, upper, upper, falls])
    colors = np.stack([red, green, blue], axis=-1)
    return level(np.where((satur == 0)[..., None], light[..., None], colors) * F32(255))


SHIFTS = [(0, 0, 0), (17, 0, 0), (0, -30, 0), (0, 0, 40), (-180, 5, -5), (90, 255, 0), (9, 9, -255)]


@PICTURES
@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_hls_shifts_are_the_formula(image, shift):
    hue, lightness, satur = to_hls(image)
    expected = from_hls(
        np.clip(hue + shift[0], 0, 180),
        np.clip(lightness + shift[1], 0, 255),
        np.clip(satur + shift[2], 0, 255),
    )
    got = apply(image, (ColorKind.HLS, *shift))
    npt.assert_array_equal(got, expected)


def test_hls_is_the_colour_space_of_that_name():
    image = pictures()["all"].reshape(-1, 3)[::37]
    ours = np.stack(to_hls(image), axis=-1)
    reference = np.array([colorsys.rgb_to_hls(*(color / 255)) for color in image])
    difference = np.abs(ours - reference * [180, 255, 255])
    assert np.minimum(difference, 180 - difference)[:, 0].max() <= 0.501
    assert difference[:, 1:].max() <= 0.501


def test_hls_of_no_saturation_is_gray():
    got = apply(draw(20, 30), (ColorKind.HLS, 0, 0, -255))
    npt.assert_array_equal(got[..., 0], got[..., 1])
    npt.assert_array_equal(got[..., 0], got[..., 2])


@PICTURES
def test_gray_weighs_the_channels(image):
    red, green, blue = np.moveaxis(image.astype(F32), -1, 0)
    expected = level(F32(0.21) * red + F32(0.72) * green + F32(0.07) * blue)
    npt.assert_array_equal(
        apply(image, (ColorKind.GRAY,)), np.repeat(expected[..., None], 3, axis=-1)
    )


@PICTURES
def test_no_step_changes_nothing(image):
    npt.assert_array_equal(apply(image), image)
    npt.assert_array_equal(apply(image, (ColorKind.NONE, 3, 4, 5)), image)


@PICTURES
def test_factors_of_one_change_nothing(image):
    npt.assert_array_equal(apply(image, *((kind, 1) for kind in JITTERS)), image)


def test_a_single_pixel_has_a_mean():
    image = np.array([[[10, 200, 90]]], np.uint8)
    npt.assert_array_equal(apply(image, (ColorKind.CONTRAST, 0.5)), contrast(image, 0.5))


@njit
def mean(total, count):
    return mean_level(total, count)


@st.composite
def totals(draw):
    """Sums of levels, with the number of pixels: any, and near a tie of float32."""
    count = draw(st.integers(1, 2**27))
    total = draw(st.integers(0, 255 * count))
    if draw(st.booleans()):
        tie = (2 * draw(st.integers(2**23, 2**24 - 1)) + 1) * 2.0 ** draw(st.integers(-40, -17))
        total = min(max(round(count * tie) + draw(st.integers(-1, 1)), 0), 255 * count)
    return total, count


@given(totals())
@settings(max_examples=500, deadline=None)
def test_the_mean_by_integers_is_that_of_double_precision(case):
    total, count = case
    expected = F32(np.float64(total) / np.float64(count))
    assert mean(np.uint64(total), np.uint64(count)) == expected


def test_the_mean_of_a_tie_is_even():
    for total, count in ((2**24 + 1, 2**24), (2**24 + 3, 2**24), (0, 5), (255, 1), (1, 2**27)):
        got = mean(np.uint64(total), np.uint64(count))
        assert got == F32(np.float64(total) / np.float64(count))
