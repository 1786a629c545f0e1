"""A pass computes, and the decoder decodes, no more than what is needed, and no less."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuio.errors import ProgramError
from gpuio.kernels.resample import STEP, lend_memory, resample, resize
from gpuio.kernels.steps import StepKind, resize_kinds
from gpuio.testing import draw
from gpuio.transforms.geometry import ResampleChain, choose
from gpuio.transforms.random import Draw, Draws

sides = st.integers(1, 50)
sizes = st.tuples(sides, sides)
methods = st.integers(0, 4)


def array(*rows):
    return np.array(rows, np.int64)


def window(image, size, method, box):
    """A window of a resized image."""
    (height, width, channels), (_, _, rows, cols) = image.shape, box
    out = np.empty((rows, cols, channels), np.uint8)
    step = np.zeros(1, STEP)
    step["src"], step["src_pitch"] = image.ctypes.data, width * channels
    step["dst"], step["dst_pitch"] = out.ctypes.data, cols * channels
    step["kind"] = resize_kinds(array((height, width)), array(size), array(method)[0][None])
    step["src_height"], step["src_width"] = height, width
    step["dst_height"], step["dst_width"] = size
    step["y"], step["x"], step["rows"], step["cols"] = box
    lent = lend_memory(step, channels)
    resample(1, 1, step.ctypes.data, channels)
    del lent
    return out


@st.composite
def crops(draw_, size):
    rows, cols = (draw_(st.integers(1, side)) for side in size)
    return (
        draw_(st.integers(0, size[0] - rows)),
        draw_(st.integers(0, size[1] - cols)),
        rows,
        cols,
    )


def only(image, box, value):
    """The image with `value` wherever it should not be read."""
    y, x, rows, cols = box
    poisoned = np.full_like(image, value)
    poisoned[y : y + rows, x : x + cols] = image[y : y + rows, x : x + cols]
    return poisoned


@given(before=sizes, after=sizes, method=methods, data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_resize_reads_nothing_outside_the_window_that_it_asks_for(before, after, method, data):
    crop = data.draw(crops(after))
    chain = ResampleChain(array(before))
    chain.resize(array(after), np.array([method]))
    chain.finish(array(crop))
    image = draw(*before)
    expected = window(image, after, method, crop)
    for value in (0, 255):
        poisoned = only(image, chain.window[0], value)
        npt.assert_array_equal(window(poisoned, after, method, crop), expected)


@given(shapes=st.lists(sizes, min_size=3, max_size=4), method=methods, data=st.data())
@settings(max_examples=60, deadline=None)
def test_each_of_several_resizes_asks_for_what_it_reads(shapes, method, data):
    chain = ResampleChain(array(shapes[0]))
    for size in shapes[1:]:
        chain.resize(array(size), np.array([method]))
    crop = data.draw(crops(shapes[-1]))
    chain.finish(array(crop))
    image = draw(*shapes[0])
    expected, got = image, only(image, chain.window[0], 255)
    for step in chain.steps:
        expected = resize(expected, *step.size[0], method)
        got = only(resize(got, *step.size[0], method), step.box[0], 0)
    y, x, rows, cols = crop
    npt.assert_array_equal(got[y : y + rows, x : x + cols], expected[y : y + rows, x : x + cols])


@given(size=sizes, data=st.data())
def test_without_steps_the_window_is_the_crop(size, data):
    crop = data.draw(crops(size))
    chain = ResampleChain(array(size))
    chain.resize(array(size), np.array([1]))  # does nothing
    chain.finish(array(crop))
    npt.assert_array_equal(chain.window, [crop])


def test_windows_are_not_much_larger_than_they_must_be():
    chain = ResampleChain(array((1000, 1000)))
    chain.resize(array((250, 250)), np.array([1]))
    chain.finish(array((100, 100, 20, 20)))
    assert (chain.window[0, 2:] <= 20 * 4 + 10).all()


@given(size=sizes, margin=st.integers(1, 30), data=st.data())
def test_a_border_asks_for_what_is_inside(size, margin, data):
    chain = ResampleChain(array(size))
    chain.border(margin, 7)
    crop = data.draw(crops(chain.size[0].tolist()))
    chain.finish(array(crop))
    y, x, rows, cols = crop
    inside = np.zeros((size[0] + 2 * margin, size[1] + 2 * margin), bool)
    inside[margin:-margin, margin:-margin] = True
    ys, xs = np.nonzero(inside[y : y + rows, x : x + cols])
    top, left, height, width = chain.window[0]
    if len(ys):
        assert (top, left) == (ys.min() + y - margin, xs.min() + x - margin)
        assert (height, width) == (np.ptp(ys) + 1, np.ptp(xs) + 1)
    assert height >= 1
    assert width >= 1


def test_interpolations_are_chosen_by_size():
    source = array((10, 10), (10, 10), (10, 10), (10, 10))
    size = array((20, 20), (5, 5), (20, 5), (10, 20))
    draws = Draws(np.arange(4), seed=0, epoch=0)
    assert choose(9, source, size, draws, Draw.MIRROR).tolist() == [2, 3, 1, 1]
    assert choose(4, source, size, draws, Draw.MIRROR).tolist() == [4] * 4


def test_random_interpolations_are_all_five():
    source = np.full((500, 2), 10)
    draws = Draws(np.arange(500), seed=0, epoch=0)
    found = choose(10, source, source * 2, draws, Draw.RESIZE_INTERPOLATION)
    assert np.bincount(found, minlength=5).min() > 60


def test_masks_get_the_same_geometry_with_the_nearest_pixels():
    chain = ResampleChain(array((40, 50), (30, 20)))
    chain.resize(array((20, 25), (30, 20)), np.array([2, 3]))
    turn = np.tile([0.0, 1, 0, 1, 0, 0], (2, 1))
    chain.warp(array((25, 20), (20, 30)), np.full(2, StepKind.WARP_CUBIC), turn, 255)
    chain.border(3, 255)
    crop = array((2, 2, 9, 8), (0, 0, 9, 8))
    chain.crop(crop)
    masks = chain.for_masks(7)
    assert [step.kind.tolist() for step in masks.steps] == [
        [StepKind.NEAREST, StepKind.COPY],
        [StepKind.WARP_NEAREST] * 2,
        [StepKind.BORDER] * 2,
        [StepKind.COPY] * 2,
    ]  # fmt: skip
    assert {step.fill for step in masks.steps[1:]} == {7}
    npt.assert_array_equal(masks.size, chain.size)
    npt.assert_array_equal(masks.steps[-2].box, crop)
    assert [step.kind[0] for step in chain.steps] == [
        StepKind.CUBIC, StepKind.WARP_CUBIC, StepKind.BORDER, StepKind.COPY,
    ]  # fmt: skip


def test_a_step_of_an_unknown_kind_is_refused_by_its_number():
    chain = ResampleChain(np.array([[20, 30], [20, 30]]))
    kind = np.array([StepKind.WARP_NEAREST, 77])
    with pytest.raises(ProgramError, match=r"^item 1: 77 is no kind of step"):
        chain.warp(chain.size, kind, np.zeros((2, 6)), 0)
