"""Gray JPEGs of any coefficients, also of those that no encoder makes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DC_BITS, AC_BITS = 5, 8  # of every code
_AC_SYMBOLS = (0x00, 0xF0, *(16 * run + size for run in range(16) for size in range(1, 16)))


def plain_jpeg(
    coefficients: npt.ArrayLike, quantisation: npt.ArrayLike, *, width: int | None = None
) -> bytes:
    """A gray JPEG with one row of blocks.

    Args:
        coefficients: (N, 64) integers of at most 15 bits, in the order in which they are coded.
        quantisation: (64,) integers below 65536, in that order.
        width: In pixels; 8 N if None.
    """
    blocks = np.asarray(coefficients)
    factors = np.asarray(quantisation).astype(">u2").tobytes()
    sides = (8).to_bytes(2, "big") + (width or 8 * len(blocks)).to_bytes(2, "big")
    dc, ac = bytes(range(16)), bytes(_AC_SYMBOLS)
    segments = (
        (0xDB, b"\x10" + factors),
        (0xC0, b"\x08" + sides + b"\1\1\x11\0"),
        (0xC4, b"\0" + _counts(DC_BITS, dc) + dc),
        (0xC4, b"\x10" + _counts(AC_BITS, ac) + ac),
        (0xDA, b"\1\1\0\0\x3f\0"),
    )
    head = b"".join(
        bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body
        for marker, body in segments
    )
    return b"\xff\xd8" + head + _scan(blocks.tolist()) + b"\xff\xd9"


def _counts(bits: int, symbols: bytes) -> bytes:
    return bytes(len(symbols) if length == bits else 0 for length in range(1, 17))


def _scan(blocks: list[list[int]]) -> bytes:
    text, before = "", 0
    for block in blocks:
        size = (block[0] - before).__abs__().bit_length()
        text += format(size, f"0{DC_BITS}b") + _value(block[0] - before, size)
        before, run = block[0], 0
        for value in np.trim_zeros(block[1:], "b"):
            if value == 0:
                run += 1
                continue
            text += (run // 16) * _code(0xF0)
            size = abs(value).bit_length()
            text += _code(16 * (run % 16) + size) + _value(value, size)
            run = 0
        if block[63] == 0:
            text += _code(0x00)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


def _code(symbol: int) -> str:
    return format(_AC_SYMBOLS.index(symbol), f"0{AC_BITS}b")


def _value(value: int, size: int) -> str:
    bits = value if value > 0 else value + (1 << size) - 1
    return format(bits, f"0{size}b") if size else ""
