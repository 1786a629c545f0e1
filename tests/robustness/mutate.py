"""Damage to bytes, deterministic from a random number generator.

`damage` is for any bytes. The others know where the numbers of a file lie, so that what they make
is not refused at the first byte.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gpuio.formats.recordio import MAGIC

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

BYTES = (0, 1, 0x7F, 0x80, 0xFF)
NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 16, 255, 256, 32767, 32768, 65500, 65535, 65536, 1 << 20, (1 << 24) - 1),
    *(1 << 29, (1 << 29) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 63),
    *((1 << 64) - 1, 0xFFFFFFF8, 0xFFFFFFFE, 0xFFFC, 100_000, 30_000, MAGIC),
)
TEXTS = (
    *(b"0", b"-1", b"1", b"1.5", b"nan", b"-nan", b"inf", b"-inf", b"1e400", b"1e-400", b"0x1p9"),
    *(b"0x1p99999", b"", b" ", b"\t", b"\0", b"\xff", b"\xe2\x80\xa8", b"a", b"+7", b"007", b"1_0"),
    *(b"16777217", b"25130987", b"2147483648", b"9223372036854775807", b"9223372036854775808"),
    *(b"-9223372036854775809", b"18446744073709551616", b"9" * 30, b"9" * 5000, b"\xd9\xa3"),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 5.0, 2.5, 1e30, -1e30, float("nan"), float("inf"), 2.0**24, 2.0**63)


def damage(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`data` after one to four small changes.

    Args:
        rng: Decides.
        data: Any bytes.
        others: Bytes of the same kind, of which a part may be taken.
    """
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        _change(rng, new, others)
    return bytes(new)


def _change(rng: random.Random, new: bytearray, others: Sequence[bytes]) -> None:
    if not new:
        new += rng.randbytes(rng.randrange(1, 9))
        return
    at = place(rng, len(new))
    span = min(rng.choice((1, 2, 4, 8, 64, 600)), len(new) - at)
    kind = rng.randrange(12)
    if kind == 0:
        new[at] ^= 1 << rng.randrange(8)
    elif kind in (1, 2):
        new[at] = rng.choice(BYTES)
    elif kind == 3:
        new[at] = rng.randrange(256)
    elif kind == 4:
        new[at:at] = rng.randbytes(span)
    elif kind == 5:
        del new[at : at + span]
    elif kind == 6:
        new[at:at] = new[at : at + span]
    elif kind == 7:
        del new[at:]
    elif kind == 8:
        new[at : at + span] = bytes(span)
    elif kind == 9 and others:
        other = rng.choice(others)
        new[at:] = other[place(rng, len(other) + 1) :]
    else:
        overwrite(rng, new, at)


def place(rng: random.Random, count: int) -> int:
    """A number in [0, count); every second one is near the start, where headers are."""
    return (
        rng.randrange(min(count, rng.choice((32, 128, 512))))
        if rng.random() < 0.5
        else (rng.randrange(count))
    )


def overwrite(rng: random.Random, new: bytearray, at: int) -> None:
    """Put an interesting number of 1 to 8 bytes at `at`."""
    width = rng.choice((1, 2, 2, 4, 4, 8))
    number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
    field = number.to_bytes(width, rng.choice(("little", "big")))
    new[at : at + width] = field[: len(new) - at]


