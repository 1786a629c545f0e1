"""Output memory is the consumer's for as long as anything refers to it."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from gpuio.devices.cpu import CpuDevice
from gpuio.devices.pool import OutputPool


@pytest.fixture
def pool():
    return OutputPool(CpuDevice(1), (4, 3), np.float32, keep=2)


def place(array):
    return array.__array_interface__["data"][0]


def test_arrays_have_shape_and_dtype(pool):
    array = pool.take()[0]
    assert (array.shape, array.dtype) == ((4, 3), np.float32)
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_memory_comes_back_when_the_last_reference_goes(pool):
    array = pool.take()[0]
    first = place(array)
    del array
    assert place(pool.take()[0]) == first


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[1:3],
        lambda a: a.T,
        lambda a: a[2, 1:],
        lambda a: a.reshape(-1)[::2],
        lambda a: a.view(np.uint8),
        lambda a: a[1:].view(type("Sub", (np.ndarray,), {})),
        memoryview,
        np.from_dlpack,
        lambda a: np.from_dlpack(a[1:])[1:],
        lambda a: np.frombuffer(a, np.uint8),
        lambda a: np.asarray(memoryview(a[1:2])),
        lambda a: np.lib.stride_tricks.as_strided(a, (2, 2)),
        lambda a: (n for n in [a]),
    ],
)
def test_any_view_keeps_the_memory(pool, view):
    array = pool.take()[0]
    taken = place(array)
    held = view(array)
    del array
    gc.collect()
    others = [pool.take()[0] for _ in range(5)]
    assert taken not in map(place, others)
    del held
    gc.collect()
    assert place(pool.take()[0]) == taken


def test_as_many_as_wanted_can_be_kept(pool):
    arrays = [pool.take()[0] for _ in range(20)]
    assert len(set(map(place, arrays))) == 20


def test_only_so_many_free_arrays_are_kept(pool):
    arrays = [pool.take()[0] for _ in range(20)]
    arrays.clear()
    gc.collect()
    assert len(pool._free) == 2


def test_arrays_outlive_the_pool(pool):
    array = pool.take()[0]
    array[:] = 7
    del pool
    gc.collect()
    assert (array == 7).all()


class Fence:
    """An event that notes who waits for it."""

    def __init__(self, log):
        self.log = log

    def wait(self):
        self.log.append("stream")

    def synchronize(self):
        self.log.append("host")


def fenced_pool():
    """A pool whose arrays are read until a fence, and what waits for those."""
    device, log = CpuDevice(1), []
    device.after = lambda readers: Fence(log)
    return OutputPool(device, (2,), np.float32, keep=2), log


def test_memory_is_taken_again_after_its_readers():
    pool, log = fenced_pool()
    pool.take()
    gc.collect()
    assert log == []
    kept, _ = pool.take()
    assert log == ["stream"]
    assert kept.shape == (2,)


def test_memory_beyond_the_limit_is_freed_after_its_readers():
    pool, log = fenced_pool()
    arrays = [pool.take() for _ in range(4)]
    arrays.clear()
    gc.collect()
    assert log == ["host", "host"]


def test_memory_that_outlives_the_pool_is_freed_after_its_readers():
    pool, log = fenced_pool()
    array, lease = pool.take()
    del pool
    gc.collect()
    del array, lease
    gc.collect()
    assert log == ["host"]


def test_free_memory_is_released_with_the_pool_after_its_readers():
    pool, log = fenced_pool()
    arrays = [pool.take(), pool.take()]
    arrays.clear()
    gc.collect()
    del pool
    gc.collect()
    assert log == ["host", "host"]
