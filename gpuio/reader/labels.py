"""Labels of a whole data set: how many each record has, and those that a list gives instead."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpuio.format.image_list import ImageList, load_labels
from gpuio.format.image_record import HEADER_NBYTES
from gpuio.format.recordio import MAGIC
from gpuio.location import is_url
from gpuio.reader.dataset import Dataset, PathLike
from gpuio.reader.reader import Relabel

_HEAD = 3  # words of a frame up to the flag of the image record


def label_counts(dataset: Dataset) -> npt.NDArray[np.int64]:
    """(count,) int64, how many labels each record has; 0 for one in the header, or damage.

    A few bytes of every record are read, wherever they lie.
    """
    counts = np.zeros(len(dataset), np.int64)
    for number, path in enumerate(dataset.paths):
        ids = np.arange(dataset.first[number], dataset.first[number + 1])
        if not len(ids):
            continue  # an empty file cannot be mapped
        offsets, room = dataset.offsets[ids], dataset.nbytes(ids)
        whole = room >= HEADER_NBYTES + 8
        magics, _, flags = _first_words(path, offsets[whole]).astype(np.int64).T
        sound = (magics == MAGIC) & (HEADER_NBYTES + 8 + 4 * flags <= room[whole])
        counts[ids[whole]] = np.where(sound, flags, 0)
    return counts


def _first_words(path: str, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """(N, 3) uint32, what is in a file at each of N offsets."""
    if is_url(path):
        from gpuio.remote.record_file import RemoteRecordFile

        with RemoteRecordFile(path) as file:
            return file.heads(offsets, 4 * _HEAD).view("<u4")
    words = np.memmap(path, "<u4", "r")
    return words[np.minimum(offsets[:, None] // 4 + np.arange(_HEAD), len(words) - 1)]


def list_labels(path: PathLike, label_width: int) -> Relabel:
    """Labels by id, from a .lst: `label_width` on each line."""
    return _lookup(*load_labels(path, label_width))


def ragged_list_labels(path: PathLike) -> tuple[Relabel, int]:
    """Labels by id, from a .lst whose lines may have any number; and the most there are."""
    lines = ImageList.load(path)
    _, last = np.unique(lines.ids[::-1], return_index=True)  # of a repeated id, the last line
    keep = len(lines) - 1 - last
    labels = lines.labels
    return _lookup(lines.ids[keep], labels[keep]), labels.shape[1]


def _lookup(ids: npt.NDArray[np.int64], labels: npt.NDArray[np.float32]) -> Relabel:
    order = np.argsort(ids)
    ids, labels = ids[order], labels[order]

    def relabel(wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        found = np.full((len(wanted), labels.shape[1]), np.nan, np.float32)
        if len(ids):
            places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
            known = ids[places] == wanted
            found[known] = labels[places[known]]
        return found

    return relabel
