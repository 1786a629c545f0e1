"""Which images of a batch each of several decoders gets, by the rates at which they work.

A GPU's JPEG engines, its multiprocessors and the CPU's cores decode at the same time, and a batch
is done when the slowest of them is. How fast each is depends on the device, on the images and on
what else runs there, so it is measured with every batch.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_KEPT = 6  # measurements of a worker
_STALE = 16  # batches after which a new measurement makes an older one worthless
_PROBE_AFTER = 32  # batches without an image for a worker, after which it is tried again
_PROBE_PART = 0.02  # of the time, at most, that trying a worker again is hoped to take
_SHARE_DECAY = 0.9
_IN_FLIGHT = 2  # batches


@dataclass(slots=True)
class _Worker:
    """One decoder.

    Attributes:
        prior: Work per second of a slot, as it was expected.
        unit: How many times as much others were measured to do.
        slots: Images that it decodes at once.
        apart: Whether batches that are in flight together have slots of their own.
        measured: The last measurements: number of the batch, work of the slot that had the
            most, busy seconds.
        until: End of the last interval in which the worker was busy, in seconds.
        hoped: Work per second of a slot that it may reach again: the most that was measured,
            halved by each trial.
        free: When a queue can begin with the next batch, on the clock of `WorkSplit`.
        share: Moving average of its part of the work.
        idle: Batches since it had an image.
    """

    prior: float
    slots: int
    apart: bool
    measured: deque[tuple[int, float, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    unit: float = 1.0
    until: float = -np.inf
    hoped: float = 0.0
    free: float = 0.0
    share: float = 0.0
    idle: int = 0

    @property
    def rate(self) -> float:
        """Work per second of a slot."""
        if not self.measured:
            return self.prior * self.unit
        _, work, busy = map(sum, zip(*self.measured, strict=True))
        return max(work, 1e-9) / max(busy, 1e-9)

    @property
    def throughput(self) -> float:
        """Work per second of all its slots, over all batches in flight."""
        return self.rate * self.slots * (_IN_FLIGHT if self.apart else 1)


class WorkSplit:
    """Assigns the images of batches to workers so that all of them end at the same time.

    Each image goes to the worker that would be done with it first, the largest images before the
    others. A batch begins when the second before it is done, and queues go on with it when they are
    done with the one before. That is computed, not timed: the clock is the work that all workers
    together could have done, which means the same when their rates turn out to be others than
    expected. There is no thread here; calls must not overlap.

    Source: R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969 (largest first); for
    workers of different speed, T. Gonzalez, O. H. Ibarra and S. Sahni, "Bounds for LPT schedules on
    uniform processors", 1977.

    Args:
        rates: By name, the work per second that is expected of each worker before the first
            measurement; only their ratios matter.
        slots: By name, the images that a worker decodes at once; 1 where it is left out. An image
            takes one of them, and a batch takes as long as the slot that has the most to do.
        apart: Names of workers that have so many slots for each batch in flight; the others queue.
        pinned: By name, the part that a worker always gets of the work that it can do, 0 to 1; the
            others share the rest. At most one name.
    """

    def __init__(
        self,
        rates: Mapping[str, float],
        pinned: Mapping[str, float] | None = None,
        *,
        slots: Mapping[str, int] | None = None,
        apart: Collection[str] = (),
    ) -> None:
        self.names = tuple(rates)
        counts = [max(1, (slots or {}).get(name, 1)) for name in rates]
        self._workers = [
            _Worker(rate / count, count, name in apart)
            for (name, rate), count in zip(rates.items(), counts, strict=True)
        ]
        self._batch = 0
        self._done = deque([0.0] * _IN_FLIGHT, _IN_FLIGHT)  # ends of those in flight
        self._pinned = {self.names.index(name): part for name, part in (pinned or {}).items()}
        self._owed = 0.0  # work that the pinned worker should have had besides

    @property
    def shares(self) -> dict[str, float]:
        """By name, each worker's recent part of the work."""
        return {name: each.share for name, each in zip(self.names, self._workers, strict=True)}

    @property
    def rates(self) -> dict[str, float]:
        """By name, each worker's work per second; 0 before the first measurement."""
        pairs = zip(self.names, self._workers, strict=True)
        return {name: each.rate * each.slots if each.measured else 0.0 for name, each in pairs}

    def assign(
        self, work: npt.NDArray[np.float64], allowed: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """Choose the worker for each image of a batch.

        Args:
            work: (N,) work of each image, at least 0, in any unit, such as pixels.
            allowed: (N, workers) whether a worker can decode an image.

        Returns:
            (N,) number of the worker, in the order of `names`; -1 for images that none can decode.
        """
        chosen = np.full(len(work), -1)
        left = np.asarray(allowed.any(axis=1))
        for number, part in self._pinned.items():
            own = self._pin(work, allowed[:, number], part)
            chosen[own] = number
            left &= ~own
            allowed = allowed.copy()
            only = left & (allowed.sum(axis=1) == 1)  # nobody else can
            allowed[left & ~only, number] = False
        self._probe(work, allowed, left, chosen)
        ends = self._fill(work, allowed, left, chosen)
        self._note(work, chosen, ends)
        return chosen

    def report(self, worker: int, work: npt.NDArray[np.float64], begin: float, end: float) -> None:
        """Record a measurement.

        Intervals of a worker may overlap, as those of batches that are in flight together; they
        come in the order of their ends.

        Args:
            worker: Number of the worker.
            work: (M,) work of the images that it decoded, in the unit of `assign`.
            begin: Time at which it was given the work, in seconds.
            end: Time at which it was done, in seconds.
        """
        each = self._workers[worker]
        busy = max(0.0, end - (begin if each.apart else max(begin, each.until)))
        each.until = max(each.until, end)
        while each.measured and each.measured[0][0] < self._batch - _STALE:
            each.measured.popleft()
        each.measured.append((self._batch, max(_slot_loads(work.tolist(), each.slots)), busy))
        each.hoped = max(each.hoped, each.rate)
        known = [other for other in self._workers if other.measured]
        unit = sum(other.rate for other in known) / sum(other.prior for other in known)
        for other in self._workers:
            other.unit = unit

    def _pin(
        self, work: npt.NDArray[np.float64], can: npt.NDArray[np.bool_], part: float
    ) -> npt.NDArray[np.bool_]:
        """(N,) bool, images of a pinned worker; later batches make up for a surplus or deficit."""
        own = np.zeros(len(work), bool)
        if part >= 1.0:
            return can.copy()
        if part <= 0.0:
            return own
        wanted = self._owed + part * float(work[can].sum())
        for place in np.flatnonzero(can)[np.argsort(-work[can], kind="stable")].tolist():
            if work[place] / 2 <= wanted:
                own[place] = True
                wanted -= work[place]
        self._owed = wanted  # half an image at most
        return own

    def _probe(
        self,
        work: npt.NDArray[np.float64],
        allowed: npt.NDArray[np.bool_],
        left: npt.NDArray[np.bool_],
        chosen: npt.NDArray[np.int64],
    ) -> None:
        """Give a worker that had no image for long the smallest that it can decode."""
        for number, each in enumerate(self._workers):
            can = np.flatnonzero(left & allowed[:, number])
            if each.idle < _PROBE_AFTER or not len(can):
                continue
            place = can[work[can].argmin()]
            seconds = float(work[place]) / max(each.rate, each.hoped)
            if seconds <= _PROBE_PART * each.idle * float(work.sum()) / self._together():
                chosen[place], left[place] = number, False
                each.hoped /= 2

    def _together(self) -> float:
        """Work per second of all workers."""
        return sum(each.throughput for each in self._workers)

    def _fill(
        self,
        work: npt.NDArray[np.float64],
        allowed: npt.NDArray[np.bool_],
        left: npt.NDArray[np.bool_],
        chosen: npt.NDArray[np.int64],
    ) -> list[float]:
        """Give each image that is left to the worker that is done with it first.

        Returns:
            When each worker is done with all that it has.
        """
        together, begin = self._together(), self._done[0]
        rates = [each.rate / together for each in self._workers]
        slots = [
            _slot_loads(
                (work[chosen == number] / rates[number]).tolist(),
                each.slots,
                begin if each.apart else max(begin, each.free),
            )
            for number, each in enumerate(self._workers)
        ]
        places = np.flatnonzero(left)
        # Images that few workers can decode come first, as the others can make up for them.
        order = np.lexsort((-work[places], allowed[places].sum(axis=1)))
        for place in places[order].tolist():
            amount, row = float(work[place]), allowed[place].tolist()
            best, end = -1, np.inf
            for number, can in enumerate(row):
                if can and slots[number][0] + amount / rates[number] < end:
                    best, end = number, slots[number][0] + amount / rates[number]
            chosen[place] = best
            heapq.heapreplace(slots[best], end)
        return [max(each) for each in slots]

    def _note(
        self, work: npt.NDArray[np.float64], chosen: npt.NDArray[np.int64], ends: list[float]
    ) -> None:
        """Record what was assigned, when it will be done, and when queues can go on."""
        taken = chosen >= 0
        loads = np.bincount(chosen[taken], work[taken], len(self._workers)).astype(np.float64)
        total = float(loads.sum())
        if not total:
            return
        self._batch += 1
        self._done.append(max(self._done[-1], *np.array(ends)[loads > 0].tolist()))
        queues = [end for each, end in zip(self._workers, ends, strict=True) if not each.apart]
        # Queues that end before the batch, for want of images that they can decode, count as if
        # they ended with it: to make up for it with the next batch would have the shares swing.
        early = self._done[-1] - max(queues, default=0.0)
        new = 1 - _SHARE_DECAY if self._batch > 1 else 1.0
        for each, load, end in zip(self._workers, loads.tolist(), ends, strict=True):
            each.free = end + early
            each.idle = 0 if load else each.idle + 1
            each.share += new * (load / total - each.share)


def _slot_loads(loads: Iterable[float], slots: int, begin: float = 0.0) -> list[float]:
    """What each of several slots has, the least first, where the largest loads are given out first.

    Args:
        loads: They are given to the slot that has the least.
        slots: Number of slots.
        begin: What each has at first.
    """
    heap = [begin] * slots
    for load in sorted(loads, reverse=True):
        heapq.heapreplace(heap, heap[0] + load)
    return heap
