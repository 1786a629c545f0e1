"""The entropy-coded bits of a scan, apart from markers and stuffed zeros.

Source: ITU-T T.81, annexes B.1.1.5 and F.2.2.5.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuio.kernels.cached import cached_njit

SPARE_WORDS = 2
"""Words of 64 bits behind those of a scan, so that `peek` at its last bit stays inside."""


@cached_njit(nogil=True, boundscheck=True)
def scan_end(data, start):
    """The index of the marker behind the entropy-coded bytes that begin at `start`.

    Restart markers are part of a scan. The result is len(data) where no marker follows.

    Args:
        data: (N,) uint8, a JPEG.
        start: Index of the first byte behind the header of the scan.
    """
    at, last = start, len(data) - 1
    while at < last:
        if data[at] == 0xFF:
            follower = data[at + 1]
            if follower != 0 and not 0xD0 <= follower <= 0xD7:
                return at
            at += 2
        else:
            at += 1
    return len(data)


@cached_njit(nogil=True, boundscheck=True)
def unstuff(data, words, intervals):
    """Copy entropy-coded bytes without stuffed zeros and restart markers.

    Each restart interval begins at a new word.

    Args:
        data: (N,) uint8, from the first byte of a scan up to the marker behind it.
        words: (N // 8 + K + SPARE_WORDS,) uint64 for the bits, the first one the highest; zeros.
        intervals: (K, 2) int64 for the first bit of each interval and the bit behind its last.

    Returns:
        Whether there are K intervals, with restart markers that count from 0 to 7 between them.
    """
    at, interval, word, filled, bits = 0, 0, 0, 0, np.uint64(0)
    intervals[0, 0] = 0
    while at < len(data):
        value = data[at]
        at += 1
        if value == 0xFF:
            follower = data[at] if at < len(data) else np.uint8(0xFF)
            at += 1
            if follower != 0:
                if follower != 0xD0 + interval % 8 or interval + 1 == len(intervals):
                    return False
                intervals[interval, 1] = 64 * word + filled
                if filled:
                    words[word] = bits << np.uint64(64 - filled)
                    word += 1
                    filled, bits = 0, np.uint64(0)
                interval += 1
                intervals[interval, 0] = 64 * word
                continue
        bits = bits << np.uint64(8) | np.uint64(value)
        filled += 8
        if filled == 64:
            words[word] = bits
            word += 1
            filled, bits = 0, np.uint64(0)
    intervals[interval, 1] = 64 * word + filled
    if filled:
        words[word] = bits << np.uint64(64 - filled)
    return interval + 1 == len(intervals)


@njit(inline="always")
def peek(words, bit):
    """The 64 bits of `unstuff` from index `bit` on, as uint64."""
    word, shift = bit >> 6, np.uint64(bit & 63)
    return words[word] << shift | words[word + 1] >> np.uint64(1) >> (np.uint64(63) - shift)


@njit(inline="always")
def leading(window, count):
    """The first `count` bits of a uint64, 0 to 32, as int64."""
    return np.int64(window >> np.uint64(32) >> np.uint64(32 - count))


@njit(inline="always")
def signed(window, size):
    """The number that the first `size` bits of a uint64 stand for, 0 to 32, as int64.

    A first bit of 0 means a number below 0. There is no branch, as nothing could predict it.

    Source: ITU-T T.81, table F.1 and figure F.12 (EXTEND).
    """
    below = ~(np.int64(window) >> 63)  # all ones where the first bit is 0
    return leading(window, size) + (below & 1 - (1 << size))
