"""Sources that give one record at a time, read in worker threads."""

from __future__ import annotations

import ctypes
import re
import threading

import numpy as np
import pytest
from harness import our_threads

from gpuio.devices import base
from gpuio.devices.cpu import CpuDevice
from gpuio.devices.ring import Ring
from gpuio.errors import FormatError, LabelError, PipelineClosedError, ReadError
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Selection
from gpuio.sources.base import EncodedImage, RecordSource


class Numbers(RecordSource):
    """Record n has n bytes, the id 100 + n, and n % 3 labels."""

    def __len__(self):
        return 8

    def read(self, record):
        if record == 6:
            raise OSError(5, "Input/output error", "six")
        if record == 7:
            raise ValueError("seven is damaged")
        labels = np.arange(record % 3, dtype=np.float32)
        return EncodedImage(bytes([record]) * record, labels, 100 + record)

    def where(self, record):
        return f"numbers: {record}"

    def fingerprint(self):
        return 0


def read(source, ids, **options):
    reader = RecordReader(source, **options)
    ring = Ring(CpuDevice(1).empty_host, 1, reader.source.batch_nbytes(len(ids)))
    (batch,) = reader([Selection(np.array(ids), 0)], ring)
    pairs = zip(batch.address.tolist(), batch.nbytes.tolist(), strict=True)
    return [ctypes.string_at(address, nbytes) for address, nbytes in pairs], batch.samples


def test_records_come_in_the_order_asked_for():
    images, samples = read(Numbers(), [4, 1, 4], label_width=1)
    assert images == [b"\4" * 4, b"\1", b"\4" * 4]
    assert samples.keys.tolist() == [104, 101, 104]
    assert samples.labels.tolist() == [[0], [0], [0]]
    assert not our_threads()


def test_a_record_that_cannot_be_read_is_a_fault_with_its_place():
    images, samples = read(Numbers(), [6, 5, 7], label_width=2)
    assert images == [b"", b"\5" * 5, b""]
    assert {place: type(fault) for place, fault in samples.faults.items()} == {
        0: ReadError,
        2: FormatError,
    }
    assert str(samples.faults[0]) == "numbers: 6: [Errno 5] Input/output error"
    assert str(samples.faults[2]) == "numbers: 7: seven is damaged"


def test_another_number_of_labels_is_a_fault_unless_fewer_are_allowed():
    _, samples = read(Numbers(), [1, 2, 3], label_width=2)
    assert str(samples.faults[0]) == "numbers: 1, key 101: it has 1 labels, not label_width=2"
    assert sorted(samples.faults) == [0, 2]
    assert isinstance(samples.faults[2], LabelError)
    _, samples = read(Numbers(), [1, 2, 3], label_width=2, ragged=lambda labels, widths: {})
    assert not samples.faults
    assert samples.labels.tolist() == [[0, 0], [0, 1], [0, 0]]
    assert samples.widths.tolist() == [1, 2, 0]


def test_labels_of_all_records_are_counted():
    class Whole(Numbers):
        def __len__(self):
            return 6

    assert Whole().label_counts().tolist() == [0, 1, 2, 0, 1, 2]


def test_a_record_without_memory_is_a_fault_of_its_own(monkeypatch):
    def scarce(nbytes):
        if nbytes > 8:
            raise MemoryError
        return np.empty(nbytes, np.uint8)

    monkeypatch.setattr(base, "LARGE", 4)
    reader = RecordReader(Numbers(), label_width=1)
    (batch,) = reader([Selection(np.array([5, 1, 4]), 0)], Ring(scarce, 1))
    assert batch.nbytes.tolist() == [0, 1, 4]
    assert "numbers: 5: [Errno 12] Cannot allocate memory" in str(batch.samples.faults[0])


def test_closing_ends_the_wait_for_records_that_were_not_begun():
    begun, release = threading.Event(), threading.Event()

    class Slow(Numbers):
        def read(self, record):
            begun.set()
            release.wait(60)
            return super().read(record)

    reader = RecordReader(Slow(), label_width=1)
    batches = reader([Selection(np.tile([1, 4], 30), 0)], Ring(CpuDevice(1).empty_host, 1))
    told = []

    def consume():
        try:
            next(batches)
        except PipelineClosedError as error:
            told.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    begun.wait(60)
    reader.close()
    release.set()
    consumer.join(60)
    assert len(told) == 1
    assert not our_threads()


def test_the_garbage_collector_may_interrupt_a_reader_that_is_starting_a_thread(monkeypatch):
    reader = Numbers().reader(1)
    start = threading.Thread.start

    def collected(thread):
        start(thread)
        reader.interrupt()  # as the finalizer of a dropped iterator does, in any thread

    monkeypatch.setattr(threading.Thread, "start", collected)
    with pytest.raises(PipelineClosedError, match="no more reads"):
        reader.begin(np.arange(4), Ring(CpuDevice(1).empty_host, 1).acquire())()
    reader.close()
    assert not our_threads()


def test_encoded_images_take_any_buffer_and_any_numbers():
    strided = np.repeat(np.arange(4, dtype=np.uint16), 2)[::2]
    image = EncodedImage(strided, [1, 2], np.uint64(2**64 - 1))
    assert image.image == bytes([0, 0, 1, 0, 2, 0, 3, 0])
    assert image.labels.dtype == np.float32
    assert image.labels.tolist() == [1, 2]
    assert image.id == 2**64 - 1


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (("text", [0.0], 0), "image must be bytes, got str"),
        ((None, [0.0], 0), "image must be bytes, got NoneType"),
        ((b"", 3.0, 0), r"labels must be float32 of shape \(L,\), got float64 of shape \(\)"),
        ((b"", [[0.0, 1.0]], 0), r"got float64 of shape \(1, 2\)"),
        ((b"", None, 0), "got object of shape"),
        ((b"", ["1"], 0), "got <U1 of shape"),
        ((b"", [0.0], -1), "id must be at least 0, got -1"),
        ((b"", [0.0], 2**64), "id must be at most 18446744073709551615"),
        ((b"", [0.0], 1.5), "id must be an integer, got 1.5"),
    ],
)
def test_a_read_that_returns_no_encoded_image_is_a_fault_of_its_record(values, found):
    class Wrong(Numbers):
        def read(self, record):
            return EncodedImage(*values) if record == 4 else super().read(record)

    images, samples = read(Wrong(), [4, 1])
    assert images == [b"", b"\1"]
    assert [*samples.faults] == [0]
    assert re.search(f"numbers: 4: .*{found}", str(samples.faults[0]))


def test_an_error_in_a_source_names_the_record():
    class Broken(Numbers):
        def read(self, record):
            raise KeyError(record)

    with pytest.raises(KeyError) as caught:
        read(Broken(), [3])
    assert caught.value.__notes__[0] == "raised while this was read: numbers: 3"


def test_a_record_of_another_type_is_an_error_that_names_it():
    class Plain(Numbers):
        def read(self, record):
            return b"image"

    with pytest.raises(TypeError, match="numbers: 3: read as bytes, and not as EncodedImage"):
        read(Plain(), [3])
