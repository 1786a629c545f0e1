"""The memory of the CPU's workers has a limit, and an image that finds none is one fault."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.testing as npt
import pytest

from gpuio import ImageRecordIter
from gpuio.devices import base, cpu
from gpuio.devices.base import KernelCall
from gpuio.devices.cpu import CpuDevice
from gpuio.errors import BackendError
from gpuio.kernels.arrays import arguments
from gpuio.kernels.native import load64, store64
from gpuio.kernels.parallel import Task
from gpuio.pipeline.decode import portable
from gpuio.testing import draw, encode, write_rec

LIMIT = 1 << 16


@partial(Task, cached=False)
def touch(args, item, worker, base):
    """Write to the item's memory, at its last bytes, and note its number as twice what is read."""
    given = arguments(args, 2)
    last = base + load64(given[0] + np.uint64(8 * item)) - np.uint64(8)
    store64(last, np.uint64(item))
    store64(given[1] + np.uint64(8 * item), load64(last) * np.uint64(2))


@pytest.fixture
def taken(monkeypatch):
    """A low limit; every piece of memory that is taken for large items, in bytes."""
    monkeypatch.setattr(cpu, "LARGE", LIMIT)
    sizes, launch = [], cpu._Workers.launch

    def noted(workers, program, items, count=None, *, alone=False):
        if alone:
            sizes.append((items.tolist(), count))
        return launch(workers, program, items, count, alone=alone)

    monkeypatch.setattr(cpu._Workers, "launch", noted)
    return sizes


def refuse(monkeypatch, wanted):
    """No memory for `wanted(nbytes, workers, alone)`."""
    launch = cpu._Workers.launch

    def scarce(workers, program, items, count=None, *, alone=False):
        if wanted(program.nbytes[items].max(initial=0), count or workers.count, alone):
            raise MemoryError
        return launch(workers, program, items, count, alone=alone)

    monkeypatch.setattr(cpu._Workers, "launch", scarce)


def run(device, nbytes):
    """Every item once; which ones were starved, and the items that were done."""
    nbytes = np.array(nbytes, np.int64)
    done = np.full(len(nbytes), -1, np.int64)
    running = device.work().start([KernelCall(touch, nbytes, (done.ctypes.data,))], nbytes)
    assert running.join().shape == (1,)
    return running.starved, done


def test_items_beyond_the_limit_are_done_after_the_others_in_memory_of_their_own(taken):
    device = CpuDevice(4)
    sizes = [100, 3 * LIMIT, 200, 5 * LIMIT, LIMIT + 1, 300, 9 * LIMIT]
    starved, done = run(device, sizes)
    assert not starved
    npt.assert_array_equal(done, 2 * np.arange(7))
    assert taken == [([6], 1), ([3], 1), ([1], 1), ([4], 1)], "each alone: no two fit"
    assert all(w.memory.data is None or len(w.memory.data) < LIMIT for w in device._free)


def test_as_many_items_beyond_the_limit_run_at_once_as_fit(taken):
    starved, done = run(CpuDevice(8), [int(1.5 * LIMIT)] * 6 + [10])
    assert not starved
    npt.assert_array_equal(done, 2 * np.arange(7))
    assert taken == [([5, 4, 3, 2, 1, 0], 5)]


def test_memory_of_workers_stays_within_the_limit(taken):
    device = CpuDevice(2)
    run(device, [LIMIT] * 5)
    assert not taken
    capacity = [len(w.memory.data) for w in device._free if w.memory.data is not None]
    assert capacity == [2 * LIMIT + 4096]


def test_fewer_work_at_once_where_there_is_no_memory_for_all(taken, monkeypatch):
    device = CpuDevice(4)
    refuse(monkeypatch, lambda nbytes, workers, alone: workers > 1)
    starved, done = run(device, [100] * 7)
    assert not starved
    npt.assert_array_equal(done, 2 * np.arange(7))
    assert len(device._free) == device.max_in_flight


