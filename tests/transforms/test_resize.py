"""Resizing the shorter edge: sizes by the rule, pixels by the kernel that other tests check."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.kernels.resample import resize
from gpuio.kernels.steps import StepKind
from gpuio.testing import draw
from gpuio.transforms.resize import ResizeShorterEdge

SIZES = np.random.default_rng(0).integers(1, 500, (300, 2))


@pytest.mark.parametrize("edge", [1, 7, 64, 333])
def test_the_shorter_edge_gets_the_length_and_the_other_is_cut(stage, edge):
    made = stage.planned([ResizeShorterEdge(edge)], SIZES)
    for (height, width), got in zip(SIZES.tolist(), made.geometry.size.tolist(), strict=True):
        if height > width:
            assert got == [edge * height // width, edge]
        else:
            assert got == [edge, edge * width // height]


@pytest.mark.parametrize("method", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("edge", [17, 60])
def test_pixels_are_those_of_the_kernel(stage, method, edge):
    image = draw(30, 41)
    size = (edge, edge * 41 // 30)
    plan = stage.ops_plan(ResizeShorterEdge(edge, method), shape=(3, *size))
    got = stage.run(plan, [image]).data[0].transpose(1, 2, 0)
    npt.assert_array_equal(got, resize(image, *size, method))


def test_an_edge_of_that_length_already_is_left(stage):
    made = stage.planned([ResizeShorterEdge(30)], [(30, 41), (41, 30), (30, 42), (31, 40)])
    assert (made.geometry.steps[0].kind == StepKind.COPY).tolist() == [True, True, True, False]


def test_by_size_means_cubic_to_enlarge_and_area_to_shrink(stage):
    made = stage.planned([ResizeShorterEdge(30, 9)], [(20, 25), (47, 61)])
    assert made.geometry.steps[0].kind.tolist() == [StepKind.CUBIC, StepKind.AREA]


def test_random_interpolation_differs_from_image_to_image(stage):
    made = stage.planned([ResizeShorterEdge(30, 10)], (20, 25), ids=range(100))
    kinds = {
        StepKind.NEAREST,
        StepKind.LINEAR,
        StepKind.CUBIC,
        StepKind.AREA_LINEAR,
        StepKind.LANCZOS,
    }
    assert {*made.geometry.steps[0].kind.tolist()} == kinds


@pytest.mark.parametrize("edge", [0, -1, -5])
def test_a_length_of_nothing_is_refused(edge):
    with pytest.raises(ValueError, match=f"resize must be at least 1, or -1 for none, got {edge}"):
        ResizeShorterEdge(edge)
