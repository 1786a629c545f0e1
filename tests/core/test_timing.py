"""Stopwatches: what they add up, what others see meanwhile, and what profilers see."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from gpuio.core.timing import BatchCounter, PipelineStats, StageStats, Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """The clock of stopwatches; tests set it to `clock.seconds`."""
    clock = SimpleNamespace(seconds=10.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.seconds)
    monkeypatch.setattr("gpuio.core.timing.time", fake)
    return clock


def test_a_stopwatch_adds_up_its_blocks(clock):
    watch = Stopwatch("work")
    assert watch.read() == 0
    for seconds in (2, 3):
        with watch:
            clock.seconds += seconds
        clock.seconds += 100
    assert watch.read() == 5


def test_a_stopwatch_can_be_read_while_it_runs(clock):
    watch = Stopwatch("work")
    with watch:
        clock.seconds += 2
        assert watch.read() == 2
        clock.seconds += 3
        assert watch.read() == 5


def test_a_block_that_raises_counts(clock):
    watch = Stopwatch("work")

    def work():
        with watch:
            clock.seconds += 2
            raise KeyError

    with pytest.raises(KeyError):
        work()
    clock.seconds += 100
    assert watch.read() == 2


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
    assert tally.stats(1.0) == StageStats(2, 7, 175, 1.0)
