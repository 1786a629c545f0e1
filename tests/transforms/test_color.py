"""Colour ops: what the random numbers become, and that it reaches the pixels."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.kernels.color_steps import color_image
from gpuio.kernels.steps import ColorKind
from gpuio.testing import draw
from gpuio.transforms.color import ColorJitter, Exposure, HlsJitter, Lighting, RandomGray
from gpuio.transforms.random import Draw, Draws

F32 = np.float32
IDS = np.arange(500)
DRAWS = Draws(IDS, seed=0, epoch=0)
JITTERS = ("brightness", "contrast", "saturation")


def colors(made):
    """(N, K) colour steps of each image, in their order."""
    return np.stack(made.geometry.steps[-1].colors, axis=1)


def test_jitter_factors_are_one_and_the_number(stage):
    made = stage.planned([ColorJitter(0.1, 0.2, 0.3)], (9, 9), ids=IDS)
    steps = colors(made)
    for name, amount in zip(JITTERS, (0.1, 0.2, 0.3), strict=True):
        unit = DRAWS.uniform(Draw[name.upper()])
        (rows, places) = np.nonzero(steps["kind"] == ColorKind[name.upper()])
        npt.assert_array_equal(rows, IDS)
        factors = steps["a"][rows, places]
        npt.assert_allclose(factors, 1 - amount + 2 * amount * unit, rtol=1e-6)
        npt.assert_array_equal(made.sampled[name], factors)


def test_jitter_stands_in_the_order_that_was_drawn(stage):
    steps = colors(stage.planned([ColorJitter(0.1, 0.2, 0.3)], (9, 9), ids=IDS))
    orders = [
        (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0),
    ]  # fmt: skip
    kinds = np.array([ColorKind[name.upper()] for name in JITTERS])
    expected = kinds[np.array(orders)[DRAWS.integers(Draw.JITTER_ORDER, 0, 5)]]
    npt.assert_array_equal(steps["kind"], expected)


def test_jitter_by_nothing_costs_nothing(stage):
    steps = colors(stage.planned([ColorJitter(contrast=0.2)], (9, 9), ids=IDS))
    assert ((steps["kind"] != ColorKind.NONE).sum(axis=1) <= 1).all()


def test_hls_shifts_are_cut_to_whole_steps(stage):
    made = stage.planned([HlsJitter(hue=18, saturation=40, lightness=0)], (9, 9), ids=IDS)
    (step,) = colors(made).T
    assert (step["kind"] == ColorKind.HLS).all()
    parameters = {"hue": ("a", 18), "lightness": ("b", 0), "color_saturation": ("c", 40)}
    for name, (place, amount) in parameters.items():
        u, v = (DRAWS.uniform(Draw[name.upper() + end]) for end in ("", "_SPREAD"))
        wanted = (u + F32(4) * v) / F32(5) * F32(amount) * F32(2) - F32(amount)
        npt.assert_array_equal(step[place], wanted.astype(int))
    assert step["a"].min() >= -18
    assert step["a"].max() <= 18
    assert not step["b"].any()


def test_lighting_is_the_components_times_the_noise(stage):
    (step,) = colors(stage.planned([Lighting(0.3)], (9, 9), ids=IDS)).T
    assert (step["kind"] == ColorKind.SHIFT).all()
    red, green = DRAWS.normal(Draw.LIGHTING_RED, Draw.LIGHTING_GREEN)
    blue, _ = DRAWS.normal(Draw.LIGHTING_BLUE, Draw.LIGHTING_SPARE)
    along = 0.3 * np.array([red, green, blue], float) * [[55.46], [4.794], [1.148]]
    rows = {
        "a": (-0.5675, 0.7192, 0.4009),
        "b": (-0.5808, -0.0045, -0.8140),
        "c": (-0.5836, -0.6948, 0.4203),
    }
    for name, row in rows.items():
        npt.assert_allclose(step[name], row @ along, rtol=1e-5, atol=1e-4)


def test_gray_is_drawn_below_p(stage):
    made = stage.planned([RandomGray(0.3)], (9, 9), ids=IDS)
    npt.assert_array_equal(made.sampled["gray"], DRAWS.uniform(Draw.GRAY) < 0.3)
    assert stage.planned([RandomGray(1)], (9, 9), ids=IDS).sampled["gray"].all()
    assert not stage.planned([RandomGray(0)], (9, 9), ids=IDS).sampled["gray"].any()


def test_gain_and_offset_are_the_numbers(stage):
    made = stage.planned([Exposure(0.25, 30)], (9, 9), ids=IDS)
    npt.assert_allclose(made.gain, 0.75 + 0.5 * DRAWS.uniform(Draw.GAIN), rtol=1e-6)
    npt.assert_allclose(made.offset, 60 * DRAWS.uniform(Draw.OFFSET) - 30, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "op",
    [ColorJitter(0.5, 0.5, 0.5), HlsJitter(20, 60, 60), Lighting(0.5), RandomGray(0.5)],
    ids=str,
)
def test_drawn_colour_steps_reach_the_pixels(stage, op):
    images = [draw(20, 30, seed=number) for number in range(16)]
    batch = stage.run(stage.ops_plan(op, shape=(3, 20, 30)), images)
    rows = colors(stage.planned([op], [(20, 30)] * 16))
    changed = 0
    for image, got, row in zip(images, batch.data, rows, strict=True):
        expected = image.copy()
        color_image(expected.reshape(-1), row)
        npt.assert_array_equal(got.transpose(1, 2, 0), expected)
        changed += not np.array_equal(expected, image)
    assert changed > 3


def test_without_ops_no_image_has_a_step(stage):
    assert not stage.planned([], (9, 9), ids=IDS).geometry.steps
