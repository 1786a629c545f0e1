"""Iterators over other iterators; the numbers are those of MXNet 1.9.1."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

import gpuio as mx
from gpuio.errors import PipelineClosedError
from gpuio.mxnet.iterators.array_iter import NDArrayIter
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc, DataIter
from gpuio.mxnet.iterators.wrappers import PrefetchingIter, ResizeIter


def numbers(count=10, size=4, **keywords):
    return NDArrayIter(np.arange(count), np.arange(count), size, **keywords)


def rows(it):
    return [(batch.data[0].astype(int).tolist(), batch.pad) for batch in it]


FIRST, SECOND, THIRD = ([0, 1, 2, 3], 0), ([4, 5, 6, 7], 0), ([8, 9, 0, 1], 2)


class SimpleIter(DataIter):
    """The iterator that MXNet's tutorial derives from DataIter."""

    def __init__(self, names, shapes, generators, num_batches=3):
        super().__init__()
        self.pairs = list(zip(names, shapes, strict=True))
        self.generators, self.num_batches, self.cur_batch = generators, num_batches, 0

    def __iter__(self):
        return self

    def reset(self):
        self.cur_batch = 0

    def __next__(self):
        return self.next()

    @property
    def provide_data(self):
        return self.pairs

    @property
    def provide_label(self):
        return []

    def next(self):
        if self.cur_batch >= self.num_batches:
            raise StopIteration
        self.cur_batch += 1
        pairs = zip(self.pairs, self.generators, strict=True)
        return mx.io.DataBatch([mx.nd.array(make(shape)) for (_, shape), make in pairs], [])


class Plain:
    """The four names that a wrapper needs, and nothing else."""

    def __init__(self, batches, size=2):
        self.batches, self.size, self.closed = batches, size, False
        self.provide_data = [("caption", (size, 1))]
        self.provide_label = [DataDesc("length", (size,))]
        self.reset()

    def reset(self):
        self.left = iter(self.batches)

    def next(self):
        found = next(self.left)
        if isinstance(found, Exception):
            raise found
        return DataBatch([np.full((self.size, 1), found)], None)

    def close(self):
        self.closed = True


# ResizeIter


@pytest.mark.parametrize(
    ("size", "reset_internal", "epochs"),
    [
        (2, True, [[FIRST, SECOND], [FIRST, SECOND]]),
        (2, False, [[FIRST, SECOND], [THIRD, FIRST], [SECOND, THIRD]]),
        (3, True, [[FIRST, SECOND, THIRD]] * 2),
        (5, True, [[FIRST, SECOND, THIRD, FIRST, SECOND]] * 2),
        (5, False, [[FIRST, SECOND, THIRD, FIRST, SECOND], [THIRD, FIRST, SECOND, THIRD, FIRST]]),
        (0, True, [[]] * 2),
    ],
)
def test_epochs_are_resized(size, reset_internal, epochs):
    it = mx.io.ResizeIter(numbers(), size, reset_internal)
    assert len(it) == size
    for expected in epochs:
        assert rows(it) == expected
        assert it.cur == size
        it.reset()
        assert it.cur == 0
    assert it


def test_a_resized_iterator_looks_like_the_inner_one():
    inner = numbers()
    inner.default_bucket_key = 7
    it = ResizeIter(inner, 2)
    assert (it.provide_data, it.provide_label) == (inner.provide_data, inner.provide_label)
    assert (it.batch_size, it.default_bucket_key, it.data_iter) == (4, 7, inner)
    assert not hasattr(ResizeIter(numbers(), 2), "default_bucket_key")
    assert it.iter_next()
    assert it.getdata()[0].tolist() == it.getlabel()[0].tolist() == [0, 1, 2, 3]
    assert (it.getpad(), it.getindex()) == (0, None)


def test_plain_iterators_can_be_resized():
    it = ResizeIter(Plain([1, 2]), 3)
    assert it.batch_size == 2
    assert [batch.data[0][0, 0] for batch in it] == [1, 2, 1]


def test_batches_are_handed_on_as_they_are():
    batch = DataBatch([], bucket_key=5)

    class One(DataIter):
        provide_data = provide_label = (("x", (1,)),)

        def next(self):
            return batch

    assert next(ResizeIter(One(1), 1)) is batch


def test_an_empty_iterator_cannot_be_resized():
    with pytest.raises(ValueError, match="data_iter has no batch, not even after reset"):
        next(ResizeIter(Plain([]), 3))


