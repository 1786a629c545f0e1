"""Crops: MXNet's rules, written a second time for one image."""

from __future__ import annotations

import math

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.kernels.resample import resize
from gpuio.testing import draw
from gpuio.transforms.crop import Crop, RandomResizedCrop, SquareCrop
from gpuio.transforms.random import Draw, Draws

F32 = np.float32


def hwc(batch):
    return [image.transpose(1, 2, 0) for image in batch.data]


def enlarged(image, shape, method):
    """An image that is too small for `shape`, resized first to its height, then to its width."""
    height, width = image.shape[:2]
    if height < shape[0]:
        image = resize(image, shape[0], int(F32(shape[0]) / F32(height) * F32(width)), method)
    height, width = image.shape[:2]
    if width < shape[1]:
        image = resize(image, int(F32(shape[1]) / F32(width) * F32(height)), shape[1], method)
    return image


def middle(image, shape):
    y, x = ((have - want) // 2 for have, want in zip(image.shape[:2], shape, strict=True))
    return image[y : y + shape[0], x : x + shape[1]]


@pytest.mark.parametrize("size", [(40, 50), (41, 50), (21, 33), (20, 30), (55, 31)])
def test_a_plain_crop_is_the_middle(stage, size):
    image = draw(*size)
    plan = stage.ops_plan(Crop((20, 30)), shape=(3, 20, 30))
    npt.assert_array_equal(hwc(stage.run(plan, [image]))[0], middle(image, (20, 30)))


@pytest.mark.parametrize("method", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("size", [(10, 50), (40, 11), (7, 9), (13, 200), (1, 1), (19, 30), (3, 40)])
def test_too_small_an_image_is_enlarged_first(stage, size, method):
    image = draw(*size)
    plan = stage.ops_plan(Crop((20, 30), inter_method=method), shape=(3, 20, 30))
    expected = middle(enlarged(image, (20, 30), method), (20, 30))
    npt.assert_array_equal(hwc(stage.run(plan, [image]))[0], expected)


def test_a_random_crop_lies_where_the_numbers_say(stage):
    images = [draw(30 + number, 60 - number, seed=number) for number in range(9)]
    plan = stage.ops_plan(Crop((20, 30), random=True), shape=(3, 20, 30))
    draws = Draws(np.arange(9), seed=4, epoch=2)
    ys = draws.integers(Draw.CROP_Y, 0, np.array([10 + number for number in range(9)]))
    xs = draws.integers(Draw.CROP_X, 0, np.array([30 - number for number in range(9)]))
    got = hwc(stage.run(plan, images, seed=4, epoch=2))
    for image, one, y, x in zip(images, got, ys, xs, strict=True):
        npt.assert_array_equal(one, image[y : y + 20, x : x + 30])


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("method", [1, 2, 3])
def test_a_square_of_the_drawn_side_is_resized(stage, random, method):
    images = [draw(40 + number, 45, seed=number) for number in range(9)]
    op = SquareCrop((20, 30), 10, 40, random, method)
    draws = Draws(np.arange(9), seed=1, epoch=0)
    got = hwc(stage.run(stage.ops_plan(op, shape=(3, 20, 30)), images, seed=1))
    sides = draws.integers(Draw.CROP_SIZE, 10, 40)
    for number, (image, side) in enumerate(zip(images, sides, strict=True)):
        spare = np.array(image.shape[:2]) - side
        y, x = spare // 2
        if random:
            y = draws.integers(Draw.CROP_Y, 0, spare[0])[number]
            x = draws.integers(Draw.CROP_X, 0, spare[1])[number]
        expected = resize(image[y : y + side, x : x + side], 20, 30, method)
        npt.assert_array_equal(got[number], expected)


def test_an_image_smaller_than_the_largest_square_is_refused(stage):
    op = SquareCrop((20, 30), 10, 40)
    rejected = stage.planned([op], [(40, 40), (39, 80), (80, 39)]).rejected
    assert rejected == {
        1: "image of 80 x 39 pixels is smaller than max_crop_size=40",
        2: "image of 39 x 80 pixels is smaller than max_crop_size=40",
    }


def window(op, number, height, width, seed):
    """The first of ten windows that fits, for one record; None if none does."""
    draws = Draws(np.array([number]), seed=seed, epoch=0)
    for attempt in range(10):
        place = Draw.AREA_TRIES + 3 * attempt
        area = F32(height * width) * draws.uniform(place, *op.area)[0]
        ratio = draws.uniform(place + 1, *op.ratio)[0]
        tall, wide = (math.floor(np.sqrt(x) + 0.5) for x in (area / ratio, area * ratio))
        if draws.uniform(place + 2)[0] > 0.5:
            tall, wide = wide, tall
        if 0 < tall <= height and 0 < wide <= width:
            y = draws.integers(Draw.CROP_Y, 0, height - tall)[0]
            x = draws.integers(Draw.CROP_X, 0, width - wide)[0]
            return y, x, tall, wide
    return None


@pytest.mark.parametrize(
    "op",
    [
        RandomResizedCrop((20, 30), (0.08, 1), (0.75, 1.33)),
        RandomResizedCrop((20, 30), (0.5, 3), (0.2, 5), 2),
        RandomResizedCrop((20, 30), (1, 1.5), (1, 1), 3),
    ],
    ids=str,
)
def test_a_window_of_random_area_and_ratio_is_resized(stage, op):
    images = [draw(25 + 3 * number, 80 - 2 * number, seed=number) for number in range(24)]
    got = hwc(stage.run(stage.ops_plan(op, shape=(3, 20, 30)), images, seed=8))
    for number, image in enumerate(images):
        box = window(op, number, *image.shape[:2], seed=8)
        if box is None:
            expected = middle(enlarged(image, (20, 30), op.inter_method), (20, 30))
        else:
            y, x, tall, wide = box
            expected = resize(image[y : y + tall, x : x + wide], 20, 30, op.inter_method)
        npt.assert_array_equal(got[number], expected)


def test_limits_of_one_are_a_plain_crop(stage):
    image = draw(40, 50)
    plan = stage.ops_plan(RandomResizedCrop((20, 30)), shape=(3, 20, 30))
    npt.assert_array_equal(hwc(stage.run(plan, [image]))[0], middle(image, (20, 30)))


def test_only_the_window_is_decoded(stage):
    made = stage.planned([RandomResizedCrop((20, 20), (0.01, 0.1))], (400, 400), ids=range(99))
    assert (made.geometry.window[:, 2:].prod(axis=1) < 0.11 * 400 * 400).all()
    made = stage.planned([Crop((20, 20), random=True)], (400, 400), ids=range(99))
    assert (made.geometry.window[:, 2:] == 20).all()
