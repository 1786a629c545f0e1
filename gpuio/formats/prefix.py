"""The first words of very many records, from a .rec on disk or at a URL.

Where records are small, long stretches of the file are read and the words taken from them; where
they are large, each is read by itself. The file is not mapped: if another process cut it meanwhile,
reading a mapping would crash this one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.formats.recordio import RecordFile
from gpuio.storage.paths import is_url

_STRETCH: Final = 1 << 20  # bytes read at a time
_DENSE: Final = 16 << 10  # bytes a record, up to which all of the file is read
_AT_ONCE: Final = 1 << 14  # records for which this is decided

Words = npt.NDArray[np.uint32]


def read_words(file: RecordFile, offsets: npt.NDArray[np.int64], count: int) -> Words:
    """(N, count) uint32, the words at each of N offsets; zeros past the end of the file.

    Args:
        file: The .rec.
        offsets: (N,) multiples of 4, ascending, in bytes.
        count: Words at each.

    Raises:
        FormatError: The file became shorter while it was read.
        RemoteError: A file at a URL cannot be read.
    """
    if is_url(file.path):
        return file.bytes.gather(offsets, 4 * count).view("<u4")
    words = np.zeros((len(offsets), count), "<u4")
    size = file.size
    buffer = np.empty(_STRETCH + 4 * count, np.uint8)
    for first in range(0, len(offsets), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        some = offsets[rows]
        if some[-1] - some[0] <= _DENSE * len(some):
            _read_stretches(file, some, words[rows], buffer, size)
        else:
            _read_each(file, some, words[rows], size)
    return words


def _read_stretches(
    file: RecordFile,
    offsets: npt.NDArray[np.int64],
    words: Words,
    buffer: npt.NDArray[np.uint8],
    size: int,
) -> None:
    count, begin = words.shape[1], 0
    while begin < len(offsets):
        start = int(offsets[begin])
        end = int(np.searchsorted(offsets, start + _STRETCH, "right"))
        reach = int(offsets[end - 1]) + 4 * count - start
        expected = max(min(reach, size - start), 0)
        found = file.bytes.readinto(buffer[:expected].data, start)
        if found < expected:
            raise _shorter(file, start, expected, found)
        buffer[expected:reach] = 0
        places = (offsets[begin:end] - start) // 4
        words[begin:end] = buffer[:reach].view("<u4")[places[:, None] + np.arange(count)]
        begin = end


def _read_each(file: RecordFile, offsets: npt.NDArray[np.int64], words: Words, size: int) -> None:
    nbytes = 4 * words.shape[1]
    pieces = [file.bytes.pread(nbytes, offset) for offset in offsets.tolist()]
    data = b"".join(pieces)
    if len(data) < nbytes * len(pieces):
        for offset, piece in zip(offsets.tolist(), pieces, strict=True):
            if len(piece) < min(nbytes, size - offset):
                raise _shorter(file, offset, min(nbytes, size - offset), len(piece))
        data = b"".join(piece.ljust(nbytes, b"\0") for piece in pieces)
    words[:] = np.frombuffer(data, "<u4").reshape(words.shape)


def _shorter(file: RecordFile, offset: int, expected: int, found: int) -> FormatError:
    place = f"{file.path}: {expected} bytes expected at byte {offset}, found {found}"
    return FormatError(
        f"{place}: the file became shorter while it was read; read it once it is whole"
    )
