"""Entropy decoding: from the bytes of a scan to coefficients, side by side for the next stage.

Bytes are first copied without those that were stuffed in (T.81, F.1.2.3). Then an accumulator of 64
bits is filled with whole bytes, without a branch: as many as fit are added, and the address goes on
by as many. The next code is looked up before the value behind the last one is stored. Where values
are not wanted, one look-up reads all codes that end in SKIP_BITS.

Source: ITU-T T.81, annex F.2.2; F. Giesen, "Reading bits in far too many ways, part 2" (2018), the
variant with look-ahead.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.jpeg.header import MOST_BLOCKS
from gpuio.kernels.jpeg.huffman import (
    ADVANCE,
    END_OF_BLOCK,
    LENGTH,
    LOOKUP_BITS,
    SIZE,
    SKIP_ADVANCE,
    SKIP_BITS,
    TOTAL,
    long_entry,
)
from gpuio.kernels.jpeg.vector import BLOCKS
from gpuio.kernels.jpeg.words import (
    load_big_endian,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    store_8,
    store_16,
    store_64,
)
from gpuio.kernels.native import device_function

ZIGZAG = (
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
)  # fmt: skip
"""Place in a block, 8 * row + column, of each coefficient as they are coded: T.81, figure A.6."""

IN_CORNER = 9
"""The last of the coefficients, as they are coded, that lie in the first four rows and columns."""

GROUP_BYTES = 64 * BLOCKS * 2
"""Bytes of the coefficients of `BLOCKS` blocks: (64, BLOCKS) int16, each block in a lane."""

UNUSED_OFFSET = MOST_BLOCKS * GROUP_BYTES
"""Bytes from a lane to where a value is written that belongs to no coefficient."""
COEFFICIENT_BYTES = 2 * UNUSED_OFFSET
"""Bytes of the coefficients of `BLOCKS` MCUs, and of what is written for values of none."""

TAIL = 4096
"""Zero bytes behind the bytes of a scan, more than the blocks of an MCU can take from there."""

NEXT, BITS, COUNT, END = range(4)
"""What the words of a reader are: address of the next bytes; bits that were read, the next one the
highest; how many of them are known; address behind the last byte."""

BLOCK = np.dtype(
    [
        ("dc", np.int64),  # addresses of the TABLE of its first coefficient, and of the others'
        ("ac", np.int64),
        ("skips", np.int64),  # address of its TABLE.skips, if only the first one is wanted; else 0
        ("predictor", np.int64),  # address of the last first coefficient of its component, int64
        ("places", np.int64, (BLOCKS,)),  # address of its lane, for each of `BLOCKS` MCUs
        ("lasts", np.int64, (BLOCKS,)),  # address of the last place in use of its group, uint8
    ],
    align=True,
)
"""A block of an MCU."""

_EVERY_BYTE, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


def _lane_offsets():
    table = np.full(256, UNUSED_OFFSET, np.uint16)
    table[:64] = np.array(ZIGZAG) * BLOCKS * 2
    return table


LANE_OFFSETS = _lane_offsets()
"""Bytes from a lane to each coefficient as they are coded; behind a block, UNUSED_OFFSET."""

READER = types.NestedArray(types.int64, (4,))
"""Numba's type of a reader of bits."""
_BLOCKS = types.Array(from_dtype(BLOCK), 1, "C")


@device_function(
    types.UniTuple(types.int64, 2)(types.int64, types.int64, types.int64), inline=False
)
def unstuff(source, end, to):
    """Copy the bytes of a scan up to a marker, without those that were stuffed in.

    Args:
        source: Address of the first byte.
        end: Address behind the last byte that may be read.
        to: Address to write to; room for as many bytes, and 8 more.

    Returns:
        Address where it stopped: that of a marker, or `end`; and the address behind what was
        written.
    """
    while True:
        while source + 8 <= end:
            word = np.uint64(load_i64(source))
            # Bytes of 0xFF are bytes of 0 in the complement: "Hacker's Delight", section 6-1.
            if (~word - _EVERY_BYTE) & word & _HIGH_BITS:
                break
            store_64(to, np.int64(word))
            source, to = source + 8, to + 8
        for _ in range(8):
            if source >= end:
                return source, to
            byte = load_u8(source)
            if byte == 0xFF:
                if source + 1 >= end or load_u8(source + 1) != 0:
                    return source, to
                source += 1
            source += 1
            store_8(to, byte)
            to += 1


