"""Labels of objects."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.formats.object_label import fault_of, unpack_objects


def test_objects_follow_a_header_of_any_length():
    label = [4, 6, 640, 480, *range(18)]
    npt.assert_array_equal(unpack_objects(label), np.arange(18, dtype=np.float32).reshape(3, 6))


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ([], "0 labels are not enough"),
        ([2, 5, 0, 0, 0, 0], "6 labels are not enough"),
        ([2, 5, 0, 0, 0, 0, 0, 0], "8 labels do not hold a header of 2 and objects of 5 numbers"),
        ([1, 5, 0, 0, 0, 0, 0], "a header of 1"),
        ([9, 5, 0, 0, 0, 0, 0], "a header of 9"),
        ([2, 0, 0, 0, 0, 0, 0], "objects of 0"),
        ([np.inf, 5, 0, 0, 0, 0, 0], "a header of inf"),
    ],
)
def test_a_wrong_label_has_its_reason(label, reason):
    assert reason in fault_of(np.array(label, np.float32))
    with pytest.raises(ValueError, match=reason):
        unpack_objects(label)


def test_a_header_may_hold_anything():
    assert fault_of(np.array([3, 5, np.nan, 0, 0, 0, 0, 0], np.float32)) is None
