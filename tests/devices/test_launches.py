"""What a GPU launches for a program."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba.cuda")

from gpuio.devices.launches import contrasts
from gpuio.kernels.steps import COLOR_STEP, STEP, ColorKind

NONE, GRAY, PLAIN = ColorKind.NONE, ColorKind.GRAY, ColorKind.CONTRAST
KINDS = np.array([[PLAIN, NONE, NONE], [PLAIN, GRAY, PLAIN], [GRAY, NONE, NONE]])


def colored(kinds, rows, address, count):
    """A STEP table for some rows of uploaded colours; and these with their address."""
    steps = np.zeros(kinds.shape, COLOR_STEP)
    steps["kind"] = kinds
    table = np.zeros(len(rows), STEP)
    table["color"] = address + steps.strides[0] * np.array(rows)
    table["color_count"] = count
    return table, (address, steps)


@pytest.mark.parametrize(
    ("rows", "count", "most"),
    [([0], 3, 1), ([2], 3, 0), ([2, 0], 3, 1), ([0, 1, 2], 3, 2), ([1], 2, 1), ([], 3, 0)],
)
def test_contrasts_are_those_of_the_rows_alone(rows, count, most):
    table, colors = colored(KINDS, rows, 4096, count)
    assert contrasts(table, [colors]) == most


@pytest.mark.parametrize("other", [64, 1 << 40])
def test_contrasts_are_looked_up_in_the_array_that_has_them(other):
    table, colors = colored(KINDS, [1], 4096, 3)
    _, others = colored(np.full((5, 3), PLAIN), [], other, 3)
    assert contrasts(table, [others, colors]) == contrasts(table, [colors, others]) == 2
