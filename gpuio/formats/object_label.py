"""Labels of the objects in a picture, as detection sets pack them.

    A | B | A - 2 more numbers | objects of B numbers: class, xmin, ymin, xmax, ymax, ...

Coordinates are relative to the picture, 0 to 1. Every picture may have its own number of objects.

Source: MXNet 1.9.1, src/io/image_det_aug_default.cc and iter_image_det_recordio.cc.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

HEADER_WIDTH: Final = 2
OBJECT_WIDTH: Final = 5
_BOXES: Final = "; ImageRecordIter(label_kind='boxes') reads boxes without a header"
_FAR: Final = 2.0  # largest coordinate: in some sets boxes reach out of the picture a little


def unpack_objects(label: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """(K, B) objects of one picture's label, or of a row of `ImageDetRecordIter`'s batches.

    Raises:
        ValueError: `label` is not in this layout.
    """
    row = np.asarray(label, np.float32)
    reason = fault_of(row)
    if reason:
        raise ValueError(reason)
    return row[int(row[0]) :].reshape(-1, int(row[1]))


def holds_objects(label: npt.NDArray[np.float32]) -> bool:
    """Whether (L,) numbers are certainly a label of objects, with plausible classes and boxes."""
    if not np.isfinite(label).all() or fault_of(label) is not None:
        return False
    objects = unpack_objects(label)
    classes, places = objects[:, 0], objects[:, 1:OBJECT_WIDTH]
    known = len(objects) > 0 and (classes >= -1).all() and (classes % 1 == 0).all()
    return bool(known and (np.abs(places) <= _FAR).all())


def fault_of(label: npt.NDArray[np.float32]) -> str | None:
    """What is wrong with (L,) numbers as the label of one picture."""
    faults = faults_of(label[None], np.array([len(label)]))
    return faults.get(0)


def faults_of(labels: npt.NDArray[np.float32], widths: npt.NDArray[np.int64]) -> dict[int, str]:
    """What is wrong with the labels of pictures, by row.

    Args:
        labels: (N, W) float32.
        widths: (N,) int64, number of labels in each row.
    """
    least = HEADER_WIDTH + OBJECT_WIDTH
    short = widths < least
    head = labels[:, :HEADER_WIDTH] if labels.shape[1] >= least else np.zeros((len(labels), 2))
    with np.errstate(invalid="ignore"):
        header, width = np.nan_to_num(head, nan=0, posinf=0, neginf=0).T.astype(np.int64)
    odd = (header < HEADER_WIDTH) | (width < OBJECT_WIDTH) | (header > widths)
    odd |= (widths - header) % np.maximum(width, 1) != 0
    faults = {}
    for place in np.flatnonzero(short | odd).tolist():
        if short[place]:
            fault = f"{widths[place]} labels are not enough for a header and an object"
        else:
            fault = (
                f"{widths[place]} labels do not hold a header of {head[place, 0]:g} and objects of "
                f"{head[place, 1]:g} numbers"
            )
        boxes = widths[place] > 0 and widths[place] % OBJECT_WIDTH == 0
        faults[place] = fault + (_BOXES if boxes else "")
    return faults
