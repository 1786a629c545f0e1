"""Labels from lists."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt

from gpuio.sources.labels import list_labels, ragged_list_labels


def test_lines_of_a_list_may_have_any_number_of_labels(tmp_path):
    path = tmp_path / "a.lst"
    path.write_text("1\t5\tb.jpg\n3\t6\t7\t8\tc.jpg\n")
    relabel, most = ragged_list_labels(path)
    assert most == 3
    labels, widths = relabel(np.array([1, 2, 3]))
    npt.assert_array_equal(labels, [[5, 0, 0], [0, 0, 0], [6, 7, 8]])
    assert widths.tolist() == [1, 0, 3]


def test_a_label_in_a_list_may_be_nan(tmp_path):
    path = tmp_path / "a.lst"
    path.write_text("3\tnan\t2\ta.jpg\n")
    for relabel in (list_labels(path, 2), ragged_list_labels(path)[0]):
        labels, widths = relabel(np.array([3, 4]))
        npt.assert_array_equal(labels, [[np.nan, 2], [0, 0]])
        assert widths.tolist() == [2, 0]