def test_errors_pass_through():
    it = ResizeIter(Plain([1, OSError("disk"), 3]), 3)
    next(it)
    with pytest.raises(OSError, match="disk"):
        next(it)
    assert next(it).data[0][0, 0] == 3


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"size": -1}, ValueError, "size must be at least 0, got -1"),
        ({"size": 2.5}, ValueError, "size must be an integer, got 2.5"),
        ({"size": 2, "reset_internal": 3}, ValueError, "reset_internal must be True or False"),
        (
            {"size": 2, "reset_internl": True},
            TypeError,
            "ResizeIter has no parameter 'reset_internl'; did y",
        ),
    ],
)
def test_wrong_parameters_of_resize_are_named(keywords, error, message):
    with pytest.raises(error, match=message):
        ResizeIter(numbers(), **keywords)


# PrefetchingIter


def test_batches_come_ahead():
    it = mx.io.PrefetchingIter(numbers())
    assert (len(it), it.n_iter, it.batch_size) == (3, 1, 4)
    for _ in range(3):
        assert rows(it) == [FIRST, SECOND, THIRD]
        with pytest.raises(StopIteration):
            it.next()
        it.reset()
    assert rows(it) == rows(it)
    it.close()


def test_iterators_are_joined():
    images = NDArrayIter({"image": np.arange(12).reshape(6, 2)}, {"class": np.arange(6)}, 2)
    it = PrefetchingIter([images, Plain([7, 8, 9])])
    assert [desc[0] for desc in it.provide_data] == ["image", "caption"]
    assert [desc[0] for desc in it.provide_label] == ["class", "length"]
    assert [batch.pad for batch in it] == [0, 0, 0]  # the other one says nothing of it
    it.close()
    images = NDArrayIter({"image": np.arange(12).reshape(6, 2)}, {"class": np.arange(6)}, 2)
    it = PrefetchingIter((images, NDArrayIter({"caption": np.arange(6)}, None, 2)))
    for _ in range(2):
        batches = list(it)
        assert [[a.shape for a in batch.data] for batch in batches] == [[(2, 2), (2,)]] * 3
        assert batches[2].data[1].tolist() == batches[2].label[0].tolist() == [4, 5]
        assert batches[0].provide_data == it.provide_data
        assert batches[0].provide_label == it.provide_label
        it.reset()
    it.close()


def test_the_iterator_of_the_tutorial():
    rng = np.random.default_rng(0)
    inner = SimpleIter(["data"], [(4, 3)], [rng.random])
    it = PrefetchingIter(ResizeIter(PrefetchingIter(inner), 5))
    assert it.provide_data == [("data", (4, 3))]
    assert it.batch_size == 4
    for _ in range(2):
        assert [batch.data[0].asnumpy().shape for batch in it] == [(4, 3)] * 5
    it.close()


def test_names_can_be_changed():
    inner = [NDArrayIter({"a": np.zeros((4, 2)), "b": np.zeros((4, 2))}, None, 2, layout="NC")] * 1
    it = PrefetchingIter([*inner, Plain([1])], rename_data=[{"a": "x"}, {"caption": "y"}])
    assert [desc.name for desc in it.provide_data] == ["x", "b", "y"]
    assert [desc.layout for desc in it.provide_data] == ["NC", "NC", "NCHW"]
    assert it.provide_label == [("length", (2,))]
    it = PrefetchingIter(Plain([1]), rename_label=[{"length": "z"}])
    assert next(it).provide_label == [("z", (2,))]
    it.close()


def test_descriptions_may_differ_between_batches():
    class Buckets(DataIter):
        provide_data = (DataDesc("x", (1, 10)),)
        provide_label = ()

        def next(self):
            data = [np.zeros((1, 5))]
            return DataBatch(
                data, None, 0, [3], 5, [DataDesc("x", (1, 5))], [], augmentation={"a": 1}
            )

    it = PrefetchingIter(Buckets(1), rename_data=[{"x": "y"}])
    batch = next(it)
    assert (batch.bucket_key, batch.index, batch.augmentation) == (5, [3], {"a": 1})
    assert batch.provide_data == [("y", (1, 5))]
    it.close()


