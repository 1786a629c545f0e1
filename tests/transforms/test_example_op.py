"""How to add an augmentation: one file with the op, one file that tests it. This is both.

An op is a frozen dataclass. It checks its parameters when it is made; called with a `BatchPlan`, it
decides for a whole batch at once, as arrays with one row per image. It touches no pixels: it adds
steps to `batch.geometry` or colours with `batch.add_color`, and the pipeline does the rest: it
decodes only what the steps need and runs them on every device. What `batch.sample` gives it users
see as `batch.augmentation`, and can replay.

A real op stands in a file of its own in gpuio/transforms, gives its random numbers a place at the
end of `Draw`, and becomes a keyword: an option in gpuio/mxnet/image_keywords.py, a parameter of
`ImageRecordIter`, and a line in gpuio/mxnet/image_plan.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.kernels.steps import StepKind
from gpuio.pipeline.plan import Plan
from gpuio.testing import draw
from gpuio.transforms.crop import Crop
from gpuio.transforms.op import BatchPlan, Op

SHIFT = 64  # in the library: Draw.SHIFT


@dataclass(frozen=True, slots=True)
class RandomShift(Op):
    """Move each image up or down.

    Attributes:
        most: Pixels, at least 0; each image moves by -most (up) to most (down).
        fill: Value of what comes in.
    """

    most: int
    fill: int = 0
    cost: ClassVar[str] = "a pass over the window"

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"most must be at least 0, got {self.most}")

    def __call__(self, batch: BatchPlan) -> None:
        chain = batch.geometry
        shift = batch.sample("shift", lambda draws: draws.integers(SHIFT, -self.most, self.most))
        one, zero = np.ones(len(shift)), np.zeros(len(shift))
        # From the result to the image: pixel (x, y) comes from (x, y - shift).
        matrix = np.stack([one, zero, zero, zero, one, -shift], axis=1)
        chain.warp(chain.size, np.full(len(shift), StepKind.WARP_NEAREST), matrix, self.fill)


PLAN = Plan((RandomShift(9, fill=5), Crop((20, 24))), (3, 20, 24), "uint8")


def test_moves_each_image_by_its_drawn_shift(stage):
    images = [draw(20, 24, seed=number) for number in range(8)]
    batch = stage.run(PLAN, images)
    for image, got, shift in zip(images, batch.data, batch.sampled["shift"], strict=True):
        expected = np.full_like(image, 5)
        if shift >= 0:
            expected[shift:] = image[: 20 - shift]
        else:
            expected[:shift] = image[-shift:]
        npt.assert_array_equal(got.transpose(1, 2, 0), expected)


def test_moves_by_anything_up_to_the_most(stage):
    shift = stage.planned(PLAN.ops, (20, 24), ids=range(1000)).sampled["shift"]
    assert {*shift.tolist()} == {*range(-9, 10)}


def test_asks_the_decoder_for_no_more_than_it_shows(stage):
    made = stage.planned(PLAN.ops, (200, 240), ids=range(100))
    assert (made.geometry.window[:, 2:] <= (24, 28)).all()


def test_a_record_moves_alike_in_any_company(stage):
    together = stage.planned(PLAN.ops, (20, 24), ids=range(9), seed=1).sampled["shift"]
    alone = stage.planned(PLAN.ops, (20, 24), ids=[6], seed=1).sampled["shift"]
    assert alone == together[6]


def test_refuses_a_negative_most():
    with pytest.raises(ValueError, match="most must be at least 0, got -1"):
        RandomShift(-1)


def test_is_a_line_of_the_plan():
    assert "2. RandomShift(most=9, fill=5): a pass over the window\n" in str(PLAN)


def test_moves_by_values_given_in_place_of_the_random_numbers(stage):
    made = stage.planned(
        PLAN.ops, (20, 24), ids=range(3), overrides={"shift": np.array([4, 0, -9])}
    )
    npt.assert_array_equal(made.geometry.steps[0].matrix[:, 5], [-4, 0, 9])
