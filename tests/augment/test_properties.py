"""What holds for any parameters and any image."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gpuio import ImageRecordIter
from gpuio.augment.normalise import Normalisation
from gpuio.testing import draw

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


def normalisation(o):
    return Normalisation((10, 120.5, 250, 3), (1, 2.5, 60, 255), 1 / 128)


@given(data=st.data())
@settings(SLOW, max_examples=300)
def test_any_parameters_give_the_declared_batch_from_the_windows_alone(room, data):
    o = data.draw(parameters())
    images = data.draw(pictures(o["data_shape"][0]))
    assume(fits(o, images))
    plan = room.plan_of(normalisation(o), **o)
    first, second = (room.run(plan, images, seed=3, poison=byte).data for byte in (0x00, 0xFF))
    assert first.shape == plan.output_shape(len(images))
    assert first.dtype == o["dtype"]
    assert np.isfinite(first.astype(np.float32)).all()
    npt.assert_array_equal(first, second)


@given(data=st.data())
@settings(SLOW, max_examples=120)
def test_an_image_comes_out_the_same_in_any_company(room, data):
    o = data.draw(parameters())
    images = data.draw(pictures(o["data_shape"][0]))
    assume(fits(o, images))
    plan = room.plan_of(normalisation(o), **o)
    together = room.run(plan, images).data
    for number, image in enumerate(images):
        alone = room.run(plan, [image], ids=[number], poison=0x5A).data
        npt.assert_array_equal(alone[0], together[number])


@given(
    height=SIDES,
    width=SIDES,
    channels=st.sampled_from([1, 3, 4]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
)
@settings(SLOW, max_examples=30)
def test_parameters_of_no_effect_leave_the_picture(room, height, width, channels, layout):
    image = draw(height, width, channels)
    expected = image if layout == "NHWC" else image.transpose(2, 0, 1)
    shape = (channels, height, width)
    still = {"max_random_area": 1, "min_random_area": 1, "random_resized_crop": True}
    warped = {"rotate_list": (0,), "pad": 2}
    for o in ({}, {"resize": min(height, width)}, still, warped, {"rotate_list": (360,)}):
        plan = room.plan_of(data_shape=shape, dtype="uint8", layout=layout, **o)
        npt.assert_array_equal(room.run(plan, [image]).data[0], expected)
    plan = room.plan_of(data_shape=shape, layout=layout)
    npt.assert_array_equal(room.run(plan, [image]).data[0], expected.astype(np.float32))


@pytest.mark.parametrize("method", [0, 1, 2, 4])
def test_canvases_far_larger_than_what_they_show_read_nothing_outside(room, method):
    plan = room.plan_of(
        data_shape=(3, 24, 24), dtype="uint8", inter_method=method, rand_crop=True,
        min_random_scale=1e-4, max_random_scale=1e-4, min_img_size=30_000, rotate_list=(0, 45, 200),
    )  # fmt: skip
    images = [draw(9, 7, seed=number) for number in range(20)]
    first, second = (room.run(plan, images, poison=byte).data for byte in (0x00, 0xFF))
    npt.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [(4000, 3000), (1, 1), (1, 4000), (3000, 1)])
@pytest.mark.parametrize("method", [0, 1, 2, 3, 4, 9])
def test_the_largest_and_smallest_pictures_pass(room, size, method):
    image = np.full((*size, 3), 70, np.uint8)
    plan = room.plan_of(data_shape=(3, 20, 30), dtype="uint8", inter_method=method, rand_crop=True)
    assert (room.run(plan, [image]).data == 70).all()


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
    *[
        (name, {name: 0.5 if name != "random_h" else 5, "data_shape": (channels, 8, 8)})
        for name in ("brightness", "contrast", "saturation", "random_h", "pca_noise", "rand_gray")
        for channels in (1, 4)
    ],
]


@pytest.mark.parametrize(("name", "wrong"), ILLEGAL, ids=str)
def test_wrong_parameters_are_refused_by_name_before_anything_is_read(name, wrong):
    with pytest.raises(ValueError, match=name):
        ImageRecordIter("no such file.rec", **({"data_shape": (3, 8, 8), "batch_size": 1} | wrong))
