"""Coding a JPEG anew without loss, so that it is decoded faster: every coefficient stays.

A progressive JPEG becomes a baseline one, which is decoded in one pass, also by JPEG engines; and
Huffman tables are made for the image, which leaves fewer bits to read.

Source: ITU-T T.81, annexes B.2, F.1 and K.2.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import DecodeError
from gpuio.formats.jpeg_segments import (
    DHT,
    DQT,
    DRI,
    EOI,
    FRAMES,
    SOF0,
    SOF1,
    SOF2,
    SOS,
    START_OF_IMAGE,
    Segment,
    head_segments,
    read_frame,
)
from gpuio.kernels.transcode import encode
from gpuio.kernels.transcode.optimal_codes import optimal_codes
from gpuio.pack.jpeg_coefficients import JpegCoefficients, read_coefficients

_JPEG: Final = START_OF_IMAGE + b"\xff"
_SEVERAL_PICTURES: Final = b"MPF\0"  # an APP2 with offsets into the file
_APP2: Final = 0xE2


def transcode_jpeg(data: bytes, *, baseline: bool = False, optimize: bool = False) -> bytes:
    """A JPEG with the same coefficients, and so the same pixels, that is faster to decode.

    Metadata, quantisation tables, the restart interval and what follows the end marker are kept.

    Args:
        data: An encoded image; one that is no JPEG is returned as it is.
        baseline: Turn progressive JPEGs, and those with a scan for each component, into baseline
            ones of one scan, also where that takes more bytes. One whose quantisation tables have
            16 bits becomes extended sequential.
        optimize: Make Huffman tables for JPEGs that are not progressive, where that saves bytes.

    Returns:
        `data` itself if there is nothing to do.

    Raises:
        DecodeError: It was to be transcoded, and is damaged, or coded in a way that is not
            supported. Decoders may take it nevertheless, so its bytes are the ones to store.
    """
    if not data.startswith(_JPEG) or not (baseline or optimize):
        return data
    several_scans = _has_several_scans(data)
    if not (baseline if several_scans else optimize):
        return data
    image = read_coefficients(data)
    new = _assemble(data, image)
    if not several_scans and len(new) >= len(data):
        return data
    if not np.array_equal(read_coefficients(new).values, image.values):
        raise DecodeError("JPEG: transcoding it did not keep its coefficients")
    return new


def _has_several_scans(data: bytes) -> bool:
    """Whether a JPEG is progressive, or its first scan has not all components.

    Raises:
        DecodeError: Its head is damaged.
    """
    count = 0
    for segment in head_segments(data):
        if segment.marker == SOF2:
            return True
        if segment.marker in FRAMES:
            count = len(read_frame(data, segment).components)
        elif segment.marker == SOS:
            return data[segment.body : segment.body + 1] != bytes([count])
    raise DecodeError("JPEG: no scan in it")


def _assemble(data: bytes, image: JpegCoefficients) -> bytes:
    """The JPEG with its coefficients in one sequential scan."""
    layout = image.layout.copy()
    first = image.frame.components[0].quantiser
    layout["dc"] = [int(c.quantiser != first) for c in image.frame.components]
    layout["ac"] = layout["dc"]
    tokens, counts = _tokens(image, layout)
    tables, codes = _tables(counts)
    out = np.empty((len(tokens) + 1) * encode.CODE_NBYTES, np.uint8)
    nbytes = encode.write_scan(tokens, codes, out)
    parts = [START_OF_IMAGE, *_head(data, image)]
    if image.restart:
        parts.append(_segment(DRI, struct.pack(">H", image.restart)))
    parts.append(_segment(DHT, tables))
    names = [component.id for component in image.frame.components]
    scan = [len(names)]
    for name, table in zip(names, layout["dc"].tolist(), strict=True):
        scan += [name, 17 * table]
    parts.append(_segment(SOS, bytes([*scan, 0, 63, 0])))
    return b"".join((*parts, out[:nbytes].tobytes(), bytes([0xFF, EOI]), data[image.stop :]))


def _tokens(
    image: JpegCoefficients, layout: npt.NDArray[np.void]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Tokens of the scan and counts of symbols, as `encode.find_tokens` makes them.

    Raises:
        DecodeError: A coefficient is larger than any of baseline JPEG.
    """
    restarts = image.mcus[0] * image.mcus[1] // image.restart if image.restart else 0
    tokens = np.empty(len(image.values) * encode.MOST_TOKENS + restarts, np.uint32)
    counts = np.zeros((encode.TABLES, 256), np.int64)
    found = encode.find_tokens(image.values, layout, image.mcus, image.restart, tokens, counts)
    if found == encode.TOO_LARGE:
        raise DecodeError("JPEG: a coefficient is larger than those of baseline JPEG")
    return tokens[:found], counts


def _tables(counts: npt.NDArray[np.int64]) -> tuple[bytes, npt.NDArray[np.uint32]]:
    """The body of a segment with the Huffman tables that are needed, and their codes."""
    codes = np.zeros((encode.TABLES, 256), np.uint32)
    body = b""
    for row in np.flatnonzero(counts.any(axis=1)).tolist():
        lengths, symbols = np.zeros(16, np.uint8), np.zeros(256, np.uint8)
        symbols = symbols[: optimal_codes(counts[row], lengths, symbols)]
        encode.assign_codes(lengths, symbols, codes[row])
        kind, number = divmod(row, 2)
        body += bytes([16 * kind + number]) + lengths.tobytes() + symbols.tobytes()
    return body, codes


def _head(data: bytes, image: JpegCoefficients) -> list[bytes]:
    """The segments before the scan, but those that are written anew.

    Raises:
        DecodeError: Offsets in one of them would be wrong.
    """
    kept: list[bytes] = []
    for segment in image.head:
        if segment.marker == _APP2 and data[segment.body :].startswith(_SEVERAL_PICTURES):
            raise DecodeError("JPEG: it holds several pictures, at offsets that would change")
        if segment.marker in FRAMES:
            marker = SOF1 if _has_wide_quantisers(data, image.head) else SOF0
            kept.append(_segment(marker, data[segment.body : segment.stop]))
        elif segment.marker not in (DHT, DRI):
            kept.append(data[segment.start : segment.stop])
    return kept


def _has_wide_quantisers(data: bytes, head: list[Segment]) -> bool:
    """Whether a quantisation table has 16 bits, as baseline JPEG must not."""
    for segment in head:
        at = segment.body
        while segment.marker == DQT and at < segment.stop:
            if data[at] >> 4:
                return True
            at += 65
    return False


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
