"""Huffman codes that take the fewest bits for given counts of symbols.

Source: ITU-T T.81, annex K.2 (figures K.1 to K.4) and annex C.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuio.kernels.cached import cached_njit
from gpuio.kernels.transcode.codes import LONGEST

SYMBOLS = 256


@cached_njit(nogil=True, boundscheck=True)
def optimal_codes(counts, lengths, symbols):
    """Choose the length of the code of each symbol that occurs.

    No code is longer than 16 bits, and none has ones alone.

    Args:
        counts: (256,) int64, how often each symbol occurs.
        lengths: (16,) uint8 for the number of codes of each length from 1 on.
        symbols: (256,) uint8 for the symbols, by length, then by value.

    Returns:
        The number of symbols.
    """
    depths = _depths(counts)
    found = 0
    for depth in range(1, len(depths) + 1):
        for symbol in range(SYMBOLS):
            if depths[symbol] == depth:
                symbols[found] = symbol
                found += 1
    bits = np.zeros(len(depths) + 1, np.int64)
    for depth in depths:
        bits[depth] += 1
    _shorten(bits)
    for length in range(1, LONGEST + 1):
        lengths[length - 1] = bits[length]
    return found


@njit
def _depths(counts):
    """(257,) int64, depth of each symbol in a Huffman tree; 0 for one that does not occur.

    The last symbol is one more than there are. It is as deep as any, and its code, of ones alone,
    is the one that stays free.
    """
    depths = np.zeros(SYMBOLS + 1, np.int64)
    weights = np.zeros(SYMBOLS + 1, np.int64)
    heads = np.zeros(SYMBOLS + 1, np.int64)  # the first symbol of each tree
    following = np.full(SYMBOLS + 1, -1, np.int64)  # the next symbol of the same tree
    trees = 0
    for symbol in range(SYMBOLS):
        if counts[symbol]:
            weights[trees], heads[trees] = counts[symbol], symbol
            trees += 1
    weights[trees], heads[trees] = 1, SYMBOLS
    trees += 1
    while trees > 1:
        one = _lightest(weights, trees, -1)
        two = _lightest(weights, trees, one)
        last = heads[one]
        while True:
            depths[last] += 1
            if following[last] < 0:
                break
            last = following[last]
        following[last] = heads[two]
        symbol = heads[two]
        while symbol >= 0:
            depths[symbol] += 1
            symbol = following[symbol]
        weights[one] += weights[two]
        trees -= 1
        weights[two], heads[two] = weights[trees], heads[trees]
    return depths


@njit
def _lightest(weights, trees, other):
    """The number of the lightest tree but `other`; of equal ones, that of the largest symbol."""
    best = -1
    for tree in range(trees):
        if tree != other and (best < 0 or weights[tree] <= weights[best]):
            best = tree
    return best


@njit
def _shorten(bits):
    """Change the number of codes of each length so that none is longer than 16 bits.

    Then take away one of the longest: that of ones alone.
    """
    length = len(bits) - 1
    while length > LONGEST:
        if bits[length] == 0:
            length -= 1
            continue
        shorter = length - 2
        while bits[shorter] == 0:
            shorter -= 1
        bits[length] -= 2
        bits[length - 1] += 1
        bits[shorter + 1] += 2
        bits[shorter] -= 1
    while bits[length] == 0:
        length -= 1
    bits[length] -= 1
