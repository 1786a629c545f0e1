"""MXNet's file of arrays, as far as mean images go."""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuio.errors import FormatError
from gpuio.formats.saved_array import load, load_mean, save
from gpuio.storage.write_lock import write_lock

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
    with pytest.raises(FormatError, match=r"a: byte 0 of 44: expected magic 0x112, found 0x47"):
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
    with pytest.raises(FormatError, match=r"expected 0 names or one for each of 2 arrays, found 1"):
        load(tmp_path / "a")


def test_a_sparse_array_is_refused(tmp_path):
    data = bytearray(written())
    data[28] = 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FormatError, match=r"byte 24 of 144: expected a dense array .* storage 1"):
        load(tmp_path / "a")


def declared(*, count=1, ndim=2, sides=(1, 5), dtype=1, rest=bytes(400)) -> bytes:
    """A file whose numbers may be anything, with `rest` behind them."""
    array = struct.pack("<IiI", 0xF993FAC9, 0, ndim) + struct.pack(f"<{len(sides)}q", *sides)
    return struct.pack("<QQQ", 0x112, 0, count) + array + struct.pack("<iii", 1, 0, dtype) + rest


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            declared(count=1 << 40),
            r"byte 16 of 464: expected 1099511627776 arrays, found 440",
        ),
        (declared(count=1 << 63), r"byte 16 of 464: expected \d+ arrays"),
        (declared(sides=(-1, 5)), r"byte 36 of 464: expected sides of at least 0, found \(-1, 5\)"),
        (declared(sides=(-4, -4)), r"byte 36 of 464: expected sides of at least 0"),
        (
            declared(sides=(1 << 32, 1 << 32)),
            r"byte 64 of 464: expected 1475739525896764129\d\d bytes",
        ),
        (declared(sides=(1 << 62, 4)), r"expected 147573952589676412928 bytes of an array"),
        (declared(sides=(51, 1)), r"expected 408 bytes of an array of shape .* found 400"),
        (declared(ndim=1 << 30), r"byte 32 of 464: expected at most 32 sides of an array"),
        (declared(ndim=(1 << 32) - 1), r"expected at most 32 sides of an array"),
        (declared(dtype=-1), r"byte 60 of 464: expected a dtype from 0 to 6, found -1"),
        (declared(dtype=7), r"expected a dtype from 0 to 6, found 7"),
        (declared(sides=(0, 1 << 62)), r"expected sides that NumPy can have, found"),
        (
            declared(rest=bytes(40) + struct.pack("<QQ", 1, 1 << 50)),
            r"byte 120 of 120: expected 1125899906842624 bytes of a name, found 0",
        ),
        (
            declared(rest=bytes(40) + struct.pack("<QQ", 1, 2) + b"\xff\xff"),
            r"byte 120 of 122: expected a name in UTF-8",
        ),
    ],
)
def test_declared_shapes_are_checked_against_the_bytes_of_the_file(tmp_path, data, reason):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FormatError, match=reason):
        load(tmp_path / "a")


def test_sides_whose_product_is_negative_do_not_lead_back(tmp_path):
    # Each array says that it takes 40 bytes less than none: as many as its own head.
    array = declared(sides=(-1, 5), rest=b"")[24:]
    (tmp_path / "a").write_bytes(struct.pack("<QQQ", 0x112, 0, 500) + array + bytes(40 * 1000))
    with pytest.raises(FormatError, match="sides of at least 0"):
        load(tmp_path / "a")


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_a_pipe_or_folder_is_refused_without_waiting(tmp_path, kind):
    path = tmp_path / "a"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(
        FormatError, match="a: a plain file expected, found a folder, pipe or device; not a file of"
    ):
        load(path)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        load(tmp_path / "none")


def test_a_file_that_cannot_be_read_to_its_end_is_named(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    save(tmp_path / "a", {"mean_img": MEAN})
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(OSError, match=r"Input/output error.*/a"):
        load(tmp_path / "a")


def test_all_processes_of_a_training_may_write_it_at_once(tmp_path):
    path = tmp_path / "mean.bin"
    with write_lock(str(path)):
        save(path, {"mean_img": np.ones((3, 2, 2), np.float32)})
    npt.assert_array_equal(load_mean(path, (3, 2, 2)), np.ones((3, 2, 2)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["mean.bin"]


def test_a_mean_image_has_the_shape_of_the_images(tmp_path):
    save(tmp_path / "a", {"mean_img": MEAN.astype(np.float64)})
    mean = load_mean(tmp_path / "a", (3, 2, 2))
    assert mean.dtype == np.float32
    npt.assert_array_equal(mean, MEAN)
    with pytest.raises(FormatError, match=r"a: mean_img must be of shape \(3, 4, 1\), got"):
        load_mean(tmp_path / "a", (3, 4, 1))


def test_a_mean_image_is_not_taken_from_a_file_without_arrays(tmp_path):
    save(tmp_path / "a", {})
    with pytest.raises(FormatError, match="found no array"):
        load_mean(tmp_path / "a", (3, 2, 2))


@given(changes=st.lists(st.tuples(st.integers(0, len(written()) - 1), st.integers(0, 255))))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_is_ever_more_than_a_formaterror(tmp_path, changes):
    data = bytearray(written())
    for place, value in changes:
        data[place] = value
    (tmp_path / "a").write_bytes(data)
    with suppress(FormatError):
        load(tmp_path / "a")
