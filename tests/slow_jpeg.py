"""A JPEG's coefficients, bit by bit in plain Python: an oracle for compiled code.

Source: ITU-T T.81, annexes A, B and F.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment up to the end marker; scans have their coded bytes, too."""
    at = 2
    while data[at + 1] != 0xD9:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        while marker == 0xDA and (data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8))):
            end += 1
        yield marker, data[at + 4 : end]
        at = end


def slow_coefficients(data: bytes) -> np.ndarray:
    """(N, 64) int16, the blocks of a sequential JPEG of one scan, as they follow each other."""
    tables: dict[int, dict[str, int]] = {}
    restart, frame = 0, b""
    for marker, body in segments(data):
        if marker == 0xC4:
            tables |= _tables(body)
        elif marker == 0xDD:
            restart = int.from_bytes(body, "big")
        elif 0xC0 <= marker <= 0xC1:
            frame = body
        elif marker == 0xDA:
            return _scan(body, frame, tables, restart)
    raise AssertionError("no scan")


def _tables(body: bytes) -> dict[int, dict[str, int]]:
    found = {}
    while body:
        codes, code, at = {}, 0, 17
        for length in range(1, 17):
            for _ in range(body[length]):
                codes[format(code, f"0{length}b")] = body[at]
                code, at = code + 1, at + 1
            code *= 2
        found[body[0]] = codes
        body = body[at:]
    return found


def _scan(body: bytes, frame: bytes, tables: dict, restart: int) -> np.ndarray:
    count = body[0]
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    factors = [divmod(frame[7 + 3 * k], 16) for k in range(count)]
    if count == 1:
        factors = [(1, 1)]
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    mcus = -(-width // (8 * across)) * -(-height // (8 * down))
    chunks = _intervals(body[4 + 2 * count :])
    blocks = []
    for number, chunk in enumerate(chunks):
        bits = iter("".join(format(value, "08b") for value in chunk))
        before = [0] * count
        for _ in range(min(restart or mcus, mcus - number * restart)):
            for k, (h, v) in enumerate(factors):
                dc, ac = divmod(body[2 + 2 * k], 16)
                for _ in range(h * v):
                    block = np.zeros(64, np.int64)
                    before[k] += _number(bits, _symbol(bits, tables[dc]))
                    block[0], place = before[k], 1
                    while place < 64:
                        run, size = divmod(_symbol(bits, tables[16 + ac]), 16)
                        if (run, size) == (0, 0):
                            break
                        place += run
                        block[place] = _number(bits, size)
                        place += 1
                    blocks.append(block)
        assert len(rest := list(bits)) < 8
        assert set(rest) <= {"1"}
    assert len(chunks) == (-(-mcus // restart) if restart else 1)
    return np.array(blocks).astype(np.int16)


def _intervals(coded: bytes) -> list[bytes]:
    chunks, at = [bytearray()], 0
    while at < len(coded):
        if coded[at] == 0xFF and coded[at + 1]:
            assert coded[at + 1] == 0xD0 + (len(chunks) - 1) % 8
            chunks.append(bytearray())
            at += 2
        else:
            chunks[-1].append(coded[at])
            at += 2 if coded[at] == 0xFF else 1
    return [bytes(chunk) for chunk in chunks]


def _symbol(bits: Iterator[str], codes: dict[str, int]) -> int:
    code = ""
    while code not in codes:
        code += next(bits)
    return codes[code]


def _number(bits: Iterator[str], size: int) -> int:
    text = "".join(next(bits) for _ in range(size))
    if not text:
        return 0
    value = int(text, 2)
    return value if text[0] == "1" else value - 2**size + 1
