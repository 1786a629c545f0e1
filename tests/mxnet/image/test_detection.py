from __future__ import annotations

import random

import numpy as np
import numpy.testing as npt
import pytest

from gpuio import image
from gpuio.testing import draw

BOXES = np.array([[1, 0.2, 0.3, 0.6, 0.8]], np.float32)


@pytest.fixture
def picture():
    return draw(30, 40, seed=3)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: image.DetRandomCropAug(area_range=(0.5, 0.1)), "area_range"),
        (lambda: image.DetRandomCropAug(area_range=(-1, 0)), "area_range"),
        (lambda: image.DetRandomCropAug(aspect_ratio_range=(0, 1)), "aspect_ratio_range"),
        (lambda: image.DetRandomPadAug(area_range=(0.5, 1)), "area_range"),
        (lambda: image.DetRandomPadAug(aspect_ratio_range=(2, 1)), "aspect_ratio_range"),
    ],
)
def test_ranges_without_sense_switch_an_augmenter_off(picture, make, name):
    with pytest.warns(UserWarning, match=f"does nothing: invalid {name}"):
        aug = make()
    assert not aug.enabled
    got, label = aug(picture, BOXES)
    assert got is picture
    assert label is BOXES


def test_one_number_is_a_range():
    aug = image.DetRandomCropAug(aspect_ratio_range=1, area_range=0.5)
    assert aug.aspect_ratio_range == (1, 1)
    assert aug.area_range == (0.5, 0.5)
    with pytest.raises(AssertionError, match="area_range must be a number or two"):
        image.DetRandomPadAug(area_range="large")


def test_a_number_pads_all_channels(picture):
    random.seed(0)
    got, _ = image.DetRandomPadAug(area_range=(2, 3), pad_val=9)(picture, BOXES)
    assert got.shape > picture.shape
    corner = got[0, 0] if (got[0, 0] == 9).all() else got[-1, -1]
    npt.assert_array_equal(corner, 9)


def test_a_crop_shows_the_objects_where_the_label_says(picture):
    picture[9:24, 8:24] = 255
    random.seed(1)
    aug = image.DetRandomCropAug(0.9, (0.5, 2), (0.3, 0.9), 0.9, 200)
    got, label = aug(picture, BOXES)
    height, width = got.shape[:2]
    assert (height, width) != (30, 40)
    left, top, right, bottom = np.rint(label[0, 1:] * (width, height, width, height)).astype(int)
    npt.assert_array_equal(got[top:bottom, left:right], 255)


def test_padding_moves_boxes_with_the_pixels(picture):
    random.seed(1)
    got, label = image.DetRandomPadAug(area_range=(1.5, 3))(picture, BOXES)
    height, width = got.shape[:2]
    left, top, right, bottom = np.rint(label[0, 1:] * (width, height, width, height)).astype(int)
    npt.assert_array_equal(got[top:bottom, left:right], picture[9:24, 8:24])


def test_flipping_twice_is_nothing(picture):
    aug = image.DetHorizontalFlipAug(1)
    label = BOXES.copy()
    got, same = aug(*aug(picture, label))
    npt.assert_array_equal(got, picture)
    assert same is label
    npt.assert_allclose(label, BOXES, atol=1e-6)


def test_an_object_without_area_does_no_harm(picture):
    label = np.array([[0, 0.5, 0.5, 0.5, 0.5], *BOXES], np.float32)
    random.seed(0)
    for _ in range(20):
        _, got = image.DetRandomCropAug()(picture, label)
        assert len(got) >= 1


def test_only_augmenters_are_taken():
    with pytest.raises(TypeError, match="augmenter must be an Augmenter, got int"):
        image.DetBorrowAug(3)
    with pytest.raises(ValueError, match="aug_list must hold DetAugmenters, got CastAug"):
        image.DetRandomSelectAug([image.CastAug()])
    with pytest.raises(NotImplementedError, match="DetAugmenter must define __call__"):
        image.DetAugmenter()(None, None)


def test_lists_of_crops_must_agree():
    with pytest.raises(AssertionError, match="lists of 3 values or of 1 expected"):
        image.CreateMultiRandCropAugmenter([0.1, 0.2, 0.3], max_attempts=[1, 2])
    assert len(image.CreateMultiRandCropAugmenter([0.1, 0.2, 0.3]).aug_list) == 3


def test_createdetaugmenter_refuses_unknown_parameters():
    with pytest.raises(TypeError, match="did you mean 'rand_pad'"):
        image.CreateDetAugmenter((3, 8, 8), rand_pat=0.5)
    with pytest.raises(AssertionError, match="mean must be True or an array"):
        image.CreateDetAugmenter((3, 8, 8), mean=(1, 2, 3))
