"""The headers of many records at once, of which few bytes each are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats.image_record import HEADER_NBYTES, unpack
from gpuio.formats.prefix import read_words
from gpuio.formats.recordio import HEAD_NBYTES, MAGIC, MAX_PAYLOAD, RecordFile

if TYPE_CHECKING:
    import numpy.typing as npt

_BLOCK: Final = 1 << 16  # records at a time
_WORDS: Final = 64  # read of each record: mostly up to the image
_LABELS: Final = (HEAD_NBYTES + HEADER_NBYTES) // 4  # the word where labels begin, or the image


@dataclass(frozen=True, slots=True)
class Headers:
    """What is before the image in each of N records.

    Attributes:
        flags: (N,) uint32, the number of labels, 0 for the one in the header.
        labels: (N,) float32, the first label.
        ids: (N,) uint64.
        nbytes: (N,) int64, of the image; -1 if the payload is too short for an image record.
        starts: (N, 4) uint8, the first bytes of the image, 0 where it is shorter.
    """

    flags: npt.NDArray[np.uint32]
    labels: npt.NDArray[np.float32]
    ids: npt.NDArray[np.uint64]
    nbytes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.uint8]


def read_headers(path: str | os.PathLike[str], offsets: npt.NDArray[np.int64]) -> Headers:
    """The headers of the records at `offsets`, bytes, ascending.

    Raises:
        FormatError: No whole record is at one of them, now.
        RemoteError: A file at a URL cannot be read.
    """
    count = len(offsets)
    headers = Headers(
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
    file: RecordFile, offsets: npt.NDArray[np.int64], headers: Headers, rows: slice
) -> None:
    """Fill in what is not split; split records and others get a negative `nbytes`.

    Args:
        file: The .rec.
        offsets: (n,) the bytes where the records start.
        headers: To fill in.
        rows: Their places in `headers`.
    """
    words = read_words(file, offsets, _WORDS)
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
    begins[far] = read_words(file, offsets[far] + 4 * (_LABELS + flags[far]), 1)[:, 0]
    headers.starts[rows] = begins.view(np.uint8).reshape(-1, 4)


def _read_one(file: RecordFile, offset: int, headers: Headers, row: int) -> None:
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
