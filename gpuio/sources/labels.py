"""Labels that a list gives to images by their ids, instead of the stored ones."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gpuio.formats.image_list import ImageList, check_repeated, load_labels
from gpuio.storage.paths import PathLike

Relabel = Callable[[npt.NDArray[np.int64]], tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]
"""Ids of images, (N,) int64, to their labels, (N, W) float32, and how many of these each has,
(N,) int64; 0 where there are none."""


def list_labels(path: PathLike, label_width: int) -> Relabel:
    """Labels by id from a .lst that has `label_width` labels on each line."""
    ids, labels = load_labels(path, label_width)
    return _lookup(ids, labels, np.full(len(ids), label_width))


def ragged_list_labels(path: PathLike) -> tuple[Relabel, int]:
    """Labels by id from a .lst whose lines may have any number, and the largest number."""
    lines = ImageList.load(path)
    labels, widths = lines.labels, lines.widths
    labels[np.arange(labels.shape[1]) >= widths[:, None]] = 0
    values = np.column_stack((widths, labels))
    keep = check_repeated(os.fspath(path), lines.ids, values, "labels")
    return _lookup(lines.ids[keep], labels[keep], widths[keep]), labels.shape[1]


def no_labels(width: int) -> Relabel:
    """`width` labels of 0 for every id, so that the stored labels are ignored."""
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
