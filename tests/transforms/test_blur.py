"""Blurred images are those of a convolution written in NumPy, on every device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from scipy.ndimage import gaussian_filter

import gpuio
from gpuio.pipeline.plan import Plan
from gpuio.testing import draw
from gpuio.transforms import Affine, Crop, GaussianBlur, Mirror, MovePoints, RandomGray
from gpuio.transforms.blur import gaussian

F32 = np.float32


def convolved(image, size, sigma):
    """Along x, then along y, tap by tap in float32, rounded once."""
    (weights,), reach = gaussian(size, np.array([sigma], F32)), size // 2
    picture = image.astype(F32)
    for axis in (1, 0):
        width = [(0, 0)] * 3
        width[axis] = (reach, reach)
        padded = np.pad(picture, width, mode="reflect")
        lines = [
            padded.take(np.arange(k, k + picture.shape[axis]), axis) * weight
            for k, weight in enumerate(weights)
        ]
        picture = lines[0]
        for line in lines[1:]:
            picture = picture + line
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def hwc(batch):
    return batch.data.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [3, 5, 11, 23])
def test_a_blur_is_a_convolution(stage, size, channels):
    images = [draw(27, 31, channels, seed=number) for number in range(4)]
    batch = stage.run(Plan((GaussianBlur(size, (0.3, 4)),), (channels, 27, 31), "uint8"), images)
    sigma = batch.sampled["blur_sigma"]
    assert len({*sigma.tolist()}) == 4
    for image, got, value in zip(images, hwc(batch), sigma, strict=True):
        npt.assert_array_equal(got, convolved(image, size, value))


def test_a_window_of_a_blur_is_that_of_the_blurred_picture(stage):
    image = draw(40, 50)
    for box in ((0, 0), (13, 21), (26, 35)):
        crop = {"crop_y": np.array([box[0]]), "crop_x": np.array([box[1]])}
        plan = Plan((GaussianBlur(7, (2, 2)), Crop((14, 15), random=True)), (3, 14, 15), "uint8")
        got = [hwc(stage.run(plan, [image], overrides=crop, poison=byte))[0] for byte in (0, 255)]
        whole = convolved(image, 7, 2)[box[0] : box[0] + 14, box[1] : box[1] + 15]
        npt.assert_array_equal(got, [whole, whole])
    made = stage.planned(plan.ops, (40, 50), ids=range(20))
    assert (made.geometry.window[:, 2:] <= (14 + 8, 15 + 8)).all()


def test_a_picture_smaller_than_the_kernel_is_mirrored_again_and_again(stage):
    image = draw(2, 5)
    got = stage.run(Plan((GaussianBlur(23, (5, 5)),), (3, 2, 5), "uint8"), [image])
    npt.assert_array_equal(hwc(got)[0], convolved(image, 23, 5))


def test_a_blur_applies_to_earlier_steps_and_not_to_later_ones(stage):
    image, shape = draw(21, 19), (3, 21, 19)
    gray, mirror, blur = RandomGray(1), Mirror(), GaussianBlur(5, (1.5, 1.5))
    alone = {op: hwc(stage.run(Plan((op,), shape, "uint8"), [image]))[0] for op in (gray, mirror)}
    for op in (gray, mirror):
        got = hwc(stage.run(Plan((op, blur), shape, "uint8"), [image]))[0]
        npt.assert_array_equal(got, convolved(alone[op], 5, 1.5))
    got = hwc(stage.run(Plan((blur, mirror), shape, "uint8"), [image]))[0]
    npt.assert_array_equal(got, convolved(image, 5, 1.5)[:, ::-1])


def test_labels_and_masks_stay_where_they_are(stage):
    made = stage.planned([GaussianBlur(9)], (20, 30), ids=range(3))
    made.labels = np.tile(np.array([0.25, 0.75], F32), (3, 1))
    MovePoints()(made)
    npt.assert_allclose(made.labels, [[0.25, 0.75]] * 3)
    assert not made.for_masks(7).geometry.steps[0].moves.any()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_simulated_device_makes_the_same(stage, channels):
    images = [draw(17, 21, channels, seed=number) for number in range(3)]
    ops = GaussianBlur(5, (0.3, 4)), Affine(angles=(-30, 30)), GaussianBlur(3), Crop((13, 14))
    plan = Plan(ops, (channels, 13, 14), "uint8")
    npt.assert_array_equal(stage.run_simulated(plan, images), stage.run(plan, images).data)


@pytest.mark.parametrize(("size", "sigma"), [(3, 0.5), (9, 2.0), (23, 4.0)])
def test_it_is_scipys_but_for_rounding(stage, size, sigma):
    image = draw(30, 40)
    plan = Plan((GaussianBlur(size, (sigma, sigma)),), (3, 30, 40), "uint8")
    expected = gaussian_filter(
        image.astype(float), sigma, mode="mirror", radius=size // 2, axes=(0, 1)
    )
    assert np.abs(hwc(stage.run(plan, [image]))[0] - expected).max() < 0.5 + 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4,), r"kernel_size must be odd and in \[3, 23\], got 4"),
        ((1,), "got 1"),
        ((25,), "got 25"),
        ((3, (0, 1)), "sigma must be more than 0 and in order, got 0 to 1"),
        ((3, (2, 1)), "got 2 to 1"),
    ],
)
def test_impossible_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianBlur(*arguments)


def test_a_transform_is_one_file_and_its_name_among_the_public_ones():
    home = Path(gpuio.__file__).parent
    found = {
        str(path.relative_to(home)): text.count("GaussianBlur")
        for path in home.rglob("*.py")
        if "GaussianBlur" in (text := path.read_text())
    }
    assert {*found} == {"transforms/blur.py", "transforms/__init__.py"}
    assert found["transforms/__init__.py"] == 2  # imported, and in __all__
