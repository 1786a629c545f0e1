"""Records whose length the index does not tell, or tells wrongly."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest

from gpuio.devices.cpu import CpuDevice
from gpuio.devices.ring import Ring
from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats.recordio import MAGIC
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Selection
from gpuio.sources.recordio import spans
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.testing import write_rec

M = struct.pack("<I", MAGIC)
COUNT = 40
IMAGES = [bytes([n]) * (3000 + n) for n in range(COUNT)]
IMAGES[7] = b"abcd" + M + b"x" * 4000 + M + M  # split into four parts


@pytest.fixture
def rec(tmp_path):
    """A .rec of 40 records, and where these start and the file ends."""
    path = tmp_path / "a.rec"
    return path, write_rec(path, IMAGES)


@pytest.fixture
def asked(monkeypatch):
    """How many bytes each read asks for."""
    nbytes = []
    read = spans._read
    monkeypatch.setattr(spans, "_read", lambda t: nbytes.extend(t["nbytes"].tolist()) or read(t))
    return nbytes


def read(dataset, ids, label_width=1):
    """Images as bytes, and samples, of one batch; and the bytes that its slot holds."""
    device = CpuDevice(2)
    ring = Ring(device.empty_host, 1)
    reader = RecordReader(dataset, label_width=label_width)
    (batch,) = reader([Selection(np.array(ids, np.int64), 0)], ring)
    pairs = zip(batch.address.tolist(), batch.nbytes.tolist(), strict=True)
    return [ctypes.string_at(*pair) for pair in pairs], batch.samples, len(batch.slot.data)


def select(path, lines):
    """The .idx of some lines of that of a .rec."""
    all_lines = path.with_suffix(".idx").read_text().splitlines(keepends=True)
    some = path.parent / "some.idx"
    some.write_text("".join(all_lines[n] for n in lines))
    return some


@pytest.mark.filterwarnings("ignore:.*names no record in")
@pytest.mark.parametrize("named", [[0, 39], [7, 20], [*range(0, 40, 10)], [*range(5, 40, 2)]])
def test_only_what_an_index_names_is_read(rec, asked, named):
    path, starts = rec
    dataset = RecordIOSource.open(path, select(path, named))
    images, samples, held = read(dataset, range(len(named)))
    assert images == [IMAGES[n] for n in named]
    assert samples.keys.tolist() == named
    assert not samples.faults
    frames = sum(starts[n + 1] - starts[n] for n in named)
    assert sum(asked) <= frames + 8 * (len(named) + 4)  # and their heads
    assert held <= 1.25 * frames
    assert dataset.batch_nbytes(len(named)) < 2 * frames


def test_bytes_between_two_records_are_neither_read_nor_held(tmp_path, asked):
    path = tmp_path / "a.rec"
    starts = write_rec(path, [b"first", b"last"])
    frames = path.read_bytes()
    with path.open("wb") as file:
        file.write(frames[: starts[1]])
        file.seek(20 << 30)
        file.write(frames[starts[1] :])
    path.with_suffix(".idx").write_text(f"0\t0\n1\t{20 << 30}\n")
    dataset = RecordIOSource.open(path)
    images, _, held = read(dataset, [1, 0])
    assert images == [b"last", b"first"]
    assert sum(asked) < 1000
    assert held < 1000
    assert dataset.batch_nbytes(256) <= 256 << 20


def test_of_an_index_of_all_records_no_head_is_read_first(rec, asked):
    dataset = RecordIOSource.open(rec[0])
    assert read(dataset, [3, 4, 9])[0] == [IMAGES[n] for n in (3, 4, 9)]
    assert len(asked) == 2
    assert sum(asked) == rec[1][5] - rec[1][3] + rec[1][10] - rec[1][9]


@pytest.mark.parametrize("record", [6, 7, 8])  # one of them is split
@pytest.mark.parametrize("inside", [4, 400, 2996])
def test_a_wrong_line_loses_no_record_but_its_own(rec, record, inside):
    path, starts = rec
    idx, place = path.with_suffix(".idx"), starts[record] + inside
    idx.write_text(f"99\t{place}\n{idx.read_text()}")
    dataset = RecordIOSource.open(path, idx)
    images, samples, _ = read(dataset, range(COUNT + 1))
    wrong = record + 1
    assert images == [*IMAGES[:wrong], b"", *IMAGES[wrong:]]
    assert samples.labels[:wrong, 0].tolist() == [*range(wrong)]
    assert list(samples.faults) == [wrong]
    with pytest.raises(
        CorruptRecordError,
        match=rf"byte {place}: key 99: no record begins at byte {place} \(line 1 of .*a\.idx\); "
        rf"it is inside the record at byte {starts[record]}",
    ):
        raise samples.faults[wrong]


def test_many_wrong_lines_lose_only_themselves(rec):
    path, starts = rec
    idx = path.with_suffix(".idx")
    wrong = [(100 + n, starts[3] + 4 * n) for n in range(1, 300)]
    idx.write_text(idx.read_text() + "".join(f"{key}\t{place}\n" for key, place in wrong))
    dataset = RecordIOSource.open(path, idx)
    ids = np.flatnonzero(dataset.keys < 100)
    images, samples, _ = read(dataset, ids)
    assert images == IMAGES
    assert not samples.faults


def test_a_record_that_is_too_long_is_damaged_where_the_next_one_begins_inside(rec):
    path, starts = rec
    data = bytearray(path.read_bytes())
    data[starts[4] + 4 : starts[4] + 8] = struct.pack("<I", starts[5] - starts[4] + 40)
    path.write_bytes(data)
    images, samples, _ = read(RecordIOSource.open(path), [3, 4, 5])
    assert images == [IMAGES[3], b"", IMAGES[5]]
    end = starts[5] + 48
    with pytest.raises(
        CorruptRecordError,
        match=f"its length leads to byte {end}, past the record at byte {starts[5]}",
    ):
        raise samples.faults[1]


def test_many_lines_may_name_one_record(rec):
    path, starts = rec
    lines = [(n, starts[5 if n < 100_000 else 9]) for n in range(200_000)]
    idx = path.parent / "some.idx"
    idx.write_text("".join(f"{key}\t{place}\n" for key, place in lines) + f"1\t{starts[39]}\n")
    with pytest.warns(UserWarning, match="names no record in the first"):
        dataset = RecordIOSource.open(path, idx)
    distances = dataset.nbytes(np.arange(len(dataset)))
    assert set(distances[:100_000].tolist()) == {starts[9] - starts[5]}
    assert set(distances[100_000:200_000].tolist()) == {starts[39] - starts[9]}
    assert distances[200_000] == starts[40] - starts[39]
    assert read(dataset, [0, 150_000, 200_000])[0] == [IMAGES[5], IMAGES[9], IMAGES[39]]


def test_damage_between_two_records_is_not_read_with_the_first(tmp_path, asked):
    path = tmp_path / "a.rec"
    starts = write_rec(path, [b"first", b"second"])
    frames = path.read_bytes()
    with path.open("wb") as file:
        file.write(frames[: starts[1]])
        file.seek(64 << 20)
        file.write(frames[starts[1] :])
    path.with_suffix(".idx").unlink()
    with pytest.warns(UserWarning, match=f"record at byte {starts[1]}: magic is 0x00000000"):
        dataset = RecordIOSource.open(path, on_error="skip")
    assert read(dataset, [0, 1])[0] == [b"first", b"second"]
    assert sum(asked) < 1000


def change_in_place(path):
    data = path.read_bytes()
    path.write_bytes(bytes(len(data)))


def shorten(path):
    path.write_bytes(path.read_bytes()[:-4])


def replace(path):
    write_rec(path.parent / "b.rec", [b"other"] * COUNT)
    (path.parent / "b.rec").replace(path)


@pytest.mark.parametrize("change", [change_in_place, shorten, replace])
def test_a_file_that_changes_between_epochs_is_named(rec, change):
    path, _ = rec
    dataset = RecordIOSource.open(path)
    read(dataset, [0])
    change(path)
    with pytest.raises(FormatError, match=r"a\.rec was (replaced|written to) since"):
        read(dataset, [0])


@pytest.mark.parametrize("change", [change_in_place, shorten])
def test_a_file_that_changes_under_the_reader_is_named(rec, change):
    path, _ = rec
    device = CpuDevice(1)
    ring = Ring(device.empty_host, 2)
    reader = RecordReader(RecordIOSource.open(path))
    batches = reader([Selection(np.array([n]), 0) for n in range(2)], ring)
    next(batches)
    change(path)
    with pytest.raises(FormatError, match=r"a\.rec was written to since"):
        next(batches)
