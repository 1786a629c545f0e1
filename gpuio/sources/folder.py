"""`FolderSource`: image files of their own, in a folder for each class or in a list.

Source: torchvision, datasets/folder.py (classes, order of files, suffixes).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.sources.base import EncodedImage, RecordSource
from gpuio.storage.plain_file import read_plain

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class FolderSource(RecordSource):
    """Image files, numbered in the order given.

    Args:
        paths: The files, relative to `root`.
        labels: (N, W) float32, the labels of each file.
        root: The folder that the paths start in; "" for paths that stand by themselves.
        classes: Names of the classes that labels stand for, if they do.

    Attributes:
        paths: Paths of the images.
        labels: Labels of the images.
        classes: Names of the classes.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: npt.NDArray[np.float32],
        *,
        root: str | os.PathLike[str] = "",
        classes: Sequence[str] = (),
    ) -> None:
        if labels.ndim != 2 or len(labels) != len(paths):
            found = f"shape {labels.shape} for {len(paths)} paths"
            raise ValueError(f"labels must be (N, W), a row for each path, got {found}")
        self.paths, self.labels, self.classes = paths, labels, tuple(classes)
        self._root = os.fspath(root)

    @classmethod
    def open(cls, root: str | os.PathLike[str]) -> FolderSource:
        """The images of a folder that has a folder for each class.

        The classes are numbered in the order of their names, and the files are ordered by class,
        folder and name: the labels and the order of torchvision's `ImageFolder`.

        Raises:
            FileNotFoundError: There is no folder of a class, or one has no image in it.
        """
        root = os.path.abspath(root)  # noqa: PTH100  the current folder may be another one later
        with os.scandir(root) as entries:
            classes = sorted(entry.name for entry in entries if entry.is_dir())
        files = [list(_images(root, name)) for name in classes]
        empty = [name for name, found in zip(classes, files, strict=True) if not found]
        if empty or not files:
            where = f"no image in the folders {', '.join(empty)}" if files else "no folder in it"
            raise FileNotFoundError(
                f"{root}: {where}, and no .rec file: a folder of images has a folder for each "
                f"class, with files that end with {', '.join(SUFFIXES)}"
            )
        numbers = np.repeat(np.arange(len(files), dtype=np.float32), [len(some) for some in files])
        paths = [path for some in files for path in some]
        return cls(paths, numbers[:, None], root=root, classes=classes)

    def __len__(self) -> int:
        return len(self.paths)

    def __str__(self) -> str:
        return self._root or f"{len(self)} files"

    def where(self, record: int) -> str:
        return os.path.join(self._root, self.paths[record])  # noqa: PTH118  ten times as fast

    def read(self, record: int) -> EncodedImage:
        return EncodedImage(read_plain(self.where(record)), self.labels[record], record)

    def fingerprint(self) -> int:
        digest = blake2b("\0".join(self.paths).encode(errors="surrogateescape"), digest_size=6)
        digest.update(np.ascontiguousarray(self.labels, "<f4").data)
        return int.from_bytes(digest.digest())

    def nbytes(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.array([self._size(record) for record in ids.tolist()], np.int64)

    def versions(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        return np.array([self._version(record) for record in ids.tolist()], np.uint64)

    def label_counts(self) -> npt.NDArray[np.int64]:
        return np.full(len(self), self.labels.shape[1])

    def _version(self, record: int) -> int:
        try:
            status = os.stat(self.where(record))  # noqa: PTH116
        except (OSError, ValueError):  # a fault of this record, once it is read
            return 0
        place = status.st_dev, status.st_ino
        times = status.st_mtime_ns, status.st_ctime_ns
        return hash((status.st_size, times, place)) % 2**64

    def _size(self, record: int) -> int:
        try:
            return os.stat(self.where(record)).st_size  # noqa: PTH116
        except (OSError, ValueError):  # a fault of this record, once it is read
            return 0


def _images(root: str, name: str) -> list[str]:
    """The image files of one class, relative to `root`, in torchvision's order.

    A link that leads back to a folder above it is not followed.

    Raises:
        OSError: A folder cannot be read.
    """
    folders = []
    way: dict[str, tuple[os.stat_result, ...]]  # of each folder: itself and those above it
    way = {root: (os.stat(root),)}  # noqa: PTH116
    for folder, below, files in os.walk(os.path.join(root, name), onerror=_fail, followlinks=True):  # noqa: PTH118
        here, above = os.stat(folder), way[os.path.dirname(folder)]  # noqa: PTH116, PTH120
        if any(os.path.samestat(here, each) for each in above):
            below.clear()
            continue
        way[folder] = (*above, here)
        folders.append((os.path.relpath(folder, root), sorted(files)))
    return [
        os.path.join(folder, file)  # noqa: PTH118
        for folder, files in sorted(folders)
        for file in files
        if file.lower().endswith(SUFFIXES)
    ]


def _fail(error: OSError) -> None:
    raise error
