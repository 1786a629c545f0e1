"""The table of kinds: complete, in the order of the numbers, and known to what runs them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.errors import ProgramError
from gpuio.kernels import steps
from gpuio.kernels.resample import _PIXELS
from gpuio.kernels.steps import COLOR_STEP, STEP, STEPS, StepKind, check_kinds, table_bytes


def test_every_kind_has_a_row_at_its_number():
    assert [*STEPS] == [kind for kind in StepKind if kind != StepKind.SKIP]
    assert [int(kind) for kind in STEPS] == list(range(len(STEPS)))
    for name in ("taps", "reach", "warps"):
        column = getattr(steps, name.upper())
        npt.assert_array_equal(
            column[: len(STEPS)], [getattr(info, name) for info in STEPS.values()]
        )


def test_every_kind_but_a_copy_has_a_routine():
    assert {*_PIXELS} == {*STEPS} - {StepKind.COPY}


def test_the_kind_for_labels_blends_no_pixels():
    for info in STEPS.values():
        assert STEPS[info.nearest].taps <= 1
        assert STEPS[info.nearest].reach == 0
        assert STEPS[info.nearest].nearest == info.nearest


def test_rows_are_as_large_as_compiled_code_has_them():
    assert STEP.itemsize % 8 == 0
    assert COLOR_STEP.itemsize == 16


@pytest.mark.parametrize("kind", [-2, len(STEPS), 2**31 - 1])
def test_a_number_that_is_no_kind_is_named(kind):
    table = np.zeros(4, STEP)
    table["kind"][2] = kind
    for check in (lambda: check_kinds(table["kind"]), lambda: table_bytes(table, 3)):
        with pytest.raises(ProgramError, match=rf"^item 2: {kind} is no kind of step; kinds are"):
            check()


def test_kinds_are_known_without_a_compiler():
    code = "import sys, gpuio.kernels.steps; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
