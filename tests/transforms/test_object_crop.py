"""Crops are drawn with the numbers of their record, and taken where they suit."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt

from gpuio.kernels.objects import CENTER, OVERLAP, draw_crop, find_crops, suits
from gpuio.transforms.object_crop import Sampler, table
from gpuio.transforms.random import Draw, Draws

F32 = np.float32
BLOCKS = np.array([Draw.SAMPLER_ORDER // 4, Draw.CROP_TRIALS // 4], np.uint64)
NOTHING = np.array([2, 5], F32)  # a label without objects


def find(labels, widths, samplers, ids, *, seed=0, epoch=0, mode=CENTER, threshold=0.3):
    count = len(ids)
    boxes, aspects = np.full((count, 4), np.nan, F32), np.full(count, 1.5, F32)
    draws = Draws(np.asarray(ids, np.int64), seed=seed, epoch=epoch)
    order = np.empty(len(samplers), np.int64)
    rows = table(tuple(samplers)), order, mode, F32(threshold)
    objects = labels, widths, aspects, np.ones(count, bool)
    find_crops(*objects, *draws.stream, BLOCKS, *rows, boxes)
    return boxes, draws


def empty(count):
    return np.tile(NOTHING, (count, 1)), np.full(count, 2)


def test_a_first_crop_is_made_of_the_numbers_of_its_record():
    sampler = Sampler(scale=(0.2, 0.9), ratio=(0.5, 2))
    ids = [0, 5, 2**31 + 7, 2**40 + 1]
    got, draws = find(*empty(4), [sampler], ids, seed=-3, epoch=9)
    u = np.stack([draws.uniform(Draw.CROP_TRIALS + k) for k in range(4)], axis=1)
    expected = np.zeros((4, 4), F32)
    for row, box in zip(u, expected, strict=True):
        draw_crop(row, table((sampler,))[0], F32(1.5), box)
    npt.assert_array_equal(got, expected)


def test_crops_have_the_scale_and_ratio_of_their_sampler_and_are_inside():
    got, _ = find(*empty(4000), [Sampler((0.3, 0.6), (0.5, 2))], range(4000))
    x, y, width, height = got.T
    assert (got >= 0).all()
    assert (x + width).max() <= 1 + 1e-6
    assert (y + height).max() <= 1 + 1e-6
    scale, ratio = np.sqrt(width * height), width / height * 1.5
    assert 0.3 <= scale.min() < 0.31 < 0.59 < scale.max() <= 0.6 + 1e-6
    assert 0.5 - 1e-5 <= ratio.min() < 0.52 < 1.9 < ratio.max() <= 2 + 1e-5
    npt.assert_allclose(scale.mean(), 0.45, atol=0.005)


def test_samplers_take_their_turns_in_random_order():
    samplers = [Sampler((0.1 * k, 0.1 * k + 0.05)) for k in range(2, 7)]
    got, _ = find(*empty(5000), samplers, range(5000))
    first = (np.sqrt(got[:, 2] * got[:, 3]) * 10 + 0.01).astype(int)
    counts = np.bincount(first)[2:]
    npt.assert_allclose(counts, 1000, atol=130)


def test_another_sampler_is_tried_where_one_finds_nothing():
    impossible = Sampler((0.1, 0.2), overlap=(0.9, 1))
    label = np.array([[2, 5, 0, 0.1, 0.1, 0.9, 0.9]] * 100, F32)
    widths = np.full(100, 7)
    got, _ = find(label, widths, [impossible], range(100))
    npt.assert_array_equal(got, 0)
    got, _ = find(label, widths, [impossible, Sampler((0.5, 0.6))], range(100))
    assert (got[:, 2] > 0.3).all()
    got, _ = find(label, widths, [Sampler(trials=0)], range(100))
    npt.assert_array_equal(got, 0)


def suit(box, *objects, mode=CENTER, threshold=0.3, **limits):
    row = np.array([2, 5, *np.ravel([[0, *edges] for edges in objects])], F32)
    sampler = table((Sampler(**limits),))[0]
    return suits(row, len(row), np.array(box, F32), sampler, mode, F32(threshold))


def test_a_limit_is_about_the_crop_and_one_object():
    box, inside, half = (0, 0, 0.5, 0.5), (0.1, 0.1, 0.35, 0.35), (0.25, 0, 0.75, 0.5)
    assert suit(box)  # without objects any crop will do
    assert suit(box, inside)
    assert not suit(box, (0.6, 0.6, 0.9, 0.9))
    assert suit(box, inside, overlap=(0.24, 0.26))
    assert not suit(box, inside, overlap=(0.26, 1))
    assert suit(box, inside, object_coverage=(0.99, 1))
    assert suit(box, half, inside, object_coverage=(0, 0.6))
    assert not suit(box, inside, sample_coverage=(0.3, 1))
    assert suit(box, half, inside, sample_coverage=(0.3, 1))
    # Two objects that each meet one limit are not one that meets both.
    assert not suit(box, half, inside, sample_coverage=(0.3, 1), object_coverage=(0.9, 1))


def test_an_object_survives_by_its_centre_or_by_its_area():
    box, mostly_out = (0, 0, 0.5, 0.5), (0.3, 0, 0.8, 0.5)  # four tenths of it are inside
    assert not suit(box, mostly_out)
    assert suit(box, mostly_out, mode=OVERLAP, threshold=0.39)
    assert not suit(box, mostly_out, mode=OVERLAP, threshold=0.41)


def test_places_of_draws_do_not_overlap():
    places = [draw.value for draw in Draw]
    assert places == sorted(places)
    assert Draw.AREA_TRIES + 30 <= Draw.HUE_CHANCE
    assert Draw.SAMPLER_ORDER % 4 == Draw.CROP_TRIALS % 4 == 0
