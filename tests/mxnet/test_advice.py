"""Keywords that are allowed, but surely not what was meant."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import gpuio
from gpuio.mxnet import advice


def told(door, **keywords):
    """The warnings of an iterator that then finds no file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(FileNotFoundError):
            door("nowhere.rec", (3, 8, 8), 2, **keywords)
    assert all(warning.filename == __file__ for warning in caught)  # the caller's own line
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"min_random_area": 0.5}, "min_random_area=0.5 has no effect without random_resized_crop"),
        ({"rotate": 5, "max_rotate_angle": 9}, "max_rotate_angle=9 has no effect beside rotate"),
        ({"rotate": 5, "rotate_list": "0,90"}, "rotate=5 has no effect beside rotate_list"),
        ({"mirror": True, "rand_mirror": True}, "rand_mirror=True has no effect beside mirror"),
        ({"label_pad_value": 0}, "label_pad_value=0.0 has no effect without label_kind='boxes'"),
        ({"emit_overlap_thresh": 0.5}, "emit_overlap_thresh=0.5 has no effect without label_kind"),
        ({"mask_fill": 0}, "mask_fill=0 has no effect without masks"),
        ({"dtype": "uint8", "mean_r": 5}, "mean_r=5 has no effect with dtype='uint8'"),
        ({"dtype": "int8", "std_r": 5}, "std_r=5 has no effect with dtype='int8'"),
        ({"mean_r": 0.485, "mean_g": 0.456}, "give mean_r=123.675, mean_g=116.28"),
        ({"mean_r": 0.485, "scale": 1 / 255}, "give mean_r=123.675"),
        ({"mean_r": 9, "std_r": 0.229}, "give std_r=58.395, or scale=1/255"),
    ],
)
def test_parameters_without_effect_or_of_another_scale_are_reported(keywords, text):
    (warning,) = told(gpuio.ImageRecordIter, **keywords)
    assert text in warning


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"random_resized_crop": True, "min_random_area": 0.5},
        {"mean_r": 123.675, "std_r": 0.229, "scale": 1 / 255},
        {"mean_r": 1.0},
        {"mean_r": 0.5, "mean_g": 100},
        {"rand_mirror": True, "max_rotate_angle": 9},
        {"label_kind": "boxes", "label_width": 5, "label_pad_value": 0, "resize": 20},
    ],
)
def test_parameters_that_work_are_not_reported(keywords):
    assert told(gpuio.ImageRecordIter, **keywords) == []


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"max_random_hue": 9}, "max_random_hue=9 has no effect without random_hue_prob"),
        ({"random_hue_prob": 0.5}, "random_hue_prob=0.5 has no effect without max_random_hue"),
        ({"max_pad_scale": 2}, "max_pad_scale=2.0 has no effect without rand_pad_prob"),
        ({"min_crop_scales": 0.5}, "min_crop_scales=(0.5,) has no effect without rand_crop_prob"),
    ],
)
def test_so_it_is_for_detection(keywords, text):
    assert told(gpuio.ImageDetRecordIter, **keywords) == [text]


def test_means_of_mx_image_have_the_scale_of_levels():
    with pytest.warns(UserWarning, match=r"give mean\[0\]=123.675, mean\[1\]=116.28"):
        gpuio.image.CreateAugmenter((3, 8, 8), mean=np.array([0.485, 0.456, 0.406]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gpuio.image.CreateAugmenter((3, 8, 8), mean=True, std=True)


def test_keywords_beside_a_list_of_augmenters_have_no_effect():
    made = {"resize": 5, "rand_crop": False, "mean": None}
    with pytest.warns(UserWarning, match="resize=5 has no effect beside aug_list") as caught:
        advice.advise_list(made, gpuio.image.CreateAugmenter)
    assert len(caught) == 1


def test_a_line_is_warned_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            advice.warn("once")
    assert len(caught) == 1
