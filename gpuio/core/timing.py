"""How long things take, and how much is done: stopwatches, and what they say together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, fields
from typing import Any, Self

ProfilerRange = Callable[[str], AbstractContextManager[Any]]
"""Shows a range of that name in a profiler, in the thread that enters it, until it leaves."""


class Stopwatch:
    """Adds up the seconds of `with` blocks; one thread at a time runs it, any may read it.

    Args:
        name: Of the ranges in profilers.

    Attributes:
        marks: Profilers that see the blocks; usually none, and then nothing is done for them.
    """

    __slots__ = ("_now", "_ranges", "marks", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: tuple[ProfilerRange, ...] = ()
        self._ranges: ExitStack | None = None
        # Replaced as a whole, so that who reads it never sees a half.
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
        """Seconds so far, with those of a block that has not ended."""
        seconds, begin = self._now
        return seconds if begin is None else seconds + time.perf_counter() - begin


class Meter:
    """The stopwatches of a `Prefetch`, or of several that follow each other.

    Args:
        name: Of what is made.

    Attributes:
        making: Of the thread, while its source makes an item.
        blocked: Of the thread, while an item finds no room.
        awaited: Of the consumer, while there is no item.
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
        """All of them."""
        return self.making, self.blocked, self.awaited


class _Difference:
    """What happened between two moments: fields, and the fields of fields, are subtracted."""

    __slots__ = ()

    def __sub__(self, before: Self) -> Self:
        return type(self)(
            *(getattr(self, f.name) - getattr(before, f.name) for f in fields(self))  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class Work(_Difference):
    """What one room has done.

    Attributes:
        batches: That came out of it.
        images: In them.
        nbytes: In them: encoded images after reading, pixels after decoding.
        busy: Seconds at work.
        starved: Seconds without anything to work on.
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
    """Counts what comes out of a room, in one thread.

    Attributes:
        batches: So far.
        images: In them.
        nbytes: In them.
    """

    batches: int = 0
    images: int = 0
    nbytes: int = 0

    def add(self, images: int, nbytes: int) -> None:
        """One more batch."""
        self.batches += 1
        self.images += images
        self.nbytes += nbytes

    def work(self, busy: float, starved: float, blocked: float) -> Work:
        """All that, with the seconds that it took."""
        return Work(self.batches, self.images, self.nbytes, busy, starved, blocked)


@dataclass(frozen=True, slots=True)
class PipelineStats(_Difference):
    """What a pipeline has done since it was made.

    Attributes:
        epochs: Begun.
        read: Files, headers, and what is drawn for each image.
        decode: Decoding and augmentation.
        files: Seconds of `read.busy` that went into files, the rest into headers and numbers.
        waited: Seconds that the consumer waited for batches.
        first: Seconds of that for the first batches of epochs.
        decoding: CPU seconds of all threads together.
        augmenting: Likewise.
    """

    epochs: int = 0
    read: Work = field(default_factory=Work)
    decode: Work = field(default_factory=Work)
    files: float = 0.0
    waited: float = 0.0
    first: float = 0.0
    decoding: float = 0.0
    augmenting: float = 0.0
