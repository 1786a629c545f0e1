"""How many labels each record of RecordIO files has."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.formats.image_record import HEADER_NBYTES
from gpuio.formats.recordio import HEAD_NBYTES, MAGIC, MAX_PAYLOAD, RecordFile
from gpuio.sources.recordio.table import RecordTable

_HEAD: Final = 3  # words of a frame up to the flag of the image record
_BLOCK: Final = 1 << 16  # records at a time


def label_counts(table: RecordTable) -> npt.NDArray[np.int64]:
    """(count,) int64, how many labels follow the header of each record; 0 for a damaged record.

    A few bytes of every record are read.

    Raises:
        FormatError: A file is shorter than it was when the table was made.
        RemoteError: A file at a URL cannot be read.
    """
    counts = np.zeros(len(table), np.int64)
    for number, path in enumerate(table.paths):
        begin, end = table.first[number : number + 2].tolist()
        if begin == end:
            continue  # nothing to read; the file need not even be open
        with RecordFile(path) as file:
            if file.size < (expected := int(table.sizes[number])):
                found = f"{expected} bytes expected, found {file.size}"
                raise FormatError(f"{path}: {found}: it became shorter since it was opened")
            for first in range(begin, end, _BLOCK):
                ids = np.arange(first, min(first + _BLOCK, end))
                counts[ids] = _counts(file, table.offsets[ids], table.distances(ids))
    return counts


def _counts(
    file: RecordFile, offsets: npt.NDArray[np.int64], nbytes: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(N,) int64, how many labels records have.

    Args:
        file: The .rec.
        offsets: (N,) where the records start, in bytes.
        nbytes: (N,) bytes to the next record; of a record that is not split its own head tells,
            since the index may be wrong.
    """
    words = file.bytes.gather(offsets, 4 * _HEAD).view("<u4")
    magics, lengths, flags = words.astype(np.int64).T
    left = file.size - HEAD_NBYTES - offsets
    payload = np.where(lengths <= MAX_PAYLOAD, np.minimum(lengths, left), nbytes - HEAD_NBYTES)
    valid = (magics == MAGIC) & (HEADER_NBYTES + 4 * flags <= payload)
    return np.where(valid, flags, 0)
