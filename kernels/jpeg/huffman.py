"""Huffman tables of a JPEG, made ready for decoding.

Source: ITU-T T.81, annex C and F.2.2.3; libjpeg-turbo 3, jdhuff.c (jpeg_make_d_derived_tbl).
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.arrays import BYTES, array_at
from gpuio.kernels.native import device_function

LOOKUP_BITS = 10
"""Codes up to this length are decoded with one look-up."""
ENTRIES = 1 << LOOKUP_BITS
SKIP_BITS = 12
"""Codes that begin and end in so many bits are skipped with one look-up."""

TOTAL, SIZE, ADVANCE, LENGTH = 0, 5, 9, 17
"""First bit of each part of an entry.

TOTAL: 5 bits, those of the code and of the value behind it. SIZE: 4 bits, those of the value.
ADVANCE: 8 bits, by how many places of the block to go on. LENGTH: 5 bits, those of the code. An
entry of 0 means that the code is longer than LOOKUP_BITS, or that there is no such code.
"""
END_OF_BLOCK = 128
"""The ADVANCE of a code behind which a block has no coefficients."""

SKIP_ADVANCE = 5
"""First bit of the ADVANCE of all codes of an entry for skipping; below is their TOTAL. An entry of
0 means that there is no code of at most LOOKUP_BITS."""

TABLE = np.dtype(
    [
        ("entries", np.uint32, (ENTRIES,)),
        ("largest", np.int32, (17,)),  # code of each length, -1 where there is none
        ("shift", np.int32, (17,)),  # from a code of each length to the index of its symbol
        ("symbols", np.uint8, (256,)),
        ("counts", np.uint8, (16,)),  # codes of each length, as they stand in the file
        ("is_ac", np.int32),
        ("made", np.int32),  # whether the table is whole
        ("skips", np.uint16, (1 << SKIP_BITS,)),  # for skipping coefficients
        ("skips_made", np.int32),  # whether these are of the table
    ],
    align=True,
)


@device_function(types.int64(types.int64, types.int64, types.int64))
def entry(symbol, length, is_ac):
    """What to do for a symbol whose code has `length` bits."""
    size, advance = symbol & 15, (symbol >> 4) + 1
    if is_ac and size == 0 and advance != 16:
        advance = END_OF_BLOCK
    return (length + size) << TOTAL | size << SIZE | advance << ADVANCE | length << LENGTH


@device_function(types.boolean(from_dtype(TABLE), BYTES, types.int64, types.int64), inline=False)
def _is_made_of(table, data, at, is_ac):
    """Whether a table has been made of the same definition as the one at index `at`."""
    if table.made == 0 or table.is_ac != is_ac:
        return False
    count = 0
    for k in range(16):
        if table.counts[k] != data[at + k]:
            return False
        count += data[at + k]
    same = True
    for k in range(count):
        same &= table.symbols[k] == data[at + 16 + k]
    return same


@device_function(types.boolean(types.int64, BYTES, types.int64, types.int64), inline=False)
def make_table(address, data, at, is_ac):
    """Make a table of its definition in a file, unless it is the one that was made last.

    Args:
        address: Of a TABLE.
        data: (N,) uint8, the file.
        at: Index of the counts of its codes; the definition is known to be whole.
        is_ac: 1 for coefficients, 0 for differences of the first ones.

    Returns:
        Whether libjpeg accepts the definition.
    """
    table = array_at(np.uint64(address), 1, TABLE)[0]
    if _is_made_of(table, data, at, is_ac):
        return True
    table.made, table.is_ac, table.skips_made = 0, is_ac, 0
    entries, symbols = table.entries, table.symbols
    for k in range(len(entries)):
        entries[k] = 0
    code = index = 0
    for k in range(16):
        length, count = k + 1, np.int64(data[at + k])
        table.counts[k] = count
        table.shift[length] = index - code
        table.largest[length] = code + count - 1 if count else -1
        for _ in range(count):
            symbol = np.int64(data[at + 16 + index])
            symbols[index] = symbol
            if not is_ac and symbol > 15:
                return False
            if length <= LOOKUP_BITS and code < 1 << length:
                first, last = code << (LOOKUP_BITS - length), (code + 1) << (LOOKUP_BITS - length)
                made = entry(symbol, length, is_ac)
                for at_bits in range(first, last):
                    entries[at_bits] = made
            code, index = code + 1, index + 1
        if count and code >= 1 << length:  # no code may be all ones
            return False
        code <<= 1
    table.made = 1
    return True


@device_function(types.int64(types.int64, types.uint64), inline=False)
def long_entry(address, bits):
    """The entry for a code of more than LOOKUP_BITS bits, or 0 where there is no such code.

    Args:
        address: Of a TABLE.
        bits: uint64, the code first.
    """
    table = array_at(np.uint64(address), 1, TABLE)[0]
    for length in range(LOOKUP_BITS + 1, 17):
        code = np.int64(bits >> np.uint64(64 - length))
        if code <= table.largest[length]:
            symbol = np.int64(table.symbols[(code + table.shift[length]) & 255])
            return entry(symbol, length, table.is_ac)
    return np.int64(0)


@device_function(types.void(types.int64), inline=False)
def make_skips(address):
    """Make the entries of a table for skipping coefficients, unless they are made.

    Args:
        address: Of a TABLE of coefficients, which is made.
    """
    table = array_at(np.uint64(address), 1, TABLE)[0]
    if table.skips_made:
        return
    for bits in range(1 << SKIP_BITS):
        used = places = 0
        while used < SKIP_BITS and places < 63:
            ahead = (bits << used & ((1 << SKIP_BITS) - 1)) >> (SKIP_BITS - LOOKUP_BITS)
            code = np.int64(table.entries[ahead])
            further = code >> ADVANCE & 255
            if code == 0 or used + (code >> LENGTH) > SKIP_BITS:
                break
            if further != END_OF_BLOCK and places + further > 63:
                break
            used, places = used + (code & 31), places + further
        table.skips[bits] = used | places << SKIP_ADVANCE
    table.skips_made = 1
