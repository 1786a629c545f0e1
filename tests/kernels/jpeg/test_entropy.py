"""Bytes of a scan without stuffing, and coefficients, against a decoder that goes bit by bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
import simplejpeg
from compiled import compiled
from jpeg_alone import JpegAlone
from numba import njit
from plain_jpeg import plain_jpeg
from slow_jpeg import slow_coefficients

from gpuio.kernels.jpeg.entropy import (
    BLOCK,
    COEFFICIENT_BYTES,
    END,
    GROUP_BYTES,
    LANE_OFFSETS,
    NEXT,
    TAIL,
    ZIGZAG,
    bits_left,
    decode_mcus,
    start_reading,
    unstuff,
)
from gpuio.kernels.jpeg.header import MOST_BLOCKS
from gpuio.kernels.jpeg.huffman import TABLE, make_skips, make_table
from gpuio.kernels.jpeg.vector import BLOCKS
from gpuio.testing import draw

ROOM = 8
READER = np.dtype([("reader", np.int64, (4,))])

make_table_compiled, unstuff_compiled = compiled(make_table), compiled(unstuff)
make_skips_compiled = compiled(make_skips)


@njit
def start(readers, begin, end):
    start_reading(readers[0].reader, begin, end)


@njit
def decode(readers, blocks, offsets, first, count):
    return decode_mcus(readers[0].reader, blocks, offsets, first, count)


class Reader:
    """The state of entropy decoding, with tables and blocks that a test says.

    Args:
        scan: Bytes of a scan, without stuffing.
        definitions: Of the tables of each block of an MCU: the bytes of two definitions, and the
            number of its component.
        skips: Whether all coefficients but the first are skipped.
    """

    def __init__(self, scan, definitions, *, skips=False):
        self.bytes = np.zeros(len(scan) + ROOM + TAIL, np.uint8)
        self.bytes[: len(scan)] = np.frombuffer(scan, np.uint8)
        self.readers, self.predictors = np.zeros(1, READER), np.zeros(3, np.int64)
        self.reader = self.readers["reader"][0]
        begin = self.bytes.ctypes.data
        start(self.readers, begin, begin + len(scan))
        self.tables = np.zeros((len(definitions), 2), TABLE)
        self.blocks = np.zeros(len(definitions), BLOCK)
        self.coefficients = np.zeros(COEFFICIENT_BYTES, np.uint8)
        self.lasts = np.zeros(MOST_BLOCKS, np.uint8)
        for k, (dc, ac, component) in enumerate(definitions):
            for table, (body, is_ac) in zip(self.tables[k], ((dc, 0), (ac, 1)), strict=True):
                address = table.__array_interface__["data"][0]
                assert make_table_compiled(address, np.frombuffer(body, np.uint8), 0, is_ac)
            self.blocks[k]["dc"], self.blocks[k]["ac"] = (
                self.tables.ctypes.data + np.array([2 * k, 2 * k + 1]) * TABLE.itemsize
            )
            if skips:
                ac = int(self.blocks[k]["ac"])
                make_skips_compiled(ac)
                self.blocks[k]["skips"] = ac + TABLE.fields["skips"][1]
            self.blocks[k]["predictor"] = self.predictors.ctypes.data + 8 * component
            lane = self.coefficients.ctypes.data + k * GROUP_BYTES
            self.blocks[k]["places"] = lane + 2 * np.arange(BLOCKS)
            self.blocks[k]["lasts"] = self.lasts.ctypes.data + k

    def decode(self, count):
        """(count, B, 64) coefficients in the order of the code; None if something is wrong."""
        self.coefficients[:], self.lasts[:] = 0, 0
        offsets = LANE_OFFSETS.ctypes.data
        if not decode(self.readers, self.blocks, offsets, 0, count):
            return None
        groups = self.coefficients[: len(self.blocks) * GROUP_BYTES].view(np.int16)
        return groups.reshape(-1, 64, BLOCKS).transpose(2, 0, 1)[:count, :, list(ZIGZAG)]


def unstuffed(data):
    """What is left of bytes up to a marker, and how many were read."""
    source = np.frombuffer(data + b"\0", np.uint8)
    out = np.full(len(data) + 2 * ROOM, 0xA5, np.uint8)
    at, end = source.ctypes.data, out.ctypes.data
    stop, used = unstuff_compiled(at, at + len(data), end)
    assert (out[len(data) + ROOM :] == 0xA5).all()
    return out[: used - end].tobytes(), stop - at


@pytest.mark.parametrize("nbytes", [0, 1, 7, 8, 9, 16, 300])
def test_stuffed_bytes_are_left_out_up_to_a_marker(nbytes):
    rng = random.Random(nbytes)
    for share in (0, 0.1, 0.9):
        plain = bytes(255 if rng.random() < share else rng.randrange(256) for _ in range(nbytes))
        data = plain.replace(b"\xff", b"\xff\0")
        assert unstuffed(data) == (plain, len(data))
        for marker in (b"\xff\xd9", b"\xff\xd0" + bytes(20), b"\xff", b"\xff\xff\0"):
            assert unstuffed(data + marker) == (plain, len(data))


def definition(data, at):
    return data[at : at + 16 + sum(data[at : at + 16])]


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411", "Gray"])
@pytest.mark.parametrize("quality", [30, 99])
def test_coefficients_are_those_of_a_slow_decoder(sampling, quality):
    gray = sampling == "Gray"
    image = draw(33, 90, 1 if gray else 3, seed=quality)
    data = simplejpeg.encode_jpeg(image, quality, "GRAY" if gray else "RGB", sampling)
    (row,) = JpegAlone().open(data)
    definitions = [
        (definition(data, row["dc"][c]), definition(data, row["ac"][c]), c)
        for c in range(row["components"])
        for _ in range(row["across"][c] * row["down"][c])
    ]
    wanted = slow_coefficients(data).reshape(-1, len(definitions), 64)
    reader = Reader(data[row["scan"] : -2].replace(b"\xff\0", b"\xff"), definitions)
    for first in range(0, len(wanted), BLOCKS):
        part = wanted[first : first + BLOCKS]
        np.testing.assert_array_equal(reader.decode(len(part)), part)
        used = [np.flatnonzero(part[:, k].any(axis=0)).max(initial=0) for k in range(part.shape[1])]
        assert (reader.lasts[: len(used)] >= used).all()
    assert 0 <= bits_left(reader.reader) < 8


def test_values_of_all_sizes_and_runs():
    rng = np.random.default_rng(2)
    blocks = np.zeros((40, 64), np.int64)
    for k in range(40):
        places = rng.integers(0, 64, rng.integers(1, 30))
        blocks[k, places] = rng.integers(-(1 << (k % 14 + 1)), 1 << (k % 14 + 1), len(places))
    data = plain_jpeg(blocks, np.ones(64))
    (row,) = JpegAlone().open(data)
    tables = definition(data, row["dc"][0]), definition(data, row["ac"][0]), 0
    reader = Reader(data[row["scan"] : -2].replace(b"\xff\0", b"\xff"), [tables])
    for first in range(0, 40, BLOCKS):
        made = reader.decode(BLOCKS)[:, 0]
        np.testing.assert_array_equal(made, blocks[first : first + BLOCKS])


# Codes: DC 0 for size 0, 10 for size 1. AC 0 for the end, 10 for a run of 15, 110 for 16 zeros.
DC, AC = bytes([1, 1, *[0] * 14, 0, 1]), bytes([1, 1, 1, *[0] * 13, 0x00, 0xF1, 0xF0])


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize(
    ("bits", "good"),
    [
        ("0" + "0", True),
        ("101" + "0", True),
        ("0" + "101" * 3 + "0", True),
        ("0" + "110" * 3 + "0", True),
        ("0" + "101" * 4, False),  # 64 coefficients behind the first
        ("0" + "110" * 4, False),
        ("0" + "111", False),
        ("11" + "0", False),
    ],
)
def test_codes_that_cannot_be_and_blocks_that_are_too_long_are_found(bits, good, skips):
    scan = int(bits.ljust(64, "0"), 2).to_bytes(8, "big")
    assert (Reader(scan, [(DC, AC, 0)], skips=skips).decode(1) is not None) == good


@pytest.mark.parametrize("quality", [30, 80, 99])
def test_skipping_ends_where_decoding_does_also_in_damaged_data(quality):
    data = simplejpeg.encode_jpeg(draw(40, 90, 1, seed=quality), quality, "GRAY", "Gray")
    (row,) = JpegAlone().open(data)
    tables = definition(data, row["dc"][0]), definition(data, row["ac"][0]), 0
    sound, rng = data[row["scan"] : -2].replace(b"\xff\0", b"\xff"), random.Random(quality)
    verdicts = []
    for flips in (*[0] * 3, *[3] * 300):
        scan = bytearray(sound)
        for _ in range(flips):
            scan[rng.randrange(len(scan))] ^= 1 << rng.randrange(8)
        plain, skipping = (Reader(bytes(scan), [tables], skips=skips) for skips in (False, True))
        good = True
        for _ in range(60 // 4):  # blocks
            found, first = plain.decode(4), skipping.decode(4)
            good = found is not None
            assert (first is not None) == good
            if not good:
                break
            np.testing.assert_array_equal(first[:, :, 0], found[:, :, 0])
            assert not first[:, :, 1:].any()
            assert bits_left(skipping.reader) == bits_left(plain.reader)
        verdicts.append(good)
    assert all(verdicts[:3])
    assert len(set(verdicts)) == 2


@pytest.mark.parametrize("skips", [False, True])
def test_reading_ends_soon_behind_the_last_byte(skips):
    longest = bytes(15) + b"\1"  # one code, of 16 zeros
    worst = longest + b"\x0f", longest + b"\x0f", 0  # with 15 bits behind it
    reader = Reader(b"", [worst] * MOST_BLOCKS, skips=skips)
    assert reader.decode(1) is not None
    reach = reader.reader[NEXT] + 8 - reader.reader[END]  # of an MCU, which may begin 8 bytes later
    assert 31 * 64 * MOST_BLOCKS // 8 <= reach <= TAIL - 8
    assert bits_left(reader.reader) < 0
    assert reader.decode(1) is None
