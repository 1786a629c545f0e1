"""Ops happen in the order of the plan, which is the order in which it is printed."""

from __future__ import annotations

import re

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuio.pipeline.plan import Plan
from gpuio.testing import draw
from gpuio.transforms.affine import Affine
from gpuio.transforms.border import Pad
from gpuio.transforms.color import ColorJitter, Exposure, HlsJitter, Lighting, RandomGray
from gpuio.transforms.crop import Crop, RandomResizedCrop
from gpuio.transforms.label_transforms import MoveBoxes, MovePoints
from gpuio.transforms.mirror import Mirror
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.resize import ResizeShorterEdge

OPS = [
    ColorJitter(0.5, 0.5, 0.5), ColorJitter(contrast=0.9), ColorJitter(brightness=0.7),
    HlsJitter(20, 60, 60), Lighting(0.5), RandomGray(0.6), Mirror(), Mirror(random=True),
    ResizeShorterEdge(17), ResizeShorterEdge(30, 3), Affine(angles=(-40, 40), scale=(0.8, 1.2)),
    Pad(3, 9), Crop((14, 12), random=True), RandomResizedCrop((15, 16), (0.3, 0.9), (0.5, 2)),
]  # fmt: skip
IDS = [3, 8, 21]
IMAGES = [draw(23, 31, seed=1), draw(31, 19, seed=2), draw(12, 13, seed=3)]


def one_by_one(stage, ops, images):
    """Each op alone, as a plan of its own, on what the one before it has made."""
    whole = stage.planned(ops, [image.shape[:2] for image in images], ids=IDS).sampled
    seen = []
    for op in ops:
        size = [image.shape[:2] for image in images]
        names = stage.planned([op], size, ids=IDS).sampled
        used = {name: f"{name}_{seen.count(name) + 1}".removesuffix("_1") for name in names}
        seen += names
        given = {name: whole[other] for name, other in used.items()}
        shapes = stage.planned([op], size, ids=IDS, overrides=given).geometry.size
        images = [
            stage.run(
                Plan((op,), (3, *shape), "uint8"),
                [image],
                ids=[record],
                overrides={name: column[place : place + 1] for name, column in given.items()},
            ).data[0].transpose(1, 2, 0)
            for place, (image, record, shape) in enumerate(
                zip(images, IDS, shapes.tolist(), strict=True)
            )
        ]  # fmt: skip
    return images


def printed(plan, ops):
    """The `ops` of a plan in the order in which it is printed."""
    by_name = {str(op): op for op in ops}
    lines = [re.sub(r"^\d+\. ", "", line).rpartition(": ")[0] for line in str(plan).splitlines()]
    return [by_name[line] for line in lines if line in by_name]


