"""What holds for any parameters and any image."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from keyword_plans import det_plan_of

from gpuio import ImageDetRecordIter, ImageRecordIter
from gpuio.testing import draw
from gpuio.transforms.detection import ResizeMode
from gpuio.transforms.normalize import Normalization

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
METHODS = st.sampled_from([0, 1, 2, 3, 4, 9, 10])
SIDES = st.integers(1, 40)


def ordered(strategy):
    return st.tuples(strategy, strategy).map(sorted)


def sometimes(strategy, otherwise):
    return st.one_of(st.just(otherwise), strategy)


@st.composite
def parameters(draw_):
    """Legal augmentation keywords."""
    channels = draw_(st.sampled_from([1, 3, 3, 3, 4]))
    o = {
        "data_shape": (channels, draw_(SIDES), draw_(SIDES)),
        "dtype": draw_(st.sampled_from(["float32", "float16", "int8", "uint8"])),
        "layout": draw_(st.sampled_from(["NCHW", "NHWC"])),
        "inter_method": draw_(METHODS),
        "fill_value": draw_(st.integers(0, 255)),
        "resize": draw_(sometimes(st.integers(1, 60), -1)),
        "pad": draw_(sometimes(st.integers(1, 9), 0)),
        "rand_mirror": draw_(st.booleans()),
        "mirror": draw_(st.booleans()),
        "max_random_contrast": draw_(sometimes(st.floats(0, 1), 0)),
        "max_random_illumination": draw_(sometimes(st.floats(0, 300), 0)),
        "max_shear_ratio": draw_(sometimes(st.floats(0, 2), 0)),
        "max_rotate_angle": draw_(sometimes(st.integers(1, 360), 0)),
        "rotate_list": draw_(sometimes(st.tuples(st.integers(-360, 360)), ())),
    }
    o["min_aspect_ratio"], o["max_aspect_ratio"] = draw_(
        sometimes(ordered(st.floats(0.01, 20)), (None, 0))
    )
    crop = draw_(st.sampled_from(["plain", "square", "resized"]))
    if crop == "resized":
        o["random_resized_crop"] = True
        o["min_random_area"], o["max_random_area"] = draw_(ordered(st.floats(0.001, 3)))
    else:
        o["rand_crop"] = draw_(st.booleans())
        o["min_random_scale"], o["max_random_scale"] = draw_(
            sometimes(ordered(st.floats(0.01, 4)), (1, 1))
        )
    if crop == "square":
        o["min_crop_size"], o["max_crop_size"] = draw_(ordered(st.integers(1, 20)))
    # Without a limit, a scale can ask for canvases that are large and slow, though legal.
    low, high = draw_(ordered(st.floats(0, 90)))
    o["min_img_size"], o["max_img_size"] = low, draw_(st.sampled_from([max(high, 1), 300]))
    if channels == 3:
        o.update(draw_(colors()))
    return o


@st.composite
def colors(draw_):
    o = {
        name: draw_(sometimes(st.floats(0, 2), 0))
        for name in ("brightness", "contrast", "saturation", "pca_noise")
    }
    o |= {
        name: draw_(sometimes(st.integers(-200, 200), 0))
        for name in ("random_h", "random_s", "random_l")
    }
    return o | {"rand_gray": draw_(sometimes(st.floats(0, 1), 0))}


@st.composite
def pictures(draw_, channels):
    """One to four, mostly small; some long and thin."""
    strip = st.tuples(st.integers(500, 4000), st.integers(1, 6))
    size = st.one_of(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), strip)
    sizes = draw_(st.lists(size, min_size=1, max_size=4))
    turned = [side[::-1] if draw_(st.booleans()) else side for side in sizes]
    return [draw(*size, channels, seed=number) for number, size in enumerate(turned)]


def fits(o, images):
    """Whether every picture is large enough for the square that is to be cut."""
    if "max_crop_size" not in o:
        return True
    sides = []
    for image in images:
        short = min(image.shape[:2]) if o["resize"] == -1 else o["resize"]
        sides.append(short * o["min_random_scale"])
    low = np.clip(min(sides), o["min_img_size"], o["max_img_size"])
    return int(low) + 2 * o["pad"] >= o["max_crop_size"]


def normalization(o):
    return Normalization((10, 120.5, 250, 3), (1, 2.5, 60, 255), 1 / 128)


@given(data=st.data())
@settings(SLOW, max_examples=300)
def test_any_parameters_give_the_declared_batch_from_the_windows_alone(stage, data):
    o = data.draw(parameters())
    images = data.draw(pictures(o["data_shape"][0]))
    assume(fits(o, images))
    plan = stage.plan_of(normalization(o), **o)
    first, second = (stage.run(plan, images, seed=3, poison=byte).data for byte in (0x00, 0xFF))
    assert first.shape == plan.output_shape(len(images))
    assert first.dtype == o["dtype"]
    assert np.isfinite(first.astype(np.float32)).all()
    npt.assert_array_equal(first, second)


@given(data=st.data())
@settings(SLOW, max_examples=120)
def test_an_image_comes_out_the_same_in_any_company(stage, data):
    o = data.draw(parameters())
    images = data.draw(pictures(o["data_shape"][0]))
    assume(fits(o, images))
    plan = stage.plan_of(normalization(o), **o)
    together = stage.run(plan, images).data
    for number, image in enumerate(images):
        alone = stage.run(plan, [image], ids=[number], poison=0x5A).data
        npt.assert_array_equal(alone[0], together[number])


# Legal, and far from what anybody would ask for.
HUGE = st.floats(1e-30, 1e30)


@st.composite
def extremes(draw_):
    """Keywords at the ends of what is legal; sizes are held small by `max_img_size`."""
    o = {
        "data_shape": (3, draw_(SIDES), draw_(SIDES)),
        "dtype": "uint8",
        "inter_method": draw_(METHODS),
        "resize": draw_(st.sampled_from([-1, 1, 60])),
        "rotate": draw_(st.sampled_from([-32768, 90, 32768])),
        "max_shear_ratio": draw_(st.floats(0, 1e30)),
        "min_img_size": draw_(st.sampled_from([0, 1e-30, 300])),
        "max_img_size": draw_(st.sampled_from([300, 32768])),
        "pad": draw_(st.sampled_from([0, 32768])),
        "rand_crop": draw_(st.booleans()),
    }
    o["min_random_scale"], o["max_random_scale"] = draw_(ordered(HUGE))
    o["min_aspect_ratio"], o["max_aspect_ratio"] = draw_(ordered(HUGE))
    for name in ("brightness", "contrast", "saturation", "pca_noise"):
        o[name] = draw_(sometimes(HUGE, 0))
    for name in ("random_h", "random_s", "random_l"):
        o[name] = draw_(st.sampled_from([-32768, 0, 32768]))
    if o["resize"] == -1 and draw_(st.booleans()):
        o["min_crop_size"] = o["max_crop_size"] = draw_(st.sampled_from([1, 300]))
    return o


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow", "ignore:divide by zero")
@given(data=st.data())
@settings(SLOW, max_examples=150)
def test_parameters_at_the_ends_of_what_is_legal_read_nothing_outside(stage, data):
    o = data.draw(extremes())
    images = data.draw(pictures(3))
    plan = stage.plan_of(**o)
    assume(not stage.planned(plan.ops, [image.shape[:2] for image in images]).rejected)
    first, second = (stage.run(plan, images, poison=byte).data for byte in (0x00, 0xFF))
    assert first.shape == plan.output_shape(len(images))
    npt.assert_array_equal(first, second)


@st.composite
def large(draw_):
    """One picture of any size up to 4000 x 3000, sides of every magnitude."""
    height, width = (
        min(round(2 ** draw_(st.floats(0, np.log2(most + 1)))), most) for most in (4000, 3000)
    )
    channels = draw_(st.sampled_from([1, 3, 4]))
    return np.resize(draw(67, 61, channels), (height, width, channels))


@pytest.mark.slow
@given(image=large(), data=st.data())
@settings(SLOW, max_examples=80)
def test_pictures_of_any_size_give_the_declared_batch_from_the_windows_alone(stage, image, data):
    o = data.draw(parameters()) | {"min_img_size": 0, "max_img_size": 5000}
    o["data_shape"] = (image.shape[2], *o["data_shape"][1:])
    if image.shape[2] != 3:
        o = {name: value for name, value in o.items() if name not in COLORS}
    assume(fits(o, [image]))
    plan = stage.plan_of(normalization(o), **o)
    first, second = (stage.run(plan, [image], poison=byte).data for byte in (0x00, 0xFF))
    assert first.shape == plan.output_shape(1)
    assert np.isfinite(first.astype(np.float32)).all()
    npt.assert_array_equal(first, second)


COLORS = (
    "brightness", "contrast", "saturation", "pca_noise", "random_h", "random_s", "random_l",
    "rand_gray",
)  # fmt: skip


@st.composite
def det_parameters(draw_):
    """Legal keywords of `ImageDetRecordIter`."""
    o = {
        "data_shape": (3, draw_(SIDES), draw_(SIDES)),
        "dtype": draw_(st.sampled_from(["float32", "float16", "int8", "uint8"])),
        "layout": draw_(st.sampled_from(["NCHW", "NHWC"])),
        "inter_method": draw_(METHODS),
        "resize_mode": draw_(st.sampled_from(get_args(ResizeMode))),
        "resize": draw_(sometimes(st.integers(1, 20), -1)),
        "fill_value": draw_(st.integers(0, 255)),
        "rand_mirror_prob": draw_(st.floats(0, 1)),
        "rand_pad_prob": draw_(st.floats(0, 1)),
        "max_pad_scale": draw_(st.floats(1, 3)),
        "rand_crop_prob": draw_(st.floats(0, 1)),
        "num_crop_sampler": draw_(st.integers(1, 3)),
        "random_contrast_prob": draw_(st.floats(0, 1)),
        "max_random_contrast": draw_(st.floats(0, 3)),
    }
    for name in ("hue", "saturation", "illumination"):
        o[f"random_{name}_prob"] = draw_(st.floats(0, 1))
        o[f"max_random_{name}"] = draw_(st.integers(-32768, 32768))
    for name, most in (("scales", 1), ("aspect_ratios", 1e3), ("overlaps", 1)):
        low, high = draw_(ordered(st.floats(0, most)))
        o[f"min_crop_{name}"], o[f"max_crop_{name}"] = (low,), (high,)
    return o


@given(data=st.data())
@settings(SLOW, max_examples=150)
def test_any_parameters_of_detection_give_the_declared_batch_from_the_windows_alone(stage, data):
    o = data.draw(det_parameters())
    images = data.draw(pictures(3))
    plan = det_plan_of(normalization(o), 20, **o)
    label = [2, 5, *[1, 0.2, 0.1, 0.9, 0.6], *[2, 0, 0, 0.3, 1]]
    first, second = (
        stage.run(plan, images, seed=2, poison=byte, label=label) for byte in (0x00, 0xFF)
    )
    assert first.data.shape == plan.output_shape(len(images))
    assert np.isfinite(first.data.astype(np.float32)).all()
    npt.assert_array_equal(first.data, second.data)
    assert first.labels.shape == (len(images), 24)
    boxes = first.labels[:, 6:16].reshape(-1, 5)
    boxes = boxes[boxes[:, 0] >= 0]
    assert ((boxes[:, 1:] >= -1e-5) & (boxes[:, 1:] <= 1 + 1e-5)).all()


@given(
    height=SIDES,
    width=SIDES,
    channels=st.sampled_from([1, 3, 4]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
)
@settings(SLOW, max_examples=30)
def test_parameters_of_no_effect_leave_the_picture(stage, height, width, channels, layout):
    image = draw(height, width, channels)
    expected = image if layout == "NHWC" else image.transpose(2, 0, 1)
    shape = (channels, height, width)
    still = {"max_random_area": 1, "min_random_area": 1, "random_resized_crop": True}
    warped = {"rotate_list": (0,), "pad": 2}
    for o in ({}, {"resize": min(height, width)}, still, warped, {"rotate_list": (360,)}):
        plan = stage.plan_of(data_shape=shape, dtype="uint8", layout=layout, **o)
        npt.assert_array_equal(stage.run(plan, [image]).data[0], expected)
    plan = stage.plan_of(data_shape=shape, layout=layout)
    npt.assert_array_equal(stage.run(plan, [image]).data[0], expected.astype(np.float32))


@pytest.mark.parametrize("method", [0, 1, 2, 4])
def test_canvases_far_larger_than_what_they_show_read_nothing_outside(stage, method):
    plan = stage.plan_of(
        data_shape=(3, 24, 24), dtype="uint8", inter_method=method, rand_crop=True,
        min_random_scale=1e-4, max_random_scale=1e-4, min_img_size=30_000, rotate_list=(0, 45, 200),
    )  # fmt: skip
    images = [draw(9, 7, seed=number) for number in range(20)]
    first, second = (stage.run(plan, images, poison=byte).data for byte in (0x00, 0xFF))
    npt.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [(4000, 3000), (1, 1), (1, 4000), (3000, 1)])
@pytest.mark.parametrize("method", [0, 1, 2, 3, 4, 9])
def test_the_largest_and_smallest_pictures_pass(stage, size, method):
    image = np.full((*size, 3), 70, np.uint8)
    plan = stage.plan_of(data_shape=(3, 20, 30), dtype="uint8", inter_method=method, rand_crop=True)
    assert (stage.run(plan, [image]).data == 70).all()


# Every way to be wrong, by the name that the message must have.
ILLEGAL = [
    ("data_shape", {"data_shape": (2, 8, 8)}),
    ("data_shape", {"data_shape": (3, 0, 8)}),
    ("data_shape", {"data_shape": (3, 8, -1)}),
    ("data_shape", {"data_shape": (3, 8)}),
    ("data_shape", {"data_shape": 8}),
    ("dtype", {"dtype": "int32"}),
    ("layout", {"layout": "CHWN"}),
    ("inter_method", {"inter_method": 5}),
    ("inter_method", {"inter_method": -1}),
    ("fill_value", {"fill_value": 256}),
    ("fill_value", {"fill_value": -1}),
    ("resize", {"resize": 0}),
    ("resize", {"resize": -2}),
    ("max_rotate_angle", {"max_rotate_angle": -3}),
    ("rotate_list", {"rotate_list": "1,two"}),
    ("max_shear_ratio", {"max_shear_ratio": -0.1, "rotate": 3}),
    ("max_random_scale", {"max_random_scale": 0.5, "min_random_scale": 0.7}),
    ("min_random_scale", {"max_random_scale": 0.5, "min_random_scale": 0}),
    ("max_img_size", {"max_img_size": 10, "min_img_size": 20}),
    ("max_aspect_ratio", {"max_aspect_ratio": 1}),
    ("max_aspect_ratio", {"max_aspect_ratio": 0.5, "min_aspect_ratio": 0.7}),
    ("min_aspect_ratio", {"max_aspect_ratio": 0.5, "min_aspect_ratio": 0}),
    ("min_aspect_ratio", {"max_aspect_ratio": 1.5, "min_aspect_ratio": -1}),
    ("max_crop_size", {"max_crop_size": 9}),
    ("min_crop_size", {"min_crop_size": 9}),
    ("max_crop_size", {"max_crop_size": 5, "min_crop_size": 9}),
    ("min_crop_size", {"max_crop_size": 5, "min_crop_size": 0}),
    ("min_random_area", {"random_resized_crop": True, "min_random_area": 0}),
    ("max_random_area", {"random_resized_crop": True, "max_random_area": 0.5}),
    ("max_aspect_ratio", {"random_resized_crop": True, "max_aspect_ratio": 1}),
    ("rand_crop", {"random_resized_crop": True, "rand_crop": True}),
    ("max_crop_size", {"random_resized_crop": True, "min_crop_size": 5, "max_crop_size": 5}),
    ("max_random_scale", {"random_resized_crop": True, "max_random_scale": 2}),
    ("rand_gray", {"rand_gray": 1.5}),
    ("max_random_contrast", {"max_random_contrast": -1}),
    ("max_random_illumination", {"max_random_illumination": -1}),
    ("std_g", {"std_g": 0}),
    ("mean_r", {"mean_r": "red"}),
    ("scale", {"scale": float("nan")}),
    ("brightness", {"brightness": float("inf")}),
    ("pad", {"pad": 1.5}),
    ("mirror", {"mirror": 2}),
    ("aug_seq", {"aug_seq": "aug_other"}),
    # Numbers that nothing can be done with.
    *[
        (name, {name: value})
        for name in (
            "resize",
            "pad",
            "rotate",
            "max_rotate_angle",
            "random_h",
            "random_s",
            "random_l",
            "max_crop_size",
        )
        for value in (32769, 2**31, 2**63, 10**30)
    ],
    ("rotate_list", {"rotate_list": (1, 2**40)}),
    ("data_shape", {"data_shape": (3, 8, 32769)}),
    *[
        (name, {name: value})
        for name in (
            "brightness",
            "contrast",
            "saturation",
            "pca_noise",
            "max_shear_ratio",
            "max_aspect_ratio",
            "max_random_scale",
            "mean_g",
            "std_b",
            "scale",
            "max_random_illumination",
        )
        for value in (1e39, float("nan"), "1e400", 10**400)
    ],
    ("std_a", {"std_a": 1e-60}),
    ("min_random_scale", {"min_random_scale": 1e-60}),
    ("min_aspect_ratio", {"min_aspect_ratio": 1e-60, "max_aspect_ratio": 1}),
    ("min_img_size", {"min_img_size": 2**21}),
    ("min_img_size", {"min_img_size": -1}),
    ("max_img_size", {"max_img_size": 0.5}),
    ("max_random_contrast", {"max_random_contrast": 3e38}),
    ("scale", {"dtype": "float16", "scale": 300}),
    # Of the wrong kind.
    *[
        (name, {name: value})
        for name in ("path_imgidx", "path_imglist", "masks", "mean_img", "cache_dir")
        for value in (1, 0.5, b"x", [1], np.arange(3), object())
    ],
    *[
        (name, {name: value})
        for name in ("dtype", "layout", "label_kind", "crop_emit_mode", "aug_seq")
        for value in (7, ["x"], {}, np.arange(2), b"x", "1_0")
    ],
    # No image can ever be large enough.
    ("max_crop_size", {"resize": 100, "min_crop_size": 50, "max_crop_size": 101}),
    (
        "max_crop_size",
        {"resize": 100, "max_random_scale": 1.5, "min_crop_size": 151, "max_crop_size": 151},
    ),
    ("max_crop_size", {"max_img_size": 100, "pad": 5, "min_crop_size": 111, "max_crop_size": 111}),
    *[
        (name, {name: 0.5 if name != "random_h" else 5, "data_shape": (channels, 8, 8)})
        for name in ("brightness", "contrast", "saturation", "random_h", "pca_noise", "rand_gray")
        for channels in (1, 4)
    ],
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "wrong"), ILLEGAL, ids=str)
def test_wrong_parameters_are_refused_by_name_before_anything_is_read(name, wrong):
    with pytest.raises((TypeError, ValueError), match=name):
        ImageRecordIter("no such file.rec", **({"data_shape": (3, 8, 8), "batch_size": 1} | wrong))


@pytest.mark.parametrize("value", [-1, 0.5, float("nan"), [1], b"x", {}, np.arange(2), "x"])
@pytest.mark.parametrize(
    "name",
    [
        "batch_size", "num_parts", "part_index", "round_batch", "last_batch", "preprocess_threads",
        "prefetch_buffer", "device", "decoder", "on_error", "label_width", "mask_fill",
    ],
)  # fmt: skip
def test_nor_can_the_wrong_kind_of_value_be_given_to_any_other(rec, name, value):
    with pytest.raises(ValueError, match=name):
        ImageRecordIter(rec, **({"data_shape": (3, 8, 8), "batch_size": 1} | {name: value}))


ILLEGAL_DET = [
    ("num_crop_sampler", {"rand_crop_prob": 1, "num_crop_sampler": 10**30}),
    ("num_crop_sampler", {"rand_crop_prob": 1, "num_crop_sampler": 897}),
    ("max_crop_scales", {"rand_crop_prob": 1, "max_crop_scales": 1.5}),
    ("min_crop_scales", {"rand_crop_prob": 1, "min_crop_scales": -0.5}),
    ("max_crop_trials", {"rand_crop_prob": 1, "max_crop_trials": -1}),
    ("min_crop_overlaps", {"rand_crop_prob": 1, "min_crop_overlaps": (0, 0, 0)}),
    ("max_pad_scale", {"rand_pad_prob": 1, "max_pad_scale": 2e6}),
    ("max_random_hue", {"max_random_hue": 2**31}),
    ("resize_mode", {"resize_mode": "stretch"}),
    ("resize", {"resize": 10**30}),
    ("scale", {"scale": 3e38}),
    ("path_imglist", {"path_imglist": 1}),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "wrong"), ILLEGAL_DET, ids=str)
def test_wrong_parameters_of_detection_are_refused_by_name(name, wrong):
    with pytest.raises((TypeError, ValueError), match=name):
        ImageDetRecordIter(
            "no such file.rec", **({"data_shape": (3, 8, 8), "batch_size": 1} | wrong)
        )


@pytest.mark.parametrize(
    "o",
    [
        {"min_random_scale": 1000, "max_random_scale": 1001},
        {"min_aspect_ratio": 1, "max_aspect_ratio": 2, "max_random_scale": 1e30},
        {"resize": 32768, "rand_crop": True},
        {"data_shape": (3, 32768, 1), "resize": 1},
    ],
)
def test_images_that_would_become_too_large_are_refused(stage, o):
    plan = stage.plan_of(**({"data_shape": (3, 8, 8)} | o))
    made = stage.planned(plan.ops, [(40, 40), (1, 60_000)], ids=[0, 1], seed=1)
    assert 1 in made.rejected
    for reason in made.rejected.values():
        assert "image would become" in reason
    for step in made.geometry.steps:
        assert (step.size >= 1).all()
        assert (step.size <= 2**20).all()


def test_an_image_of_more_pixels_on_a_side_than_places_can_tell_is_refused(stage):
    made = stage.planned(
        stage.plan_of(data_shape=(3, 1, 8), rotate=5).ops, [(1, 2**20), (1, 2**21)]
    )
    assert made.rejected == {
        1: "image would become 2097152 x 1 pixels, and 1048576 are the most of a side"
    }


def test_an_image_that_would_take_all_memory_is_refused(stage):
    """A thousand times larger first, and then smaller again."""
    o = {"resize": 32768, "min_random_scale": 0.001, "max_random_scale": 0.0011}
    plan = stage.plan_of(data_shape=(3, 24, 24), **o)
    made = stage.planned(plan.ops, [(9, 9), (20, 10)])
    assert {*made.rejected} == {0, 1}
    assert "pixels would have to be made on the way, and 268435456 are the most" in made.rejected[0]
    assert not stage.planned(stage.plan_of(data_shape=(3, 4, 4), **o).ops, [(9, 9)]).rejected
