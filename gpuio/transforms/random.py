"""Random numbers that belong to a record, not to a batch, a thread or a device.

Philox4x32-10 keyed by (seed, epoch) and counted by (record number, draw): the same record gets
the same numbers whatever the batch size, the shard or the order of reading. Every purpose has a
place of its own in `Draw`, so switching one augmentation on changes nothing for the others.

Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), section 3.3.
"""

from __future__ import annotations

from copy import copy
from enum import IntEnum, auto
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_MULTIPLIER: Final = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_WEYL: Final = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
_REPEAT: Final = 1 << 26
"""Blocks of four words that the ops of a plan may use, the upper half of them by `named`; those of
an op that is repeated lie behind."""


class Draw(IntEnum):
    """What a random number is for. New purposes go to the end: a place never changes."""

    MIRROR = 0
    CROP_Y = auto()
    CROP_X = auto()
    RESIZE_INTERPOLATION = auto()
    CROP_INTERPOLATION = auto()
    SHEAR = auto()
    ANGLE = auto()
    SCALE = auto()
    ASPECT = auto()
    WARP_INTERPOLATION = auto()
    CROP_SIZE = auto()
    BRIGHTNESS = auto()
    CONTRAST = auto()
    SATURATION = auto()
    JITTER_ORDER = auto()
    HUE = auto()
    LIGHTNESS = auto()
    COLOR_SATURATION = auto()
    LIGHTING_RED = auto()
    LIGHTING_GREEN = auto()
    LIGHTING_BLUE = auto()
    GRAY = auto()
    GAIN = auto()
    OFFSET = auto()
    HUE_SPREAD = auto()
    LIGHTNESS_SPREAD = auto()
    COLOR_SATURATION_SPREAD = auto()
    LIGHTING_SPARE = auto()
    AREA_TRIES = 32  # and the 29 places after it: area, ratio and exchange, ten times
    HUE_CHANCE = 64
    COLOR_SATURATION_CHANCE = auto()
    LIGHTNESS_CHANCE = auto()
    CONTRAST_CHANCE = auto()
    PAD_CHANCE = auto()
    PAD_SCALE = auto()
    PAD_X = auto()
    PAD_Y = auto()
    CROP_CHANCE = auto()
    SAMPLER_ORDER = 128  # and the 895 places after it: one for each sampler
    CROP_TRIALS = 1024  # and all places after it: scale, ratio, x and y, again and again


def named(purpose: str) -> int:
    """A place for the random numbers of a transform that has none in `Draw`: it and the next three.

    Args:
        purpose: Name of what is drawn, which no other transform uses.
    """
    return 4 * (_REPEAT // 2 + crc32(purpose.encode()) % (_REPEAT // 2))


class Draws:
    """The random numbers of one batch, computed when they are asked for, four purposes at a time.

    Args:
        ids: (N,) int64 record numbers.
        seed: Seed of the augmentation, any 64-bit integer.
        epoch: Number of the epoch, from 0.
    """

    def __init__(self, ids: npt.NDArray[np.int64], *, seed: int, epoch: int) -> None:
        self._ids = ids.astype(np.uint64)
        self._key = np.array([seed & 0xFFFFFFFF, epoch & 0xFFFFFFFF], np.uint64)
        self._high = np.uint64(seed >> 32 & 0xFFFFFFFF)
        self._blocks: dict[int, Words] = {}
        self._first = 0

    def again(self, repeat: int) -> Draws:
        """Other numbers for the same purposes, for an op that is in a plan more than once.

        Args:
            repeat: How many ops have taken theirs before; 0 gives these numbers.
        """
        if not repeat:
            return self
        other = copy(self)
        other._blocks, other._first = {}, repeat * _REPEAT % (1 << 32)
        return other

    @property
    def stream(self) -> tuple[Words, Words, np.uint64]:
        """For kernels that draw by themselves: record numbers, key, fourth word of the counters.

        The third word of a counter is the `block` of the draw; the place in the result is the
        draw modulo 4.
        """
        return self._ids, self._key, self._high

    def block(self, draw: int) -> int:
        """Number of the four words of which `draw` is one."""
        return self._first + draw // 4

    def words(self, draw: int) -> Words:
        """(N,) uint64 in [0, 2**32)."""
        block, place = self.block(int(draw)), draw % 4
        if block not in self._blocks:
            counter = np.empty((len(self._ids), 4), np.uint64)
            counter[:, 0], counter[:, 1] = self._ids & _LOW, self._ids >> _HALF
            counter[:, 2], counter[:, 3] = block, self._high
            self._blocks[block] = philox4x32(counter, self._key)
        return self._blocks[block][:, place]

    def uniform(self, draw: int, low: float = 0, high: float = 1) -> npt.NDArray[np.float32]:
        """(N,) float32 in [low, high)."""
        unit = (self.words(draw) >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)
        return unit * np.float32(high - low) + np.float32(low)

    def integers(
        self, draw: int, low: int, high: npt.NDArray[np.int64] | int
    ) -> npt.NDArray[np.int64]:
        """(N,) int64 in [low, high], `high` included, for each its own if it is an array."""
        span = np.asarray(high, np.int64) - low + 1
        return low + (self.words(draw) * span.astype(np.uint64) >> _HALF).astype(np.int64)

    def normal(self, draw: int, other: int) -> tuple[npt.NDArray[np.float32], ...]:
        """Two independent (N,) float32 of the standard normal distribution, from two draws.

        Source: Box and Muller, A Note on the Generation of Random Normal Deviates (1958).
        """
        u = (self.words(draw).astype(np.float64) + 1) / 2**32
        v = self.words(other).astype(np.float64) / 2**32
        radius, turn = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
        return tuple((radius * f(turn)).astype(np.float32) for f in (np.cos, np.sin))

    def coin(self, draw: int) -> npt.NDArray[np.bool_]:
        """(N,) bool, true for one half."""
        return self.words(draw) >> np.uint64(31) == 0


def philox4x32(counter: Words, key: Words) -> Words:
    """Ten rounds of Philox: (..., 4) counters and a (2,) key of 32-bit words to (..., 4) words."""
    pairs = (2, *[1] * (counter.ndim - 1))
    multiplier, weyl, key = (values.reshape(pairs) for values in (_MULTIPLIER, _WEYL, key))
    even, odd = (np.moveaxis(counter[..., first::2], -1, 0).copy() for first in (0, 1))
    for _ in range(10):
        product = even * multiplier
        even, odd = (product >> _HALF)[::-1] ^ odd ^ key, (product & _LOW)[::-1]
        key = (key + weyl) & _LOW
    return np.stack([even[0], odd[0], even[1], odd[1]], axis=-1)
