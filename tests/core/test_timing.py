"""Stopwatches: what they add up, what others see meanwhile, and what profilers see."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from gpuio.core.timing import BatchCounter, PipelineStats, StageStats, Stopwatch


def test_a_stopwatch_adds_up_its_blocks():
    watch = Stopwatch("work")
    assert watch.read() == 0
    for _ in range(2):
        with watch:
            time.sleep(0.02)
    done = watch.read()
    assert done >= 0.04
    time.sleep(0.02)
    assert watch.read() == done


def test_a_stopwatch_can_be_read_while_it_runs():
    watch = Stopwatch("work")
    with watch:
        time.sleep(0.01)
        first = watch.read()
        assert first >= 0.01
        time.sleep(0.01)
        assert watch.read() >= first + 0.01


def test_a_block_that_raises_counts():
    watch = Stopwatch("work")

    def work():
        with watch:
            time.sleep(0.01)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert watch.read() >= 0.01
    done = watch.read()
    assert watch.read() == done


def test_profilers_see_each_block_by_its_name():
    watch, seen = Stopwatch("work"), []

    def mark(number):
        @contextmanager
        def shown(name):
            seen.append((number, "begin", name))
            yield
            seen.append((number, "end", name))

        return shown

    with watch:
        watch.marks = (mark(1), mark(2))  # from the next block on
    assert not seen
    with watch:
        watch.marks = ()  # the ranges that were begun are ended
    assert seen == [
        (1, "begin", "work"),
        (2, "begin", "work"),
        (2, "end", "work"),
        (1, "end", "work"),
    ]


def test_statistics_are_subtracted_field_by_field():
    before = PipelineStats(epochs=1, read=StageStats(1, 2, 3, 0.5, 0.25, 0.125), waited=1.0)
    after = PipelineStats(epochs=3, read=StageStats(11, 22, 33, 1.5, 1.25, 1.125), waited=1.5)
    assert after - before == PipelineStats(
        epochs=2, read=StageStats(10, 20, 30, 1.0, 1.0, 1.0), waited=0.5
    )


def test_a_counter_counts_batches_images_and_bytes():
    tally = BatchCounter()
    tally.add(4, 100)
    tally.add(3, 75)
    assert tally.stats(1.0, 2.0, 3.0) == StageStats(2, 7, 175, 1.0, 2.0, 3.0)
