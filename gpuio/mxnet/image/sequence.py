"""The sequence of an `ImageIter`: which sample comes next, and where an epoch ends."""

from __future__ import annotations

import random
from collections.abc import Iterator, MutableSequence
from typing import Any

from gpuio.core import parameters as p


class SampleSequence:
    """Keys of samples in the order of an epoch, and the place of the next one.

    Args:
        keys: All samples of this part.
        batch_size: Samples in a batch.
        last_batch_handle: What happens to a last batch that is not full: see `ImageIter`.

    Attributes:
        keys: The keys; shuffled in place.
        cur: Place of the next sample.
        batch_size: Samples in a batch.
    """

    def __init__(self, keys: MutableSequence[Any], batch_size: int, last_batch_handle: str) -> None:
        p.choice("last_batch_handle", last_batch_handle, ("pad", "discard", "roll_over"))
        self.keys = keys
        self.cur = 0
        self.batch_size = batch_size
        self._last_batch = last_batch_handle
        self._open = True

    @property
    def left(self) -> int:
        """How many samples come before the end of the sequence; 0 after `end`."""
        return max(len(self.keys) - self.cur, 0) if self._open else 0

    @property
    def last_key(self) -> Any:
        """The key that `next_key` gave last."""
        return self.keys[self.cur - 1]

    def next_key(self) -> Any:
        """The key of the next sample.

        Raises:
            StopIteration: The sequence is over; `wrap` was called.
        """
        if not self.left:
            self.wrap()
            raise StopIteration
        self.cur += 1
        return self.last_key

    def wrap(self) -> None:
        """Continue at the start after the end; with "discard" and after `end`, stay at the end."""
        if self._open and self._last_batch != "discard":
            self.cur = 0

    def end(self) -> None:
        """End the epoch: there are no more samples until `rewind`."""
        self._open = False

    def rewind(self) -> None:
        """Go to the start of an epoch."""
        self.cur, self._open = 0, True

    def shuffle(self) -> None:
        """Shuffle with Python's `random`."""
        random.shuffle(self.keys)

    def chunks(self, filled: int, *, kept: bool) -> Iterator[MutableSequence[Any]]:
        """The keys from here to the batch that ends the epoch, in chunks that fill batches up.

        Args:
            filled: Places of the first batch that have samples already.
            kept: Whether "roll_over" has kept these samples, so that the first batch is filled up.
        """
        at, count, batch_size = self.cur, len(self.keys), self.batch_size
        last_batch, ending = self._last_batch, False
        while at < count:
            size = min(batch_size - filled, count - at)
            yield self.keys[at : at + size]
            at, filled = at + size, filled + size
            if filled == batch_size:
                if ending:
                    return
                filled, kept = 0, False
            elif last_batch == "pad" or kept:
                at, ending = 0, not kept
            else:
                return


def part_of(keys: MutableSequence[Any], num_parts: int, part_index: int) -> MutableSequence[Any]:
    """One of `num_parts` equal parts of `keys`; the samples that are left over are in none."""
    if num_parts <= 1:
        return keys
    assert 0 <= part_index < num_parts, (
        f"part_index must be from 0 to {num_parts - 1}, got {part_index}"
    )
    count = len(keys) // num_parts
    return keys[part_index * count : (part_index + 1) * count]
