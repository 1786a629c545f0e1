"""The headers of many records at once, straight from the file's pages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from gpuio.errors import FormatError
from gpuio.format.image_record import HEADER_NBYTES, unpack
from gpuio.format.recordio import HEAD_NBYTES, MAX_PAYLOAD, RecordFile, open_records
from gpuio.location import is_url

if TYPE_CHECKING:
    import numpy.typing as npt

_BLOCK: Final = 1 << 16  # records at a time
_HEADER_WORDS: Final = HEADER_NBYTES // 4
_FETCHED_WORDS: Final = 64  # of each record at a URL
_HEAD_WORDS: Final = HEAD_NBYTES // 4


@dataclass(frozen=True, slots=True)
class Headers:
    """What is before the image in each of N records.

    Attributes:
        flags: (N,) uint32, the number of labels, 0 for the one in the header.
        labels: (N,) float32, the first label.
        ids: (N,) int64.
        nbytes: (N,) int64, of the image; -1 if the payload is too short for an image record.
        starts: (N, 4) uint8, the first bytes of the image, 0 where it is shorter.
    """

    flags: npt.NDArray[np.uint32]
    labels: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    nbytes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.uint8]


def read_headers(path: str | os.PathLike[str], offsets: npt.NDArray[np.int64]) -> Headers:
    """The headers of the records at `offsets`, bytes."""
    count = len(offsets)
    headers = Headers(
        np.empty(count, np.uint32),
        np.empty(count, np.float32),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.zeros((count, 4), np.uint8),
    )
    if count:
        if is_url(path):
            _fetch(os.fspath(path), offsets, headers)
        else:
            words = np.memmap(path, "<u4", "r", shape=Path(path).stat().st_size // 4)
            for first in range(0, count, _BLOCK):
                rows = slice(first, min(first + _BLOCK, count))
                _gather(words, offsets[rows] // 4, headers, rows)
        with open_records(path) as file:
            for row in np.flatnonzero(headers.nbytes < 0).tolist():
                _read_one(file, int(offsets[row]), headers, row)
    return headers


def _fetch(url: str, offsets: npt.NDArray[np.int64], headers: Headers) -> None:
    """Fill in what the first bytes of records at a URL tell; others get a negative `nbytes`."""
    from gpuio.remote.record_file import RemoteRecordFile

    with RemoteRecordFile(url) as file:
        for first in range(0, len(offsets), _BLOCK):
            rows = slice(first, min(first + _BLOCK, len(offsets)))
            words = file.heads(offsets[rows], 4 * _FETCHED_WORDS).view("<u4")
            _gather(words.ravel(), np.arange(len(words)) * _FETCHED_WORDS, headers, rows)
            labels = headers.flags[rows].astype(np.int64)
            headers.nbytes[rows][_HEAD_WORDS + _HEADER_WORDS + labels >= _FETCHED_WORDS] = -1


def _gather(
    words: npt.NDArray[np.uint32], heads: npt.NDArray[np.int64], headers: Headers, rows: slice
) -> None:
    """Fill in what is not split; split and damaged records get a negative `nbytes`.

    Args:
        words: The file.
        heads: (n,) the words where the records start.
        headers: To fill in.
        rows: Their places in `headers`.
    """
    last = len(words) - 1
    length = words[heads + 1].astype(np.int64)
    whole = length == (length & MAX_PAYLOAD)
    start = heads + _HEAD_WORDS

    def word(place: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        return words[np.minimum(place, last)]

    flags = word(start)
    images = start + _HEADER_WORDS + flags
    labels = word(np.where(flags > 0, start + _HEADER_WORDS, start + 1))
    nbytes = length - HEADER_NBYTES - 4 * flags.astype(np.int64)
    headers.flags[rows] = flags
    headers.labels[rows] = labels.view(np.float32)
    headers.ids[rows] = (word(start + 2) | word(start + 3).astype(np.uint64) << np.uint64(32)).view(
        np.int64
    )
    headers.nbytes[rows] = np.where(whole & (nbytes >= 0), nbytes, -1)
    begins = word(images).astype("<u4").view(np.uint8).reshape(-1, 4)
    headers.starts[rows] = np.where(nbytes[:, None] >= 4, begins, 0)


def _read_one(file: RecordFile, offset: int, headers: Headers, row: int) -> None:
    try:
        header, image = unpack(file.read(offset)[0])
    except FormatError:
        headers.flags[row] = headers.labels[row] = headers.ids[row] = 0
        return
    headers.flags[row] = header.flag
    headers.labels[row] = header.label[0] if header.flag else header.label
    headers.ids[row] = np.uint64(header.id).astype(np.int64)
    headers.nbytes[row] = len(image)
    headers.starts[row, : min(4, len(image))] = np.frombuffer(image[:4], np.uint8)
