"""Slots go round, grow, wait for the device, and wake who waits for them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gpuio.devices.ring import Ring, Slot
from gpuio.errors import PipelineClosedError


def ring(depth=2):
    return Ring(lambda nbytes: np.empty(nbytes, np.uint8), depth)


class Fence:
    def __init__(self):
        self.waited = False

    def synchronize(self):
        self.waited = True


def test_slots_come_in_turn():
    slots = ring(3)
    first, second = slots.acquire(), slots.acquire()
    slots.release(first)
    third = slots.acquire()
    assert len({id(s) for s in (first, second, third)}) == 3
    assert slots.acquire() is first


def test_a_slot_grows_and_keeps_its_memory_while_that_is_needed():
    slot = ring().acquire()
    assert len(slot.reserve(100)) >= 100
    memory = slot.data
    assert slot.reserve(50) is memory
    assert slot.reserve(0) is memory
    assert len(slot.reserve(10_000)) >= 10_000
    assert slot.data is not memory


def test_a_slot_that_grew_for_one_huge_batch_shrinks_again():
    slot = ring().acquire()
    slot.reserve(1_000_000)
    sizes = [len(slot.reserve(1000 + k)) for k in range(64)]
    assert sizes[0] >= 1_000_000
    assert 1063 <= sizes[-1] <= 2000
    assert len(set(sizes)) == 2, "its memory was replaced once"


def test_a_slot_does_not_shrink_while_some_batches_need_it():
    slot = ring().acquire()
    memory = slot.reserve(1_000_000)
    for k in range(200):
        assert slot.reserve(1_000_000 if k % 20 == 0 else 10) is memory


def test_a_slot_may_have_a_limit_beyond_which_it_grows_no_more_than_it_must():
    slot = Slot(lambda nbytes: np.empty(nbytes, np.uint8), most=1000)
    assert len(slot.reserve(900)) == 1000
    assert len(slot.reserve(1500)) == 1500


def test_an_empty_batch_has_memory_too():
    assert len(ring().acquire().reserve(0)) == 0


def test_acquire_waits_for_the_last_use():
    slots, fence = ring(1), Fence()
    slots.release(slots.acquire(), after=fence)
    assert not fence.waited
    slots.acquire()
    assert fence.waited


def test_acquire_waits_for_a_free_slot():
    slots, got = ring(1), []
    slot = slots.acquire()
    thread = threading.Thread(target=lambda: got.append(slots.acquire()))
    thread.start()
    slots.release(slot)
    thread.join(30)
    assert got == [slot]


def test_close_wakes_all_who_wait():
    slots, woken = ring(1), []
    slots.acquire()

    def wait():
        with pytest.raises(PipelineClosedError, match="pipeline was closed"):
            slots.acquire()
        woken.append(True)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    slots.close()
    for thread in threads:
        thread.join(30)
    assert woken == [True] * 3


def test_reset_takes_all_slots_back_with_their_memory():
    slots = ring(2)
    lent = [slots.acquire(), slots.acquire()]
    memory = [slot.reserve(10) for slot in lent]
    slots.close()
    slots.reset()
    again = [slots.acquire(), slots.acquire()]
    assert again == lent
    assert all(a.data is b for a, b in zip(again, memory, strict=True))
