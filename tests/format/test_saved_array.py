"""MXNet's file of arrays, as far as mean images go."""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuio.errors import FormatError
from gpuio.format.saved_array import load, save

MEAN = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def written(*, named: bool = True) -> bytes:
    """The bytes MXNet 1.9.1 writes for one array, put together by hand."""
    head = struct.pack("<QQQ", 0x112, 0, 1)
    array = struct.pack("<IiI3qiii", 0xF993FAC9, 0, 3, 3, 2, 2, 1, 0, 0) + MEAN.tobytes()
    names = struct.pack("<QQ", 1, 8) + b"mean_img" if named else struct.pack("<Q", 0)
    return head + array + names


def test_writes_what_mxnet_writes(tmp_path):
    save(tmp_path / "a", {"mean_img": MEAN})
    assert (tmp_path / "a").read_bytes() == written()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_reads_what_mxnet_writes(tmp_path):
    (tmp_path / "a").write_bytes(written())
    arrays = load(tmp_path / "a")
    assert list(arrays) == ["mean_img"]
    npt.assert_array_equal(arrays["mean_img"], MEAN)
    assert arrays["mean_img"].flags.writeable


def test_arrays_without_names_are_numbered(tmp_path):
    (tmp_path / "a").write_bytes(written(named=False))
    assert list(load(tmp_path / "a")) == ["0"]


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i4", "i1", "i8"])
def test_every_dtype_comes_back(tmp_path, dtype):
    arrays = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b c": np.ones(4, dtype)}
    save(tmp_path / "a", arrays)
    again = load(tmp_path / "a")
    assert list(again) == ["a", "b c"]
    for name, array in arrays.items():
        assert again[name].dtype == dtype
        npt.assert_array_equal(again[name], array)


def test_an_array_that_is_a_view_is_written_in_order(tmp_path):
    save(tmp_path / "a", {"a": MEAN.T})
    npt.assert_array_equal(load(tmp_path / "a")["a"], MEAN.T)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\x89PNG" + bytes(40))
    with pytest.raises(FormatError, match="not 0x112: not saved arrays"):
        load(tmp_path / "a")


@pytest.mark.parametrize("length", range(len(written())))
def test_a_file_that_is_cut_short_is_refused(tmp_path, length):
    (tmp_path / "a").write_bytes(written()[:length])
    with pytest.raises(FormatError):
        load(tmp_path / "a")


def test_names_that_are_too_few_are_refused(tmp_path):
    data = bytearray(written())
    data[16:24] = struct.pack("<Q", 2)
    array = data[24:-24]
    (tmp_path / "a").write_bytes(data[:24] + array + array + data[-24:])
    with pytest.raises(FormatError, match="1 names for 2 arrays"):
        load(tmp_path / "a")


def test_a_sparse_array_is_refused(tmp_path):
    data = bytearray(written())
    data[28] = 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FormatError, match="is not a dense array"):
        load(tmp_path / "a")


@given(changes=st.lists(st.tuples(st.integers(0, len(written()) - 1), st.integers(0, 255))))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_is_ever_more_than_a_formaterror(tmp_path, changes):
    data = bytearray(written())
    for place, value in changes:
        data[place] = value
    (tmp_path / "a").write_bytes(data)
    with suppress(FormatError):
        load(tmp_path / "a")
