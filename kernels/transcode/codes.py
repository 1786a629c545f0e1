"""Huffman codes as tables from which symbols are decoded.

Source: ITU-T T.81, annexes C and F.2.2.3.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuio.kernels.cached import cached_njit
from gpuio.kernels.transcode.bits import leading

LONGEST = 16
"""Bits of the longest code."""
_FAST = 9  # bits that are looked up at once: most codes are no longer

CODES = np.dtype([
    ("fast", np.int32, 1 << _FAST),  # 256 * length + symbol by the next bits; 0 for longer codes
    ("largest", np.int32, LONGEST + 1),  # code of each length; -1 for none
    ("offset", np.int32, LONGEST + 1),  # of the symbols of each length, less the smallest code
    ("symbols", np.uint8, 256),  # by length, then by code
])  # fmt: skip
"""One Huffman table, ready to decode with."""


@cached_njit(nogil=True, boundscheck=True)
def derive(counts, symbols, codes):
    """Make a table to decode with.

    Args:
        counts: (16,) uint8, the number of codes of each length from 1 on.
        symbols: (N,) uint8, at least as many as there are codes, 256 at most.
        codes: (1,) CODES to fill in.

    Returns:
        Whether the codes fit: each length has room for its codes and for one of ones alone, which
        no symbol may have.
    """
    codes[0].fast[:] = 0
    codes[0].largest[:] = -1
    code = place = 0
    for length in range(1, LONGEST + 1):
        count = int(counts[length - 1])
        if (count and code + count >= 1 << length) or place + count > len(symbols):
            return False
        codes[0].offset[length] = place - code
        for _ in range(count):
            codes[0].symbols[place] = symbols[place]
            if length <= _FAST:
                first = code << (_FAST - length)
                last = first + (1 << (_FAST - length))
                codes[0].fast[first:last] = 256 * length + int(symbols[place])
            code += 1
            place += 1
        if count:
            codes[0].largest[length] = code - 1
        code <<= 1
    return True


@njit(inline="always")
def decode_symbol(window, codes):
    """256 * length + symbol of the code that a window of 64 bits begins with; -1 if there is none.

    Args:
        window: uint64, the next bits.
        codes: A row of CODES.
    """
    found = np.int64(codes.fast[leading(window, _FAST)])
    if found:
        return found
    for length in range(_FAST + 1, LONGEST + 1):
        code = leading(window, length)
        if code <= codes.largest[length]:
            return 256 * length + np.int64(codes.symbols[(code + codes.offset[length]) & 255])
    return np.int64(-1)
