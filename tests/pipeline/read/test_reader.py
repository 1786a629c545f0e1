"""Records from the files, in any order and company, and what is said of those that are damaged."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import replace

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuio.devices.cpu import CpuDevice
from gpuio.devices.ring import Ring
from gpuio.errors import CorruptRecordError, LabelError
from gpuio.formats.image_record import pack
from gpuio.formats.recordio import MAGIC, frame
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Selection
from gpuio.sources.recordio import reading, spans
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.testing import write_rec

M = struct.pack("<I", MAGIC)
# Bytes that look like record heads, at all alignments and ends.
TRICKY = [b"", b"a", M, M + M, b"abcd" + M + b"xy", M[1:] + M, b"x" * 1000 + M * 3, b"12345"]

images = st.lists(
    st.lists(st.sampled_from([M, b"abcd", b"x", M[:2], b"\0" * 300]), max_size=6).map(b"".join),
    min_size=1,
    max_size=12,
)


def read(dataset, ids, *, pad=0, device=None, **options):
    """Images as bytes, and samples, of one batch."""
    device = device or CpuDevice(2)
    ring = Ring(device.empty_host, 1)
    reader = RecordReader(dataset, **options)
    (batch,) = reader([Selection(np.array(ids, np.int64), pad)], ring)
    pairs = zip(batch.address.tolist(), batch.nbytes.tolist(), strict=True)
    return [ctypes.string_at(*pair) for pair in pairs], batch.samples


@given(records=images, data=st.data())
@settings(deadline=None)
def test_reads_any_records_in_any_order(tmp_path_factory, records, data):
    path = tmp_path_factory.mktemp("any") / "a.rec"
    write_rec(path, records, ids=range(50, 50 + len(records)))
    ids = data.draw(st.lists(st.integers(0, len(records) - 1), min_size=1, max_size=20))
    got, samples = read(RecordIOSource.open(path), ids)
    assert got == [records[i] for i in ids]
    assert samples.labels[:, 0].tolist() == ids
    assert samples.keys.tolist() == [50 + i for i in ids]
    assert samples.ids.tolist() == ids
    assert not samples.faults


def test_puts_split_records_together_again(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, TRICKY)
    got, samples = read(RecordIOSource.open(path), range(len(TRICKY)))
    assert got == TRICKY
    assert not samples.faults


@pytest.mark.parametrize("count", [1, 3, 300])
def test_labels_that_hold_the_magic_are_read(tmp_path, count):
    path = tmp_path / "a.rec"
    magic = np.frombuffer(M, np.float32)[0]
    labels = [[magic] * count, [1.5] * count]
    write_rec(path, [b"abc", b"defg"], labels=labels)
    got, samples = read(RecordIOSource.open(path), [1, 0], label_width=count)
    assert got == [b"defg", b"abc"]
    npt.assert_array_equal(samples.labels, np.array(labels[::-1], np.float32))


@pytest.mark.parametrize("longest", [4, 100, 1 << 20])
def test_long_reads_are_cut_into_pieces(tmp_path, monkeypatch, longest):
    monkeypatch.setattr(reading, "_LONGEST_SPAN", longest)
    path = tmp_path / "a.rec"
    records = [bytes([n]) * (50 * n) for n in range(12)]
    write_rec(path, records)
    ids = [3, 4, 5, 9, 0, 11, 10]
    assert read(RecordIOSource.open(path), ids)[0] == [records[i] for i in ids]


def test_without_pread_records_are_read_as_well(tmp_path, monkeypatch):
    path = tmp_path / "a.rec"
    write_rec(path, TRICKY)
    monkeypatch.delattr(spans.os, "pread")
    assert read(RecordIOSource.open(path), [5, 2, 3, 0])[0] == [TRICKY[i] for i in (5, 2, 3, 0)]


def test_records_of_several_files_are_numbered_through(tmp_path):
    for part in range(3):
        records = [b"%d-%d" % (part, n) for n in range(part + 2)]
        write_rec(
            tmp_path / f"{part}.rec", records, labels=[10 * part + n for n in range(part + 2)]
        )
    got, samples = read(RecordIOSource.open(tmp_path), [8, 0, 4, 5, 1, 2])
    assert got == [b"2-3", b"0-0", b"1-2", b"2-0", b"0-1", b"1-0"]
    assert samples.labels[:, 0].tolist() == [23, 0, 12, 20, 1, 10]


def test_neighbours_across_files_are_not_read_as_one(tmp_path):
    # Files of the same frames: the second begins at the offset at which the first ends, in bytes.
    size = len(frame(pack((0, 0, 0, 0), b"abcd")))
    for name, images_ in (("a", [b"abcd"]), ("b", [b"----", b"efgh"])):
        write_rec(tmp_path / f"{name}.rec", images_)
    dataset = RecordIOSource.open(tmp_path)
    assert dataset.table.offsets.tolist() == [0, 0, size]
    assert read(dataset, [0, 2])[0] == [b"abcd", b"efgh"]


def unguarded(dataset):
    """`dataset`, which does not mind that its files are written to."""
    return replace(dataset, identities=(None,) * len(dataset.identities))


def damaged(tmp_path, place, change):
    """A .rec of five records, opened, in which `change` then rewrites the record at `place`."""
    path = tmp_path / "a.rec"
    starts = write_rec(path, [b"image %d" % n for n in range(5)], ids=range(20, 25))
    dataset = unguarded(RecordIOSource.open(path, path.with_suffix(".idx")))
    data = bytearray(path.read_bytes())
    change(data, starts[place])
    path.write_bytes(data)
    return dataset, path, starts[place]


def magic(data, at):
    data[at] ^= 1


def flag(data, at):
    data[at + 7] |= 0x60


def too_long(data, at):
    data[at + 4 : at + 8] = struct.pack("<I", 4000)


def too_short(data, at):
    data[at + 4 : at + 8] = struct.pack("<I", 20)


def too_many_labels(data, at):
    data[at + 8 : at + 12] = struct.pack("<I", 1 << 30)


def unfinished(data, at):
    data[at + 7] |= 0x20


DAMAGE = {
    magic: "magic is 0xced7230b, not 0xced7230a",
    flag: "flag is 3, not 0 or 1",
    too_long: "payload of 4000 bytes with its padding, .* found",
    too_short: "image record header of 24 bytes, 20 found",
    too_many_labels: "1073741824 labels in 4294967296 bytes, 7 bytes found",
    unfinished: "part at byte .*: flag is 0, not 2 or 3",
}


@pytest.mark.parametrize("change", DAMAGE, ids=lambda change: change.__name__)
def test_a_damaged_record_is_a_fault_with_its_place_and_reason(tmp_path, change):
    dataset, path, offset = damaged(tmp_path, 2, change)
    got, samples = read(dataset, [4, 2, 0, 2])
    assert got == [b"image 4", b"", b"image 0", b""]
    assert sorted(samples.faults) == [1, 3]
    with pytest.raises(CorruptRecordError, match=DAMAGE[change]) as caught:
        raise samples.faults[1]
    assert caught.value.path == str(path)
    assert caught.value.offset == offset
    assert samples.labels[[0, 2], 0].tolist() == [4, 0]


@pytest.mark.parametrize("cut", [1, 4, 8, 30, 40])
def test_a_file_that_became_shorter_is_a_fault(tmp_path, cut):
    def shorten(data, at):
        del data[-cut:]

    dataset, path, offset = damaged(tmp_path, 4, shorten)
    # What an earlier batch left in the slot would pass for the missing bytes.
    device = CpuDevice(2)
    ring = Ring(device.empty_host, 1)
    whole = tmp_path / "whole.rec"
    write_rec(whole, [b"image %d" % n for n in range(5)], ids=range(20, 25))
    selection = Selection(np.arange(5), 0)
    for source, faults in ((RecordIOSource.open(whole), []), (dataset, [4])):
        (batch,) = RecordReader(source)([selection], ring)
        assert list(batch.samples.faults) == faults
        ring.release(batch.slot)
    fault = batch.samples.faults[4]
    assert isinstance(fault, CorruptRecordError)
    assert (fault.path, fault.offset) == (str(path), offset)


def test_another_number_of_labels_is_a_fault(tmp_path):
    path = tmp_path / "a.rec"
    starts = write_rec(path, [b"a", b"b", b"c"], labels=[[1, 2], 7, [3, 4, 5]], ids=[8, 9, 10])
    got, samples = read(RecordIOSource.open(path), [0, 1, 2], label_width=2)
    assert got == [b"a", b"", b""]
    assert samples.labels[0].tolist() == [1, 2]
    for place, count in ((1, 1), (2, 3)):
        with pytest.raises(
            LabelError,
            match=f"record {place} at byte {starts[place]}, key {8 + place}: "
            f"it has {count} labels, not label_width=2",
        ):
            raise samples.faults[place]


def test_labels_can_come_from_elsewhere_by_id(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [b"a", b"b", b"c"], labels=[[1, 2, 3], 7, 8], ids=[8, 9, 10])

    def relabel(ids):
        return np.stack([ids, -ids], 1).astype(np.float32), np.where(ids == 9, 0, 2)

    got, samples = read(RecordIOSource.open(path), [2, 1, 0], label_width=2, relabel=relabel)
    assert got == [b"c", b"", b"a"]
    npt.assert_array_equal(samples.labels[[0, 2]], [[10, -10], [8, -8]])
    assert list(samples.faults) == [1]
    with pytest.raises(LabelError, match="path_imglist has no line for its id 9"):
        raise samples.faults[1]


def test_padding_is_passed_on(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [b"a", b"b"])
    assert read(RecordIOSource.open(path), [1, 0], pad=1)[1].pad == 1


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_damage_is_ever_more_than_a_fault(tmp_path, data):
    path = tmp_path / "a.rec"
    starts = write_rec(path, [M * 3 + bytes(9), b"abc", bytes(40)], labels=[1, [2], 3])
    dataset = unguarded(RecordIOSource.open(path))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    got, samples = read(dataset, [0, 1, 2])
    for place, image in enumerate(got):
        assert len(image) <= starts[place + 1] - starts[place]
        assert (place in samples.faults) <= (image == b"")
