"""Read the headers of many records at once, a few bytes of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats.image_record import HEADER_NBYTES, unpack
from gpuio.formats.recordio import HEAD_NBYTES, MAGIC, MAX_PAYLOAD, RecordFile

_BLOCK: Final = 1 << 16  # records that are read at a time
_WORDS: Final = 64  # 32-bit words that are read of each record; few headers are longer
_LABELS: Final = (HEAD_NBYTES + HEADER_NBYTES) // 4  # the word where labels begin, or the image


@dataclass(frozen=True, slots=True)
class RecordHeaders:
    """The fields in front of the image, for each of N records.

    Attributes:
        flags: (N,) uint32 number of labels; 0 for a single one in the header.
        labels: (N,) float32 first label.
        ids: (N,) uint64.
        nbytes: (N,) int64 size of the image in bytes; -1 if the payload is too short for a header.
        starts: (N, 4) uint8 first bytes of the image, padded with 0.
    """

    flags: npt.NDArray[np.uint32]
    labels: npt.NDArray[np.float32]
    ids: npt.NDArray[np.uint64]
    nbytes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.uint8]


def read_headers(path: str | os.PathLike[str], offsets: npt.NDArray[np.int64]) -> RecordHeaders:
    """The headers of the records at `offsets`, which are in bytes and ascending.

    Raises:
        FormatError: An offset has no whole record any more: the file has changed.
        RemoteError: A file at a URL cannot be read.
    """
    count = len(offsets)
    headers = RecordHeaders(
        np.empty(count, np.uint32),
        np.empty(count, np.float32),
        np.empty(count, np.uint64),
        np.empty(count, np.int64),
        np.zeros((count, 4), np.uint8),
    )
    if count:
        with RecordFile(path) as file:
            for first in range(0, count, _BLOCK):
                rows = slice(first, min(first + _BLOCK, count))
                _gather(file, offsets[rows], headers, rows)
            for row in np.flatnonzero(headers.nbytes < 0).tolist():
                _read_one(file, int(offsets[row]), headers, row)
    return headers


def _gather(
    file: RecordFile, offsets: npt.NDArray[np.int64], headers: RecordHeaders, rows: slice
) -> None:
    """Fill in `rows` of the headers, from the records at the (n,) byte `offsets`.

    Records in several parts get a negative `nbytes`.
    """
    words = file.bytes.gather(offsets, 4 * _WORDS).view("<u4")
    length = (words[:, 1] & MAX_PAYLOAD).astype(np.int64)
    wrong = (words[:, 0] != MAGIC) | (offsets + HEAD_NBYTES + length > file.size)
    if wrong.any():
        reason = "the whole record that was here is gone: the file changed while it was read"
        raise CorruptRecordError(reason, path=file.path, offset=int(offsets[np.argmax(wrong)]))
    whole = length == words[:, 1]
    flags = words[:, 2].astype(np.int64)
    nbytes = np.where(whole, length - HEADER_NBYTES - 4 * flags, -1)
    headers.flags[rows] = words[:, 2]
    headers.labels[rows] = np.where(flags > 0, words[:, _LABELS], words[:, 3]).view(np.float32)
    headers.ids[rows] = words[:, 4:6].copy().view("<u8")[:, 0]
    headers.nbytes[rows] = np.maximum(nbytes, -1)
    begins = np.zeros(len(words), "<u4")
    images = np.flatnonzero(nbytes >= 4)
    near = images[_LABELS + flags[images] < _WORDS]
    far = images[_LABELS + flags[images] >= _WORDS]
    begins[near] = words[near, _LABELS + flags[near]]
    starts = begins.view(np.uint8).reshape(-1, 4)
    starts[far] = file.bytes.gather(offsets[far] + 4 * (_LABELS + flags[far]), 4)
    headers.starts[rows] = starts


def _read_one(file: RecordFile, offset: int, headers: RecordHeaders, row: int) -> None:
    payload, _ = file.read(offset)
    try:
        header, image = unpack(payload)
    except FormatError:
        headers.flags[row] = headers.labels[row] = headers.ids[row] = 0
        return
    headers.flags[row] = header.flag
    headers.labels[row] = header.label[0] if header.flag else header.label
    headers.ids[row] = header.id
    headers.nbytes[row] = len(image)
    headers.starts[row, : min(4, len(image))] = np.frombuffer(image[:4], np.uint8)
