"""Which records each batch holds: pure functions of the seed, the epoch and the part.

Without shuffling, part r of n reads the r-th contiguous range of records. With it, an epoch has one
permutation of all records, and part r reads its positions r, r + n, r + 2n, ... So the parts
together read every record once; after k batches of every part, the records read are the first ones
of the permutation, and a run can go on from there with another number of parts.

The permutation is a Feistel network over the smallest even power of two that holds all record
numbers; results that are no record numbers are encrypted again until they are. Each position is
computed when it is asked for: an epoch of a billion records needs no memory and no time to begin.

Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (CT-RSA 2002), section 4 (cycle
walking); the round function is the finaliser of splitmix64, Steele et al. (OOPSLA 2014).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field
from typing import ClassVar, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.options import option
from gpuio.core.shard import Shard, resolve_shard
from gpuio.errors import StateError

Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
LastBatch = Literal["pad", "short", "drop"]

_ROUNDS: Final = 8
_GOLDEN_RATIO: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1
# Records whose numbers are computed at once: a small batch alone takes about as long, and with
# more elements than these NumPy would give the GIL away in each of some hundred steps.
_CHUNK: Final = 500


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """Which records make a batch, and in which order.

    Attributes:
        shard: The part of the data set that is read; made of the last two options.
    """

    section: ClassVar[str] = "Sampling"
    batch_size: int = option(MISSING, "N, the number of images in a batch, at least 1.")
    shuffle: bool = option(False, "Draw a new permutation of all records for each epoch. False "
        "keeps the order of the files.")
    seed: int = option(0, "Seed for the permutation, and for augmentation unless `seed_aug` is "
        "given.")
    seed_aug: int | None = option(None, "Seed for augmentation.")
    round_batch: bool = option(True, "Fill up the last batch of an epoch with other records of "
        "this part; `batch.pad` counts them. False leaves the last batch short.")
    last_batch: LastBatch | None = option(None, "What becomes of an incomplete last batch: "
        '"pad" fills it up as `round_batch` does, "short" leaves it short, "drop" drops it. None '
        "leaves the choice to `round_batch`.")
    num_parts: int | str = option(1, "The number of readers that share the data set; each reads "
        'its own part. "auto" takes both this number and `part_index` from the launcher: torchrun, '
        "JAX, Ray Train, Open MPI or Slurm.")
    part_index: int | None = option(0, "The index of this reader, from 0 to num_parts - 1.")
    shard: Shard = field(init=False)

    def __post_init__(self) -> None:
        p.integer("batch_size", self.batch_size, least=1)
        if self.last_batch is not None:
            p.choice("last_batch", self.last_batch, get_args(LastBatch))
        object.__setattr__(self, "shard", resolve_shard(self.num_parts, self.part_index))

    @property
    def augmentation_seed(self) -> int:
        """The seed that augmentation draws with."""
        return self.seed if self.seed_aug is None else self.seed_aug

    def order(self, count: int) -> Order:
        """The order of `count` records in every epoch."""
        return Order(
            count,
            self.batch_size,
            shuffle=self.shuffle,
            seed=self.seed,
            num_parts=self.shard.count,
            part_index=self.shard.index,
            last_batch=self.last_batch or ("pad" if self.round_batch else "short"),
        )
# fmt: on


@dataclass(frozen=True, slots=True)
class Selection:
    """The records of one batch.

    Attributes:
        ids: (N,) int64 record numbers.
        pad: How many at the end only fill the batch up: they repeat records of this part.
    """

    ids: Int64s
    pad: int


@dataclass(frozen=True, slots=True)
class Order:
    """The order of the records in every epoch, for one part.

    How far an epoch has come is given by two numbers: `start`, how many records all parts together
    had read when the present number of parts took over; and `done`, how many records each part has
    read since.

    Attributes:
        count: Records in the data set.
        batch_size: N, records in a batch.
        shuffle: Whether each epoch has another order; False keeps that of the files.
        seed: Seed of the permutations; the same in every part, so that parts stay disjoint.
        num_parts: Parts that the records of an epoch are divided into.
        part_index: The part that is read, in [0, num_parts).
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
        """Number of batches that each part has left in an epoch that came to `start` and `done`."""
        left = max(self._largest_share(start) - done, 0)
        if self.last_batch == "drop":
            return left // self.batch_size
        return -(-left // self.batch_size)

    def batches(self, epoch: int, start: int = 0, done: int = 0) -> Iterator[Selection]:
        """The batches of this part that are left of an epoch that came to `start` and `done`.

        Args:
            epoch: The number of the epoch, from 0.
            start: Records that all parts together had read, see the class.
            done: Records that each part has read since; a multiple of the batch size then used.
        """
        stop = done + self.length(start, done) * self.batch_size
        if self.last_batch == "short":
            stop = min(stop, self._largest_share(start))
        own = self._share(self.count - start)
        several = max(_CHUNK // self.batch_size, 1) * self.batch_size
        for first in range(done, stop, several):
            ids = self._records(np.arange(first, min(first + several, stop)), epoch, start)
            for begin in range(0, len(ids), self.batch_size):
                batch = ids[begin : begin + self.batch_size]
                end = first + begin + len(batch)
                yield Selection(batch, min(max(end - own, 0), len(batch)))

    def _largest_share(self, start: int) -> int:
        """The records of the part that has most of them: all parts have as many batches."""
        return -(-(self.count - start) // self.num_parts)

    def _share(self, left: int) -> int:
        """The records of this part among the last `left` of an epoch."""
        if self.shuffle:
            return (left - self.part_index + self.num_parts - 1) // self.num_parts
        return self._range_start(self.part_index + 1, left) - self._range_start(
            self.part_index, left
        )

    def _range_start(self, part: int, left: int) -> int:
        """Where the contiguous range of a part begins among the last `left` records."""
        return part * left // self.num_parts

    def _records(self, positions: Int64s, epoch: int, start: int) -> Int64s:
        """Record numbers at positions of this part; those beyond its end begin at 0 again."""
        left = self.count - start
        own = self._share(left)
        if own:
            positions = positions % own
        if not self.shuffle:
            return (start + self._range_start(self.part_index, left) + positions) % self.count
        positions = (start + self.part_index + positions * self.num_parts) % self.count
        return permutation(positions, self.count, seed=self.seed, epoch=epoch)

    def resume(self, start: int, done: int, num_parts: int) -> tuple[int, int]:
        """The `start` and `done` from which to go on in a state saved with `num_parts` parts.

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
    """The record numbers at `positions` of an epoch's permutation of `count` records.

    Args:
        positions: (N,) int64 in [0, count).
        count: Records in the data set.
        seed: Seed of the permutations of all epochs.
        epoch: The number of the epoch, from 0.

    Returns:
        (N,) int64 in [0, count), all different where `positions` are.
    """
    half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
    keys = _round_keys(seed, epoch)
    values = positions.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _encrypt(values[outside], np.uint64(half_bits), keys)
        outside = outside[values[outside] >= np.uint64(count)]
    return values.astype(np.int64)


def _encrypt(values: Uint64s, half_bits: np.uint64, keys: list[np.uint64]) -> Uint64s:
    """(N,) the Feistel network of (N,) values of twice `half_bits` bits."""
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    return left << half_bits | right


def _mix(words: Uint64s) -> Uint64s:
    """(N,) the finaliser of splitmix64."""
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)


def _round_keys(seed: int, epoch: int) -> list[np.uint64]:
    """A key for each round of the network."""
    state = np.array([seed & _WORD], np.uint64)
    for word in (epoch & _WORD, _ROUNDS):
        state = _mix(state * np.uint64(_GOLDEN_RATIO) + np.uint64(word) + np.uint64(1))
    steps = np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(_GOLDEN_RATIO)
    return list(_mix(state + steps))
