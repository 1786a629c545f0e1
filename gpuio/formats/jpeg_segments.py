"""The segments of a JPEG and its frame header: what is known before any pixel is decoded.

Source: ITU-T T.81, annexes B.1.1.4, B.2.2 and table B.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gpuio.errors import DecodeError

START_OF_IMAGE: Final = b"\xff\xd8"
SOF0, SOF1, SOF2 = 0xC0, 0xC1, 0xC2  # baseline, extended sequential, progressive
DHT, EOI, SOS, DQT, DRI = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
"""Markers of frame headers, of every kind of coding."""

HUFFMAN_TABLES: Final = 4
"""Huffman tables of each class, for DC and for AC."""

_FRAME_NBYTES: Final = 6  # of a frame header up to its components
_COMPONENT_NBYTES: Final = 3
_LARGEST_SAMPLING: Final = 4
_MOST_BLOCKS: Final = 10  # of an MCU


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker with what belongs to it.

    Attributes:
        marker: The byte behind 0xFF.
        start: Offset of the 0xFF.
        body: Offset of what follows the length; for a marker without a length, of what follows.
        stop: Offset behind the segment.
    """

    marker: int
    start: int
    body: int
    stop: int


@dataclass(frozen=True, slots=True)
class FrameComponent:
    """A component of a frame.

    Attributes:
        id: By which scans name it.
        across: Horizontal sampling factor, 1 to 4.
        down: Vertical sampling factor, 1 to 4.
        quantiser: Number of its quantisation table.
    """

    id: int
    across: int
    down: int
    quantiser: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What a frame header says.

    Attributes:
        marker: Its marker, which says how the frame is coded.
        precision: Bits of a sample.
        height: In pixels; 0 if it follows the first scan.
        width: In pixels.
        components: The components, at least one.
    """

    marker: int
    precision: int
    height: int
    width: int
    components: tuple[FrameComponent, ...]


@dataclass(frozen=True, slots=True)
class ScanHeader:
    """What the header of a scan says.

    Attributes:
        places: The components, by their places in the frame.
        codes: For each of them its Huffman tables, for DC and AC.
        first: First coefficient, by the zigzag.
        last: Last coefficient.
        high: The bit above the lowest one that is known before the scan; 0 for none.
        low: The lowest bit that is known after it.
    """

    places: tuple[int, ...]
    codes: tuple[tuple[int, int], ...]
    first: int
    last: int
    high: int
    low: int


def next_segment(data: bytes, at: int) -> Segment:
    """The segment that begins at an offset, where a marker must be.

    Raises:
        DecodeError: There is no marker, or the data ends within the segment.
    """
    if at >= len(data):
        raise DecodeError(f"JPEG: it ends at byte {len(data)}, without an end marker")
    if data[at] != 0xFF:
        raise DecodeError(f"JPEG: no marker at byte {at}")
    while data[at + 1 : at + 2] == b"\xff":  # a fill byte
        at += 1
    if at + 1 >= len(data):
        raise DecodeError(f"JPEG: it ends at byte {len(data)}, within a marker")
    marker, body = data[at + 1], at + 2
    if marker == EOI:
        return Segment(marker, at, body, body)
    if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
        raise DecodeError(f"JPEG: marker {marker:#04x} at byte {at}, where a segment must begin")
    length = int.from_bytes(data[body : body + 2], "big")
    if length < 2 or body + length > len(data):
        raise DecodeError(
            f"JPEG: segment {marker:#04x} at byte {at} has a length of {length}, and "
            f"{max(len(data) - body, 0)} bytes follow"
        )
    return Segment(marker, at, body + 2, body + length)


def head_segments(data: bytes) -> Iterator[Segment]:
    """The segments of a JPEG up to the header of its first scan, or to its end.

    Raises:
        DecodeError: As for `next_segment`.
    """
    at = len(START_OF_IMAGE)
    while True:
        segment = next_segment(data, at)
        yield segment
        if segment.marker in (SOS, EOI):
            return
        at = segment.stop


def read_frame(data: bytes, segment: Segment) -> Frame:
    """What a frame header says.

    Raises:
        DecodeError: It has not the length of its components, or values that are not allowed.
    """
    body = data[segment.body : segment.stop]
    count = body[5] if len(body) >= _FRAME_NBYTES else 0
    if count == 0 or len(body) != _FRAME_NBYTES + _COMPONENT_NBYTES * count:
        raise DecodeError(f"JPEG: frame header of {len(body)} bytes for {count} components")
    components = tuple(
        FrameComponent(body[at], body[at + 1] >> 4, body[at + 1] & 15, body[at + 2])
        for at in range(_FRAME_NBYTES, len(body), _COMPONENT_NBYTES)
    )
    for component in components:
        for factor in (component.across, component.down):
            if not 1 <= factor <= _LARGEST_SAMPLING:
                raise DecodeError(f"JPEG: sampling factor {factor}, not 1 to {_LARGEST_SAMPLING}")
    height, width = (int.from_bytes(body[at : at + 2], "big") for at in (1, 3))
    return Frame(segment.marker, body[0], height, width, components)


def read_scan(data: bytes, segment: Segment, frame: Frame) -> ScanHeader:
    """What the header of a scan says.

    Raises:
        DecodeError: It has not the length of its components, or values that are not allowed.
    """
    body = data[segment.body : segment.stop]
    count = body[0] if body else 0
    if not 1 <= count <= len(frame.components) or len(body) != 4 + 2 * count:
        raise DecodeError(f"JPEG: scan header of {len(body)} bytes for {count} components")
    by_id = {component.id: place for place, component in enumerate(frame.components)}
    places = tuple(by_id.get(body[1 + 2 * k], -1) for k in range(count))
    if -1 in places or sorted(set(places)) != list(places):
        raise DecodeError("JPEG: a scan of components that are not those of the frame in order")
    blocks = sum(frame.components[k].across * frame.components[k].down for k in places)
    if count > 1 and blocks > _MOST_BLOCKS:
        raise DecodeError(f"JPEG: {blocks} blocks in an MCU, more than {_MOST_BLOCKS}")
    codes = tuple(divmod(body[2 + 2 * k], 16) for k in range(count))
    if max(max(pair) for pair in codes) >= HUFFMAN_TABLES:
        raise DecodeError("JPEG: a scan with a Huffman table that cannot be")
    first, last, bits = body[-3:]
    return ScanHeader(places, codes, first, last, *divmod(bits, 16))
