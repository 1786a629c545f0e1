"""What a GPU launches for a program."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba.cuda")

from gpuio.devices.base import KernelCall
from gpuio.devices.buffers import BatchBuffers
from gpuio.devices.launches import Launches, contrasts
from gpuio.devices.simulated import SimulatedDriver
from gpuio.kernels.resample import finish
from gpuio.kernels.steps import COLOR_STEP, STEP, ColorKind, OutputType, StepKind

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


def launched(kind, channels, colors=None):
    """Names of the kernels that make a batch of two images, of 20 x 24 pixels before a resize."""
    memory = BatchBuffers(SimulatedDriver())
    table = np.zeros(2, STEP)
    table["kind"], table["src_height"], table["src_width"] = kind, 20, 24
    table["dst_height"], table["dst_width"], table["rows"], table["cols"] = 7, 9, 7, 9
    known = []
    if colors is not None:
        steps = np.zeros((2, len(colors)), COLOR_STEP)
        steps["kind"][1] = colors  # the first image has none
        address = memory.tables.put(steps)
        known = [(address, steps)]
        table["color"] = address + steps.strides[0] * np.arange(2)
        table["color_count"] = len(colors)
    call = KernelCall(finish, table, (channels, OutputType.FLOAT16, 0))
    bases = np.full(2, 4096, np.uint64)
    return [kernel.name for kernel, _, _ in Launches(memory, bases, 1, known).of(call)]


def test_a_launch_makes_the_windows_of_a_kind():
    assert launched(StepKind.COPY, 3) == ["window"]
    assert launched(StepKind.LINEAR, 3) == ["taps", "window"]
    assert launched(StepKind.CUBIC, 3) == ["taps", "strips"]
    assert launched(StepKind.LANCZOS, 3) == ["strips"]
    assert launched([StepKind.COPY, StepKind.AREA], 3) == ["taps", "window", "strips"]


@pytest.mark.parametrize(
    ("colors", "count"), [([GRAY], 1), ([GRAY, PLAIN], 2), ([PLAIN, GRAY, PLAIN], 3)]
)
def test_a_launch_takes_colours_to_each_mean_and_one_from_the_last(colors, count):
    assert launched(StepKind.COPY, 3, colors) == ["window", *["color"] * count, "window"]


def test_one_launch_brightens_pictures_that_are_not_rgb():
    assert launched(StepKind.COPY, 1, [ColorKind.BRIGHTNESS]) == ["window", "brighten", "window"]
