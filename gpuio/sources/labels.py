"""Labels of a whole data set: how many each record has, and those that a list gives instead."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.formats.image_list import ImageList, first_lines, load_labels, repeated_id
from gpuio.formats.image_record import HEADER_NBYTES
from gpuio.formats.prefix import read_words
from gpuio.formats.recordio import HEAD_NBYTES, MAGIC, MAX_PAYLOAD, RecordFile
from gpuio.pipeline.read.reader import Relabel
from gpuio.sources.dataset import Dataset, PathLike

_HEAD = 3  # words of a frame up to the flag of the image record
_BLOCK = 1 << 16  # records at a time


def label_counts(dataset: Dataset) -> npt.NDArray[np.int64]:
    """(count,) int64, how many labels each record has; 0 for one in the header, or damage.

    A few bytes of every record are read, wherever they lie.

    Raises:
        FormatError: A file is shorter than it was when the data set was opened.
        RemoteError: A file at a URL cannot be read.
    """
    counts = np.zeros(len(dataset), np.int64)
    for number, path in enumerate(dataset.paths):
        begin, end = dataset.first[number : number + 2].tolist()
        if begin == end:
            continue  # nothing to read; the file need not even be open
        with RecordFile(path) as file:
            if file.size < (expected := int(dataset.sizes[number])):
                found = f"{expected} bytes expected, found {file.size}"
                raise FormatError(f"{path}: {found}: it became shorter since it was opened")
            for first in range(begin, end, _BLOCK):
                ids = np.arange(first, min(first + _BLOCK, end))
                counts[ids] = _counts(file, dataset.offsets[ids], dataset.nbytes(ids))
    return counts


def _counts(
    file: RecordFile, offsets: npt.NDArray[np.int64], room: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(N,) int64, the labels of records at `offsets`, each with so many bytes up to the next.

    The room of a record that is not split is in its head: the index may be wrong.
    """
    magics, lengths, flags = read_words(file, offsets, _HEAD).astype(np.int64).T
    left = file.size - HEAD_NBYTES - offsets
    room = np.where(lengths <= MAX_PAYLOAD, np.minimum(lengths, left), room - HEAD_NBYTES)
    sound = (magics == MAGIC) & (HEADER_NBYTES + 4 * flags <= room)
    return np.where(sound, flags, 0)


def list_labels(path: PathLike, label_width: int) -> Relabel:
    """Labels by id, from a .lst: `label_width` on each line."""
    ids, labels = load_labels(path, label_width)
    return _lookup(ids, labels, np.full(len(ids), label_width))


def ragged_list_labels(path: PathLike) -> tuple[Relabel, int]:
    """Labels by id, from a .lst whose lines may have any number; and the most there are."""
    lines = ImageList.load(path)
    labels, widths = lines.labels, lines.widths
    labels[np.arange(labels.shape[1]) >= widths[:, None]] = 0
    keep, clash = first_lines(lines.ids, np.column_stack((widths, labels)))
    if clash is not None:
        raise repeated_id(os.fspath(path), *clash, int(lines.ids[clash[0]]), "labels")
    return _lookup(lines.ids[keep], labels[keep], widths[keep]), labels.shape[1]


def no_labels(width: int) -> Relabel:
    """Labels of 0, `width` for every id, so that the labels in the records are ignored."""
    return lambda ids: (np.zeros((len(ids), width), np.float32), np.full(len(ids), width))


def _lookup(
    ids: npt.NDArray[np.int64], labels: npt.NDArray[np.float32], widths: npt.NDArray[np.int64]
) -> Relabel:
    order = np.argsort(ids)
    ids, labels, widths = ids[order], labels[order], widths[order]

    def relabel(
        wanted: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        found = np.zeros((len(wanted), labels.shape[1]), np.float32)
        counts = np.zeros(len(wanted), np.int64)
        if len(ids):
            places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
            known = ids[places] == wanted
            found[known], counts[known] = labels[places[known]], widths[places[known]]
        return found, counts

    return relabel
