"""Samples on their way through the threads that decode."""

from __future__ import annotations

import multiprocessing
import os
import threading

import numpy.testing as npt
import pytest

from gpuio.errors import BackendError, FormatError, PipelineClosedError
from gpuio.mxnet.image.decode_queue import BrokenImageError, DecodeQueue, EncodedSample
from gpuio.testing import draw, encode


@pytest.fixture
def queue():
    queue = DecodeQueue(2)
    yield queue
    queue.close()


def samples(count):
    return [
        EncodedSample(n, encode(draw(4, 5, seed=n)), f"sample {n}".format) for n in range(count)
    ]


def reader(samples):
    return iter(samples).__next__


def plain(queue):
    return lambda sample: queue.submit(sample, [])


def test_images_come_in_order_and_no_more_are_read_than_are_wanted(queue):
    read = reader(samples(5))
    assert queue.read_ahead(read, plain(queue), 3)
    assert len(queue) == 3
    for n in range(3):
        sample, image = queue.take()
        assert sample.label == n
        npt.assert_array_equal(image, draw(4, 5, seed=n))
    assert queue.take() is None
    assert not queue.read_ahead(read, plain(queue), 3)
    assert len(queue) == 2


def test_a_sample_that_no_thread_could_take_is_decoded_later(queue):
    def fail(sample):
        raise BackendError("no thread")

    read = reader(samples(2))
    with pytest.raises(BackendError):
        queue.read_ahead(read, fail, 1)
    assert len(queue) == 1
    assert queue.read_ahead(read, plain(queue), 1)
    assert queue.take()[0].label == 0


def test_an_error_names_its_sample(queue):
    def refuse(image):
        raise ValueError("too dark")

    def fail(image):
        raise KeyError("mine")

    (sample,) = samples(1)
    with pytest.raises(BrokenImageError, match="Broken image sample 9: no known image format"):
        EncodedSample(9, b"xyz", lambda: "sample 9").decode()
    with pytest.raises(FormatError, match="sample 0: too dark"):
        sample.decode([refuse])
    with pytest.raises(KeyError) as raised:
        sample.decode([fail])
    assert raised.value.__notes__ == ["raised for a sample: sample 0"]


def test_a_closed_queue_takes_nothing(queue):
    first, second = samples(2)
    queue.submit(first, []).result()
    queue.interrupt()
    with pytest.raises(PipelineClosedError, match="closed"):
        queue.submit(second, [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_decodes_anew_what_threads_of_the_parent_have(queue):
    parent_goes_on = threading.Event()
    read = reader(samples(3))

    def slowly(sample):
        if sample.label == 2:
            raise BackendError("no thread")
        return queue.submit(sample, [lambda image: parent_goes_on.wait() and image])

    with pytest.raises(BackendError):
        queue.read_ahead(read, slowly, 3)
    mine, theirs = multiprocessing.Pipe()

    def take_all():
        queue.read_ahead(read, plain(queue), 3)
        theirs.send([queue.take()[0].label for _ in range(3)])

    child = multiprocessing.get_context("fork").Process(target=take_all)
    child.start()
    answered = mine.poll(60)
    parent_goes_on.set()
    if not answered:
        child.kill()
    child.join()
    assert answered
    assert mine.recv() == [0, 1, 2]
    assert [queue.take()[0].label for _ in range(2)] == [0, 1]