@given(data=st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_plan_does_what_it_prints_one_step_after_the_other(stage, data):
    ops = data.draw(st.lists(st.sampled_from(OPS), max_size=6))
    plan = Plan((*ops, Crop((13, 11))), (3, 13, 11), "uint8")
    order = printed(plan, plan.ops)
    assert len(order) == len(plan.ops)
    expected = one_by_one(stage, order, IMAGES)
    for byte in (0x00, 0xFF):
        got = stage.run(plan, IMAGES, ids=IDS, poison=byte).data
        npt.assert_array_equal(got.transpose(0, 2, 3, 1), expected)


def test_the_simulated_device_makes_the_same(stage):
    ops = (
        ColorJitter(0.5, 0.5, 0.5), Mirror(random=True), Affine(angles=(-40, 40)), RandomGray(0.6),
        ColorJitter(contrast=0.9), Crop((13, 11), random=True), HlsJitter(20, 60, 60), Mirror(),
    )  # fmt: skip
    plan = Plan(ops, (3, 13, 11), "uint8")
    expected = stage.run(plan, IMAGES, ids=IDS).data
    npt.assert_array_equal(stage.run_simulated(plan, IMAGES, ids=IDS), expected)


def test_swapping_two_ops_swaps_what_happens(stage):
    jitter, gray, crop = ColorJitter(0.9, 0.9, 0.9), RandomGray(1), Crop((13, 11))
    first = stage.run(Plan((crop, jitter, gray), (3, 13, 11), "uint8"), IMAGES, ids=IDS).data
    second = stage.run(Plan((crop, gray, jitter), (3, 13, 11), "uint8"), IMAGES, ids=IDS).data
    assert (first != second).any()
    assert (first[:, 0] == first[:, 1]).all()


def test_contrast_before_a_crop_takes_the_mean_of_the_whole_picture(stage):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    image[15:25, 20:40] = 100  # all that the crop shows
    plan = Plan((ColorJitter(contrast=0.5), Crop((10, 20))), (3, 10, 20), "uint8")
    got = stage.run(plan, [image], overrides={"contrast": np.array([0.5])}).data
    before = Plan((Crop((10, 20)), ColorJitter(contrast=0.5)), (3, 10, 20), "uint8")
    other = stage.run(before, [image], overrides={"contrast": np.array([0.5])}).data
    assert {*got.ravel().tolist()} == {round(50 + 0.5 * image.mean())}
    assert {*other.ravel().tolist()} == {100}


def test_two_ops_of_a_kind_are_two_and_draw_their_own_numbers(stage):
    ops = [ColorJitter(0.5), ColorJitter(0.5), Crop((13, 11))]
    sampled = stage.planned(ops, (23, 31), ids=range(500)).sampled
    assert abs(np.corrcoef(sampled["brightness"], sampled["brightness_2"])[0, 1]) < 0.15
    factors = {"brightness": np.array([0.5]), "brightness_2": np.array([3.0])}
    image = np.full((13, 11, 3), 101, np.uint8)
    got = stage.run(Plan(tuple(ops), (3, 13, 11), "uint8"), [image], overrides=factors).data
    assert (got == 3 * np.uint8(np.rint(101 * np.float32(0.5)))).all()


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ((Exposure(0.5), ColorJitter(0.5)), "ColorJitter changes colours and cannot follow Expo"),
        ((Exposure(0.5), Mirror()), "Mirror moves pixels and cannot follow Exposure"),
        ((Exposure(0.5), Exposure(0.5)), "Exposure changes the normalized values and cannot"),
        ((MoveBoxes(), Mirror()), "Mirror moves pixels and cannot follow MoveBoxes: put it before"),
        ((MovePoints(), Crop((8, 8))), "Crop moves pixels and cannot follow MovePoints"),
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_is_refused_when_the_plan_is_made(ops, message):
    with pytest.raises(ValueError, match=message):
        Plan(ops, (3, 8, 8))


def test_ops_that_make_another_size_than_the_output_are_refused(stage):
    with pytest.raises(ValueError, match=r"image of 17 x 22 pixels, and the output has 17 x 17"):
        stage.run(Plan((ResizeShorterEdge(17),), (3, 17, 17), "uint8"), [draw(23, 31)])


def test_a_printed_plan_begins_with_decoding_and_ends_with_the_output():
    ops = Mirror(), Crop((8, 8)), RandomGray(0.5), Exposure(0.2)
    lines = str(Plan(ops, (3, 8, 8), normalization=Normalization((1, 2, 3, 0)))).splitlines()
    assert lines[0] == "1. decode to 3 channels, only the window that is needed"
    assert [re.match(r"\d+\. (\w+)\(", line)[1] for line in lines[1:5]] == [
        "Mirror", "Crop", "RandomGray", "Exposure",
    ]  # fmt: skip
    assert lines[5:] == ["6. (v - (1, 2, 3)) * 1 / (1, 1, 1)", "7. to float32 NCHW 3 x 8 x 8"]


def test_a_mirror_that_only_colours_and_crops_follow_is_no_pass(stage):
    ops = [ResizeShorterEdge(17), Mirror(), RandomGray(0.5), Crop((8, 8))]
    made = stage.planned(ops, (23, 31), ids=range(4)).geometry
    assert made.mirror.all()
    assert [step.moves.any() for step in made.steps] == [True, False, False]
    made = stage.planned([Mirror(), *ops], (23, 31), ids=range(4)).geometry
    assert made.steps[0].moves.all()  # a resize follows
