"""Tables of Huffman codes, against a dictionary of codes."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import compiled

from gpuio.kernels.jpeg.huffman import (
    ADVANCE,
    END_OF_BLOCK,
    LENGTH,
    LOOKUP_BITS,
    SIZE,
    SKIP_ADVANCE,
    SKIP_BITS,
    TABLE,
    TOTAL,
    long_entry,
    make_skips,
    make_table,
)

find_long, make, make_all = compiled(long_entry), compiled(make_table), compiled(make_skips)

# Codes of each length from 1 to 16. T.81's tables K.3 and K.5; a comb; all of 8 bits; long ones.
COUNTS = {
    "of DC": (0, 1, 5, 1, 1, 1, 1, 1, 1),
    "of AC": (0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125),
    "of every length": (1,) * 16,
    "of eight bits": (0,) * 7 + (255,),
    "of ten and eleven bits": (0,) * 9 + (100, 150),
    "of sixteen bits": (0,) * 15 + (255,),
    "none": (),
}


def made(counts, symbols, is_ac, table=None):
    """A TABLE, and whether the definition is accepted."""
    data = np.array([*counts, *[0] * (16 - len(counts)), *symbols], np.uint8)
    table = np.zeros(1, TABLE) if table is None else table
    return table, make(table.ctypes.data, data, 0, is_ac)


def codes_of(counts, symbols):
    """Symbols by their codes, as text: T.81, annex C."""
    codes, code, rest = {}, 0, iter(symbols)
    for length, count in enumerate(counts, 1):
        for _ in range(count):
            codes[format(code, f"0{length}b")] = next(rest)
            code += 1
        code <<= 1
    return codes


def found(table, bits):
    """What the table says of 64 bits; None if there is no such code."""
    entry = int(table["entries"][0, bits >> (64 - LOOKUP_BITS)])
    entry = entry or int(find_long(table.ctypes.data, np.uint64(bits)))
    if not entry:
        return None
    return {
        "length": entry >> LENGTH,
        "size": entry >> SIZE & 15,
        "advance": entry >> ADVANCE & 255,
        "total": entry >> TOTAL & 31,
    }


def wanted(symbol, length, is_ac):
    size, run = symbol & 15, symbol >> 4
    ends = is_ac and size == 0 and run != 15
    advance = END_OF_BLOCK if ends else run + 1
    return {"length": length, "size": size, "advance": advance, "total": length + size}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("is_ac", [0, 1])
def test_every_code_is_found_whatever_follows_it(name, is_ac):
    count = sum(COUNTS[name])
    symbols = [(97 * k) % 256 if is_ac else k % 16 for k in range(count)]
    table, accepted = made(COUNTS[name], symbols, is_ac)
    assert accepted
    for code, symbol in codes_of(COUNTS[name], symbols).items():
        for behind in "01":
            bits = int(code.ljust(64, behind), 2)
            assert found(table, bits) == wanted(symbol, len(code), is_ac)
    assert found(table, (1 << 64) - 1) is None


@pytest.mark.parametrize(
    ("counts", "symbols", "is_ac"),
    [
        ((2,), (0, 1), 1),  # the second one is of ones alone
        ((1, 2), (0, 1, 2), 1),
        ((0, 5), (0, 1, 2, 3, 4), 1),
        ((0,) * 6 + (128,), range(128), 1),
        ((0, 0, 1), (16,), 0),  # differences have at most 15 bits
        ((200,), range(200), 1),
    ],
)
def test_definitions_that_libjpeg_refuses_are_refused(counts, symbols, is_ac):
    assert not made(counts, symbols, is_ac)[1]


def test_a_table_is_made_anew_for_other_definitions_only():
    table, _ = made((0, 2), (1, 2), 0)
    table["entries"] = 7
    made((0, 2), (1, 2), 0, table)
    assert (table["entries"] == 7).all()
    for counts, symbols, is_ac in (((0, 2), (1, 3), 0), ((0, 2), (1, 3), 1), ((0, 1), (1,), 1)):
        table["entries"] = 7
        made(counts, symbols, is_ac, table)
        anew = made(counts, symbols, is_ac)[0]
        np.testing.assert_array_equal(table["entries"], anew["entries"])


def test_a_definition_that_was_refused_is_not_taken_for_one_that_was_made():
    table, _ = made((0, 0, 1), (16,), 0)
    assert not made((0, 0, 1), (16,), 0, table)[1]
    assert made((0, 0, 1), (9,), 0, table)[1]


def skipped(codes, bits):
    """Bits and places of the codes that begin and end in a text of bits, up to the block's end."""
    used = places = 0
    while used < len(bits) and places < 63:
        length = next(
            (n for n in range(1, len(bits) - used + 1) if bits[used : used + n] in codes), 0
        )
        what = wanted(codes[bits[used : used + length]], length, 1) if length else None
        if what is None or length > LOOKUP_BITS:
            break
        if what["advance"] != END_OF_BLOCK and places + what["advance"] > 63:
            break
        used, places = used + what["total"], places + what["advance"]
    return used, places


@pytest.mark.parametrize("name", COUNTS)
def test_codes_that_end_in_the_same_bits_are_skipped_together(name):
    symbols = [(97 * k) % 256 for k in range(sum(COUNTS[name]))]
    table, _ = made(COUNTS[name], symbols, 1)
    make_all(table.ctypes.data)
    codes = codes_of(COUNTS[name], symbols)
    for bits, entry in enumerate(table["skips"][0].tolist()):
        found = entry & 31, entry >> SKIP_ADVANCE
        assert found == skipped(codes, format(bits, f"0{SKIP_BITS}b"))


def test_what_is_skipped_together_is_made_anew_with_its_table():
    table, _ = made((0, 2), (1, 2), 1)
    make_all(table.ctypes.data)
    first = table["skips"].copy()
    made((0, 2), (1, 3), 1, table)
    make_all(table.ctypes.data)
    assert (table["skips"] != first).any()
