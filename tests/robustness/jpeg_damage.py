"""Damage to JPEGs that a decoder gets far with: in the fields of its header, or in its codes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .formats import SIDES, join_jpeg, split_jpeg
from .mutate import BYTES, damage

_SOF, _DHT, _SOS, _DQT, _DRI = (0xC0, 0xC1), 0xC4, 0xDA, 0xDB, 0xDD
_SAMPLING = (0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x31, 0x42, 0x24, 0, 0x10, 0x01, 0x55, 0xFF)
_END = b"\xff\xd9"


@dataclass
class _Parts:
    """A JPEG that is taken apart."""

    rng: random.Random
    segments: list[tuple[int, bytes]]
    scan: bytearray

    def change(self, markers: Sequence[int], edit: Callable[[bytearray], None]) -> None:
        """Edit the body of one of the segments with these markers."""
        places = [k for k, (marker, _) in enumerate(self.segments) if marker in markers]
        if places:
            place = self.rng.choice(places)
            marker, body = self.segments[place]
            new = bytearray(body)
            if new:
                edit(new)
            self.segments[place] = marker, bytes(new)

    def span(self) -> slice:
        """Some bytes of the scan."""
        start = self.rng.randrange(len(self.scan) + 1)
        return slice(start, start + self.rng.choice((0, 1, 1, 2, 3, 8, 40)))


def damage_jpeg(rng: random.Random, image: bytes, others: Sequence[bytes]) -> bytes:
    """A JPEG after some changes, about as many in its header as in its codes.

    Args:
        rng: Decides.
        image: A sound JPEG.
        others: Sound JPEGs, of whose codes some may be taken.
    """
    segments, scan = split_jpeg(image)
    parts = _Parts(rng, segments, bytearray(scan))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        if rng.random() < 0.5:
            rng.choice(_IN_THE_HEAD)(parts)
        elif rng.random() < 0.1:
            _splice(parts, rng.choice(others))
        else:
            rng.choice(_IN_THE_SCAN)(parts)
    if rng.random() < 0.5 and not parts.scan.endswith(_END):
        parts.scan += _END
    new = join_jpeg(parts.segments, bytes(parts.scan))
    return damage(rng, new, others) if rng.random() < 0.1 else new


def _size(parts: _Parts) -> None:
    rng = parts.rng

    def edit(body: bytearray) -> None:
        at = rng.choice((1, 3))
        if len(body) >= at + 2:
            old = struct.unpack_from(">H", body, at)[0]
            near = max(0, min(old + rng.choice((-9, -8, -1, 1, 2, 8, 16)), 65535))
            struct.pack_into(">H", body, at, rng.choice((near, near, *SIDES)))

    parts.change(_SOF, edit)


def _sampling(parts: _Parts) -> None:
    rng = parts.rng

    def edit(body: bytearray) -> None:
        if rng.random() < 0.3:  # of all components alike
            body[7::3] = bytes([rng.choice(_SAMPLING)]) * len(body[7::3])
        elif len(body) > 7:
            body[rng.randrange(7, len(body), 3)] = rng.choice(_SAMPLING)

    parts.change(_SOF, edit)


def _components(parts: _Parts) -> None:
    """Names of components, numbers of their tables, precision, count."""
    rng, markers = parts.rng, (*_SOF, _SOS)

    def edit(body: bytearray) -> None:
        body[rng.randrange(len(body))] = rng.choice((*BYTES, 2, 3, 4, 8, 63, 0x10, 0x11, 0x52))

    parts.change(markers, edit)


def _codes(parts: _Parts) -> None:
    """Counts of codes, moved or changed; symbols; number and class of a table."""
    rng = parts.rng

    def edit(body: bytearray) -> None:
        kind = rng.randrange(5)
        if kind == 0 and len(body) > 17:
            a, b = rng.randrange(1, 17), rng.randrange(1, 17)
            moved = min(rng.choice((1, 2, body[a])), body[a], 255 - body[b])
            body[a], body[b] = body[a] - moved, (body[b] if a != b else body[b] - moved) + moved
        elif kind == 1 and len(body) > 17:
            body[rng.randrange(1, 17)] = rng.choice((*BYTES, rng.randrange(16)))
        elif kind == 2 and len(body) > 17:
            body[rng.randrange(17, len(body))] = rng.randrange(256)
        elif kind == 3:
            body[0] = rng.choice((0, 1, 2, 3, 4, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20))
        else:
            body[17:] = rng.randbytes(len(body[17:]))

    parts.change((_DHT,), edit)


def _quantisation(parts: _Parts) -> None:
    """Large or no factors; tables of 16 bits."""
    rng = parts.rng

    def edit(body: bytearray) -> None:
        if rng.random() < 0.3 and len(body) >= 65:
            wide = struct.pack(">64H", *(rng.choice((v, 255 * v, 65535)) for v in body[1:65]))
            body[:65] = bytes([0x10 | body[0]]) + wide
        else:
            body[rng.randrange(len(body))] = rng.choice((*BYTES, 2, 3, 0x11, 0x21))
            body[1:9] = bytes([rng.choice((0, 1, 255))]) * len(body[1:9])

    parts.change((_DQT,), edit)


def _restarts(parts: _Parts) -> None:
    rng = parts.rng
    every = rng.choice((0, 1, 2, 3, 4, 5, 7, 8, 9, 255, 65535))
    parts.segments = [part for part in parts.segments if part[0] != _DRI]
    if rng.random() < 0.8:
        place = rng.randrange(len(parts.segments))
        parts.segments.insert(place, (_DRI, struct.pack(">H", every)))


def _markers_of_applications(parts: _Parts) -> None:
    """What libjpeg or we look into: JFIF, Exif, Adobe; with changes."""
    rng = parts.rng
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    body = rng.choice(
        (
            (0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            (0xE1, b"Exif\0\0" + exif),
            (0xE1, b"Exif\0\0" + rng.choice((b"MM\0*", b"II*\0", b"Exif\0\0")) + exif),
            (0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([rng.choice((0, 1, 2, 9))])),
        )
    )
    new = bytearray(body[1])
    if rng.random() < 0.7:
        new[rng.randrange(len(new))] = rng.choice((*BYTES, 2, 8, 10, 12))
    if rng.random() < 0.2:
        del new[rng.randrange(len(new)) :]
    parts.segments.insert(rng.randrange(len(parts.segments)), (body[0], bytes(new)))


def _segments(parts: _Parts) -> None:
    """A segment is lost, comes twice, comes later, or is called otherwise."""
    rng, segments = parts.rng, parts.segments
    at, other = rng.randrange(len(segments)), rng.randrange(len(segments))
    kind = rng.randrange(4)
    if kind == 0 and len(segments) > 1:
        del segments[at]
    elif kind == 1:
        segments.insert(other, segments[at])
    elif kind == 2:
        segments[at], segments[other] = segments[other], segments[at]
    else:
        marker = rng.choice((*range(0xC0, 0xD0), 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xE5, 0xFE, 0x01))
        segments[at] = marker, segments[at][1]


def _flip_bits(parts: _Parts) -> None:
    for _ in range(parts.rng.choice((1, 1, 2, 4, 8)) if parts.scan else 0):
        parts.scan[parts.rng.randrange(len(parts.scan))] ^= 1 << parts.rng.randrange(8)


def _noise(parts: _Parts) -> None:
    where = parts.span()
    parts.scan[where] = parts.rng.randbytes(len(parts.scan[where]))


def _lose(parts: _Parts) -> None:
    del parts.scan[parts.span()]


def _repeat(parts: _Parts) -> None:
    where = parts.span()
    parts.scan[where.start : where.start] = parts.scan[where]


def _fill(parts: _Parts) -> None:
    where = parts.span()
    parts.scan[where] = bytes([parts.rng.choice(BYTES)]) * len(parts.scan[where])


def _cut(parts: _Parts) -> None:
    del parts.scan[parts.rng.randrange(len(parts.scan) + 1) :]


def _mark(parts: _Parts) -> None:
    """Markers and stuffed bytes, put in or in the place of others."""
    second = parts.rng.choice((*range(0xD0, 0xDA), 0, 0, 0xFF, 0xDA, 0xC4, 0xE0, 1))
    at = parts.rng.randrange(len(parts.scan) + 1)
    parts.scan[at : at + parts.rng.choice((0, 0, 1, 2))] = bytes((0xFF, second))


def _unstuff(parts: _Parts) -> None:
    """The byte behind a byte of ones becomes another, or is lost."""
    places = [k for k, value in enumerate(parts.scan) if value == 0xFF]
    if places:
        behind = parts.rng.choice(places) + 1
        new = (b"", b"\0", bytes([parts.rng.randrange(256)]), bytes([0xD0 + behind % 8]))
        parts.scan[behind : behind + 1] = parts.rng.choice(new)


def _splice(parts: _Parts, other: bytes) -> None:
    """The codes of another picture, from some place on."""
    scan = split_jpeg(other)[1]
    at = parts.rng.choice((0, parts.rng.randrange(len(parts.scan) + 1)))
    parts.scan[at:] = scan[parts.rng.choice((0, parts.rng.randrange(len(scan)))) :]


_IN_THE_HEAD = (
    *(_size, _size, _sampling, _components, _codes, _codes, _quantisation, _quantisation),
    *(_restarts, _markers_of_applications, _segments),
)
_IN_THE_SCAN = (
    *(_flip_bits, _flip_bits, _flip_bits, _noise, _noise, _lose, _repeat, _fill, _cut, _mark),
    _unstuff,
)
