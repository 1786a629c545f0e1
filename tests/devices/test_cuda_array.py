"""Arrays that a GPU exports; what needs no GPU is tested over memory of the host."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from gpuio.devices.pool import Lease

cupy = pytest.importorskip("cupy")
from gpuio.devices.cuda_array import OrderedArray  # noqa: E402


class Ready:
    """An event that notes the streams that wait for it."""

    def __init__(self):
        self.waits = []

    def wait(self, stream):
        self.waits.append(stream)


class Stream:
    def __init__(self, ptr):
        self.ptr = ptr


class Owner:
    pass


@pytest.fixture
def made():
    """An array over host memory, its lease, and a weak reference to the owner of the memory."""
    memory, owner = np.arange(24, dtype=np.float32), Owner()
    owner.memory = memory
    unowned = cupy.cuda.UnownedMemory(memory.ctypes.data, memory.nbytes, owner, 0)
    plain = cupy.ndarray((2, 3, 4), np.float32, cupy.cuda.MemoryPointer(unowned, 0))
    array = plain.view(type=OrderedArray)
    array._ready, array._lease = Ready(), Lease(None)
    return array, weakref.ref(owner)


def test_views_know_when_they_can_be_read(made):
    array, _ = made
    for view in (array[1:], array[0, :, ::2], array.transpose(0, 2, 1), array.reshape(6, 4)):
        assert isinstance(view, OrderedArray)
        assert (view._ready, view._lease) == (array._ready, array._lease)


def test_views_keep_the_memory(made):
    array, owner = made
    view = array[1, 1:]
    del array
    gc.collect()
    assert view.shape == (2, 4)
    assert owner() is not None


def test_a_reader_waits_and_is_noted_once(made):
    array, _ = made
    first, second = Stream(7), Stream(8)
    array.record_stream(first)
    array[1:].record_stream(first)
    array.record_stream(second)
    assert array._ready.waits == [7, 7, 8]
    assert [stream.ptr for stream in array._lease.readers] == [7, 8]


def test_an_array_that_is_no_batch_has_nothing_to_wait_for(made):
    array, _ = made
    array._ready = array._lease = None
    array.record_stream(Stream(7))


def test_a_result_of_a_calculation_does_not_keep_the_batch(made):
    array, _ = made
    memory = np.zeros(24, np.float32)
    own = cupy.cuda.UnownedMemory(memory.ctypes.data, memory.nbytes, memory, 0)
    plain = cupy.ndarray((2, 3, 4), np.float32, cupy.cuda.MemoryPointer(own, 0))
    result = plain.view(type=OrderedArray)
    result.__array_finalize__(array)  # as CuPy does with the result of `array + 1`
    assert result._lease is None
    assert result._ready is None
