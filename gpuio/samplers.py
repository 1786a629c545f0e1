"""Which records each batch holds: pure functions of the epoch, the seed and the part.

Without shuffling, part r of n is the r-th contiguous range. With it, the epoch has one global
permutation, and part r takes its positions r, r + n, r + 2n, ... So all parts together see every
record once, after k steps of all parts the records taken are the first ones of the permutation,
and a run can go on with another number of parts.

The permutation is a Feistel network over the smallest even power of two that holds all record
numbers; numbers outside are encrypted again until they fall inside. Any place of it is computed
when it is asked for: an epoch of a billion records takes no memory and no time to begin.

Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (CT-RSA 2002), section 4 (cycle
walking); the round function is the finaliser of splitmix64, Steele et al. (OOPSLA 2014).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from gpuio.errors import StateError

Int64s = npt.NDArray[np.int64]
LastBatch = Literal["pad", "short", "drop"]

_ROUNDS: Final = 8
_GOLDEN: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Selection:
    """The records of one batch.

    Attributes:
        ids: (N,) int64 record numbers.
        pad: How many at the end only fill the batch up: repeats of records of this part.
    """

    ids: Int64s
    pad: int


@dataclass(frozen=True, slots=True)
class Order:
    """The order of records in every epoch, for one part.

    Attributes:
        count: Records in the data set.
        batch_size: N, records in a batch.
        shuffle: False keeps file order.
        seed: The same in every part, so that parts stay disjoint.
        num_parts: Readers that share the data set.
        part_index: This reader, in [0, num_parts).
        last_batch: "pad" fills the last batch up, "short" leaves it short, "drop" drops it.
    """

    count: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    num_parts: int = 1
    part_index: int = 0
    last_batch: LastBatch = "pad"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.num_parts < 1:
            raise ValueError(f"num_parts must be at least 1, got {self.num_parts}")
        if not 0 <= self.part_index < self.num_parts:
            found = f"{self.part_index} of {self.num_parts}"
            raise ValueError(f"part_index must be in [0, num_parts), got {found}")
        if self.count < self.num_parts:
            raise ValueError(
                f"{self.count} records cannot be shared by num_parts={self.num_parts}: "
                "every part needs at least one"
            )

    def length(self, start: int = 0, done: int = 0) -> int:
        """Number of batches of each part that are left of an epoch.

        Args:
            start: Records of the epoch taken by all parts before `done` counts.
            done: Records of this part taken since.
        """
        share = max(-(-(self.count - start) // self.num_parts) - done, 0)
        if self.last_batch == "drop":
            return share // self.batch_size
        return -(-share // self.batch_size)

    def batches(self, epoch: int, start: int = 0, done: int = 0) -> Iterator[Selection]:
        """The batches of one epoch that are left.

        Args:
            epoch: From 0; a shuffled order differs between epochs.
            start: Records of the epoch taken by all parts before `done` counts.
            done: Records of this part taken since, a multiple of the batch size then used.
        """
        rest = self.count - start
        share = -(-rest // self.num_parts)
        if self.last_batch == "drop":
            stop = done + (share - done) // self.batch_size * self.batch_size
        else:
            stop = share
        for first in range(done, stop, self.batch_size):
            last = first + self.batch_size
            if self.last_batch == "short":
                last = min(last, share)
            places = np.arange(first, last)
            own = self._own(rest)
            yield Selection(self._records(places, epoch, start), int((places >= own).sum()))

    def _own(self, rest: int) -> int:
        """Records of this part among the last `rest` of the epoch."""
        if self.shuffle:
            return (rest - self.part_index + self.num_parts - 1) // self.num_parts
        return self._bound(self.part_index + 1, rest) - self._bound(self.part_index, rest)

    def _bound(self, part: int, rest: int) -> int:
        return part * rest // self.num_parts

    def _records(self, places: Int64s, epoch: int, start: int) -> Int64s:
        """Record numbers at `places` of this part; places beyond its end begin again."""
        rest = self.count - start
        own = self._own(rest)
        if own:
            places = places % own
        if not self.shuffle:
            return (start + self._bound(self.part_index, rest) + places) % self.count
        positions = (start + self.part_index + places * self.num_parts) % self.count
        return permutation(positions, self.count, seed=self.seed, epoch=epoch)

    def resume(self, start: int, done: int, num_parts: int) -> tuple[int, int]:
        """Where to go on from a state saved with `num_parts` parts: a new `start` and `done`.

        Raises:
            StateError: Without shuffling, several ranges were half read; only as many parts as
                before can finish them.
        """
        if num_parts == self.num_parts:
            return start, done
        if done and not self.shuffle and num_parts > 1:
            raise StateError(
                f"state was saved in mid-epoch with num_parts={num_parts} and shuffle=False; it "
                f"can go on with {num_parts} parts only, got num_parts={self.num_parts}"
            )
        return min(start + done * num_parts, self.count), 0


def permutation(positions: Int64s, count: int, *, seed: int, epoch: int) -> Int64s:
    """The record numbers at `positions` of an epoch's global permutation of `count` records.

    Args:
        positions: (N,) int64 in [0, count).
        count: Records in the data set.
        seed: Of the run.
        epoch: From 0.

    Returns:
        (N,) int64 in [0, count), all different where `positions` are.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    keys = _keys(seed, epoch)
    values = positions.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _encrypt(values[outside], np.uint64(half), keys)
        outside = outside[values[outside] >= np.uint64(count)]
    return values.astype(np.int64)


def _encrypt(
    values: npt.NDArray[np.uint64], half: np.uint64, keys: list[np.uint64]
) -> npt.NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    return left << half | right


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)


def _keys(seed: int, epoch: int) -> list[np.uint64]:
    state = np.array([seed & _WORD], np.uint64)
    for word in (epoch & _WORD, _ROUNDS):
        state = _mix(state * np.uint64(_GOLDEN) + np.uint64(word) + np.uint64(1))
    steps = np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return list(_mix(state + steps))
