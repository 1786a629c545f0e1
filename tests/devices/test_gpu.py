"""A batch's way over a device: memory for its items, desks that go round, host steps in order."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from harness import open_device

from gpuio.devices.base import DONE, KernelCall
from gpuio.devices.simulated import OrderError, SimulatedDriver

pytest.importorskip("numba.cuda")
pytest.importorskip("gpuio.devices.gpu")

SIZES = np.array([300, 5, 0, 1000], np.int64)


@pytest.fixture
def device():
    device = open_device("simulated")
    yield device
    device.rest()


class Step:
    """A host step that notes what it is given, and leaves the device something to read."""

    def __init__(self, device):
        self.device, self.seen = device, []

    def __call__(self, table, bases, lane):
        self.seen.append((len(table), bases.tolist(), lane.number))
        driver = self.device._driver
        with driver.memory.step(lane._stream):
            driver.memory.use(int(bases[0]), 1, written=False)


def run(device, step):
    with device.scope():
        work = device.work()
        work.upload(np.zeros(10, np.float32))
        return work.start([KernelCall(step, np.zeros(len(SIZES), np.uint8))], SIZES).join()


def test_each_item_has_memory_of_its_own(device):
    step = Step(device)
    run(device, step)
    ((count, bases, _),) = step.seen
    assert count == len(SIZES)
    assert all(base % 256 == bases[0] % 256 for base in bases)
    ends = [base + size for base, size in zip(bases, SIZES.tolist(), strict=True)]
    assert all(end <= base for end, base in zip(ends, bases[1:], strict=False))


def test_the_time_of_host_steps_is_known(device):
    assert run(device, Step(device)).tolist() > [0]


def test_buffers_are_used_in_turn(device):
    step = Step(device)
    for _ in range(7):
        run(device, step)
    starts = [bases[0] for _, bases, _ in step.seen]
    assert starts[:3] * 2 + starts[:1] == starts
    assert len(set(starts)) == 3


def test_the_host_waits_before_a_decoder_writes_again(device):
    """The rule for Hopper GPUs, whose decoder does not keep to streams."""
    step = Step(device)
    for _ in range(3):
        run(device, step)
        device._buffers[-1].fence = DONE  # as if nobody had to be waited for
    with pytest.raises(OrderError, match=r"the host writes (device|pinned) memory"):
        run(device, step)


def test_tables_grow_with_what_they_hold(device):
    with device.scope():
        work = device.work()
        arrays = [np.arange(size, dtype=np.uint8) for size in (10, 3 << 20, 100, 5 << 20)]
        places = [work.upload(array) for array in arrays]
        step = Step(device)
        work.start([KernelCall(step, np.zeros(4, np.uint8))], SIZES).join()
    assert len(set(places)) == len(places)
    for array, place in zip(arrays, places, strict=True):
        assert ctypes.string_at(place, array.size) == array.tobytes()


@pytest.mark.parametrize("sizes", [[], [3], [1, 256, 257, 0, 5000], [700_000] * 9])
def test_the_pictures_of_a_batch_go_to_the_device_in_one_copy(device, sizes, monkeypatch):
    pictures = [np.random.default_rng(n).bytes(size) for n, size in enumerate(sizes)]
    copies, copy = [], SimulatedDriver.copy

    def note(self, to, start, nbytes, stream):
        copies.append(nbytes)
        copy(self, to, start, nbytes, stream)

    monkeypatch.setattr(SimulatedDriver, "copy", note)
    with device.scope():
        work = device.work()
        places = work.upload_all([np.frombuffer(picture, np.uint8) for picture in pictures])
        work.start([], np.zeros(0, np.int64)).join()
    for picture, place in zip(pictures, places.tolist(), strict=True):
        assert place % 256 == places[0] % 256
        assert ctypes.string_at(place, len(picture)) == picture
    assert len(copies) == (sum(sizes) > 0)


@pytest.mark.parametrize("places", [[0, 1, 2], [2, -1, 0], [1, 2, 2], [-1, -1, 1]])
def test_settling_moves_whole_items(device, places):
    with device.scope():
        data = device.upload(np.arange(12, dtype=np.float32).reshape(3, 4))
        before = data.copy()
        device.gather_items(data, np.array(places), fill=255)
        device.record().synchronize()
    for item, place in zip(data, places, strict=True):
        wanted = np.full(4, 255, np.uint8).repeat(4).view(np.float32)
        np.testing.assert_array_equal(item, before[place] if place >= 0 else wanted[:4])


def test_a_download_comes_after_the_work_that_was_queued(device):
    array = device.upload(np.arange(6, dtype=np.int32).reshape(2, 3))
    device._driver.fill(device.address(array), 1, 4, device._stream)
    assert device.download(array).tolist() == [[0x01010101, 1, 2], [3, 4, 5]]
