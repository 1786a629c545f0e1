"""How long the stages take and how much they process: stopwatches, counters and their sums."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, fields
from typing import Any, Self

ProfilerRange = Callable[[str], AbstractContextManager[Any]]
"""Makes a context that a profiler shows as a range of that name, in the thread that enters it."""


class Stopwatch:
    """Adds up the seconds of `with` blocks; one thread at a time runs it, any may read it.

    Args:
        name: Name of the ranges in profilers.

    Attributes:
        marks: Profilers that are shown the blocks; usually none.
    """

    __slots__ = ("_now", "_ranges", "marks", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: tuple[ProfilerRange, ...] = ()
        self._ranges: ExitStack | None = None
        # One tuple, replaced as a whole: a reader never sees one value without the other.
        self._now: tuple[float, float | None] = (0.0, None)

    def __enter__(self) -> None:
        if self.marks:
            self._ranges = ExitStack()
            for mark in self.marks:
                self._ranges.enter_context(mark(self.name))
        self._now = (self._now[0], time.perf_counter())

    def __exit__(self, *_: object) -> None:
        seconds, begin = self._now
        if begin is not None:
            self._now = (seconds + time.perf_counter() - begin, None)
        if self._ranges is not None:
            self._ranges.close()
            self._ranges = None

    def read(self) -> float:
        """Seconds so far, including those of a block that has not ended."""
        seconds, begin = self._now
        return seconds if begin is None else seconds + time.perf_counter() - begin


class Meter:
    """The stopwatches of a `Prefetch`, or of several that follow each other.

    Args:
        name: Name of the ranges in profilers.

    Attributes:
        making: Runs in the thread, while its source makes an item.
        blocked: Runs in the thread, while the buffer is full.
        awaited: Runs in the consumer, while the buffer is empty.
        first: Seconds that `awaited` has run for the first items of iterators.
    """

    __slots__ = ("awaited", "blocked", "first", "making")

    def __init__(self, name: str) -> None:
        self.making = Stopwatch(name)
        self.blocked = Stopwatch(f"{name} blocked")
        self.awaited = Stopwatch(f"{name} awaited")
        self.first = 0.0

    @property
    def stopwatches(self) -> tuple[Stopwatch, ...]:
        """All three."""
        return self.making, self.blocked, self.awaited


class _Difference:
    """Base of sums that grow: subtracting an earlier one subtracts the fields, nested ones too."""

    __slots__ = ()

    def __sub__(self, before: Self) -> Self:
        return type(self)(
            *(getattr(self, f.name) - getattr(before, f.name) for f in fields(self))  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class StageStats(_Difference):
    """What one stage has done.

    Attributes:
        batches: Batches that came out of it.
        images: Images in the batches.
        nbytes: Bytes in the batches: encoded images after reading, pixels after decoding.
        busy: Seconds at work.
        starved: Seconds without input.
        blocked: Seconds with its output full.
    """

    batches: int = 0
    images: int = 0
    nbytes: int = 0
    busy: float = 0.0
    starved: float = 0.0
    blocked: float = 0.0


@dataclass(slots=True)
class BatchCounter:
    """Counts the batches that come out of a stage, in one thread.

    Attributes:
        batches: Batches so far.
        images: Images in the batches.
        nbytes: Bytes in the batches.
    """

    batches: int = 0
    images: int = 0
    nbytes: int = 0

    def add(self, images: int, nbytes: int) -> None:
        """Count one more batch."""
        self.batches += 1
        self.images += images
        self.nbytes += nbytes

    def stats(self, busy: float) -> StageStats:
        """The counts with the seconds that they took."""
        return StageStats(self.batches, self.images, self.nbytes, busy)


@dataclass(frozen=True, slots=True)
class PipelineStats(_Difference):
    """What a pipeline has done since it was made.

    Attributes:
        epochs: Epochs that were begun.
        read: Reading files, parsing headers and drawing random numbers.
        decode: Decoding and augmentation.
        files: Seconds of `read.busy` that went into files; the rest went into headers and numbers.
        waited: Seconds that the consumer waited for batches.
        first: Seconds of `waited` that went into the first batches of epochs.
        decoding: CPU seconds of decoding, over all threads.
        augmenting: CPU seconds of augmentation, over all threads.
    """

    epochs: int = 0
    read: StageStats = field(default_factory=StageStats)
    decode: StageStats = field(default_factory=StageStats)
    files: float = 0.0
    waited: float = 0.0
    first: float = 0.0
    decoding: float = 0.0
    augmenting: float = 0.0
