"""Batches of a device that one thread takes and another reads."""

from __future__ import annotations

import numpy as np
import pytest

import gpuio
from gpuio.devices.simulated import OrderError, SimulatedDriver, simulated_device
from gpuio.mxnet.iterators.wrappers import PrefetchingIter, ResizeIter
from gpuio.testing import draw, encode, write_rec

COUNT = 6


@pytest.fixture
def rec(tmp_path):
    path = tmp_path / "some.rec"
    write_rec(path, [encode(draw(12, 14), "JPEG") for number in range(COUNT)])
    return path


def read(driver, stream, array):
    """What a kernel on a stream does that reads an array."""
    with driver.memory.step(stream):
        driver.memory.use(array.ctypes.data, array.nbytes, written=False)


@pytest.mark.parametrize("wrapper", [PrefetchingIter, lambda it: ResizeIter(it, 3)])
def test_the_readers_stream_waits_for_a_batch_and_the_next_ones_wait_for_it(rec, wrapper):
    driver = SimulatedDriver(simulated_device())
    stream = driver.new_stream()
    source = gpuio.ImageRecordIter(rec, (3, 8, 8), 2, device="simulated", dtype="uint8")
    seen = 0
    with wrapper(source) as batches, driver.use_stream(stream):
        for _ in range(4):  # so often that memory is used again
            for batch in batches:
                read(driver, stream, batch.data[0])
                seen += len(batch.data[0])
                del batch
            batches.reset()
    assert seen == 4 * COUNT


def test_a_stream_that_no_one_knows_of_is_an_error(rec):
    """The test above would not fail of itself: this is what it looks for."""
    driver = SimulatedDriver(simulated_device())
    stream = driver.new_stream()
    with gpuio.ImageRecordIter(rec, (3, 8, 8), 2, device="simulated") as batches:
        batch = next(batches)  # for the stream that is current here
        with pytest.raises(OrderError, match="has yet to write"):
            read(driver, stream, batch.data[0])
        with driver.use_stream(stream):
            batch.data[0].order()
        read(driver, stream, batch.data[0])
        assert np.isfinite(batch.data[0].asnumpy()).all()
