"""Host steps run in lanes, two batches at once, and kernels come after them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from harness import open_device, our_threads

from gpuio.devices.base import KernelCall
from gpuio.devices.simulated import OrderError, SimulatedDriver
from gpuio.errors import BackendError, ProgramError
from gpuio.kernels.resample import resample

pytest.importorskip("numba.cuda")

SIZES = np.array([300, 40], np.int64)
WAIT = 60  # seconds, after which a test fails that would wait for ever


@pytest.fixture
def device():
    device = open_device("simulated")
    with device.scope():
        yield device
    device.rest()
    assert not our_threads()


def start(device, step, *calls):
    table = np.zeros(len(SIZES), np.uint8)
    return device.work().start([KernelCall(step, table), *calls], SIZES)


def arenas(device):
    return [each.arena.data for each in device._buffers if each.arena.data is not None]


def read_arenas(device):
    """Copy a byte of each arena on the device's own stream, as its kernels would read it."""
    driver, to = device._driver, device.empty((1,), np.uint8)
    for arena in arenas(device):
        driver.copy(driver.address(to), driver.address(arena), 1, device._stream)


def nothing(table, bases, lane):
    pass


def test_the_steps_of_two_batches_run_at_once(device):
    both = threading.Barrier(2)
    numbers = []

    def meet(table, bases, lane):
        numbers.append(lane.number)
        both.wait(WAIT)

    first, second = start(device, meet), start(device, meet)
    second.join()
    first.join()
    assert sorted(numbers) == [0, 1]


def test_tables_are_made_while_the_step_runs(device, monkeypatch):
    go, seen = threading.Event(), []

    def wait(table, bases, lane):
        assert go.wait(WAIT)

    def make(self, call):
        seen.append(call.kernel)
        return []

    monkeypatch.setattr("gpuio.devices.gpu.Launches.of", make)
    running = start(device, wait, KernelCall(resample, np.zeros(len(SIZES), np.uint8), (3,)))
    assert seen == [resample]
    go.set()
    running.join()


def test_kernels_wait_for_the_work_of_the_step(device):
    start(device, nothing).join()
    read_arenas(device)


def test_kernels_that_would_not_wait_are_an_error(device, monkeypatch):
    running = start(device, nothing)
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedDriver, "wait", lambda self, stream, event: None)
        running.join()
    with pytest.raises(OrderError, match=r"stream \d+ reads device memory that stream \d+ has yet"):
        read_arenas(device)


def test_a_lane_knows_only_what_was_handed_over(device, monkeypatch):
    """Its thread is another one: what the starting thread waited for, it must have been told."""
    for _ in range(3):
        start(device, nothing).join()
        read_arenas(device)
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedDriver, "hand_over", lambda self: {})
        running = start(device, nothing)
        with pytest.raises(OrderError, match="the host writes device memory"):
            running.join()


def test_an_error_of_a_step_comes_with_join_and_the_next_batch_works(device):
    error = ValueError("in the step")

    def fail(table, bases, lane):
        raise error

    running = start(device, fail)
    with pytest.raises(ValueError, match="in the step") as caught:
        running.join()
    assert caught.value is error
    for _ in range(4):
        start(device, nothing).join()
    assert len(device._lanes._free) == 2
    assert not any(buffers.at_work for buffers in device._buffers)


def test_a_program_that_fails_after_its_step_began_leaves_nothing_at_work(device, monkeypatch):
    began = threading.Event()

    def begin(table, bases, lane):
        began.set()

    def fail(self, call):
        assert began.wait(WAIT)
        raise ProgramError("no such kernel")

    monkeypatch.setattr("gpuio.devices.gpu.Launches.of", fail)
    call = KernelCall(resample, np.zeros(len(SIZES), np.uint8), (3,))
    with pytest.raises(ProgramError, match="no such kernel"):
        start(device, begin, call)
    assert len(device._lanes._free) == 2
    assert not any(buffers.at_work for buffers in device._buffers)


def test_programs_without_steps_use_no_lane_and_no_memory_that_is_at_work(device):
    go, used = threading.Event(), []

    def wait(table, bases, lane):
        used.append(int(bases[0]))
        assert go.wait(WAIT)

    running = start(device, wait)
    for _ in range(5):  # as when a decoder retries images of the batch before
        device.work().start([], SIZES).join()
    busy = [buffers for buffers in device._buffers if buffers.at_work]
    go.set()
    running.join()
    assert [device.address(buffers.arena.data) for buffers in busy] == used
    assert not any(buffers.at_work for buffers in device._buffers)


def test_threads_end_when_the_device_rests_and_start_again(device):
    start(device, nothing).join()
    assert our_threads()
    device.rest()
    assert not our_threads()
    start(device, nothing).join()
    assert our_threads()


def test_threads_of_a_forgotten_device_end(device):
    other = open_device("simulated")
    start(other, nothing).join()
    threads = [t for t in threading.enumerate() if t.name in our_threads()]
    del other
    for thread in threads:
        thread.join(WAIT)
    assert not our_threads()


def test_calls_run_together_though_there_were_fewer_before(device):
    def meet(count):
        both = threading.Barrier(count)

        def together(table, bases, lane):
            lane.together([lambda branch: both.wait(WAIT)] * count)

        return together

    for count in 2, 3, 2:
        start(device, meet(count)).join()


def test_the_lane_comes_after_the_work_of_calls_that_fail(device):
    """The simulated device fails where memory is used before that work is done."""
    source = device.empty_host(64)

    def fail(table, bases, lane):
        def copy(branch):
            branch.copy(int(bases[0]), source.ctypes.data, 64)
            raise ValueError("after the copy")

        lane.together([copy, lambda branch: None])

    with pytest.raises(ValueError, match="after the copy"):
        start(device, fail).join()
    read_arenas(device)


def test_a_lane_without_a_thread_is_an_error_and_works_later(device, fail_start):
    fail_start(1)
    with pytest.raises(BackendError, match="gpuio-lane"):
        start(device, nothing)
    assert not any(buffers.at_work for buffers in device._buffers)
    start(device, nothing).join()
