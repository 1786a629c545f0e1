"""Taps that a device computes are the host's, to the bit."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import numpy.testing as npt
import pytest
from device_code import CAPABILITIES, POISON, Memory
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba.cuda")

from gpuio.kernels import device, simulated
from gpuio.kernels.device_taps import TAPS, TAPS_ON_DEVICE, taps_grid
from gpuio.kernels.steps import STEP, StepKind
from gpuio.kernels.tables import tabulate, tap_bytes

CHANNELS = 3


def tables(table, how):
    """The tables of all rows, as bytes."""
    table, memory = table.copy(), Memory()
    nbytes = tap_bytes(table)
    room = memory.add(np.full(int(nbytes.sum()) // 8, POISON, np.uint64), writable=True)
    table["taps"] = room.ctypes.data + np.cumsum(nbytes) - nbytes
    if how == "host":
        tabulate(len(table), 1, table.ctypes.data, CHANNELS, 0)
    else:
        memory.add(table)
        namespace = simulated.load(memory).modules["gpuio.kernels.device_taps"]
        kernel = replace(namespace.TAPS, block=(8, 1, 1))
        simulated.simulate(kernel, taps_grid(kernel, table), (table.ctypes.data, CHANNELS))
    return room


@st.composite
def rows(draw):
    row = np.zeros(1, STEP)
    row["kind"] = kind = draw(st.sampled_from(TAPS_ON_DEVICE))
    for side, place, count in ("height", "y", "rows"), ("width", "x", "cols"):
        src, dst = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
        if kind == StepKind.AREA:
            src, dst = max(src, dst), max(min(src, dst), max(src, dst) // 20)
        row[f"src_{side}"], row[f"dst_{side}"] = src, dst
        row[place] = first = draw(st.integers(0, dst - 1))
        row[count] = draw(st.integers(1, min(dst - first, 12)))
    return row


@given(rows())
@settings(max_examples=300, deadline=None)
def test_they_are_those_of_the_host(row):
    npt.assert_array_equal(tables(row, "device"), tables(row, "host"))


def test_rows_of_other_kinds_are_left_alone():
    table = np.zeros(2, STEP)
    table["kind"] = StepKind.LANCZOS, StepKind.LINEAR
    for name in ("src_height", "src_width"):
        table[name] = 9
    for name in ("dst_height", "dst_width", "rows", "cols"):
        table[name] = 5
    lanczos = int(tap_bytes(table)[0]) // 8
    got, wanted = tables(table, "device"), tables(table, "host")
    assert (got[:lanczos] == POISON).all()
    npt.assert_array_equal(got[lanczos:], wanted[lanczos:])


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_no_product_is_fused_with_a_sum_but_by_a_power_of_two(capability):
    text = device.ptx(TAPS, capability)
    assert not re.search(r"\b(fma|mad)\.\w+\.f64|div\.(approx|full)|\.ftz|\bcall\b|\.local\b", text)
    for fused in re.findall(r"\bfma\.rn\.f32\s+([^;]*);", text):
        assert "0f45000000" in fused  # 2048
