"""The simulated device fails where memory is used out of bounds or out of order."""

from __future__ import annotations

import gc
import os
import signal
import threading

import numpy as np
import pytest

from gpuio.devices import make_device
from gpuio.devices.pool import Lease
from gpuio.devices.simulated import OrderError, SimulatedDriver, simulated_device
from gpuio.errors import BackendError

pytest.importorskip("numba.cuda")


@pytest.fixture
def driver():
    return SimulatedDriver()


@pytest.fixture
def memory(driver):
    """Pinned memory with 1 to 16 in it, and device memory."""
    pinned, device = driver.empty_host(16), driver.empty((16,), np.uint8)
    pinned[:] = np.arange(1, 17)
    driver.host_writes(pinned.ctypes.data)
    return pinned, device


def copy(driver, to, source, stream):
    driver.copy(driver.address(to), driver.address(source), len(source), stream)


def test_a_stream_comes_after_what_the_host_did(driver, memory):
    pinned, device = memory
    copy(driver, device, pinned, driver.new_stream())
    assert device.tolist() == list(range(1, 17))


def test_the_host_must_wait_before_it_writes_what_a_stream_reads(driver, memory):
    pinned, device = memory
    stream = driver.new_stream()
    copy(driver, device, pinned, stream)
    with pytest.raises(OrderError, match=r"the host writes pinned memory that stream \d+ has yet"):
        driver.host_writes(pinned.ctypes.data)
    driver.synchronize(driver.record(stream))
    driver.host_writes(pinned.ctypes.data)


def test_another_stream_must_wait_before_it_reads(driver, memory):
    pinned, device = memory
    first, second, other = driver.new_stream(), driver.new_stream(), driver.empty((16,), np.uint8)
    copy(driver, device, pinned, first)
    with pytest.raises(OrderError, match=r"stream \d+ reads device memory .* has yet to write"):
        copy(driver, other, device, second)
    driver.wait(second, driver.record(first))
    copy(driver, other, device, second)
    assert other.tolist() == device.tolist()


def test_another_stream_must_wait_before_it_overwrites(driver, memory):
    pinned, device = memory
    reader, writer, other = driver.new_stream(), driver.new_stream(), driver.empty((16,), np.uint8)
    copy(driver, device, pinned, reader)
    wrote = driver.record(reader)
    copy(driver, other, device, reader)
    driver.wait(writer, wrote)
    with pytest.raises(OrderError, match=r"stream \d+ writes device memory .* has yet to read"):
        driver.fill(driver.address(device), 0, 16, writer)
    driver.wait(writer, driver.record(reader))
    driver.fill(driver.address(device), 0, 16, writer)
    assert not device.any()


def test_an_event_knows_only_what_came_before_it(driver, memory):
    pinned, device = memory
    first, second = driver.new_stream(), driver.new_stream()
    early = driver.record(first)
    copy(driver, device, pinned, first)
    driver.wait(second, early)
    with pytest.raises(OrderError):
        driver.fill(driver.address(device), 0, 16, second)


def test_events_hand_on_what_they_know(driver, memory):
    pinned, device = memory
    first, second, third = (driver.new_stream() for _ in range(3))
    copy(driver, device, pinned, first)
    driver.wait(second, driver.record(first))
    driver.wait(third, driver.record(second))
    driver.fill(driver.address(device), 0, 16, third)


@pytest.mark.parametrize(("offset", "nbytes"), [(-1, 1), (16, 1), (13, 4), (-4, 32)])
def test_memory_ends_where_it_ends(driver, memory, offset, nbytes):
    address = driver.address(memory[1]) + offset
    with pytest.raises(BackendError, match="bytes at"):
        driver.fill(address, 0, nbytes, driver.new_stream())


def test_memory_that_is_gone_cannot_be_used(driver):
    address = driver.address(driver.empty((8,), np.uint8))
    gc.collect()
    with pytest.raises(BackendError, match=r"nothing is allocated there|bytes into"):
        driver.fill(address, 0, 8, driver.new_stream())


def test_memory_cannot_be_pageable(driver, memory):
    with pytest.raises(BackendError):
        copy(driver, memory[1], np.zeros(16, np.uint8), driver.new_stream())


def test_exported_arrays_are_in_order_with_the_readers_stream(driver, memory):
    pinned, device = memory
    own, users = driver.new_stream(), driver.new_stream()
    copy(driver, device, pinned, own)
    lease = Lease(device)
    with driver.use_stream(users):
        array = driver.export(device, driver.record(own), lease)
    assert lease.readers == [users]
    assert array[2:4].to_host().tolist() == [3, 4]
    driver.fill(driver.address(device), 0, 1, users)


def test_each_threads_stream_is_its_own(driver):
    stream = driver.new_stream()
    default = driver.current_stream()
    with driver.use_stream(stream):
        assert driver.current_stream() is stream
    assert driver.current_stream() is default


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on POSIX alone")
def test_a_forked_process_has_a_device_of_its_own_whatever_threads_were_doing():
    before, within, over = make_device("simulated", 1), threading.Event(), threading.Event()
    kept = before.empty_host(16)

    def step():
        with simulated_device().step(None):
            within.set()
            over.wait()

    thread = threading.Thread(target=step)
    thread.start()
    within.wait()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)  # instead of a hang
        del kept  # the memory of the parent's device
        made = make_device("simulated", 1)
        os._exit(made.upload(np.arange(3)).tolist() != [0, 1, 2])
    over.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
