"""Buffers lent in turn to the next stage, and taken back when the device is done with them."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, field

from gpuio.devices.base import DONE, Array, Event
from gpuio.errors import PipelineClosedError

_GROWTH = 1.25
_TOO_LARGE = 4  # times what is needed
_USES = 32  # after which memory that was too large for all of them is given back


@dataclass(slots=True, eq=False)
class Slot:
    """One buffer of a ring.

    Attributes:
        allocate: Allocates a number of bytes.
        least: Smallest capacity, in bytes.
        most: Capacity, in bytes, above which no spare bytes are allocated; None for no limit.
        data: (capacity,) uint8, the memory; replaced when a batch needs more, and when no batch has
            needed a quarter of it for a while.
        more: Memory beside `data`, for items that turned out to be larger than estimated.
        fence: The last device work that reads or writes the memory.
    """

    allocate: Callable[[int], Array]
    least: int = 0
    most: int | None = None
    data: Array = None
    more: list[Array] = field(default_factory=list)
    fence: Event = field(default=DONE)
    _uses: int = 0
    _needed: int = 0  # most bytes in these uses

    def reserve(self, nbytes: int) -> Array:
        """`data`, at least `nbytes` long; its content is lost when its size changes."""
        self._uses, self._needed = self._uses + 1, max(self._needed, nbytes)
        self.more.clear()
        if self.data is None or len(self.data) < nbytes:
            self._resize(nbytes)
        elif self._uses >= _USES:
            if len(self.data) > _TOO_LARGE * self._size_for(self._needed):
                self._resize(self._needed)
            self._uses = self._needed = 0
        return self.data

    def extend(self, nbytes: int) -> Array:
        """Memory of `nbytes` bytes beside `data`, until the next `reserve`."""
        self.more.append(self.allocate(nbytes))
        return self.more[-1]

    def _resize(self, nbytes: int) -> None:
        self.data = None  # give the old memory back first
        try:
            self.data = self.allocate(self._size_for(nbytes))
        except MemoryError:
            self.data = self.allocate(nbytes)
        self._uses = self._needed = 0

    def _size_for(self, nbytes: int) -> int:
        grown = int(nbytes * _GROWTH)
        if self.most is not None:
            grown = max(nbytes, min(grown, self.most))
        return max(grown, self.least)


class Ring:
    """`depth` slots; `acquire` blocks while all of them are lent.

    Args:
        allocate: Allocates a buffer of a number of bytes, such as `device.empty_host`.
        depth: Number of slots: one for each stage that can hold a batch, plus one to fill.
        least: Smallest capacity of a slot, in bytes.
    """

    def __init__(self, allocate: Callable[[int], Array], depth: int, least: int = 0) -> None:
        self._slots = [Slot(allocate, least) for _ in range(depth)]
        self.reset()

    def reset(self) -> None:
        """Take every slot back and open the ring; only while no stage uses it."""
        self._free: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)

    def acquire(self) -> Slot:
        """The slot that has been free for longest; its memory is safe to overwrite.

        Raises:
            PipelineClosedError: The ring was closed, now or while waiting.
        """
        slot = self._free.get()
        if slot is None:
            self.close()  # wake the next one waiting, too
            raise PipelineClosedError("no more buffers: the pipeline was closed")
        slot.fence.synchronize()
        return slot

    def release(self, slot: Slot, after: Event = DONE) -> None:
        """Give `slot` back; its memory is in use until `after`."""
        slot.fence = after
        self._free.put(slot)

    def close(self) -> None:
        """Wake all threads that wait in `acquire`."""
        self._free.put(None)
