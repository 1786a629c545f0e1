"""Damage to an image that leaves the structure of its format readable."""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

from .mutate import BYTES, NUMBERS, damage, overwrite
from .pictures import images, kind_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    Segment = tuple[int, bytes]  # a marker of a JPEG and what follows its length

SIDES = (0, 1, 2, 7, 15, 16, 17, 63, 64, 255, 1000, 5000, 32767, 32768, 65500, 65535)
_SOF = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC))
_SOS, _EOI, _DRI, _SOI = 0xDA, 0xD9, 0xDD, 0xD8


def damage_image(rng: random.Random, image: bytes) -> bytes:
    """One of `pictures.images()`, damaged in its bytes or in the structure of its format."""
    kind = kind_of(image)
    if rng.random() < 0.45:
        return damage(rng, image, images()[kind])
    return _BY_FORMAT.get(kind, _damage_head)(rng, image)


def _damage_jpeg(rng: random.Random, image: bytes) -> bytes:
    segments, scan = split_jpeg(image)
    kind = rng.randrange(11)
    at = rng.randrange(len(segments))
    marker, body = segments[at]
    if kind == 0:
        return join_jpeg(_with_new_frame(rng, segments), scan)
    if kind == 1:
        segments[at] = marker, damage(rng, body)
    elif kind == 2:
        del segments[at]
    elif kind == 3:
        segments.insert(rng.randrange(len(segments)), segments[at])
    elif kind == 4:
        segments[at] = rng.choice((*_SOF, 0xC4, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE, 0xFE, 0x01)), body
    elif kind == 5:
        segments.insert(at, (_DRI, struct.pack(">H", rng.choice(SIDES))))
    elif kind == 6:
        exif = b"Exif\0\0" + rng.choice((b"II*\0", b"MM\0*")) + rng.randbytes(40)
        segments.insert(0, (0xE1, exif))
    elif kind == 7:
        scan = scan[: rng.randrange(len(scan) + 1)] + rng.choice((b"", b"\xff\xd9"))
    elif kind == 8:
        place = rng.randrange(len(scan) + 1)
        bad = rng.choice((b"\xff\xd9", b"\xff\xd0", b"\xff\xd7", b"\xff\xff", b"\xff\xda", b"\xff"))
        scan = scan[:place] + bad + scan[place + rng.choice((0, 1, 2, 50)) :]
    elif kind == 9:
        scan = damage(rng, scan)
    else:  # a length that lies
        head = bytearray(join_jpeg(segments, scan))
        place = head.find(bytes((0xFF, marker)))
        struct.pack_into(">H", head, place + 2, rng.choice(SIDES))
        return bytes(head)
    return join_jpeg(segments, scan)


def _with_new_frame(rng: random.Random, segments: list[Segment]) -> list[Segment]:
    """Another size, precision, number or sampling of components."""
    new = []
    for marker, body in segments:
        frame = bytearray(body)
        if marker in _SOF and len(frame) > 8:
            at = rng.choice((0, 1, 1, 3, 3, 5, rng.randrange(6, len(frame))))
            if at in (1, 3):
                struct.pack_into(">H", frame, at, rng.choice(SIDES))
            else:
                frame[at] = rng.choice((*BYTES, 2, 3, 4, 8, 12, 0x11, 0x12, 0x21, 0x22, 0x44))
        new.append((marker, bytes(frame)))
    return new


def split_jpeg(image: bytes) -> tuple[list[Segment], bytes]:
    """The segments of a JPEG up to its first scan, and all that follows that scan's head."""
    segments, at = [], 2
    while True:
        marker, length = image[at + 1], struct.unpack_from(">H", image, at + 2)[0]
        segments.append((marker, image[at + 4 : at + 2 + length]))
        at += 2 + length
        if marker == _SOS:
            return segments, image[at:]


def join_jpeg(segments: list[Segment], scan: bytes) -> bytes:
    """What `split_jpeg` took apart, with the lengths that segments have now."""
    parts = [bytes((0xFF, _SOI))]
    for marker, body in segments:
        body = body[:65533]
        parts += (bytes((0xFF, marker)), struct.pack(">H", len(body) + 2), body)
    return b"".join((*parts, scan))


