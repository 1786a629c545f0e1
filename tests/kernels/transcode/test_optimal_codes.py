"""Huffman codes for counts of symbols, and tables to decode and to encode with."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from numba import njit

from gpuio.kernels.transcode.codes import CODES, decode_symbol, derive
from gpuio.kernels.transcode.encode import assign_codes
from gpuio.kernels.transcode.optimal_codes import optimal_codes


@njit
def decoded(window, codes):
    return decode_symbol(window, codes[0])


def table(counts):
    """Numbers of codes by length, and the symbols."""
    lengths, symbols = np.zeros(16, np.uint8), np.zeros(256, np.uint8)
    return lengths, symbols[: optimal_codes(np.array(counts, np.int64), lengths, symbols)]


def codes_of(lengths, symbols):
    """Length and code of each symbol."""
    codes = np.zeros(256, np.uint32)
    assign_codes(lengths, symbols, codes)
    return {
        symbol: (int(codes[symbol]) >> 16, int(codes[symbol]) & 0xFFFF)
        for symbol in symbols.tolist()
    }


def huffman_bits(counts):
    """Bits that all symbols take with any Huffman code that leaves one code free."""
    heap = [count for count in counts if count] + [1]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total


FIBONACCI = [1, 1]
while len(FIBONACCI) < 40:
    FIBONACCI.append(FIBONACCI[-1] + FIBONACCI[-2])
COUNTS = {
    "one": [0, 0, 5] + [0] * 253,
    "two": [9, 1] + [0] * 254,
    "all": list(range(1, 257)),
    "equal": [7] * 256,
    "once": [1] * 256,
    "few": np.random.default_rng(3).integers(0, 4, 256).tolist(),
    "deep": FIBONACCI + [0] * 216,
}


@pytest.mark.parametrize("name", COUNTS)
def test_each_symbol_has_a_code_and_none_has_ones_alone(name):
    lengths, symbols = table(COUNTS[name])
    assert sorted(symbols.tolist()) == np.flatnonzero(COUNTS[name]).tolist()
    codes = codes_of(lengths, symbols)
    taken = [(code << (16 - length), 1 << (16 - length)) for length, code in codes.values()]
    assert [start for start, _ in taken] == np.cumsum([0, *(n for _, n in taken)])[:-1].tolist()
    assert sum(nbytes for _, nbytes in taken) < 1 << 16
    assert all(code != (1 << length) - 1 for length, code in codes.values())


@pytest.mark.parametrize("name", sorted(set(COUNTS) - {"deep"}))
def test_they_take_as_few_bits_as_any(name):
    counts = COUNTS[name]
    codes = codes_of(*table(counts))
    spent = sum(counts[symbol] * length for symbol, (length, _) in codes.items())
    free = max(length for length, _ in codes.values())  # of the code that stays free, at least
    assert spent <= huffman_bits(counts) - free


def test_frequent_symbols_have_the_shorter_codes():
    counts = COUNTS["few"]
    codes = codes_of(*table(counts))
    for symbol, (length, _) in codes.items():
        longer = [counts[other] for other, (bits, _) in codes.items() if bits > length]
        assert counts[symbol] >= max(longer, default=0)


@pytest.mark.parametrize("name", COUNTS)
def test_codes_are_decoded_to_their_symbols(name):
    lengths, symbols = table(COUNTS[name])
    codes = np.zeros(1, CODES)
    assert derive(lengths, symbols, codes)
    for symbol, (length, code) in codes_of(lengths, symbols).items():
        for behind in (0, (1 << (64 - length)) - 1):
            window = np.uint64(code << (64 - length) | behind)
            assert decoded(window, codes) == 256 * length + symbol
    assert decoded(np.uint64(2**64 - 1), codes) == -1


@pytest.mark.parametrize(
    "lengths",
    [
        [2, *[0] * 15],  # the second one is of ones alone
        [0, 4, *[0] * 14],
        [1, 2, *[0] * 14],
        [0] * 15 + [200],
    ],
)
def test_lengths_that_cannot_be_are_refused(lengths):
    symbols = np.zeros(100, np.uint8)
    assert not derive(np.array(lengths, np.uint8), symbols, np.zeros(1, CODES))
