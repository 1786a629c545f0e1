"""Which set a record is of."""

from __future__ import annotations

import numpy as np
import pytest

from gpuio.formats.label_hint import face_keys, label_hint
from gpuio.formats.object_label import holds_objects

DETECTION = [2, 5, 7, 0.1, 0.1, 0.5, 0.5]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (DETECTION, True),
        ([4, 6, 640, 480, 0, 0.1, 0.1, 0.5, 1.01, 9], True),
        ([2, 5, 7.5, 0.1, 0.1, 0.5, 0.5], False),  # no class
        ([2, 5, 7, 10, 10, 50, 50], False),  # pixels
        ([2, 5, 7, 0.1, 0.1, np.nan, 0.5], False),
        ([2, 5], False),
        ([1], False),
    ],
)
def test_objects_are_known_by_their_form(label, expected):
    assert holds_objects(np.array(label, np.float32)) is expected


def test_the_hint_for_a_detection_set_names_its_iterator():
    assert label_hint(DETECTION, 100).endswith("read it with ImageDetRecordIter")
    assert label_hint(DETECTION, 100, reader="ImageDetIter").endswith("read it with ImageDetIter")


def test_the_header_of_a_face_set_names_itself_and_the_images():
    hint = label_hint([6, 8], 0, first=True)
    assert "the header of an InsightFace set" in hint
    assert "keys 1 to 5" in hint
    assert "awk '$1 >= 1 && $1 <= 5'" in hint
    assert "both ends of an InsightFace set" in label_hint([1, 3], 0)


@pytest.mark.parametrize(
    ("label", "nbytes"), [([6, 8], 5), ([6], 0), ([8, 6], 0), ([np.inf, 1], 0), ([1.5, 2], 0)]
)
def test_other_labels_have_no_hint(label, nbytes):
    assert face_keys(np.array(label, np.float32), nbytes) is None
    assert label_hint(label, nbytes) == ""