def test_an_item_that_finds_no_memory_alone_is_starved_and_no_other(taken, monkeypatch):
    device = CpuDevice(2)
    refuse(monkeypatch, lambda nbytes, workers, alone: nbytes >= 5 * LIMIT)
    starved, done = run(device, [10, 5 * LIMIT, 3 * LIMIT, 7 * LIMIT])
    assert starved == {1: 5 * LIMIT, 3: 7 * LIMIT}
    assert done.tolist() == [0, -1, 4, -1]
    assert len(device._free) == device.max_in_flight


@pytest.fixture
def images(tmp_path):
    """A data set in which image 2 is larger than the others."""
    pictures = [draw(40 + n, 60, seed=n) if n != 2 else draw(300, 400, seed=2) for n in range(6)]
    path = tmp_path / "a.rec"
    write_rec(path, [encode(picture) for picture in pictures])
    return path


def epoch(path, **options):
    """The batch of an epoch, and the iterator's faults."""
    options = {"resize": 40, "dtype": "uint8", "device": "cpu", "preprocess_threads": 2} | options
    with ImageRecordIter(path, (3, 32, 32), 6, **options) as loader:
        (batch,) = loader
        return batch.data[0].copy(), loader.faults


@pytest.mark.parametrize("decoder", ["auto", "portable"])
def test_a_large_image_is_the_same_when_it_is_done_alone(images, decoder, monkeypatch):
    wanted, _ = epoch(images, decoder=decoder)
    for module in (cpu, portable):
        monkeypatch.setattr(module, "LARGE", LIMIT)
    got, faults = epoch(images, decoder=decoder)
    npt.assert_array_equal(got, wanted)
    assert not faults.count


def test_images_of_a_batch_that_would_be_too_large_are_decoded_some_at_a_time(images, monkeypatch):
    wanted, _ = epoch(images, decoder="portable")
    monkeypatch.setattr(portable, "_KEPT", 20_000)
    got, faults = epoch(images, decoder="portable")
    npt.assert_array_equal(got, wanted)
    assert not faults.count


def test_an_image_without_memory_is_a_fault_of_its_own(images, monkeypatch):
    wanted, _ = epoch(images)
    monkeypatch.setattr(cpu, "LARGE", LIMIT)
    refuse(monkeypatch, lambda nbytes, workers, alone: alone)
    got, faults = epoch(images, on_error="zero")
    assert faults.count == 1
    assert "a.rec" in str(faults.first[0])
    assert "key 2" in str(faults.first[0])
    assert "400 x 300 pixels" in str(faults.first[0])
    assert not got[2].any()
    others = [0, 1, 3, 4, 5]
    npt.assert_array_equal(got[others], wanted[others])


def test_a_record_without_memory_is_a_fault_of_its_own(images, monkeypatch):
    wanted, _ = epoch(images)
    limit = 100_000
    assert images.stat().st_size > limit, "so that there is not enough for all"
    allocate = CpuDevice.empty_host

    def scarce(self, nbytes):
        if nbytes > limit:
            raise MemoryError
        return allocate(self, nbytes)

    monkeypatch.setattr(CpuDevice, "empty_host", scarce)
    monkeypatch.setattr(base, "LARGE", limit // 2)
    got, faults = epoch(images, on_error="zero")
    assert faults.count == 1
    assert "a.rec: record 2" in str(faults.first[0])
    assert "Cannot allocate memory" in str(faults.first[0])
    assert not got[2].any()
    others = [0, 1, 3, 4, 5]
    npt.assert_array_equal(got[others], wanted[others])


def test_a_batch_without_memory_is_named(images, monkeypatch):
    from gpuio.devices.pool import OutputPool

    def nothing(pool):
        raise MemoryError("Unable to allocate 7 GiB")

    monkeypatch.setattr(OutputPool, "take", nothing)
    with pytest.raises(BackendError, match=r"6 samples with keys 0 to 5: Unable to allocate 7 GiB"):
        epoch(images, on_error="skip")
