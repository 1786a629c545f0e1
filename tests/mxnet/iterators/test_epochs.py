"""Where a loop begins: one rule for every iterator."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

import gpuio as mx
from gpuio.core.prefetch import Prefetch
from gpuio.errors import FormatError
from gpuio.pipeline.decode.portable import PortableDecoder

COUNT, LENGTH = 20, 4
ALL = list(range(COUNT))


def counted(it):
    for number, batch in enumerate(it):
        yield batch
        if number == LENGTH - 1:
            break


WAYS = {
    "break": counted,
    "zip": lambda it: [batch for _, batch in zip(range(LENGTH), it)],  # noqa: B905
    "islice": lambda it: itertools.islice(it, LENGTH),
    "whole": list,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_loop_of_len_batches_is_an_epoch(kind, way):
    it = kind.make()
    for _ in range(3):
        assert kind.seen(WAYS[way](it)) == ALL


def test_the_first_of_a_new_loop_is_the_next_batch(kind):
    it = kind.make()
    for _ in range(3):
        assert kind.seen(next(iter(it)) for _ in range(LENGTH)) == ALL


def test_a_loop_after_a_break_continues_with_what_is_left(kind):
    it = kind.make()
    for first in (1, 2, 3):
        some = list(itertools.islice(it, first))
        rest = list(it)
        assert len(rest) == LENGTH - first
        assert kind.seen(some + rest) == ALL


def test_reset_drops_what_is_left(kind):
    it = kind.make()
    list(itertools.islice(it, 2))
    it.reset()
    assert kind.seen(it) == ALL


def test_progress_follows_the_rule_of_its_loader(twenty):
    with mx.ImageRecordIter(twenty / "a.rec", (3, 8, 8), 5) as it:
        for batches in (mx.progress(it), mx.progress(it.numpy())):
            assert len(batches) == LENGTH
            for way in WAYS.values():
                assert len(list(way(batches))) == LENGTH
            assert len(list(itertools.islice(batches, 1))) == 1
            assert len(list(batches)) == LENGTH - 1


@pytest.mark.parametrize("handle", ["pad", "discard", "roll_over"])
def test_a_loop_that_stops_itself_loses_nothing_of_the_last_batch(handle):
    def epochs(counts):
        it = mx.io.NDArrayIter(np.arange(10), None, 4, last_batch_handle=handle)
        return [
            [b.data[0].astype(int).tolist() for b in itertools.islice(it, count)]
            for count in counts
        ]

    whole = epochs([None] * 4)
    assert epochs(map(len, whole)) == whole


@pytest.mark.parametrize("handle", ["pad", "discard", "roll_over"])
@pytest.mark.parametrize("augs", [None, [lambda image: image[:8, :8]]])
def test_images_in_lists_are_not_lost_either(twenty, handle, augs):
    made = [[n, f"{n}.png"] for n in range(10)]

    def epochs(counts):
        it = mx.image.ImageIter(
            4, (3, 8, 8), imglist=made, path_root=twenty, last_batch_handle=handle, aug_list=augs
        )
        with it:
            return [
                [b.label[0].astype(int).tolist() for b in itertools.islice(it, count)]
                for count in counts
            ]

    whole = epochs([None] * 4)
    assert epochs(map(len, whole)) == whole


def test_after_a_failure_a_loop_begins_the_next_epoch(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0\n1\n2\nx\n4\n5\n")
    with mx.io.CSVIter(path, 1, 2) as it:
        for _ in range(2):
            with pytest.raises(FormatError, match="'x' is no float32"):
                list(it)
            with pytest.raises(StopIteration):
                it.next()
        with pytest.raises(FormatError, match="'x' is no float32"):
            list(it)
        assert next(iter(it)).data[0].ravel().tolist() == [0, 1]


class OutOfLuck(BaseException):
    """An error that `except Exception` does not catch."""


@pytest.mark.parametrize("error", [RuntimeError, OutOfLuck, SystemExit])
@pytest.mark.parametrize("again", [mx.ImageRecordIter.reset, iter])
def test_an_error_of_any_kind_in_a_decoder_ends_the_epoch(twenty, monkeypatch, error, again):
    def fail(*_):
        raise error("out of luck")

    with mx.ImageRecordIter(twenty / "a.rec", (3, 8, 8), 5, decoder="portable") as it:
        with monkeypatch.context() as patched:
            patched.setattr(PortableDecoder, "open", fail)
            with pytest.raises(error, match="out of luck"):
                it.next()
        again(it)
        assert it.epoch == 1
        assert [int(n) for batch in it for n in batch.label[0]] == ALL


def test_a_batch_can_be_asked_for_again_after_an_interrupt_of_the_wait(twenty, monkeypatch):
    following = Prefetch.__next__

    def interrupt(self):
        if threading.current_thread() is threading.main_thread():
            raise OutOfLuck
        return following(self)

    with mx.ImageRecordIter(twenty / "a.rec", (3, 8, 8), 5) as it:
        with monkeypatch.context() as patched:
            patched.setattr(Prefetch, "__next__", interrupt)
            with pytest.raises(OutOfLuck):
                it.next()
        assert [int(n) for batch in it for n in batch.label[0]] == ALL
        assert it.epoch == 0
