"""Encoded images in files of their own, read as `RecordReader` reads those of a .rec."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpuio.core.threads import WorkerPool
from gpuio.devices.ring import Ring, Slot
from gpuio.errors import DecodeError
from gpuio.mxnet.image.functions import read_file
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.samplers import Selection
from gpuio.sources.dataset import Dataset

if TYPE_CHECKING:
    import numpy.typing as npt

_READERS = 8  # files read at once: more than one takes the time of a disk, or of a network


class Files(Dataset):
    """A data set with one image in each file."""

    __slots__ = ()

    @classmethod
    def of(cls, paths: Sequence[str]) -> Files:
        """N files, numbered from 0."""
        nothing = np.zeros(len(paths), np.int64)
        return cls(tuple(paths), nothing, np.arange(len(paths) + 1), nothing, None)

    def where(self, record: int) -> str:
        return self.paths[record]


class FileReader:
    """Reads batches of files, by number, into the slots of a ring; labels are 0.

    Args:
        paths: The files, relative to `root`.
        root: Their folder.
        label_width: W, labels of every image.
    """

    def __init__(
        self, paths: Sequence[str], root: str | os.PathLike[str], label_width: int
    ) -> None:
        # A Path for each would take ten times as long.
        self.dataset = Files.of([os.path.join(root, path) for path in paths])  # noqa: PTH118
        self._label_width = label_width

    def nbytes(self, count: int) -> int:
        """0: how large `count` files are is seen when they are read."""
        return 0

    def close(self) -> None:
        """Nothing: a file is read to its end."""

    def __call__(
        self, batches: Iterable[Selection], ring: Ring
    ) -> Generator[RecordBatch, None, None]:
        """One slot of `ring` for each selection of files.

        A file that cannot be read is a fault, whose cause is the OSError.
        """
        with WorkerPool(_READERS, "gpuio-files") as pool:
            for selection in batches:
                slot = ring.acquire()
                yield self._gather(selection, list(pool.map(self._load, selection.ids)), slot)

    def _load(self, number: np.int64) -> bytes | OSError:
        try:
            return read_file(Path(self.dataset.paths[number]))
        except OSError as error:
            return error

    def _gather(
        self, selection: Selection, found: Sequence[bytes | OSError], slot: Slot
    ) -> RecordBatch:
        ids, count = selection.ids, len(found)
        labels = np.zeros((count, self._label_width), np.float32)
        samples = Samples(ids, ids, labels, selection.pad)
        files = [file if isinstance(file, bytes) else b"" for file in found]
        nbytes = np.array([len(file) for file in files], np.int64)
        starts = np.cumsum(nbytes) - nbytes
        memory: npt.NDArray[np.uint8] = slot.reserve(int(nbytes.sum()))
        for place, file in enumerate(found):
            if isinstance(file, bytes):
                start = int(starts[place])
                memory[start : start + len(file)] = np.frombuffer(file, np.uint8)
            else:
                fault = DecodeError(str(file))
                fault.__cause__ = file
                samples.faults[place] = fault
        address = starts.astype(np.uint64) + np.uint64(memory.ctypes.data)
        return RecordBatch(samples, address, nbytes, slot)
