"""The executor decodes what was planned, retries what failed, and gives back what it has used."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.devices.cpu import CpuDevice
from gpuio.errors import BackendError, DecodeError
from gpuio.pipeline.decode.base import Decoder, DecoderOptions
from gpuio.pipeline.decode.jobs import Headers
from gpuio.pipeline.decode.portable import PortableDecoder
from gpuio.pipeline.executor import Executor
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import Planner
from gpuio.testing import draw, encode
from gpuio.transforms.crop import Crop

PICTURES = [draw(20, 24, seed=k) for k in range(7)]
IMAGES = [encode(picture) for picture in PICTURES]
PLAN = Plan((Crop((20, 24)),), (3, 20, 24), "uint8", "NHWC")


class Failing(Decoder):
    """Reads headers, and fails to decode every image: `retry` decodes them all."""

    name = "failing"
    released = 0

    def open(self, records):
        size = np.array([[20, 24]] * len(records.nbytes), np.int32)
        return Headers(size, {})

    def release(self, headers):
        self.released += 1


@pytest.fixture
def run(records):
    """A function from encoded images to batches of two; also all it was made with."""

    def made(images, make=PortableDecoder, planned=lambda batches: batches, **options):
        given = records(images, 2)
        decoder = make(DecoderOptions(given.device, 3, given.source))
        executor = Executor(PLAN, decoder, 2, given.device, **options)
        batches = planned(Planner(PLAN, decoder)(given.batches()))
        return executor(batches, given.ring), decoder, given, executor

    return made


def test_batches_come_in_their_order_and_slots_are_given_back(run):
    batches, decoder, given, _ = run(IMAGES)
    found = [batch.data.copy() for batch in batches]
    assert [len(data) for data in found] == [2, 2, 2, 1]
    npt.assert_array_equal(np.concatenate(found), PICTURES)
    assert given.ring._free.qsize() == 4
    decoder.close()


def test_batches_planned_before_a_failure_come_first(run):
    def stop(batches):
        yield next(batches)
        yield next(batches)
        raise OSError("the disk is gone")

    batches, _, given, _ = run(IMAGES, planned=stop)
    for first in (0, 2):
        npt.assert_array_equal(next(batches).data, PICTURES[first : first + 2])
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert given.ring._free.qsize() == 2


def test_an_image_that_failed_in_its_batch_is_decoded_by_itself(run):
    batches, decoder, _, executor = run([*IMAGES[:3], b"nothing"], Failing, on_error="zero")
    first, second = (batch.data.copy() for batch in batches)
    npt.assert_array_equal(np.concatenate([first, second[:1]]), PICTURES[:3])
    assert not second[1].any()
    assert (decoder.fallback_count, executor.faults.count) == (3, 1)
    assert "no known image format" in str(executor.faults.first[0])
    assert decoder.released == 2


def test_the_first_fault_is_raised_where_that_is_wanted(run):
    batches, decoder, given, _ = run([*IMAGES[:2], b"nothing", IMAGES[3]], Failing)
    next(batches)
    with pytest.raises(DecodeError, match="record 2 at byte"):
        next(batches)
    assert decoder.released == 2
    assert given.ring._free.qsize() == 2


def test_a_batch_that_cannot_be_started_is_given_back(run):
    class Broken(Failing):
        def decode(self, jobs):
            raise RuntimeError("the driver is gone")

    batches, decoder, given, _ = run(IMAGES[:2], Broken)
    with pytest.raises(RuntimeError, match="the driver is gone"):
        next(batches)
    assert (decoder.released, given.ring._free.qsize()) == (1, 1)


def test_a_batch_larger_than_the_device_takes_is_refused(records):
    device = CpuDevice(1)
    device.most_items = 9
    options = DecoderOptions(device, 3, records(IMAGES).source)
    with pytest.raises(ValueError, match="batch_size must be at most 9 on cpu, got 10"):
        Executor(PLAN, Failing(options), 10, device)


@pytest.mark.parametrize("places", [[0], [9]])
def test_a_retry_that_puts_no_pixels_is_an_error(run, places):
    class Boasting(PortableDecoder):
        def retry(self, records, jobs):
            return places if jobs.pixels.pop(0, None) is not None else []

    batches, *_ = run(IMAGES[:2], Boasting)
    with pytest.raises(BackendError, match=rf"retried .* places \[{places[0]}\]"):
        next(batches)


def test_no_kernel_is_left_at_work_where_a_release_fails(run):
    class Stuck(Failing):
        def release(self, headers):
            super().release(headers)
            raise RuntimeError("stuck")

    batches, decoder, given, _ = run(IMAGES[:4], Stuck)
    with pytest.raises(RuntimeError, match="stuck"):
        next(batches)
    assert decoder.released == 2
    assert len(given.device._free) == given.device.max_in_flight


def test_a_batch_that_nobody_wants_any_more_fails_silently_and_gives_back_what_it_holds(
    run, monkeypatch
):
    class NoMemory:
        def join(self):
            raise MemoryError("none is left")

    batches, decoder, given, executor = run(IMAGES[:4], Failing)
    assert given.device.max_in_flight == 2
    monkeypatch.setattr(executor, "_start", lambda parts, places: NoMemory())
    with pytest.raises(BackendError, match="batch of 2 samples with keys 0 to 1: none is left"):
        next(batches)
    assert (decoder.released, given.ring._free.qsize()) == (2, 2)
