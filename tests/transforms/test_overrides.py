"""Values that are given in place of random ones are checked where they choose something."""

from __future__ import annotations

import numpy as np
import pytest

from gpuio.transforms.border import Pad
from gpuio.transforms.color import ColorJitter
from gpuio.transforms.resize import ResizeShorterEdge

RESIZE, JITTER = ResizeShorterEdge(16, 10), ColorJitter(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("op", "name", "values", "message"),
    [
        (RESIZE, "resize_interpolation", [0, 5], r"must be in \[0, 4\], got \[0, 5\]"),
        (RESIZE, "resize_interpolation", [-1, 0], r"must be in \[0, 4\]"),
        (RESIZE, "resize_interpolation", [np.nan, 0], r"must be in \[0, 4\]"),
        (RESIZE, "resize_interpolation", ["a", "b"], "must be numbers, got an array of <U1"),
        (JITTER, "jitter_order", [6, 0], r"must be in \[0, 5\]"),
    ],
)
def test_what_cannot_be_chosen_is_named(stage, op, name, values, message):
    with pytest.raises(ValueError, match=f"^'{name}' {message}"):
        stage.planned((op,), (20, 24), ids=[1, 2], overrides={name: np.array(values)})


def test_numbers_may_have_been_read_from_text(stage):
    chosen = {"resize_interpolation": np.array([1.0, 2.0])}
    made = stage.planned((RESIZE,), (20, 24), ids=[1, 2], overrides=chosen)
    assert made.geometry.steps[0].kind.tolist() == [2, 3]


def test_a_border_has_a_width():
    with pytest.raises(ValueError, match="margin must be at least 1, got 0"):
        Pad(0)
