from __future__ import annotations

import json
import random

import numpy as np
import numpy.testing as npt
import pytest

from gpuio import image
from gpuio.testing import draw


@pytest.fixture
def floats():
    return draw(12, 15, seed=2).astype(np.float32)


def jitters():
    return [
        image.BrightnessJitterAug(0.5),
        image.ContrastJitterAug(0.5),
        image.SaturationJitterAug(0.5),
        image.HueJitterAug(0.5),
        image.LightingAug(0.1, np.ones(3), np.eye(3)),
        image.ColorNormalizeAug(np.ones(3), None),
        image.RandomGrayAug(1),
    ]


@pytest.mark.parametrize("aug", jitters(), ids=lambda aug: type(aug).__name__)
def test_colours_of_integers_are_a_typeerror(floats, aug):
    with pytest.raises(TypeError, match="apply CastAug first"):
        aug(floats.astype(np.uint8))


@pytest.mark.parametrize("aug", jitters(), ids=lambda aug: type(aug).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_colours_keep_shape_and_dtype(floats, aug, dtype):
    got = aug(floats.astype(dtype))
    assert got.shape == floats.shape
    assert got.dtype == dtype


def test_the_base_must_be_overridden(floats):
    with pytest.raises(NotImplementedError, match="Augmenter must define __call__"):
        image.Augmenter()(floats)


def test_dumps_tells_name_and_arguments_of_own_augmenters():
    class Mine(image.Augmenter):
        def __init__(self):
            super().__init__(a=np.array([1, 2]), b="c")

    assert json.loads(Mine().dumps()) == ["mine", {"a": [1, 2], "b": "c"}]
    nested = image.SequentialAug([Mine()])
    assert nested.dumps() == ["sequentialaug", [Mine().dumps()]]


def test_random_order_shuffles_its_own_list(floats):
    order = [image.CastAug(), image.HorizontalFlipAug(0), image.BrightnessJitterAug(0)]
    aug = image.RandomOrderAug(order)
    random.seed(2)
    expected = list(order)
    random.shuffle(expected)
    random.seed(2)
    aug(floats)
    assert order == expected


def test_mirroring_copies(floats):
    for source in (floats, floats.astype(np.uint8), floats.astype(np.uint8)[:, 2:9]):
        got = image.HorizontalFlipAug(1)(source)
        npt.assert_array_equal(got, source[:, ::-1])
        assert not np.shares_memory(got, source)


def test_sized_crop_knows_the_former_name_of_area():
    with pytest.warns(DeprecationWarning, match="min_area is deprecated"):
        aug = image.RandomSizedCropAug((4, 4), None, (1, 1), min_area=0.5)
    assert aug.area == 0.5
    with pytest.raises(TypeError, match="RandomSizedCropAug has no parameter"):
        image.RandomSizedCropAug((4, 4), 0.5, (1, 1), areas=0.5)


def test_createaugmenter_refuses_unknown_parameters():
    with pytest.raises(TypeError, match="did you mean 'rand_mirror'"):
        image.CreateAugmenter((3, 8, 8), rand_miror=True)
    with pytest.raises(AssertionError, match="mean must be True or an array"):
        image.CreateAugmenter((3, 8, 8), mean=[1, 2, 3])
    with pytest.raises(AssertionError, match="std must be True or an array"):
        image.CreateAugmenter((3, 8, 8), std=np.ones(2))
    with pytest.raises(AssertionError, match="rand_resize needs rand_crop"):
        image.CreateAugmenter((3, 8, 8), rand_resize=True)