def test_pads_that_differ_are_an_error():
    it = PrefetchingIter([numbers(7), numbers(6)])
    next(it)
    with pytest.raises(ValueError, match=r"iters must give batches of the same pad, got \[1, 2\]"):
        next(it)
    with pytest.raises(StopIteration):
        it.next()
    it.close()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_exception_reaches_the_consumer(place):
    batches = [1, 2, 3]
    batches.insert(place, OSError("disk"))
    before = set(threading.enumerate())
    it = PrefetchingIter([Plain([1, 2, 3, 4]), Plain(batches)])
    for _ in range(place):
        next(it)
    with pytest.raises(OSError, match="disk"):
        next(it)
    assert not set(threading.enumerate()) - before
    with pytest.raises(StopIteration):
        it.next()
    it.reset()
    for _ in range(place):
        next(it)
    it.close()


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((3, 2), r"iters\[1\] has ended, iters\[0\] has another batch"),
        ((2, 3), r"iters\[0\] has ended, iters\[1\] has another batch"),
        ((2, 2, 3), r"iters\[0\] has ended, iters\[2\] has another batch"),
    ],
)
def test_lengths_that_differ_are_an_error(lengths, message):
    it = PrefetchingIter([Plain(range(length)) for length in lengths])
    for _ in range(2):
        next(it)
        next(it)
        with pytest.raises(ValueError, match=message):
            next(it)
        it.reset()
    it.close()


def test_rows_kept_by_roll_over_are_not_lost_by_a_reset():
    it = PrefetchingIter(numbers(last_batch_handle="roll_over"))
    assert rows(it) == [FIRST, SECOND]
    it.reset()
    it.reset()
    assert next(it).data[0].tolist() == [8, 9, 0, 1]
    it.close()


def test_the_next_batch_is_made_while_this_one_is_used():
    asked = threading.Event()

    class Watched(Plain):
        def next(self):
            batch = super().next()
            if batch.data[0][0, 0] == 2:
                asked.set()
            return batch

    it = PrefetchingIter(Watched([1, 2, 3]))
    next(it)
    assert asked.wait(10)
    it.close()


def test_closing_ends_threads_and_inner_iterators():
    before = set(threading.enumerate())
    inner = Plain(range(1000))
    with PrefetchingIter(ResizeIter(inner, 500)) as it:
        next(it)
        assert len(set(threading.enumerate()) - before) == 1
    it.close()
    assert inner.closed
    assert not set(threading.enumerate()) - before
    for use in (it.next, it.reset):
        with pytest.raises(PipelineClosedError):
            use()


def test_one_that_is_dropped_leaves_no_thread():
    before = set(threading.enumerate())
    it = PrefetchingIter([Plain(range(1000)), Plain(range(1000))])
    next(it)
    del it
    gc.collect()
    for _ in range(100):
        if not set(threading.enumerate()) - before:
            break
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"iters": []}, ValueError, "iters must have at least one iterator, got none"),
        ({"rename_data": []}, ValueError, "rename_data must have a dict for each iterator: 1, got"),
        (
            {"rename_data": [{"date": "x"}]},
            ValueError,
            r"rename_data\[0\] has 'date', iters\[0\] has \['data'\]",
        ),
        ({"rename_label": [{"x": "y"}]}, ValueError, r"rename_label\[0\] has 'x', iters\[0\] has"),
        ({"rename": []}, TypeError, "PrefetchingIter has no parameter 'rename'; did you mean 'ren"),
    ],
)
def test_wrong_parameters_of_prefetching_are_named(keywords, error, message):
    with pytest.raises(error, match=message):
        PrefetchingIter(**{"iters": numbers(), **keywords})


def test_an_iterator_can_be_given_once_only():
    it = numbers()
    with pytest.raises(ValueError, match="iters must differ from each other, got one twice"):
        PrefetchingIter([it, it])


def test_a_batch_size_must_be_known():
    class Nothing:
        provide_data = provide_label = ()

    with pytest.raises(ValueError, match="without batch_size must have provide_data"):
        ResizeIter(Nothing(), 1)


def test_images_beside_captions(rec):
    captions = np.arange(13 * 5).reshape(13, 5)
    for order in (1, -1):
        images = mx.io.ImageRecordIter(rec, (3, 16, 16), 4)
        texts = mx.io.NDArrayIter({"caption": captions}, {"caption_id": np.arange(13)}, 4)
        it = mx.io.PrefetchingIter([images, texts][::order])
        for _ in range(2):
            count = 0
            for batch in it:
                np.testing.assert_array_equal(batch.label[0], batch.label[1])
                count += 4 - batch.pad
            assert count == 13
            it.reset()
        it.close()
        with pytest.raises(PipelineClosedError):
            images.next()
