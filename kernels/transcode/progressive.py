"""Decoding the coefficients of progressive scans: a band of them, from some bit on.

A first scan of a band has the high bits of its coefficients, and each later scan has one bit more.

Source: ITU-T T.81, annexes G.1.2 and G.2; figures G.3 to G.7.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuio.kernels.cached import cached_njit
from gpuio.kernels.transcode.bits import leading, peek, signed
from gpuio.kernels.transcode.codes import decode_symbol
from gpuio.kernels.transcode.layout import block_of

_LARGEST = 32767  # of int16
_MOST_COMPONENTS = 4


@cached_njit(nogil=True, boundscheck=True)
def decode_dc(words, intervals, restart, scan, size, codes, first, low, coefficients):
    """Decode a scan of DC coefficients.

    Args:
        words: Bits of the scan, as `bits.unstuff` has them.
        intervals: (K, 2) int64, first bit of each restart interval and the bit behind its last.
        restart: MCUs in an interval.
        scan: (C,) SCAN_COMPONENT, 4 at most.
        size: (rows, columns) of MCUs.
        codes: (8,) CODES, 4 for DC and 4 for AC.
        first: Whether this is the first scan of them.
        low: The lowest bit of the coefficients that the scan has.
        coefficients: (N, 64) int16 to add to.

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
                        window = peek(words, bit)
                        if first:
                            found = decode_symbol(window, codes[component.dc])
                            length, bits = found >> 8, found & 255
                            if found < 0 or bits > 15:
                                return False
                            before[number] += signed(window << np.uint64(length), bits)
                            bit += length + bits
                            value = before[number] << low
                            if not -_LARGEST <= value <= _LARGEST:
                                return False
                            block[0] = value
                        else:
                            block[0] |= leading(window, 1) << low
                            bit += 1
                        if bit > end:
                            return False
    return end - bit < 8


@cached_njit(nogil=True, boundscheck=True)
def decode_ac_first(words, intervals, restart, scan, size, codes, band, low, coefficients):
    """Decode the first scan of a band of AC coefficients of one component.

    Args:
        band: (first, last) of the coefficients, 1 to 63.
        words, intervals, restart, scan, size, codes, low, coefficients: As for `decode_dc`.

    Returns:
        Whether the bits are those of a whole and valid scan.
    """
    component = scan[0]
    table = codes[component.ac]
    bit = end = left = interval = 0
    empty = np.int64(0)  # blocks from here on without a coefficient in this band
    for row in range(size[0]):
        for column in range(size[1]):
            if left == 0:
                if end - bit >= 8 or empty:
                    return False
                bit, end = intervals[interval]
                interval += 1
                left = restart
            left -= 1
            if empty:
                empty -= 1
                continue
            block = coefficients[block_of(component, row, column, 0, 0)]
            place = band[0]
            while place <= band[1]:
                window = peek(words, bit)
                found = decode_symbol(window, table)
                length, run, bits = found >> 8, found >> 4 & 15, found & 15
                if bits == 0 and run < 15:
                    empty = (1 << run) - 1 + leading(window << np.uint64(length), run)
                    bits = run
                    place = 64
                bit += length + bits
                if found < 0 or bit > end:
                    return False
                if place == 64:
                    break
                place += run
                if place > band[1]:
                    return False
                value = signed(window << np.uint64(length), bits) << low
                if not -_LARGEST <= value <= _LARGEST:
                    return False
                block[place] = value
                place += 1
    return end - bit < 8 and empty == 0


@cached_njit(nogil=True, boundscheck=True)
def decode_ac_more(words, intervals, restart, scan, size, codes, band, low, coefficients):
    """Decode one bit more of a band of AC coefficients of one component.

    Args:
        band: (first, last) of the coefficients, 1 to 63.
        words, intervals, restart, scan, size, codes, low, coefficients: As for `decode_dc`.

    Returns:
        Whether the bits are those of a whole and valid scan.
    """
    component = scan[0]
    table = codes[component.ac]
    bit = end = left = interval = 0
    empty = np.int64(0)  # blocks from here on without a new coefficient in this band
    for row in range(size[0]):
        for column in range(size[1]):
            if left == 0:
                if end - bit >= 8 or empty:
                    return False
                bit, end = intervals[interval]
                interval += 1
                left = restart
            left -= 1
            block = coefficients[block_of(component, row, column, 0, 0)]
            place = band[0]
            while empty == 0 and place <= band[1]:
                window = peek(words, bit)
                found = decode_symbol(window, table)
                length, run, bits = found >> 8, found >> 4 & 15, found & 15
                if found < 0 or bits > 1:
                    return False
                value = np.int64(0)
                if bits:
                    value = 2 * leading(window << np.uint64(length), 1) - 1
                elif run < 15:
                    empty = (1 << run) + leading(window << np.uint64(length), run)
                    bits = run
                bit += length + bits
                if bit > end:
                    return False
                if empty:
                    break
                place, bit = _refine(words, bit, end, block, place, band[1], run, low)
                if bit > end or place > band[1]:
                    return False
                if value:
                    block[place] = value << low
                place += 1
            if empty:
                _, bit = _refine(words, bit, end, block, place, band[1], 64, low)
                if bit > end:
                    return False
                empty -= 1
    return end - bit < 8 and empty == 0


@njit(inline="always")
def _refine(words, bit, end, block, place, last, zeros, low):
    """Read a bit for each coefficient that is not 0, and pass by `zeros` of those that are.

    Returns:
        The place of the next zero, `last` + 1 if there is none; and the bit behind those read. It
        is above `end` if there are too few.
    """
    while place <= last:
        value = block[place]
        if value == 0:
            if zeros == 0:
                break
            zeros -= 1
        else:
            if bit >= end:
                return place, end + 1
            more, sign = leading(peek(words, bit), 1) << low, np.int64(value) >> 63
            block[place] = value + (more ^ sign) - sign  # without a branch: it is a random bit
            bit += 1
        place += 1
    return place, bit
