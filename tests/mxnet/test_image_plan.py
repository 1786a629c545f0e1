"""Plans: what keywords become, in order and in words."""

from __future__ import annotations

import pytest
from keyword_plans import plan_of

from gpuio.transforms.normalize import Normalization

EVERYTHING = {
    "data_shape": (3, 224, 200),
    "resize": 256,
    "max_rotate_angle": 10,
    "pad": 4,
    "fill_value": 127,
    "rand_crop": True,
    "inter_method": 2,
    "brightness": 0.1,
    "random_h": 18,
    "pca_noise": 0.05,
    "rand_gray": 0.2,
    "rand_mirror": True,
    "max_random_contrast": 0.3,
}


def names(plan):
    return [type(op).__name__ for op in plan.ops]


def test_nothing_on_is_a_crop_alone():
    assert names(plan_of(data_shape=(3, 8, 8))) == ["Crop"]


def test_steps_stand_in_mxnets_order():
    assert names(plan_of(**EVERYTHING)) == [
        "ResizeShorterEdge", "Affine", "Pad", "Crop", "ColorJitter", "HlsJitter", "Lighting",
        "RandomGray", "Mirror", "Exposure",
    ]  # fmt: skip


def test_a_plan_prints_its_steps_with_what_is_not_by_default():
    plan = plan_of(Normalization((1, 2, 3, 4), (5, 6, 7, 8), 0.5), **EVERYTHING)
    assert str(plan).splitlines() == [
        "1. decode to 3 channels, only the window that is needed",
        (
            "2. ResizeShorterEdge(edge=256, inter_method=2): a pass over the window; free for "
            "images of the right size"
        ),
        (
            "3. Affine(angles=(-10, 10), ratio=(1.0, 1.0), fill=127, inter_method=2): a pass over "
            "the window"
        ),
        "4. Pad(margin=4, fill=127): a pass over the window",
        (
            "5. Crop(shape=(224, 200), random=True, inter_method=2): free; up to two passes for "
            "images smaller than the crop"
        ),
        "6. ColorJitter(brightness=0.1): up to three loops over the picture",
        "7. HlsJitter(hue=18): a long loop over the picture",
        "8. Lighting(std=0.05): a loop over the picture",
        "9. RandomGray(p=0.2): a loop over the picture for the images that become gray",
        "10. Mirror(random=True): free; a pass over the window if a later step moves pixels",
        "11. Exposure(contrast=0.3): free, as a part of the normalization",
        "12. (v - (1, 2, 3)) * 0.5 / (5, 6, 7)",
        "13. to float32 NCHW 3 x 224 x 200",
    ]


def test_a_plan_prints_floats_with_the_digits_of_float32():
    text = str(plan_of(Normalization(std=(58.4, 1, 1, 1)), data_shape=(3, 8, 8), brightness=0.4))
    assert "ColorJitter(brightness=0.4)" in text
    assert "(v - (0, 0, 0)) * 1 / (58.4, 1, 1)" in text


def test_a_plan_prints_no_normalisation_that_its_dtype_has_not():
    assert "v -" not in str(plan_of(data_shape=(1, 8, 8), dtype="uint8"))
    lines = str(plan_of(Normalization((9, 0, 0, 0)), data_shape=(1, 8, 8), dtype="int8"))
    assert "(v - (9,))\n" in lines


# What switches each step on, and the step.
ON = [
    ("ResizeShorterEdge", {"resize": 5}),
    ("Affine", {"rotate": 5}),
    ("Affine", {"rotate": -30}),
    ("Affine", {"rotate_list": (0,)}),
    ("Affine", {"max_rotate_angle": 1}),
    ("Affine", {"max_shear_ratio": 0.1}),
    ("Affine", {"max_random_scale": 1.5}),
    ("Affine", {"min_random_scale": 0.5}),
    ("Affine", {"max_aspect_ratio": 0.5}),
    ("Affine", {"max_aspect_ratio": 2, "min_aspect_ratio": 1.5}),
    ("Affine", {"max_img_size": 99}),
    ("Affine", {"min_img_size": 9}),
    ("Pad", {"pad": 1}),
    ("SquareCrop", {"min_crop_size": 3, "max_crop_size": 3}),
    ("RandomResizedCrop", {"random_resized_crop": True}),
    ("ColorJitter", {"brightness": 0.1}),
    ("ColorJitter", {"contrast": 0.1}),
    ("ColorJitter", {"saturation": 0.1}),
    ("HlsJitter", {"random_h": 1}),
    ("HlsJitter", {"random_s": -1}),
    ("HlsJitter", {"random_l": 1}),
    ("Lighting", {"pca_noise": 0.1}),
    ("RandomGray", {"rand_gray": 0.1}),
    ("Mirror", {"mirror": True}),
    ("Mirror", {"rand_mirror": True}),
    ("Exposure", {"max_random_contrast": 0.1}),
    ("Exposure", {"max_random_illumination": 0.1}),
]


@pytest.mark.parametrize(("name", "options"), ON, ids=str)
def test_a_keyword_switches_its_step_on_and_no_other(name, options):
    found = names(plan_of(data_shape=(3, 8, 8), **options))
    assert name in found
    assert {*found} <= {name, "Crop"}


@pytest.mark.parametrize(
    "options",
    [
        {"rotate": 0}, {"rotate": -1}, {"pad": 0}, {"pad": -3}, {"resize": -1},
        {"brightness": -0.5}, {"pca_noise": -1}, {"rand_gray": 0},
        {"min_aspect_ratio": 1, "max_aspect_ratio": 1},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_mean_off_switch_nothing_on(options):
    assert names(plan_of(data_shape=(3, 8, 8), **options)) == ["Crop"]


def test_a_resized_crop_takes_the_aspect_ratio_from_the_warp():
    plan = plan_of(
        data_shape=(3, 8, 8), random_resized_crop=True, max_aspect_ratio=0.25, min_random_area=0.1
    )
    (op,) = plan.ops
    assert (op.ratio, op.area) == ((0.75, 1.25), (0.1, 1))


def test_mirroring_always_wins_over_mirroring_at_random():
    op = plan_of(data_shape=(3, 8, 8), mirror=True, rand_mirror=True).ops[-1]
    assert not op.random


def test_output_shapes_follow_the_layout():
    assert plan_of(data_shape=(3, 8, 9)).output_shape(5) == (5, 3, 8, 9)
    assert plan_of(data_shape=(3, 8, 9), layout="NHWC").output_shape(5) == (5, 8, 9, 3)
