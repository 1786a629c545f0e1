"""Indexes that do not say all of their .rec, and files that are not whole."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from gpuio.errors import CorruptRecordError, FormatError
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.testing import write_rec

COUNT = 20


@pytest.fixture
def rec(tmp_path):
    """A .rec of 20 records, their keys from 100, and where these start and the file ends."""
    path = tmp_path / "a.rec"
    images = [b"image %d" % n * (n + 1) for n in range(COUNT)]
    return path, write_rec(path, images, ids=range(100, 100 + COUNT))


def numbers(dataset):
    """The labels of all records, which are their numbers."""
    payloads = [dataset.payload(n) for n in range(len(dataset))]
    return [int(np.frombuffer(payload, np.float32, 1, 4)[0]) for payload in payloads]


def lines(path):
    return path.with_suffix(".idx").read_text().splitlines(keepends=True)


def set_lines(path, some):
    path.with_suffix(".idx").write_text("".join(some))


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("quiet")
def test_an_index_of_all_records_is_used_without_a_word(rec):
    dataset = RecordIOSource.open(rec[0])
    assert dataset.keys.tolist() == [*range(100, 100 + COUNT)]
    assert dataset.losses.count == 0


def test_records_behind_the_index_are_found(rec, tmp_path):
    path, _ = rec
    write_rec(tmp_path / "b.rec", [b"x"] * 3, labels=[20, 21, 22])
    more = (tmp_path / "b.rec").read_bytes()
    with path.open("ab") as file:
        file.write(more)
    reason = (
        rf"a\.idx is not used: it does not name 3 of 23 records of .*a\.rec, in the last "
        rf"{len(more)} bytes.*`gpuio rec2idx {re.escape(str(path))} .*a\.idx`"
    )
    with pytest.warns(UserWarning, match=reason):
        dataset = RecordIOSource.open(path)
    assert numbers(dataset) == [*range(23)]
    assert dataset.keys is None
    with pytest.warns(UserWarning, match=rf"names no record in the last {len(more)} bytes of"):
        dataset = RecordIOSource.open(path, path.with_suffix(".idx"))
    assert numbers(dataset) == [*range(COUNT)]
    assert dataset.keys.tolist() == [*range(100, 100 + COUNT)]


@pytest.mark.parametrize("kept", [slice(2, None), slice(0, None, 2), slice(0, 0)])
def test_an_index_that_leaves_records_out_is_used_if_it_was_asked_for(rec, kept):
    path, _ = rec
    some = lines(path)[kept]
    set_lines(path, some)
    with pytest.warns(UserWarning, match=r"a\.idx is not used: it does not name"):
        assert numbers(RecordIOSource.open(path)) == [*range(COUNT)]
    if not some:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert numbers(RecordIOSource.open(path, path.with_suffix(".idx"))) == [*range(COUNT)][kept]


def test_only_the_file_whose_index_is_old_is_gone_through(rec, tmp_path):
    path, _ = rec
    write_rec(tmp_path / "b.rec", [b"x"] * 3, labels=[20, 21, 22])
    set_lines(path, lines(path)[:-1])
    with pytest.warns(UserWarning, match=r"a\.idx is not used") as told:
        dataset = RecordIOSource.open([path, tmp_path / "b.rec"])
    assert len(told) == 1
    assert numbers(dataset) == [*range(23)]
    assert dataset.table.first.tolist() == [0, 20, 23]


@pytest.mark.parametrize("tail", [bytes(40), b"x", b"\n\x23\xd7\xce\xff\0\0\0abcd"])
def test_a_tail_without_a_record_is_reported_and_the_index_used(rec, tail):
    path, _ = rec
    with path.open("ab") as file:
        file.write(tail)
    with pytest.warns(
        UserWarning, match=f"the last {len(tail)} bytes of .*: no whole record is there"
    ):
        dataset = RecordIOSource.open(path)
    assert dataset.keys.tolist() == [*range(100, 100 + COUNT)]
    assert numbers(dataset) == [*range(COUNT)]


def cut(path, nbytes):
    data = path.read_bytes()[:nbytes]
    path.write_bytes(data)


@pytest.mark.parametrize("inside", [0, 3, 7, 8, 20])
@pytest.mark.parametrize("asked", [False, True])
def test_a_file_that_was_cut_off_is_reported_as_shorter(rec, inside, asked):
    path, starts = rec
    cut(path, starts[14] + inside)
    idx = path.with_suffix(".idx")
    reason = (
        rf"a\.rec is shorter than its index: 14 of 20 records are whole \(.*\(line 15 of .*"
        rf"on_error='skip'.*`gpuio rec2idx {re.escape(str(path))} {re.escape(str(idx))}`"
    )
    with pytest.raises(FormatError, match=reason):
        RecordIOSource.open(path, idx if asked else "")


@pytest.mark.parametrize("inside", [0, 3, 7, 8, 20])
@pytest.mark.parametrize("index", ["asked", "beside", "none"])
def test_of_a_file_that_was_cut_off_the_rest_is_read_by_on_error(rec, inside, index):
    path, starts = rec
    cut(path, starts[14] + inside)
    idx = path.with_suffix(".idx")
    if index == "none":
        idx.unlink()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        dataset = RecordIOSource.open(path, idx if index == "asked" else "", on_error="skip")
    assert numbers(dataset) == [*range(14)]
    lost = COUNT - 14 if index != "none" else int(inside > 0)
    assert dataset.losses.count == lost
    assert len(told) == (lost > 0)
    if index == "none" and inside:
        with pytest.raises(CorruptRecordError, match=f"record at byte {starts[14]}"):
            RecordIOSource.open(path)


@pytest.mark.parametrize("offset", [-4, 2, 10**12, 2**63 - 1])
def test_a_line_that_can_be_no_record_is_named(rec, offset):
    path, starts = rec
    some = lines(path)
    set_lines(path, [*some[:3], f"7\t{offset}\n", *some[3:]])
    reason = rf"no record can be at byte {offset} of a file of {starts[-1]} bytes \(line 4 of "
    with pytest.raises(FormatError, match=reason):
        RecordIOSource.open(path, path.with_suffix(".idx"))
    with pytest.warns(UserWarning, match=reason):
        dataset = RecordIOSource.open(path, path.with_suffix(".idx"), on_error="zero")
    assert numbers(dataset) == [*range(COUNT)]
    assert dataset.losses.count == 1
    assert "line 4 of" in str(dataset.losses.faults[0])


def test_a_number_that_is_none_is_named(rec):
    path, _ = rec
    set_lines(path, [*lines(path), f"7\t{10**30}\n"])
    with pytest.raises(FormatError, match=r"a\.idx: line 21: two integers"):
        RecordIOSource.open(path, on_error="skip")


def test_the_old_index_of_a_file_that_was_packed_anew_is_not_used_by_on_error(rec, tmp_path):
    path, _ = rec
    write_rec(tmp_path / "b.rec", [b"y" * 1000] * COUNT)
    (tmp_path / "b.rec").replace(path)
    with pytest.raises(FormatError, match=r"a\.idx is not the index of .*a\.rec"):
        RecordIOSource.open(path)
    with pytest.warns(UserWarning, match="it is not used, and all of"):
        assert numbers(RecordIOSource.open(path, on_error="skip")) == [*range(COUNT)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_file_without_a_whole_record_is_an_error_with_any_policy(tmp_path, on_error):
    (tmp_path / "a.rec").write_bytes(b"PK" + bytes(98))
    with pytest.raises(FormatError, match=r"a\.rec: .*magic is 0x00004b50"):
        RecordIOSource.open(tmp_path / "a.rec", on_error=on_error)


def test_paths_hold_in_another_folder(rec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("a.rec", ["a.rec"], "*.rec", "./a.rec;a.rec"):
        dataset = RecordIOSource.open(given, "a.idx" if given == "a.rec" else "")
        monkeypatch.chdir("/")
        assert numbers(dataset)[:20] == [*range(COUNT)]
        assert set(dataset.table.paths) == {str(rec[0])}
        monkeypatch.chdir(tmp_path)