def damage_frame(rng: random.Random, frame: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A record as it lies in a .rec, with wrong framing, header or labels."""
    new = bytearray(frame)
    kind = rng.randrange(12)
    magic, word = struct.unpack_from("<II", frame)
    if kind == 0:
        struct.pack_into("<I", new, 0, magic ^ 1 << rng.randrange(32))
    elif kind == 1:
        struct.pack_into("<I", new, 4, rng.randrange(8) << 29 | word & (1 << 29) - 1)
    elif kind == 2:
        length = rng.choice((*NUMBERS, word + 1, word + 4, word - 1, word - 4)) & (1 << 29) - 1
        struct.pack_into("<I", new, 4, length)
    elif kind == 3:
        del new[-rng.randrange(1, 9) :]
    elif kind == 4:
        del new[rng.randrange(len(new)) :]
    elif kind == 5:
        new += frame[: rng.choice((4, 8, 30, len(frame)))]
    elif kind == 6 and others:
        other = rng.choice(others)
        new[rng.randrange(len(new)) :] = other[rng.randrange(len(other)) :]
    elif kind == 7:
        start = rng.randrange(0, len(new), 4)
        new[start : start + 4 * rng.randrange(1, 200)] = bytes(len(new[start : start + 800]))
    elif kind == 8:
        at = rng.randrange(8, max(len(new) - 4, 9)) // 4 * 4
        struct.pack_into("<I", new, at, MAGIC)
    elif kind == 9:  # flag, label, id and id2 of the header
        at, form = rng.choice(((8, "I"), (12, "f"), (16, "Q"), (24, "Q")))
        value = rng.choice(FLOATS) if form == "f" else rng.choice(NUMBERS)
        limit = 1 << 8 * struct.calcsize(form)
        struct.pack_into(f"<{form}", new, at, value if form == "f" else value % limit)
    elif kind == 10:
        at = rng.randrange(8, min(len(new), 60))
        overwrite(rng, new, at)
    else:
        return damage(rng, frame, others)
    return bytes(new)


def damage_lines(rng: random.Random, text: bytes) -> bytes:
    """A file of lines with fields between tabs: .idx and .lst."""
    lines = text.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 3))):
        number, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(13)
        if kind < 5:
            fields = lines[number].split(b"\t")
            fields[rng.randrange(len(fields))] = rng.choice(TEXTS)
            lines[number] = b"\t".join(fields)
        elif kind == 5 and len(lines) > 1:
            del lines[number]
        elif kind == 6:
            lines.insert(other, lines[number])
        elif kind == 7:
            lines[number], lines[other] = lines[other], lines[number]
        elif kind == 8:
            lines[number] = lines[number].replace(b"\t", rng.choice((b" ", b"", b"\t\t", b"\x0b")))
        elif kind == 9:
            lines[number] += rng.choice((b"\r", b"\t", b"\t5", b" ", b"\0"))
        elif kind == 10:
            mine, theirs = lines[number].split(b"\t"), lines[other].split(b"\t")
            lines[number] = b"\t".join(mine[:-1] + theirs[-1:])  # two keys for one record
        elif kind == 11:
            return damage(rng, b"\n".join(lines))
        else:
            lines[number] = _shifted(rng, lines[number])
    return b"\n".join(lines)


def _shifted(rng: random.Random, line: bytes) -> bytes:
    """A line whose last field, if it is a number, is a little wrong."""
    fields = line.split(b"\t")
    if fields[-1].isdigit():
        step = rng.choice((-4, -1, 1, 4, 8, 4096, 1 << 40))
        fields[-1] = b"%d" % (int(fields[-1]) + step)
    return b"\t".join(fields)


def damage_array(rng: random.Random, data: bytes) -> bytes:
    """A file of saved arrays, whose numbers lie in its first 100 and its last 30 bytes."""
    if rng.random() < 0.2:
        return damage(rng, data)
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.choice((rng.randrange(0, 88, 4), len(new) - rng.randrange(4, 31)))
        width = rng.choice((4, 8))
        number = rng.choice((*NUMBERS, (1 << 64) - 3)) & ((1 << 8 * width) - 1)
        new[at : at + width] = number.to_bytes(width, "little")[: len(new) - at]
    return bytes(new)


def damage_labels(rng: random.Random, labels: Sequence[float]) -> list[float]:
    """Labels of a picture with objects: other numbers, more or fewer of them."""
    new = list(labels)
    for _ in range(rng.choice((1, 1, 2))):
        kind, at = rng.randrange(5), rng.randrange(len(new)) if new else 0
        if kind == 0 and new:
            del new[at:]
        elif kind == 1:
            new += new[at : at + rng.randrange(1, 6)]
        elif new:
            new[min(rng.choice((0, 1, at)), len(new) - 1)] = rng.choice(FLOATS)
    return new
