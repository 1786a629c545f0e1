"""Segments, frame headers and scan headers of JPEGs."""

from __future__ import annotations

import pytest

from gpuio.errors import DecodeError
from gpuio.formats.jpeg_segments import (
    EOI,
    FRAMES,
    SOF0,
    SOS,
    Frame,
    FrameComponent,
    ScanHeader,
    Segment,
    head_segments,
    next_segment,
    read_frame,
    read_scan,
)
from gpuio.testing import draw, encode

DATA = encode(draw(20, 30), "JPEG", subsampling="4:2:0")
LUMA, BLUE, RED = (
    FrameComponent(1, 2, 2, 0),
    FrameComponent(2, 1, 1, 1),
    FrameComponent(3, 1, 1, 1),
)
FRAME = Frame(SOF0, 8, 20, 30, (LUMA, BLUE, RED))


def whole(body: bytes) -> tuple[bytes, Segment]:
    return body, Segment(0, 0, 0, len(body))


def test_the_head_of_a_jpeg_is_read():
    found = list(head_segments(DATA))
    assert found[0] == Segment(0xE0, 2, 6, 20)
    assert found[-1].marker == SOS
    frame = next(segment for segment in found if segment.marker in FRAMES)
    assert read_frame(DATA, frame) == FRAME
    scan = ScanHeader((0, 1, 2), ((0, 0), (1, 1), (1, 1)), 0, 63, 0, 0)
    assert read_scan(DATA, found[-1], FRAME) == scan


def test_fill_bytes_are_passed_by():
    assert next_segment(b"\xff\xff\xff\xdd\0\4ab", 0) == Segment(0xDD, 2, 6, 8)
    assert next_segment(b"ab\xff\xd9", 2) == Segment(EOI, 2, 4, 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it ends at byte 0, without an end marker"),
        (b"a\xff\xd9", "no marker at byte 0"),
        (b"\xff", "it ends at byte 1, within a marker"),
        (b"\xff\xff", "it ends at byte 2, within a marker"),
        (b"\xff\0", "marker 0x00 at byte 0, where a segment must begin"),
        (b"\xff\xd8", "marker 0xd8 at byte 0, where a segment must begin"),
        (b"\xff\xd3", "marker 0xd3 at byte 0, where a segment must begin"),
        (b"\xff\xe0\0", "segment 0xe0 at byte 0 has a length of 0, and 1 bytes follow"),
        (b"\xff\xe0\0\1", "segment 0xe0 at byte 0 has a length of 1, and 2 bytes follow"),
        (b"\xff\xe0\0\5ab", "segment 0xe0 at byte 0 has a length of 5, and 4 bytes follow"),
    ],
)
def test_what_is_no_segment_is_an_error(data, message):
    with pytest.raises(DecodeError, match=message):
        next_segment(data, 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "frame header of 0 bytes for 0 components"),
        (b"\x08\0\x10\0\x10\0", "frame header of 6 bytes for 0 components"),
        (b"\x08\0\x10\0\x10\2\1\x11\0", "frame header of 9 bytes for 2 components"),
        (b"\x08\0\x10\0\x10\1\1\x01\0", "sampling factor 0, not 1 to 4"),
        (b"\x08\0\x10\0\x10\1\1\x15\0", "sampling factor 5, not 1 to 4"),
    ],
)
def test_a_frame_header_that_cannot_be_is_an_error(body, message):
    with pytest.raises(DecodeError, match=message):
        read_frame(*whole(body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "scan header of 0 bytes for 0 components"),
        (b"\1\1\0\0\x3f", "scan header of 5 bytes for 1 components"),
        (b"\4\1\0\2\0\3\0\4\0\0\x3f\0", "scan header of 12 bytes for 4 components"),
        (b"\1\x09\0\0\x3f\0", "components that are not those of the frame in order"),
        (b"\2\1\0\1\0\0\x3f\0", "components that are not those of the frame in order"),
        (b"\2\2\0\1\0\0\x3f\0", "components that are not those of the frame in order"),
        (b"\1\1\x04\0\x3f\0", "a Huffman table that cannot be"),
        (b"\1\1\x40\0\x3f\0", "a Huffman table that cannot be"),
    ],
)
def test_a_scan_header_that_cannot_be_is_an_error(body, message):
    with pytest.raises(DecodeError, match=message):
        read_scan(*whole(body), FRAME)


def test_an_mcu_has_at_most_ten_blocks():
    wide = Frame(SOF0, 8, 20, 30, (FrameComponent(1, 4, 2, 0), BLUE, FrameComponent(3, 2, 1, 1)))
    body = b"\3\1\0\2\0\3\0\0\x3f\0"
    with pytest.raises(DecodeError, match="11 blocks in an MCU, more than 10"):
        read_scan(*whole(body), wide)
    assert read_scan(*whole(b"\1\1\0\0\x3f\0"), wide).places == (0,)
