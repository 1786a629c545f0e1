"""Entropy-coded bytes as bits."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gpuio.kernels.transcode.bits import SPARE_WORDS, scan_end, unstuff


def bytes_of(data):
    return np.frombuffer(data, np.uint8)


def bits_of(data, count):
    """Whether `data` has `count` intervals, and the bits of each as text."""
    words = np.zeros(len(data) // 8 + count + SPARE_WORDS, np.uint64)
    intervals = np.zeros((count, 2), np.int64)
    fits = unstuff(bytes_of(data), words, intervals)
    text = "".join(format(int(word), "064b") for word in words)
    return fits, [text[start:stop] for start, stop in intervals.tolist()]


def text_of(data):
    return "".join(format(value, "08b") for value in data)


@pytest.mark.parametrize("nbytes", [0, 1, 7, 8, 9, 300])
def test_stuffed_zeros_are_removed(nbytes):
    plain = random.Random(nbytes).randbytes(nbytes) + b"\xff" * (nbytes % 3)
    assert bits_of(plain.replace(b"\xff", b"\xff\0"), 1) == (True, [text_of(plain)])


def test_restart_markers_divide_the_bits():
    parts = [random.Random(n).randbytes(n).replace(b"\xff", b"\xfe") for n in range(20)]
    data = parts[0] + b"".join(
        bytes([0xFF, 0xD0 + n % 8]) + part for n, part in enumerate(parts[1:])
    )
    assert bits_of(data, 20) == (True, [text_of(part) for part in parts])


@pytest.mark.parametrize(
    "data",
    [
        b"a\xff\xd1b",
        b"a\xff\xd0b\xff\xd0c",
        b"a\xff\xd0b\xff\xd1c",
        b"a",
        b"a\xff\xd0b\xff",
        b"a\xff\xd9b",
    ],
)
def test_other_markers_than_those_expected_are_refused(data):
    assert not bits_of(data, 2)[0]


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (b"ab\xff\0c\xff\xd3d\xff\xd9", 0, 8),
        (b"\xff\xd9ab\xff\xda", 2, 4),
        (b"ab\xff\xff\xd9", 0, 2),
        (b"ab", 0, 2),
        (b"ab\xff", 0, 3),
        (b"", 0, 0),
    ],
)
def test_a_scan_ends_at_the_next_marker(data, start, end):
    assert scan_end(bytes_of(data), start) == end
