"""Labels of objects."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.formats.object_label import fault_of, pack_objects, unpack_objects


def test_packing_is_undone_by_unpacking():
    objects = np.arange(18, dtype=np.float32).reshape(3, 6)
    label = pack_objects(objects, header=[640, 480])
    assert label.dtype == np.float32
    assert label[:4].tolist() == [4, 6, 640, 480]
    npt.assert_array_equal(unpack_objects(label), objects)


@pytest.mark.parametrize("shape", [(5,), (2, 4), (2, 5, 1)])
def test_what_is_no_table_of_objects_is_an_error(shape):
    with pytest.raises(ValueError, match=r"objects must be \(K, 5\) or wider"):
        pack_objects(np.zeros(shape))


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
def test_what_is_wrong_is_said(label, reason):
    assert reason in fault_of(np.array(label, np.float32))
    with pytest.raises(ValueError, match=reason):
        unpack_objects(label)


def test_a_header_may_hold_anything():
    assert fault_of(np.array([3, 5, np.nan, 0, 0, 0, 0, 0], np.float32)) is None
