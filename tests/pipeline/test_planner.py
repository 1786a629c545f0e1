"""The planner decides everything about a batch before any pixel is decoded."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.pipeline.decode import make_decoder
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import Planner
from gpuio.testing import draw, encode
from gpuio.transforms.crop import Crop
from gpuio.transforms.mirror import Mirror

PLAN = Plan((Crop((8, 10), random=True), Mirror(random=True)), (3, 8, 10), "uint8")
JPEGS = [encode(draw(40, 30 + k, seed=k), "JPEG") for k in range(6)]


@pytest.fixture
def plan(records):
    """A function from encoded images to their planned batch."""
    made = []

    def planned(images, make=Planner, **options):
        given = records(images)
        decoder = make_decoder(
            "nvimgcodec", DecoderOptions(given.device, 3, given.source, tolerant=True)
        )
        made.append(decoder)
        (batch,) = make(PLAN, decoder, seed=1)(given.batches(), **options)
        return batch

    yield planned
    for decoder in made:
        decoder.close()


def test_only_the_windows_of_the_plan_are_to_be_decoded(plan):
    batch = plan(JPEGS)
    npt.assert_array_equal(batch.jobs.box, batch.batch_plan.geometry.window)
    assert (batch.jobs.box[:, 2:] == (8, 10)).all()
    assert len(np.unique(batch.jobs.box[:, :2], axis=0)) > 1
    assert not batch.jobs.pixels


def test_an_image_without_a_known_header_is_a_fault_and_is_not_decoded(plan):
    batch = plan([JPEGS[0], b"nothing", b"", JPEGS[1]])
    assert sorted(batch.samples.faults) == [1, 2]
    assert "no known image format" in str(batch.samples.faults[1])
    assert "its image has 0 bytes" in str(batch.samples.faults[2])
    assert (batch.jobs.box[[1, 2], 2:] == 0).all()


def test_values_that_are_given_replace_random_ones(plan):
    mirror = np.array([True, True, False, False, True, False])
    batch = plan(JPEGS, overrides={"mirror": mirror})
    npt.assert_array_equal(batch.batch_plan.sampled["mirror"], mirror)


def test_epochs_differ_and_the_same_one_does_not(plan):
    windows = [plan(JPEGS, epoch=epoch).jobs.box.tolist() for epoch in (0, 1, 0)]
    assert windows[0] == windows[2] != windows[1]


def test_a_planner_may_take_its_values_from_elsewhere(plan):
    class Third(Planner):
        """Mirrors every third record."""

        def plan_batch(self, samples, size, *, epoch=0, overrides=None):
            mine = {"mirror": samples.ids % 3 == 0}
            return super().plan_batch(samples, size, epoch=epoch, overrides=mine)

    batch = plan(JPEGS, Third)
    assert batch.batch_plan.sampled["mirror"].tolist() == [True, False, False] * 2
