"""Reads that fail, are interrupted, come short, or meet a file that is being closed."""

from __future__ import annotations

import ctypes
import errno
import os
import threading

import numpy as np
import pytest

from gpuio.devices.cpu import CpuDevice
from gpuio.devices.ring import Ring
from gpuio.errors import PipelineClosedError, ReadError
from gpuio.formats.recordio import RecordFile, scan
from gpuio.kernels.records import SPAN
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Selection
from gpuio.sources.recordio import spans
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.sources.recordio.spans import LocalFiles
from gpuio.testing import write_rec

IMAGES = [b"image %d" % n * 50 for n in range(8)]
PREAD = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
)
ERRNO = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


@pytest.fixture
def rec(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, IMAGES, ids=range(30, 38))
    return path


@pytest.fixture
def system(monkeypatch):
    """Sets what the next calls of `pread` give: an errno, or so many bytes at most."""
    number, kept = ctypes.c_int(0), []

    def set_answers(*answers):
        left = list(answers)

        def pread(file, address, nbytes, offset):
            answer = left.pop(0) if left else nbytes
            if isinstance(answer, str):
                number.value = getattr(errno, answer)
                return -1
            data = os.pread(file, min(nbytes, answer), offset)
            ctypes.memmove(address, data, len(data))
            return len(data)

        functions = PREAD(pread), ERRNO(lambda _: ctypes.addressof(number))
        kept.append(functions)
        addresses = tuple(ctypes.cast(f, ctypes.c_void_p).value for f in functions)
        monkeypatch.setattr(spans, "_c_functions", lambda: addresses)

    return set_answers


def read(path, ids):
    """Images as bytes, and faults, of one batch."""
    device = CpuDevice(1)
    ring = Ring(device.empty_host, 1)
    reader = RecordReader(RecordIOSource.open(path))
    (batch,) = reader([Selection(np.array(ids, np.int64), 0)], ring)
    pairs = zip(batch.address.tolist(), batch.nbytes.tolist(), strict=True)
    return [ctypes.string_at(*pair) for pair in pairs], batch.samples.faults


@pytest.mark.parametrize("answers", [["EINTR"], ["EINTR"] * 5, [1, "EINTR", 7], [1, 2, 3]])
def test_reads_that_are_interrupted_or_short_are_gone_on_with(rec, system, answers):
    system(*answers)
    images, faults = read(rec, [0, 1, 2, 5])
    assert images == [IMAGES[n] for n in (0, 1, 2, 5)]
    assert not faults


def test_the_reason_of_the_system_is_reported(rec, system):
    system("EIO")
    images, faults = read(rec, [5])
    assert images == [b""]
    reason = rf"a\.rec: record 5 at byte \d+, key 35: \[Errno {errno.EIO}\] Input/output error"
    with pytest.raises(ReadError, match=reason):
        raise faults[0]


def test_records_that_came_before_a_failure_are_there(rec, system):
    size = len((rec).read_bytes()) // len(IMAGES)
    system(2 * size, "EIO")
    images, faults = read(rec, [0, 1, 2, 3])
    assert images[:2] == IMAGES[:2]
    assert sorted(faults) == [2, 3]
    assert all(isinstance(fault, ReadError) for fault in faults.values())


def fail(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_without_pread_the_reason_is_reported_as_well(rec, monkeypatch):
    dataset = RecordIOSource.open(rec)
    monkeypatch.delattr(spans.os, "pread")
    monkeypatch.setattr(spans.os, "preadv", fail)
    files = LocalFiles(dataset.table.paths, [None])
    files.open()
    table = np.zeros(1, SPAN)
    memory = np.zeros(8, np.uint8)
    table["nbytes"], table["dst"] = 8, memory.ctypes.data
    files.begin(table)
    assert table["errno"].tolist() == [errno.EIO]
    files.close()


def test_a_failure_while_a_file_is_gone_through_names_it(rec, monkeypatch):
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match=rf"\[Errno {errno.EIO}\] Input/output error: '{rec}'"):
        scan(rec)
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(OSError, match=rf"\[Errno {errno.EIO}\] Input/output error: '{rec}'"):
        RecordFile(rec).read(0)


def test_a_read_gets_no_other_file_than_its_own(rec, tmp_path, monkeypatch):
    (tmp_path / "other").write_bytes(b"other" * 1000)
    write_rec(rec, [b"first", bytes(20_000)])
    file, pread, others = RecordFile(rec), os.pread, []

    def slow(descriptor, nbytes, offset):
        file.close()  # as another thread does
        others.append((tmp_path / "other").open("rb"))
        assert others[-1].fileno() != descriptor
        return pread(descriptor, nbytes, offset)

    monkeypatch.setattr(os, "pread", slow)
    assert file.read(0)[0][24:] == b"first"
    monkeypatch.undo()
    for operation in (
        lambda: file.read(0),
        lambda: file.size,
        file.bytes.fileno,
        lambda: scan_of(file),
    ):
        with pytest.raises(PipelineClosedError, match=r"a\.rec: this file was closed"):
            operation()
    others[0].close()


def scan_of(file):
    return file.find_head(0)


def test_a_closed_file_gives_its_descriptor_back(rec):
    file = RecordFile(rec)
    number = file.bytes.fileno()
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_closing_waits_for_the_read_under_way(rec, monkeypatch):
    files = LocalFiles([str(rec)], [None])
    files.open()
    table = np.zeros(1, SPAN)
    memory = np.zeros(8, np.uint8)
    table["nbytes"], table["dst"] = 8, memory.ctypes.data
    closing, read_ = threading.Thread(target=files.close), spans._read

    def slow(spans_):
        closing.start()
        closing.join(0.01)
        os.fstat(int(spans_["fd"][0]))
        read_(spans_)

    monkeypatch.setattr(spans, "_read", slow)
    files.begin(table)
    assert table["got"].tolist() == [8]
    assert memory.tobytes() == rec.read_bytes()[:8]
    closing.join()
    with pytest.raises(PipelineClosedError):
        files.begin(table)
