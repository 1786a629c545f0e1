"""The .checkpoints beside a .rec: where rows of MCUs begin in each of its JPEGs.

`gpuio rec2idx --checkpoints` writes it; with it, already the first windows of an epoch are decoded
in part. The file holds CHECKPOINT rows, those of an image one after the other, then an _ENTRY for
each image that has some, by ascending offset, then an _END. It counts only as long as the .rec is
the one that it was made of, byte for byte, as far as size, time and the first and last bytes tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.kernels.jpeg import decode as kernels
from gpuio.kernels.jpeg.header import JOB
from gpuio.kernels.jpeg.scan import CHECKPOINT
from gpuio.kernels.parallel import run_program
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.storage.atomic import committed
from gpuio.storage.identity import FileIdentity, version_of
from gpuio.storage.paths import is_url
from gpuio.storage.shards import beside

SUFFIX: Final = ".checkpoints"
_MAGIC: Final = b"gpuioCP1"
_BATCH: Final = 256  # images that are read at a time

_ENTRY = np.dtype([("offset", np.uint64), ("first", np.uint64), ("rows", np.uint64)])
"""An image: offset of its record in the .rec, number of its first CHECKPOINT, and how many."""
_END = np.dtype(
    [("magic", "S8"), ("version", np.uint64), ("entries", np.uint64), ("rows", np.uint64)]
)
"""What stands at the end: `_MAGIC`, a number of the .rec's content, and how much there is."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredCheckpoints:
    """What is stored beside a .rec.

    Attributes:
        offsets: (N,) int64, where the records of the images begin, ascending.
        addresses: (N,) int64, where the checkpoints of the images lie in memory.
        counts: (N,) int64, how many each image has.
        data: Owns that memory: the file, mapped.
    """

    offsets: npt.NDArray[np.int64]
    addresses: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]


def _version(identity: FileIdentity) -> int:
    """A number for the content of a .rec; a copy that keeps the time has the same one."""
    return version_of(f"{identity.nbytes} {identity.changed} {identity.edges.hex()}")


def find(path: str, identity: FileIdentity | None) -> StoredCheckpoints | None:
    """The checkpoints stored beside a .rec; None where there are none for it as it is now.

    Warns:
        UserWarning: There is a file, of another content of the .rec or damaged.
    """
    name = beside(path, SUFFIX)
    if identity is None or is_url(path) or not Path(name).is_file():
        return None
    try:
        return _load(name, identity)
    except (OSError, ValueError) as error:
        redo = f"'gpuio rec2idx --checkpoints {path}' makes it anew"
        warnings.warn(f"{name} is not used: {error}; {redo}", stacklevel=2)
        return None


def _load(name: str, identity: FileIdentity) -> StoredCheckpoints:
    data = np.memmap(name, np.uint8, "r")
    if len(data) < _END.itemsize:
        raise FormatError(f"it has {len(data)} bytes, and its end alone takes {_END.itemsize}")
    end = np.frombuffer(data[-_END.itemsize :], _END)[0]
    if end["magic"] != _MAGIC:
        raise FormatError("it does not end as a file of checkpoints does")
    entries, rows = int(end["entries"]), int(end["rows"])
    nbytes = rows * CHECKPOINT.itemsize + entries * _ENTRY.itemsize + _END.itemsize
    if nbytes != len(data):
        raise FormatError(f"it has {len(data)} bytes, and should have {nbytes}")
    if int(end["version"]) != _version(identity):
        raise FormatError("it was made of another .rec, or the .rec has changed since")
    start = rows * CHECKPOINT.itemsize
    table = np.frombuffer(data[start : start + entries * _ENTRY.itemsize], _ENTRY)
    if ((table["first"] > rows) | (table["rows"] > rows - table["first"])).any():
        raise FormatError("an entry names more checkpoints than there are")
    offsets, first, counts = (table[name].astype(np.int64) for name in _ENTRY.names or ())
    addresses = data.ctypes.data + first * CHECKPOINT.itemsize
    return StoredCheckpoints(offsets, addresses, counts, data)


def write(path: str, threads: int, progress: Callable[[int], object]) -> int:
    """Write the checkpoints of a .rec beside it.

    All images are read to their ends; those that are damaged, or that gpuio's own decoder does not
    take, have no checkpoints.

    Args:
        path: The .rec, on disk.
        threads: CPU threads that decode.
        progress: Called with the number of records that were done.

    Returns:
        How many images have checkpoints.

    Raises:
        FormatError: The .rec is none, or is damaged.
        OSError: A file cannot be read or written.
    """
    source = RecordIOSource.open(path)
    (identity,) = source.identities
    assert identity is not None
    states, entries, rows = kernels.new_states(threads), list[npt.NDArray[np.void]](), 0
    with committed(beside(path, SUFFIX)) as (partial,), partial.open() as file:
        for start in range(0, len(source), _BATCH):
            ids = np.arange(start, min(start + _BATCH, len(source)))
            table, checkpoints = _checkpoints_of(source, ids, states, threads)
            known = table["known"] != 0
            counts = np.where(known, _rows(table), 0)
            for place in np.flatnonzero(known).tolist():
                file.write(checkpoints[place].tobytes())
            found = np.zeros(len(ids), _ENTRY)
            found["offset"], found["rows"] = source.table.offsets[ids], counts
            found["first"] = rows + np.cumsum(counts) - counts
            rows += int(counts.sum())
            entries.append(found[known])
            progress(len(ids))
        whole = np.concatenate(entries) if entries else np.zeros(0, _ENTRY)
        end = np.array([(_MAGIC, _version(identity), len(whole), rows)], _END)
        file.write(whole.tobytes() + end.tobytes())
    return len(whole)


def _rows(table: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """(N,) int64, rows of MCUs of images of a JOB table; 0 where the decoder takes none."""
    high = -(-table["height"] // (8 * np.maximum(table["down"][:, 0], 1)))
    return np.where(table["taken"] != 0, high, 0).astype(np.int64)


def _checkpoints_of(
    source: RecordIOSource, ids: npt.NDArray[np.int64], states: npt.NDArray[np.void], threads: int
) -> tuple[npt.NDArray[np.void], list[npt.NDArray[np.void]]]:
    """A JOB table of images whose codes were read, `known` where their checkpoints were written."""
    images = [np.frombuffer(_image(source, record), np.uint8) for record in ids.tolist()]
    table = np.zeros(len(ids), JOB)
    table["data"] = [image.ctypes.data for image in images]
    table["nbytes"] = [image.size for image in images]
    run_program([(kernels.probe, (table.ctypes.data,))], len(ids), threads)
    table["rows"] = table["cols"] = table["taken"]  # one pixel: no more has to be made
    checkpoints = [np.zeros(count, CHECKPOINT) for count in _rows(table).tolist()]
    table["checkpoints"] = [rows.ctypes.data for rows in checkpoints]
    most = int(table["scratch_nbytes"].max(initial=0)) + 64
    memory = np.empty((threads, most), np.uint8)
    table["scratch"] = 64  # behind the pixel
    args = (table.ctypes.data, states.ctypes.data, 1, 0)
    run_program([(kernels.decode, args)], len(ids), threads, memory.ctypes.data, most)
    return table, checkpoints


def _image(source: RecordIOSource, record: int) -> bytes:
    """The encoded image of a record; b"" where the record cannot be read."""
    try:
        return source.read(record).image
    except ValueError:
        return b""
