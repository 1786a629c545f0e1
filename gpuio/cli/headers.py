"""Read the headers of many records at once, a few bytes of each."""

from __future__ import annotations

import os
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats.image_record import HEADER_NBYTES, unpack
from gpuio.formats.recordio import HEAD_NBYTES, MAGIC, MAX_PAYLOAD, RecordFile

_BLOCK: Final = 1 << 16  # records that are read at a time
_WORDS: Final = 64  # 32-bit words that are read of each record; few headers are longer
_LABELS: Final = (HEAD_NBYTES + HEADER_NBYTES) // 4  # the word where labels begin, or the image


Headers: TypeAlias = npt.NDArray[np.void]

HEADER: Final = np.dtype([
    ("flag", np.uint32),  # the number of labels; 0 for a single one in the header
    ("label", np.float32),  # the first one
    ("id", np.uint64),
    ("nbytes", np.int64),  # size of the image; -1 if the payload is too short for a header
    ("start", np.uint8, 4),  # first bytes of the image, padded with 0
])  # fmt: skip
"""The fields in front of the image of a record, and what is known of the image."""


def read_headers(path: str | os.PathLike[str], offsets: npt.NDArray[np.int64]) -> Headers:
    """(N,) `HEADER` of the records at (N,) byte `offsets`, which are ascending.

    Raises:
        FormatError: An offset has no whole record any more: the file has changed.
        RemoteError: A file at a URL cannot be read.
    """
    headers = np.zeros(len(offsets), HEADER)
    if len(offsets):
        with RecordFile(path) as file:
            for first in range(0, len(offsets), _BLOCK):
                some = slice(first, first + _BLOCK)
                _gather(file, offsets[some], headers[some])
            for row in np.flatnonzero(headers["nbytes"] < 0).tolist():
                headers[row] = _read_one(file, int(offsets[row]))
    return headers


def _gather(file: RecordFile, offsets: npt.NDArray[np.int64], headers: Headers) -> None:
    """Fill in the (n,) headers of the records at (n,) byte `offsets`.

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
    headers["flag"] = words[:, 2]
    headers["label"] = np.where(flags > 0, words[:, _LABELS], words[:, 3]).view(np.float32)
    headers["id"] = words[:, 4:6].copy().view("<u8")[:, 0]
    headers["nbytes"] = np.maximum(nbytes, -1)
    images = np.flatnonzero(nbytes >= 4)
    near = images[_LABELS + flags[images] < _WORDS]
    far = images[_LABELS + flags[images] >= _WORDS]
    starts = headers["start"]
    starts[near] = words[near, _LABELS + flags[near]].view(np.uint8).reshape(-1, 4)
    starts[far] = file.bytes.gather(offsets[far] + 4 * (_LABELS + flags[far]), 4)


def _read_one(file: RecordFile, offset: int) -> tuple[int, float, int, int, list[int]]:
    """The values of a `HEADER`, from the whole record."""
    try:
        header, image = unpack(file.read(offset)[0])
    except FormatError:
        return 0, 0, 0, -1, [0] * 4
    label = header.label[0] if header.flag else header.label
    return header.flag, label, header.id, len(image), [*image[:4].ljust(4, b"\0")]
