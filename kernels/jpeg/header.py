"""The header of a JPEG: whether the decoder here takes the picture, and all that it needs to know.

Taken are pictures of 8 bits that are coded in one scan with Huffman codes (baseline and extended
sequential), gray or with three components, in the usual ways of subsampling. All others, and all
headers with something unusual in them, are left to other decoders.

Source: ITU-T T.81, annex B; libjpeg-turbo 3, jdmarker.c, jdapimin.c (default_decompress_parms).
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.arrays import BYTES, LONGS, array_at
from gpuio.kernels.native import device_function, stack

MOST_BLOCKS = 10
"""Blocks of one MCU, at most: T.81, B.2.3."""
LONGEST_SIDE = 65500
"""Of pictures that libjpeg accepts, in pixels."""

GRAY, YCBCR, RGB = 0, 1, 2
"""What the components of a picture are."""

JOB = np.dtype(
    [
        ("data", np.int64),  # address of the encoded picture
        ("nbytes", np.int64),
        ("dst", np.int64),  # address of the first pixel wanted, from the worker's memory on
        ("scratch", np.int64),  # address of memory for the decoder, from there on, too
        ("scratch_nbytes", np.int64),
        ("checkpoints", np.int64),  # address of a CHECKPOINT for each row of MCUs, or 0
        ("reduced", np.int64),  # address of `reduced_samples`; needed where `scale` is not 8
        ("known", np.int32),  # 1: checkpoints are known; 0: they are to be written
        ("taken", np.int32),  # whether the decoder takes the picture
        ("status", np.int32),  # SUCCESS, or why it has no pixels
        ("height", np.int32),
        ("width", np.int32),
        ("scale", np.int32),  # eighths of that size to decode it to: 8, 4, 2 or 1
        ("y", np.int32),  # window to decode, of the picture in that size
        ("x", np.int32),
        ("rows", np.int32),  # 0: do not decode
        ("cols", np.int32),
        ("components", np.int32),  # 1 or 3
        ("color", np.int32),  # GRAY, YCBCR or RGB
        ("restart", np.int32),  # MCUs between restart markers, 0: there are none
        ("scan", np.int32),  # offset of the entropy-coded data
        ("down", np.int32, (3,)),  # blocks of each component in an MCU
        ("across", np.int32, (3,)),
        ("quantisation", np.int32, (3,)),  # offset of the 64 values of each component's table
        ("wide", np.int32, (3,)),  # whether they are of 16 bits
        ("dc", np.int32, (3,)),  # offset of its Huffman table, from the counts of lengths on
        ("ac", np.int32, (3,)),
    ],
    align=True,
)
"""A picture, and what is wanted of it."""

_SOF0, _SOF1, _DHT, _SOI, _EOI, _SOS, _DQT, _DRI = 0xC0, 0xC1, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD
_APP0, _APP1, _APP14, _COM = 0xE0, 0xE1, 0xEE, 0xFE
_ORIENTATION, _SHORT = 0x0112, 3  # a tag of Exif, and a type of its values

_ROW = from_dtype(JOB)


@device_function(types.int64(BYTES, types.int64))
def _big16(data, at):
    return np.int64(data[at]) << 8 | np.int64(data[at + 1])


@device_function(types.boolean(BYTES, types.int64, types.int64), inline=False)
def _starts_with(data, at, word):
    """Whether the four bytes at index `at`, which are there, are those of a big-endian number."""
    return _big16(data, at) << 16 | _big16(data, at + 2) == word


@device_function(types.int64(BYTES, types.int64, types.int64, types.boolean), inline=False)
def _number(data, at, nbytes, little):
    """An unsigned number of Exif data."""
    value = np.int64(0)
    for k in range(nbytes):
        value |= np.int64(data[at + k]) << (8 * k if little else 8 * (nbytes - 1 - k))
    return value


@device_function(types.boolean(BYTES, types.int64, types.int64), inline=False)
def _is_upright(data, at, end):
    """Whether an APP1 segment, whose content is at indices `at` to `end`, turns no picture.

    Source: Exif 2.32 (CIPA DC-008), section 4.6.4.
    """
    if end - at < 14 or not _starts_with(data, at, 0x45786966):  # Exif
        return True
    start = at + 6
    little = _big16(data, start) == 0x4949
    if not little and _big16(data, start) != 0x4D4D:
        return False  # others may find it further on
    entry = start + _number(data, start + 4, 4, little)
    if entry + 2 > end:
        return True
    count = _number(data, entry, 2, little)
    entry += 2
    for _ in range(count):
        if entry + 12 > end:
            return True
        tag, kind = _number(data, entry, 2, little), _number(data, entry + 2, 2, little)
        if tag == _ORIENTATION and kind == _SHORT:
            return _number(data, entry + 8, 2, little) == 1
        entry += 12
    return True


@device_function(types.boolean(BYTES, types.int64, types.int64, LONGS), inline=False)
def _note_tables(data, at, end, tables):
    """Note where the Huffman tables of a segment start; whether it is well formed.

    Args:
        data: (N,) uint8, the encoded picture.
        at: Index of the first byte of the segment's content.
        end: Index behind its last byte.
        tables: (8,) int64, indices by 4 * class + identifier.
    """
    while at < end:
        if end - at < 17 or data[at] & 0xEC:
            return False
        count = 0
        for k in range(16):
            count += data[at + 1 + k]
        if count > 256 or at + 17 + count > end:
            return False
        tables[(data[at] >> 4) * 4 + (data[at] & 3)] = at + 1
        at += 17 + count
    return True


@device_function(types.boolean(BYTES, types.int64, types.int64, LONGS, LONGS), inline=False)
def _note_quantisation(data, at, end, tables, wide):
    """Note where the quantisation tables of a segment start; whether it is well formed."""
    while at < end:
        precision, number = data[at] >> 4, data[at] & 15
        nbytes = 128 if precision else 64
        if precision > 1 or number > 3 or at + 1 + nbytes > end:
            return False
        tables[number], wide[number] = at + 1, precision
        at += 1 + nbytes
    return True


@device_function(types.boolean(BYTES, types.int64, types.int64, _ROW), inline=False)
def _read_frame(data, at, end, row):
    """Read a frame header; whether the decoder takes such frames."""
    if end - at < 6:
        return False
    row.height, row.width = _big16(data, at + 1), _big16(data, at + 3)
    count = np.int64(data[at + 5])
    if data[at] != 8 or (count != 1 and count != 3) or end - at != 6 + 3 * count:
        return False
    if not (0 < row.height <= LONGEST_SIDE and 0 < row.width <= LONGEST_SIDE):
        return False
    row.components = count
    for c in range(count):
        factors = np.int64(data[at + 7 + 3 * c])
        row.across[c], row.down[c] = factors >> 4, factors & 15
        row.quantisation[c] = data[at + 8 + 3 * c]  # the table's number, for now
        if not (1 <= row.across[c] <= 4 and 1 <= row.down[c] <= 4 and row.quantisation[c] <= 3):
            return False
    if count == 1:
        row.across[0] = row.down[0] = 1  # one component's blocks follow each other
        return True
    return _takes_sampling(row)


@device_function(types.boolean(_ROW), inline=False)
def _takes_sampling(row):
    """Whether chroma is sampled in one of the usual ways: 4:4:4, 4:2:2, 4:4:0, 4:2:0 or 4:1:1."""
    blocks = 0
    for c in range(3):
        blocks += row.across[c] * row.down[c]
    if row.across[1] != row.across[2] or row.down[1] != row.down[2] or blocks > MOST_BLOCKS:
        return False
    if row.across[0] % row.across[1] or row.down[0] % row.down[1]:
        return False
    wide, high = row.across[0] // row.across[1], row.down[0] // row.down[1]
    return (wide <= 2 and high <= 2) or (wide == 4 and high == 1)


@device_function(
    types.boolean(BYTES, types.int64, types.int64, types.int64, _ROW, LONGS, LONGS, LONGS),
    inline=False,
)
def _read_scan(data, at, end, frame, row, huffman, quantisation, wide):
    """Read a scan header, and find the tables of the components; whether the decoder takes it."""
    count = np.int64(row.components)
    if frame < 0 or end - at != 4 + 2 * count or data[at] != count:
        return False
    if data[end - 3] != 0 or data[end - 2] != 63 or data[end - 1] != 0:
        return False
    for c in range(count):
        number, names = np.int64(data[at + 2 + 2 * c]), np.int64(row.quantisation[c])
        if data[at + 1 + 2 * c] != data[frame + 6 + 3 * c] or number & 0xCC:
            return False
        for other in range(c):
            if data[at + 1 + 2 * other] == data[at + 1 + 2 * c]:
                return False
        row.dc[c], row.ac[c] = huffman[number >> 4], huffman[4 + (number & 3)]
        row.quantisation[c], row.wide[c] = quantisation[names], wide[names]
        if row.dc[c] == 0 or row.ac[c] == 0 or row.quantisation[c] == 0:
            return False
    row.scan = end
    return True


@device_function(types.boolean(BYTES, _ROW), inline=False)
def read_header(data, row):
    """Whether the decoder takes a JPEG; if so, its description is in `row`.

    Args:
        data: (N,) uint8, the encoded picture, of less than 2 GiB.
        row: A JOB.
    """
    size = len(data)
    if size < 4 or size > 0x7FFFFFFF or data[0] != 0xFF or data[1] != _SOI:
        return False
    notes = array_at(stack(128), 16, np.int64)
    for k in range(16):
        notes[k] = 0
    huffman, quantisation, wide = notes[:8], notes[8:12], notes[12:]
    at, frame, jfif, transform = 2, -1, False, -1
    while at + 4 <= size and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        start, end = at + 4, at + 2 + _big16(data, at + 2)
        if end < start or end > size:
            return False
        if marker == _SOS:
            named = frame >= 0 and row.components == 3 and _is_named_rgb(data, frame)
            row.color = _color(row.components, jfif, transform, named)
            if row.color < 0:
                return False
            return _read_scan(data, start, end, frame, row, huffman, quantisation, wide)
        if marker == _SOF0 or marker == _SOF1:
            if frame >= 0 or not _read_frame(data, start, end, row):
                return False
            frame = start
        elif marker == _DHT:
            if not _note_tables(data, start, end, huffman):
                return False
        elif marker == _DQT:
            if not _note_quantisation(data, start, end, quantisation, wide):
                return False
        elif marker == _DRI:
            if end - start != 2:
                return False
            row.restart = _big16(data, start)
        elif marker == _APP0 and end - start >= 14 and _starts_with(data, start, 0x4A464946):
            if data[start + 4] == 0:
                jfif = True
                if data[start + 5] != 1:  # a version that libjpeg warns of
                    return False
        elif marker == _APP1 and not _is_upright(data, start, end):
            return False
        elif marker == _APP14 and end - start >= 12 and _starts_with(data, start, 0x41646F62):
            if data[start + 4] == 0x65:
                transform = np.int64(data[start + 11])
        elif not (_APP0 <= marker < 0xF0 or marker == _COM):
            return False
        at = end
    return False


@device_function(types.boolean(BYTES, types.int64))
def _is_named_rgb(data, frame):
    """Whether the three components of a frame are named R, G and B."""
    return data[frame + 6] == 0x52 and data[frame + 9] == 0x47 and data[frame + 12] == 0x42


@device_function(types.int64(types.int64, types.boolean, types.int64, types.boolean))
def _color(components, jfif, transform, named):
    """What the components are; -1 where libjpeg would warn.

    Args:
        components: 1 or 3.
        jfif: Whether there is a JFIF marker.
        transform: That of Adobe's marker, or -1.
        named: Whether the components are named R, G and B.
    """
    if components == 1:
        return GRAY
    if jfif or transform == 1:
        return YCBCR
    if transform > 1:
        return -1
    return RGB if transform == 0 or named else YCBCR
