"""How to add a transform that makes new pixels: a function of one pixel, its registration, an op.

The function is compiled for the CPU and for CUDA; on the simulated device it runs in Python, where
a stray read is an error. The op decides for a whole batch which parameters each image gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.testing as npt
import pytest
from numba import njit

from gpuio.errors import ProgramError
from gpuio.kernels import steps
from gpuio.kernels.arithmetic import level, mirrored
from gpuio.kernels.checks import check_steps
from gpuio.kernels.native import load8, load_float, mul_rn
from gpuio.kernels.pixels import pixel_step
from gpuio.kernels.resample import resample
from gpuio.kernels.steps import STEP, name_of
from gpuio.pipeline.plan import Plan
from gpuio.testing import draw
from gpuio.transforms import register_pixel_step
from gpuio.transforms.border import Pad
from gpuio.transforms.color import RandomGray
from gpuio.transforms.crop import Crop
from gpuio.transforms.geometry import ResampleChain
from gpuio.transforms.mirror import Mirror
from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.random import named


@njit(inline="always")
def at(src, pitch, channels, y, x):
    return src + np.uint64(np.int64(y) * pitch + np.int64(x) * channels)


@njit(inline="always")
def lifted(level_here, level_before, factor):
    """A level, plus `factor` times what it is above the one before."""
    here, before = np.float32(level_here), np.float32(level_before)
    return level(here + mul_rn(here - before, factor))


def embossed(src, pitch, height, width, channels, y, x, values):
    here = at(src, pitch, channels, y, x)
    before = at(src, pitch, channels, mirrored(y - 1, height), mirrored(x - 1, width))
    factor, one, two = load_float(values), np.uint64(1), np.uint64(2)
    first = lifted(load8(here), load8(before), factor)
    if channels == 1:
        return first, first, first, first
    second = lifted(load8(here + one), load8(before + one), factor)
    return first, second, lifted(load8(here + two), load8(before + two), factor), first


@dataclass(frozen=True, slots=True)
class Emboss(Op):
    """Edges of light from the top left."""

    cost: ClassVar[str] = "a pass over the window"
    kind: int
    most: float = 2

    def __call__(self, batch: BatchPlan) -> None:
        chance = named("emboss")
        factor = batch.sample("emboss", lambda draws: draws.uniform(chance, 0, self.most))
        batch.geometry.pixel_step(self.kind, factor[:, None], margin=1)


def expected(image, factor):
    real = image.astype(np.float32)
    before = np.pad(real, ((1, 0), (1, 0), (0, 0)), mode="reflect")[:-1, :-1]
    return np.clip(np.rint(real + (real - before) * np.float32(factor)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def kind():
    return register_pixel_step("EMBOSS", embossed)


SHAPES = {
    "last": lambda emboss: (emboss, Crop((12, 14))),
    "gray follows": lambda emboss: (emboss, RandomGray(0), Crop((12, 14))),
    "mirror and border follow": lambda emboss: (emboss, Mirror(), Pad(2), Crop((24, 26))),
}


@pytest.mark.parametrize(
    ("ops", "channels"),
    [*((ops, 3) for ops in SHAPES.values()), (SHAPES["last"], 1)],
    ids=[*SHAPES, "one channel"],
)
def test_every_device_makes_the_pixels_of_the_function(stage, kind, ops, channels):
    images = [draw(20, 22, seed=number)[:, :, :channels].copy() for number in range(3)]
    ops = ops(Emboss(kind))
    height, width = ops[-1].shape
    plan = Plan(ops, (channels, height, width), "uint8")
    batch = stage.run(plan, images)
    want = []
    for image, factor in zip(images, batch.sampled["emboss"], strict=True):
        whole = expected(image, factor)
        if len(ops) > 3:
            whole = np.pad(whole[:, ::-1], ((2, 2), (2, 2), (0, 0)), constant_values=255)
        top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
        want.append(whole[top : top + height, left : left + width].transpose(2, 0, 1))
    npt.assert_array_equal(batch.data, want)
    npt.assert_array_equal(stage.run_simulated(plan, images), want)


def test_the_function_compiles_for_cuda(kind):
    device = pytest.importorskip("gpuio.kernels.device")
    output = pytest.importorskip("gpuio.kernels.device_output")
    kernel = output.own_window(kind, steps.PIXEL_STEPS[kind - steps.FIRST_PIXEL_STEP].pixel)
    assert ".entry" in device.ptx(kernel, (9, 0))


def test_the_decoder_is_asked_for_the_margin(stage, kind):
    made = stage.planned((Emboss(kind), Crop((20, 24))), (200, 240), ids=range(3))
    assert made.geometry.window.tolist() == [[89, 107, 22, 26]] * 3


def test_masks_are_left_as_they_are(stage, kind):
    made = stage.planned((Emboss(kind),), (20, 24), ids=range(3))
    assert not made.for_masks(0).geometry.steps[0].moves.any()


def inverted(src, pitch, height, width, channels, y, x, values):
    place = at(src, pitch, channels, y, x)
    return 255 - load8(place), 0.75, np.uint8(3), 0


def wrong_name(src, pitch, height, width, channels, y, x, values):
    return src.levels


def three(src, pitch, height, width, channels, y, x, values):
    return 1, 2, 3


def test_levels_may_be_any_integers():
    assert pixel_step(register_pixel_step("INVERTED", inverted)).address


@pytest.mark.parametrize(
    ("pixel", "reason"),
    [
        (wrong_name, "Unknown attribute 'levels'"),
        (three, r"No conversion from Tuple\(.* to UniTuple\(int32 x 4\)"),
    ],
)
def test_functions_that_make_no_levels_are_named(stage, pixel, reason):
    name = f"STEP {pixel.__name__}"
    kind = register_pixel_step(name, pixel)
    plan = Plan((Emboss(kind), Crop((12, 14))), (3, 12, 14), "uint8")
    for run in (stage.run, stage.run_simulated):
        with pytest.raises(ProgramError, match=f"(?s)^step {name}: Numba cannot .*{reason}"):
            run(plan, [draw(20, 22)])


def test_a_name_is_given_once(kind):
    assert name_of(kind) == "EMBOSS"
    for name in ("EMBOSS", "BLUR"):
        with pytest.raises(ValueError, match=f"there is a step named {name} already"):
            register_pixel_step(name, embossed)


def test_kinds_that_were_not_registered_are_refused(kind):
    table = np.zeros(2, STEP)
    unknown = steps.FIRST_PIXEL_STEP + len(steps.PIXEL_STEPS)
    table["kind"] = kind, unknown
    with pytest.raises(ProgramError, match=rf"^item 1: {unknown} is no kind of step"):
        steps.check_kinds(table["kind"])


def test_a_step_that_changes_the_size_is_refused(kind):
    table = np.zeros(1, STEP)
    table["kind"], table["weights"], table["dst_pitch"] = kind, 64, 99
    table["src_height"] = table["src_width"] = table["dst_height"] = 8
    table["dst_width"] = table["rows"] = table["cols"] = 4
    with pytest.raises(ProgramError, match="item 0: EMBOSS cannot make 8 x 4 pixels of 8 x 8"):
        check_steps(resample.__name__, table, 3, np.array([1 << 20]), [])


@pytest.mark.parametrize(
    ("changes", "error", "found"),
    [
        ({"kind": -1}, ProgramError, "item 0: a pixel step is .*, not SKIP"),
        ({"kind": np.array([0, 13])}, ProgramError, "item 1: a pixel step is .*, not BLUR"),
        ({"values": np.zeros((2, 0))}, ValueError, r"a row for each of 2 images, got shape \(2, 0"),
        ({"values": np.zeros((3, 1))}, ValueError, r"got shape \(3, 1\)"),
        ({"values": np.zeros(2)}, ValueError, r"got shape \(2,\)"),
        ({"margin": -1}, ValueError, "margin must be at least 0, got -1"),
        ({"margin": 2**40}, ValueError, "margin must be at most"),
        ({"margin": 1.5}, ValueError, "margin must be an integer"),
    ],
)
def test_what_kernels_would_read_beyond_is_refused(kind, changes, error, found):
    chain = ResampleChain(np.array([[8, 9], [8, 9]]))
    with pytest.raises(error, match=found):
        chain.pixel_step(**{"kind": kind, "values": np.zeros((2, 1)), **changes})
