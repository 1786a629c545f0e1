"""What the markers of a JPEG and the chunks of a PNG say, before a decoder sees the file.

Source: ITU-T T.81, annex B; PNG specification, sections 4 and 5.
"""

from __future__ import annotations

from numba import types

from gpuio.kernels.arrays import BYTES
from gpuio.kernels.native import device_function

_LONG = types.int64
JPEG_HEAD, PNG_HEAD = 0xFFD8FF, 0x474E5089
"""The first bytes of a file as a little-endian number: three of a JPEG, four of a PNG."""

_IDAT, _ACTL = 0x49444154, 0x6163544C  # chunks of a PNG: pixels, and what makes it an animation


@device_function(types.boolean(_LONG))
def is_jpeg_head(head):
    """Whether a file whose first four bytes are `head` is a JPEG."""
    return head & 0xFFFFFF == JPEG_HEAD


@device_function(_LONG(BYTES, _LONG), inline=False)
def _big16(data, at):
    """The big-endian 16-bit number at index `at` of (N,) uint8."""
    return int(data[at]) << 8 | int(data[at + 1])


@device_function(_LONG(BYTES, _LONG))
def _big32(data, at):
    """The big-endian 32-bit number at index `at` of (N,) uint8."""
    return _big16(data, at) << 16 | _big16(data, at + 2)


@device_function(types.boolean(BYTES))
def ends_well(data):
    """Whether the markers of a JPEG are those of a whole one, from its start to its end marker.

    Segments must follow each other without a byte between them, restart markers must count from 0
    to 7, and behind pixel data only markers may stand that a whole file has there. This finds files
    that were truncated or overwritten, and reads each byte once; it cannot find bytes that are lost
    or changed inside of pixel data.
    """
    at, last, scans, restarts = 2, len(data) - 2, 0, 0
    while at <= last:
        if data[at] != 0xFF:
            if scans == 0:
                return False
            while at <= last and data[at] != 0xFF:
                at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0:  # the byte 0xFF of pixel data
            if scans == 0:
                return False
            at += 2
        elif 0xD0 <= marker <= 0xD7:
            if scans == 0 or marker - 0xD0 != restarts % 8:
                return False
            restarts += 1
            at += 2
        elif marker == 0xD9:
            return scans > 0
        elif marker < 0xC0 or marker == 0xD8 or marker == 0xC8 or 0xF0 <= marker < 0xFE:
            return False
        else:
            if at + 3 > last + 1:
                return False
            if marker == 0xDA:
                scans += 1
                restarts = 0
            at += 2 + _big16(data, at + 2)
    return False


@device_function(_LONG(BYTES))
def plain_frame(data):
    """The kind of a JPEG's frame if libjpeg-turbo alone decodes it: 0 to 2 for SOF0 to SOF2.

    0 is baseline and 2 progressive. Others are -1 (arithmetic coding, no loss): libjpeg-turbo
    declines some of them, and another codec would take them.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xC2:
            return int(marker) - 0xC0
        elif marker < 0xC4 or (0xC4 < marker < 0xDB):  # another frame, or what ends a head
            return -1
        else:
            at += 2 + _big16(data, at + 2)
    return -1


LUMA_CHROMA, RED_GREEN_BLUE, UNKNOWN_COLOR = 0, 1, 2
"""What the three components of a JPEG may be."""


@device_function(types.boolean(BYTES, *[_LONG] * 6), inline=False)
def _begins_with(data, at, a, b, c, d, e):
    """Whether five bytes stand at index `at` of (N,) uint8."""
    if at + 5 > len(data) or data[at + 4] != e:
        return False
    return data[at] == a and data[at + 1] == b and data[at + 2] == c and data[at + 3] == d


@device_function(_LONG(BYTES))
def components_of(data):
    """What the components of a JPEG with three of them are: one of the values above.

    They are unknown where Adobe's marker has a transform that is not defined for three components:
    libjpeg-turbo warns, and takes them for luma and chroma. Other JPEGs are LUMA_CHROMA.

    Source: libjpeg-turbo 3, jdapimin.c (default_decompress_parms), jdmarker.c (examine_app0,
    examine_app14).
    """
    at, jfif, adobe = 2, False, -1  # Adobe's transform
    three = named_rgb = False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:  # all markers before the first scan count
            if not three or jfif:
                return LUMA_CHROMA
            if adobe >= 0:
                known = RED_GREEN_BLUE if adobe == 0 else LUMA_CHROMA
                return known if adobe <= 1 else UNKNOWN_COLOR
            return RED_GREEN_BLUE if named_rgb else LUMA_CHROMA
        length, body = _big16(data, at + 2), at + 4
        if marker == 0xE0 and length >= 16:
            jfif |= _begins_with(data, body, 0x4A, 0x46, 0x49, 0x46, 0)
        elif marker == 0xEE and length >= 14 and body + 12 <= len(data):
            if _begins_with(data, body, 0x41, 0x64, 0x6F, 0x62, 0x65):
                adobe = int(data[body + 11])
        elif 0xC0 <= marker <= 0xC2 and body + 14 <= len(data):
            three = data[body + 5] == 3
            named_rgb = (
                data[body + 6] == 0x52 and data[body + 9] == 0x47 and data[body + 12] == 0x42
            )
        at += 2 + length
    return LUMA_CHROMA


@device_function(types.boolean(BYTES))
def is_still(data):
    """Whether no chunk of a PNG before its pixels is one of animation."""
    at = 8
    while at + 8 <= len(data):
        kind = _big32(data, at + 4)
        if kind == _IDAT or kind == _ACTL:
            return kind == _IDAT
        at += 12 + _big32(data, at)
    return False
