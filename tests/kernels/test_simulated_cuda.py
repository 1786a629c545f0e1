"""Threads of a kernel in Python take turns, share memory, and wait as they would on a device."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("numba.cuda")

from numba import types

from gpuio.kernels.simulated_cuda import Place, SimulatedCuda

ONE, BLOCK = Place(1, 1, 1), Place(32, 1, 1)


def results(body, block=BLOCK, grid=ONE, *, backwards=False):
    """What `body(cuda)` returns in each thread, by block and thread."""
    cuda, found = SimulatedCuda(), {}

    def run():
        here = cuda.blockIdx, cuda.threadIdx
        found[here] = body(cuda)

    cuda.run_together(run, grid, block, backwards=backwards)
    return found


def shifted(cuda, *, wait):
    """What the next thread in the block, or the first one behind the last, has written."""
    array = cuda.shared.array(cuda.blockDim.x, types.int32)
    me = cuda.threadIdx.x
    array[me] = me
    if wait:
        cuda.syncthreads()
    return int(array[(me + 1) % cuda.blockDim.x])


@pytest.mark.parametrize("backwards", [False, True])
def test_after_a_barrier_all_have_written(backwards):
    found = results(lambda cuda: shifted(cuda, wait=True), grid=Place(2, 1, 1), backwards=backwards)
    assert len(found) == 64
    assert all(value == (place.x + 1) % 32 for (_, place), value in found.items())


@pytest.mark.parametrize("backwards", [False, True])
def test_without_a_barrier_some_are_read_too_early(backwards):
    found = results(lambda cuda: shifted(cuda, wait=False), backwards=backwards)
    wrong = [place.x for (_, place), value in found.items() if value != (place.x + 1) % 32]
    assert wrong == ([31] if backwards else list(range(31)))


def test_shared_memory_is_forgotten_from_block_to_block():
    def body(cuda):
        array = cuda.shared.array(1, types.int32)
        before = int(array[0])
        array[0] = 7
        return before

    found = results(body, block=ONE, grid=Place(2, 1, 1))
    assert 7 not in found.values()


@pytest.mark.parametrize("backwards", [False, True])
def test_a_shuffle_takes_values_from_threads_behind(backwards):
    def body(cuda):
        first = cuda.shfl_down_sync(np.uint32(0xFFFFFFFF), np.int32(cuda.threadIdx.x), 4)
        return int(cuda.shfl_down_sync(np.uint32(0xFFFFFFFF), np.int32(10 * first), 1))

    found = results(body, block=Place(64, 1, 1), backwards=backwards)
    ahead = [x + 4 if x % 32 < 28 else x for x in range(64)]
    wanted = [10 * ahead[x + 1 if x % 32 < 31 else x] for x in range(64)]
    assert [found[Place(0, 0, 0), Place(x, 0, 0)] for x in range(64)] == wanted


def test_threads_that_have_ended_are_not_waited_for():
    def body(cuda):
        if cuda.threadIdx.x > 3:
            cuda.syncthreads()

    assert len(results(body)) == 32


@pytest.mark.parametrize("lanes", [16, 33])
def test_a_shuffle_without_its_whole_warp_is_an_error(lanes):
    def body(cuda):
        cuda.shfl_down_sync(np.uint32(0xFFFFFFFF), np.int32(0), 1)

    with pytest.raises(RuntimeError, match="wait for each other for ever: in a shuffle"):
        results(body, block=Place(lanes, 1, 1))


def test_waiting_in_different_places_is_an_error():
    def body(cuda):
        if cuda.threadIdx.x == 0:
            cuda.syncthreads()
        else:
            cuda.shfl_down_sync(np.uint32(0xFFFFFFFF), np.int32(0), 1)

    with pytest.raises(RuntimeError, match="a shuffle of its warp, the barrier of its block"):
        results(body)


def test_the_error_of_a_thread_ends_all_of_them():
    before = threading.active_count()

    def body(cuda):
        if cuda.threadIdx.x == 5:
            raise ValueError("five")
        cuda.syncthreads()

    with pytest.raises(ValueError, match="five"):
        results(body)
    assert threading.active_count() == before


def test_a_kernel_must_say_that_its_threads_wait():
    cuda = SimulatedCuda()
    with pytest.raises(AssertionError, match="does not say that its threads wait"):
        cuda.run(cuda.syncthreads, ONE, BLOCK)


def test_threads_are_numbered_as_on_a_device():
    """The first warp of a block of 8 x 8 threads is its first four rows."""

    def body(cuda):
        return int(cuda.shfl_down_sync(np.uint32(0xFFFFFFFF), np.int32(cuda.threadIdx.y), 8))

    found = results(body, block=Place(8, 8, 1))
    rows = [found[Place(0, 0, 0), Place(0, y, 0)] for y in range(8)]
    assert rows == [1, 2, 3, 3, 5, 6, 7, 7]