@device_function(types.void(READER, types.int64, types.int64), inline=False)
def start_reading(reader, start, end):
    """Read bits from the bytes from `start` to `end`, and zeros from there on.

    Args:
        reader: (4,) int64.
        start: Address of the first byte.
        end: Address behind the last one, with room for TAIL bytes there.
    """
    for k in range(TAIL // 8):
        store_64(end + 8 * k, 0)
    reader[NEXT], reader[END] = start, end
    reader[BITS] = reader[COUNT] = 0


@device_function(types.int64(READER))
def bits_left(reader):
    """Bits that were not used; below 0 where more were used than there are."""
    return 8 * (reader[END] - reader[NEXT]) + reader[COUNT]


@device_function(
    types.Tuple((types.int64, types.uint64, types.int64, types.boolean))(
        types.int64, types.uint64, types.int64, types.int64, types.int64
    ),
    inline=False,
)
def _skip_coefficients(at, bits, have, table, skips):
    """Read on to the end of a block, without the values, for as many codes at a time as can be.

    Args:
        at: As `NEXT` of a reader, in which there are at least 56 bits.
        bits: As `BITS`, uint64.
        have: As `COUNT`.
        table: Address of the TABLE of the coefficients.
        skips: Address of its `skips`, which are made.

    Returns:
        The first three as they are then, and whether the codes can be.
    """
    place, fine = np.int64(0), True
    while place < 63:
        entry = load_u16(skips + 2 * np.int64(bits >> np.uint64(64 - SKIP_BITS)))
        total, further = entry & 31, place + (entry >> SKIP_ADVANCE)
        # The block may be full before the last of these codes: then it is another block's.
        if entry == 0 or 63 < further < END_OF_BLOCK or further >= END_OF_BLOCK + 63:
            code = load_u32(table + 4 * np.int64(bits >> np.uint64(64 - LOOKUP_BITS)))
            if code == 0:
                code = long_entry(table, bits)
                if code == 0:
                    fine = False
                    code = np.int64(END_OF_BLOCK << ADVANCE | 16 << TOTAL)
            total, further = code & 31, place + ((code >> ADVANCE) & 255)
        place = further
        bits <<= total
        have -= total
        bits |= load_big_endian(at) >> have
        at += (63 - have) >> 3
        have |= 56
    return at, bits, have, fine and (place == 63 or place >= END_OF_BLOCK)


@device_function(
    types.boolean(READER, _BLOCKS, types.int64, types.int64, types.int64), inline=False
)
def decode_mcus(reader, blocks, offsets, first, count):
    """Decode MCUs, up to a code that cannot be or the end of the data.

    Args:
        reader: (4,) int64.
        blocks: (B,) BLOCK, those of an MCU.
        offsets: Address of LANE_OFFSETS, with a place for what is not used.
        first: Lane of the first MCU.
        count: Number of MCUs.

    Returns:
        Whether all were decoded, as far as is known: see `bits_left`.
    """
    at, bits, have = reader[NEXT], np.uint64(reader[BITS]), reader[COUNT]
    limit, fine = reader[END] + 8, True
    for mcu in range(first, first + count):
        if at > limit:
            return False
        for k in range(len(blocks)):
            block = blocks[k]
            lane, last = block.places[mcu], block.lasts[mcu]
            # The first coefficient, as a difference to the one before.
            bits |= load_big_endian(at) >> have
            at += (63 - have) >> 3
            have |= 56
            table = block.dc
            code = load_u32(table + 4 * np.int64(bits >> np.uint64(64 - LOOKUP_BITS)))
            if code == 0:
                code = long_entry(table, bits)
                fine &= code != 0
            size, length = (code >> SIZE) & 15, code >> LENGTH
            bits <<= length
            below = ~(np.int64(bits) >> 63)  # all ones where the first bit is 0
            value = np.int64((bits >> np.uint64(1)) >> (63 - size)) - (((1 << size) - 1) & below)
            bits <<= size
            have -= length + size
            value += load_i64(block.predictor)
            store_64(block.predictor, value)
            store_16(lane, value)
            # The others, each behind a code that says how many zeros come before it.
            table = block.ac
            bits |= load_big_endian(at) >> have
            at += (63 - have) >> 3
            have |= 56
            if block.skips != 0:
                at, bits, have, good = _skip_coefficients(at, bits, have, table, block.skips)
                fine &= good
                continue
            place = np.int64(0)
            code = load_u32(table + 4 * np.int64(bits >> np.uint64(64 - LOOKUP_BITS)))
            while True:
                if code == 0:
                    code = long_entry(table, bits)
                    if code == 0:
                        fine = False
                        code = np.int64(END_OF_BLOCK << ADVANCE | 16 << TOTAL | 16 << LENGTH)
                total, now = code & 31, code
                behind = bits << (code >> LENGTH)
                bits <<= total
                have -= total
                code = load_u32(table + 4 * np.int64(bits >> np.uint64(64 - LOOKUP_BITS)))
                bits |= load_big_endian(at) >> have
                at += (63 - have) >> 3
                have |= 56
                size = (now >> SIZE) & 15
                place += (now >> ADVANCE) & 255
                below = ~(np.int64(behind) >> 63)
                value = np.int64((behind >> np.uint64(1)) >> (63 - size))
                value -= ((1 << size) - 1) & below
                store_16(lane + load_u16(offsets + 2 * place), value)
                if place >= 63:
                    break
            fine &= place == 63 or place >= END_OF_BLOCK
            store_8(last, max(load_u8(last), place & 63))
    reader[NEXT], reader[BITS], reader[COUNT] = at, np.int64(bits), have
    return fine
