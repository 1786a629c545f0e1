"""A batch's way over a device: memory for its items, desks that go round, host steps in order."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from gpuio.devices.base import DONE, Link
from gpuio.devices.simulated import OrderError
from gpuio.testing import open_backend

pytest.importorskip("numba.cuda")
pytest.importorskip("gpuio.devices.gpu")

SIZES = np.array([300, 5, 0, 1000], np.int64)


@pytest.fixture
def backend():
    return open_backend("simulated")


class Step:
    """A host step that notes what it is given, and leaves the device something to read."""

    def __init__(self, backend):
        self.backend, self.seen = backend, []

    def __call__(self, table, bases, stream):
        self.seen.append((len(table), bases.tolist(), stream))
        driver = self.backend._driver
        with driver.memory.step(self.backend._stream):
            driver.memory.use(int(bases[0]), 1, written=False)


def run(backend, step):
    with backend.scope():
        work = backend.work()
        work.upload(np.zeros(10, np.float32))
        return work.start([Link(step, np.zeros(len(SIZES), np.uint8))], SIZES).join()


def test_each_item_has_memory_of_its_own(backend):
    step = Step(backend)
    run(backend, step)
    ((count, bases, _),) = step.seen
    assert count == len(SIZES)
    assert all(base % 256 == bases[0] % 256 for base in bases)
    ends = [base + size for base, size in zip(bases, SIZES.tolist(), strict=True)]
    assert all(end <= base for end, base in zip(ends, bases[1:], strict=False))


def test_the_time_of_host_steps_is_known(backend):
    assert run(backend, Step(backend)).tolist() > [0]


def test_desks_go_round(backend):
    step = Step(backend)
    for _ in range(7):
        run(backend, step)
    starts = [bases[0] for _, bases, _ in step.seen]
    assert starts[:3] * 2 + starts[:1] == starts
    assert len(set(starts)) == 3


def test_the_host_waits_before_a_decoder_writes_again(backend):
    """The rule for Hopper GPUs, whose decoder does not keep to streams."""
    step = Step(backend)
    for _ in range(3):
        run(backend, step)
        backend._desks[-1].fence = DONE  # as if nobody had to be waited for
    with pytest.raises(OrderError, match=r"the host writes (device|pinned) memory"):
        run(backend, step)


def test_tables_grow_with_what_they_hold(backend):
    with backend.scope():
        work = backend.work()
        arrays = [np.arange(size, dtype=np.uint8) for size in (10, 3 << 20, 100, 5 << 20)]
        places = [work.upload(array) for array in arrays]
        step = Step(backend)
        work.start([Link(step, np.zeros(4, np.uint8))], SIZES)
    assert len(set(places)) == len(places)
    for array, place in zip(arrays, places, strict=True):
        assert ctypes.string_at(place, array.size) == array.tobytes()


@pytest.mark.parametrize("places", [[0, 1, 2], [2, -1, 0], [1, 2, 2], [-1, -1, 1]])
def test_settling_moves_whole_items(backend, places):
    with backend.scope():
        data = backend.upload(np.arange(12, dtype=np.float32).reshape(3, 4))
        before = data.copy()
        backend.settle(data, np.array(places), fill=255)
        backend.record().synchronize()
    for item, place in zip(data, places, strict=True):
        wanted = np.full(4, 255, np.uint8).repeat(4).view(np.float32)
        np.testing.assert_array_equal(item, before[place] if place >= 0 else wanted[:4])