def _damage_png(rng: random.Random, image: bytes) -> bytes:
    chunks = _chunks(image)
    kind, at = rng.randrange(8), rng.randrange(len(chunks))
    name, body = chunks[at]
    if kind < 2:
        head = bytearray(chunks[0][1])
        field = rng.choice((0, 4, 8, 9, 10, 11, 12))
        if field < 8:
            struct.pack_into(">I", head, field, rng.choice((*SIDES, 1 << 20, 1 << 31, 2**32 - 1)))
        else:
            head[field] = rng.choice((*BYTES, 2, 3, 4, 6, 8, 16))
        chunks[0] = b"IHDR", bytes(head)
    elif kind == 2:
        chunks[at] = name, damage(rng, body)
    elif kind == 3:
        del chunks[at]
    elif kind == 4:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
    elif kind == 5:
        extra = rng.choice((b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"zTXt", b"IDAT"))
        chunks.insert(at, (extra, rng.randbytes(rng.choice((0, 3, 8, 26, 768)))))
    elif kind == 6:  # other pixels, soundly compressed
        place = next((k for k, (name, _) in enumerate(chunks) if name == b"IDAT"), 0)
        rows = rng.randbytes(rng.choice((1, 100, 5000, 100_000)))
        chunks[place] = b"IDAT", zlib.compress(rows)
    else:
        new = bytearray(_png(chunks))
        place = new.find(name)
        struct.pack_into(">I", new, place - 4, rng.choice(NUMBERS) & 0xFFFFFFFF)
        return bytes(new)
    return _png(chunks)


def _chunks(image: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(image):
        length, name = struct.unpack_from(">I4s", image, at)
        found.append((name, image[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks:
        parts += (struct.pack(">I", len(body)), name, body)
        parts.append(struct.pack(">I", zlib.crc32(name + body)))
    return b"".join(parts)


def _damage_pnm(rng: random.Random, image: bytes) -> bytes:
    """Numbers of the text in front; comments; other magics."""
    numbers = list(re.finditer(rb"\d+", image[:24]))
    found = rng.choice(numbers)
    text = rng.choice((b"0", b"-1", b"9" * 9, b"%d" % rng.choice(NUMBERS), b"#", b"", b"65535"))
    return image[: found.start()] + text + image[found.end() :]


def _damage_tiff(rng: random.Random, image: bytes) -> bytes:
    """A type, a count or a value in the directory of a TIFF."""
    order = "<" if image[:2] == b"II" else ">"
    start = struct.unpack_from(f"{order}I", image, 4)[0]
    count = struct.unpack_from(f"{order}H", image, start)[0]
    new = bytearray(image)
    for _ in range(rng.choice((1, 1, 2))):
        entry = start + 2 + 12 * rng.randrange(count)
        at, form = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
        limit = 1 << 8 * struct.calcsize(form)
        value = rng.choice((*NUMBERS, *SIDES, rng.randrange(len(image)))) % limit
        struct.pack_into(f"{order}{form}", new, entry + at, value)
    return bytes(new)


def _damage_jpeg2000(rng: random.Random, image: bytes) -> bytes:
    """Fields of the codestream's marker segments: sizes, tiles, components, styles."""
    start = image.find(b"\xff\x4f\xff\x51")
    new = bytearray(image)
    end = min(start + 140, len(new) - 4)
    for _ in range(rng.choice((1, 2, 3))):
        overwrite(rng, new, rng.randrange(start + 4, end))
    return bytes(new)


def _damage_head(rng: random.Random, image: bytes) -> bytes:
    """Numbers of the first 64 bytes: BMP, GIF, WebP, AVIF."""
    new = bytearray(image)
    for _ in range(rng.choice((1, 1, 2, 3))):
        overwrite(rng, new, rng.randrange(2, min(64, len(new))))
    return bytes(new)


_BY_FORMAT: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "JPEG": _damage_jpeg,
    "PNG": _damage_png,
    "PPM": _damage_pnm,
    "TIFF": _damage_tiff,
    "JPEG2000": _damage_jpeg2000,
}
