"""Hints for a record with unexpected labels: which kind of data set it comes from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpuio.formats.object_label import holds_objects


def label_hint(
    label: npt.ArrayLike,
    image_nbytes: int,
    *,
    first: bool = False,
    reader: str = "ImageDetRecordIter",
) -> str:
    """What to do with a record, as a text to append to an error message; "" where unknown.

    Args:
        label: All labels of the record.
        image_nbytes: Size of its image in bytes.
        first: Whether it is the first record of its file.
        reader: Name of the iterator that reads labels of objects.
    """
    values = np.atleast_1d(np.asarray(label, np.float32))
    if holds_objects(values):
        return f"; they are those of a detection set, a header and objects: read it with {reader}"
    keys = face_keys(values, image_nbytes)
    if keys is None:
        return ""
    if not first:
        return (
            "; it has no image, like the records at both ends of an InsightFace set: read the "
            "others with an .idx of their own; `gpuio info` lists them"
        )
    last = keys[0] - 1
    return (
        f"; it is the header of an InsightFace set and has no image: those are keys 1 to {last}. "
        "Read them with an .idx of their own, given as path_imgidx: "
        f"awk '$1 >= 1 && $1 <= {last}' train.idx > images.idx"
    )


def face_keys(label: npt.NDArray[np.float32], image_nbytes: int) -> tuple[int, int] | None:
    """The two keys in a record of an InsightFace set that has no image; None for others.

    In the first record they are the key of the first identity, which is the one after the last
    image, and the key after the last identity; in an identity's record, those of its images.

    Source: InsightFace, recognition/_datasets_/face2rec2.py.
    """
    if image_nbytes or len(label) != 2 or not np.isfinite(label).all():
        return None
    start, end = label.tolist()
    if not 0 <= start <= end or start % 1 or end % 1:
        return None
    return int(start), int(end)
