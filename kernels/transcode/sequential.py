"""Decoding the coefficients of sequential scans: baseline and extended, Huffman-coded.

Source: ITU-T T.81, annexes F.2.2.1 and F.2.2.2.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuio.kernels.cached import cached_njit
from gpuio.kernels.transcode.bits import peek, signed
from gpuio.kernels.transcode.codes import decode_symbol
from gpuio.kernels.transcode.layout import block_of

_LARGEST = 32767  # of int16
_MOST_COMPONENTS = 4


@cached_njit(nogil=True, boundscheck=True)
def decode_sequential(words, intervals, restart, scan, size, codes, coefficients):
    """Decode a scan with all bits of all coefficients.

    Args:
        words: Bits of the scan, as `bits.unstuff` has them.
        intervals: (K, 2) int64, first bit of each restart interval and the bit behind its last.
        restart: MCUs in an interval.
        scan: (C,) SCAN_COMPONENT, 4 at most.
        size: (rows, columns) of MCUs.
        codes: (8,) CODES, 4 for DC and 4 for AC.
        coefficients: (N, 64) int16 to write to, zeros before.

    Returns:
        Whether the bits are those of a whole and valid scan.
    """
    before = np.zeros(_MOST_COMPONENTS, np.int64)
    bit = end = left = interval = 0
    for row in range(size[0]):
        for column in range(size[1]):
            if left == 0:
                if end - bit >= 8:
                    return False
                bit, end = intervals[interval]
                interval += 1
                left = restart
                before[:] = 0
            left -= 1
            for number in range(len(scan)):
                component = scan[number]
                for y in range(component.down):
                    for x in range(component.across):
                        block = coefficients[block_of(component, row, column, y, x)]
                        bit = _decode_difference(words, bit, codes[component.dc], block)
                        if not 0 <= bit <= end:
                            return False
                        before[number] += block[0]
                        if not -_LARGEST <= before[number] <= _LARGEST:
                            return False
                        block[0] = before[number]
                        bit = _decode_ac(words, bit, end, codes[component.ac], block)
                        if bit < 0:
                            return False
    return end - bit < 8


@njit(inline="always")
def _decode_difference(words, bit, codes, block):
    """Read how much a DC coefficient is above the one before it, into `block`; see `_decode_ac`."""
    window = peek(words, bit)
    found = decode_symbol(window, codes)
    length, size = found >> 8, found & 255
    if found < 0 or size > 15:
        return np.int64(-1)
    block[0] = signed(window << np.uint64(length), size)
    return bit + length + size


@njit(inline="always")
def _decode_ac(words, bit, end, codes, block):
    """Read the AC coefficients of a block from `bit` on; the bit behind them, -1 for damage."""
    place = 1
    while place < 64:
        window = peek(words, bit)
        found = decode_symbol(window, codes)
        length, run, size = found >> 8, found >> 4 & 15, found & 15
        bit += length + size
        if found < 0 or bit > end:
            return np.int64(-1)
        place += run
        if size == 0:
            if run == 0:
                return bit
            if run < 15:
                return np.int64(-1)
        if place > 63:
            return np.int64(-1)
        block[place] = signed(window << np.uint64(length), size)
        place += 1
    return bit
