"""Encoding coefficients as one sequential scan.

The symbols are found first, as tokens, so that Huffman codes can be made for them.

Source: ITU-T T.81, annexes F.1.2 and B.1.1.5.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuio.kernels.cached import cached_njit
from gpuio.kernels.transcode.layout import block_of

TABLES = 4
"""Huffman tables: 0 and 1 for DC, 2 and 3 for AC."""
TOO_LARGE = -1
"""The result of `find_tokens` for coefficients that baseline JPEG does not have."""
MOST_TOKENS = 64
"""Tokens of a block."""
CODE_NBYTES = 8
"""More bytes than a token ever takes, with stuffed zeros."""

_MOST_COMPONENTS = 4
_DC_BITS, _AC_BITS = 11, 10  # of the largest difference of DC coefficients, and of AC
_BIT_LENGTH = np.array([number.bit_length() for number in range(1 << _DC_BITS)], np.uint8)
_RESTART = TABLES << 24  # a token: a restart marker belongs here
_END_OF_BLOCK, _SIXTEEN_ZEROS = 0x00, 0xF0


@cached_njit(nogil=True, boundscheck=True)
def find_tokens(coefficients, scan, size, restart, tokens, counts):
    """What a scan consists of, in its order.

    Args:
        coefficients: (N, 64) int16.
        scan: (C,) SCAN_COMPONENT of the scan, with tables 0 and 1 for both DC and AC.
        size: (rows, columns) of MCUs.
        restart: MCUs between restart markers; 0 for none.
        tokens: (M,) uint32 to fill in, `MOST_TOKENS` for each block and one for each restart:
            table << 24 | symbol << 16 | bits behind the code, of which the symbol has the number.
        counts: (TABLES, 256) int64, zeros, for how often each symbol occurs.

    Returns:
        The number of tokens, or TOO_LARGE.
    """
    before = np.zeros(_MOST_COMPONENTS, np.int64)
    quads = coefficients.view(np.uint64)
    found, left = 0, restart
    for row in range(size[0]):
        for column in range(size[1]):
            if restart:
                if left == 0:
                    tokens[found] = _RESTART
                    found += 1
                    left = restart
                    before[:] = 0
                left -= 1
            for number in range(len(scan)):
                component = scan[number]
                for y in range(component.down):
                    for x in range(component.across):
                        place = block_of(component, row, column, y, x)
                        block = coefficients[place]
                        difference = block[0] - before[number]
                        before[number] = block[0]
                        if abs(difference) >= 1 << _DC_BITS:
                            return TOO_LARGE
                        bits = np.int64(_BIT_LENGTH[abs(difference)])
                        tokens[found] = _token(component.dc, bits, difference, bits)
                        counts[component.dc, bits] += 1
                        found = _ac_tokens(
                            block, quads[place], component.ac, tokens, found + 1, counts
                        )
                        if found < 0:
                            return TOO_LARGE
    return found


@njit(inline="always")
def _ac_tokens(block, quads, table, tokens, found, counts):
    """Append the tokens of the AC coefficients of a block; how many tokens there are then.

    Args:
        block: (64,) int16.
        quads: (16,) uint64, the same memory: most of it is zeros, of which these are four each.
    """
    row, last = 2 + table, 0
    for quad in range(16):
        if quads[quad] == 0:
            continue
        for place in range(max(4 * quad, 1), 4 * quad + 4):
            value = np.int64(block[place])
            if value == 0:
                continue
            run = place - last - 1
            while run > 15:
                tokens[found] = _token(row, _SIXTEEN_ZEROS, 0, 0)
                counts[row, _SIXTEEN_ZEROS] += 1
                found += 1
                run -= 16
            if abs(value) >= 1 << _AC_BITS:
                return TOO_LARGE
            size = np.int64(_BIT_LENGTH[abs(value)])
            symbol = run << 4 | size
            tokens[found] = _token(row, symbol, value, size)
            counts[row, symbol] += 1
            found += 1
            last = place
    if last < 63:
        tokens[found] = _token(row, _END_OF_BLOCK, 0, 0)
        counts[row, _END_OF_BLOCK] += 1
        found += 1
    return found


@njit(inline="always")
def _token(table, symbol, value, size):
    """A token; a value below 0 is written less by one, in as many bits."""
    bits = value + (value >> 63) & (1 << size) - 1
    return np.uint32(table << 24 | symbol << 16 | bits)


@cached_njit(nogil=True, boundscheck=True)
def assign_codes(lengths, symbols, codes):
    """The code of each symbol of a Huffman table.

    Args:
        lengths: (16,) uint8, the number of codes of each length from 1 on.
        symbols: (N,) uint8, by length.
        codes: (256,) uint32 to fill in: length << 16 | code; 0 for a symbol without one.
    """
    code = place = 0
    for length in range(1, len(lengths) + 1):
        for _ in range(lengths[length - 1]):
            codes[symbols[place]] = length << 16 | code
            code += 1
            place += 1
        code <<= 1


@cached_njit(nogil=True, boundscheck=True)
def write_scan(tokens, codes, out):
    """Write tokens as entropy-coded bytes, with stuffed zeros and restart markers.

    Args:
        tokens: (M,) uint32, as `find_tokens` makes them.
        codes: (TABLES, 256) uint32, as `assign_codes` makes them.
        out: (B,) uint8, at least CODE_NBYTES for each token and for the last bits.

    Returns:
        The number of bytes.
    """
    pending, count, at, restarts = np.uint64(0), 0, 0, 0
    for token in tokens:
        if token == _RESTART:
            at = _flush(pending, count, out, at)
            out[at], out[at + 1] = 0xFF, 0xD0 + restarts % 8
            at += 2
            restarts += 1
            pending, count = np.uint64(0), 0
            continue
        code = np.int64(codes[token >> 24, token >> 16 & 255])
        size = np.int64(token >> 16 & 15)
        length = (code >> 16) + size
        value = (code & 0xFFFF) << size | np.int64(token & 0xFFFF)
        pending = pending << np.uint64(length) | np.uint64(value)
        count += length
        if count >= 32:
            for _ in range(4):
                count -= 8
                at = _put(np.uint8(pending >> np.uint64(count) & np.uint64(255)), out, at)
    return _flush(pending, count, out, at)


@njit(inline="always")
def _put(value, out, at):
    """Write a byte, and a zero behind one of ones alone; the index behind what was written."""
    out[at] = value
    if value == 0xFF:
        out[at + 1] = 0
        return at + 2
    return at + 1


@njit(inline="always")
def _flush(pending, count, out, at):
    """Write the last bits of an interval, filled up with ones; the index behind them."""
    spare = -count % 8
    pending = pending << np.uint64(spare) | np.uint64((1 << spare) - 1)
    for last in range(count + spare - 8, -1, -8):
        at = _put(np.uint8(pending >> np.uint64(last) & np.uint64(255)), out, at)
    return at
