"""Removing harmless faults from a JPEG, so that libjpeg's warnings are about damaged pixels.

libjpeg reports its first warning only. If no pixel depends on the fault that it names, this removes
the fault, and decoding the JPEG again shows whether there are others.

Source: ITU-T T.81, annex B; libjpeg-turbo 3, jerror.h (JWRN_...) and where these are raised.
"""

from __future__ import annotations

import re
from typing import Final

_END: Final = b"\xff\xd9"
_CUT_OFF: Final = "Premature end of JPEG file"
_BEHIND_THE_PIXELS: Final = re.compile("extraneous bytes before marker 0xd9")
_IN_THE_HEAD: Final = re.compile(
    "extraneous bytes before marker|bad ICC|unknown JFIF|Unknown Adobe|Invalid SOS"
)
# Markers of segments that pixels depend on: frames and Huffman tables, arithmetic coding,
# quantisation, restarts; JFIF and Adobe say what the colours are.
_NEEDED: Final = frozenset([*range(0xC0, 0xD0), 0xDB, 0xDD, 0xE0, 0xEE])
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL: Final = (0xC0, 0xC1, 0xC9)
_LEAST_FRAME: Final = 10  # bytes up to the number of channels
_SCAN, _JFIF, _ADOBE = 0xDA, 0xE0, 0xEE
_YCBCR, _YCCK = 1, 2


def is_harmless(warning: str) -> bool:
    """Whether a JPEG has all its pixels although libjpeg-turbo's first warning is this one.

    That is so only for bytes that are left when all pixels are decoded.
    """
    return _BEHIND_THE_PIXELS.search(warning) is not None


def mended(data: bytes, warning: str) -> bytes | None:
    """A JPEG with the same pixels, without the fault that libjpeg-turbo warns of.

    Args:
        data: A JPEG.
        warning: The first warning of libjpeg-turbo about it.

    Returns:
        The JPEG; None if the warning is about damaged pixel data.
    """
    if _CUT_OFF in warning:
        # If only the end marker is missing, this mends it; if pixels are, there is another warning.
        return None if data.endswith(_END) else data + _END
    if not _IN_THE_HEAD.search(warning):
        return None
    clean = _with_clean_head(data)
    return None if clean == data else clean


def _with_clean_head(data: bytes) -> bytes:
    """A JPEG whose head has only segments that pixels depend on, with no unknown values."""
    head: list[bytearray] = []
    at = data.find(b"\xff", 2)
    while 0 <= at < len(data) - 3:
        marker = data[at + 1]
        if marker in (0, 0xFF):  # not the start of a segment
            at = data.find(b"\xff", at + 1)
            continue
        if marker == _SCAN:
            frame = next((segment for segment in head if segment[1] in _FRAMES), None)
            if frame is None or len(frame) < _LEAST_FRAME:
                break
            _make_plain(head, channels=frame[9])
            scans = data[at:] if frame[1] not in _SEQUENTIAL else _with_plain_scans(data[at:])
            return b"".join((data[:2], *head, scans))
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _NEEDED:
            head.append(bytearray(data[at:end]))
        at = data.find(b"\xff", end)
    return data


def _make_plain(head: list[bytearray], channels: int) -> None:
    """Change values of JFIF and Adobe segments that libjpeg warns of to those that it assumes."""
    for segment in head:
        if segment[1] == _JFIF and segment[4:9] == b"JFIF\0" and len(segment) > 9:
            segment[9] = 1  # the major version
        if segment[1] == _ADOBE and segment[4:9] == b"Adobe" and len(segment) > 15:
            known = segment[15] in (0, _YCBCR, _YCCK)
            segment[15] = segment[15] if known else _YCCK if channels == 4 else _YCBCR


def _with_plain_scans(data: bytes) -> bytes:
    """Scans of a sequential JPEG with the only allowed values of parameters that have no effect."""
    plain, at = bytearray(data), 0
    while at >= 0:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        components = data[at + 4] if at + 4 < len(data) else 0
        if length == 6 + 2 * components and at + 2 + length <= len(data):
            plain[at - 1 + length : at + 2 + length] = b"\0\x3f\0"
        at = data.find(b"\xff\xda", at + 2)
    return bytes(plain)
