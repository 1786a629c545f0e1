"""Batches from LibSVM files; the numbers are those of MXNet 1.9.1."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import gpuio as mx
from gpuio.errors import FormatError
from gpuio.mxnet.iterators.libsvm_iter import LibSVMIter

sparse = pytest.importorskip("scipy.sparse")

FOUR = "1.0 0:0.5 2:1.2\n-2.0\n-3.0 0:0.6 1:2.4 2:1.2\n4 2:-1.2\n"
LABELS = "1.0\n-2.0 0:0.125\n-3.0 2:1.2\n4 1:1.0 2:-1.2\n"
DENSE = np.array([[0.5, 0, 1.2], [0, 0, 0], [0.6, 2.4, 1.2], [0, 0, -1.2]], np.float32)


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="data.t"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write_file


def test_the_example_of_mxnet(write):
    it = mx.io.LibSVMIter(data_libsvm=write(FOUR), data_shape=(3,), batch_size=3)
    first, second = it
    assert sparse.issparse(first.data[0])
    assert first.data[0].asscipy().format == "csr"
    assert (first.data[0].dtype, first.data[0].shape) == (np.float32, (3, 3))
    assert first.data[0].asnumpy().tolist() == DENSE[:3].tolist()
    assert second.data[0].asnumpy().tolist() == DENSE[[3, 0, 1]].tolist()
    assert first.label[0].asnumpy().tolist() == [1, -2, -3]
    assert second.label[0].asnumpy().tolist() == [4, 1, -2]
    assert [batch.pad for batch in (first, second)] == [0, 2]
    assert second.index.tolist() == [3, 0, 1]
    assert it.provide_data == [("data", (3, 3))]
    assert it.provide_label == [("softmax_label", (3,))]


def test_labels_in_a_file_of_their_own(write):
    labels = write(LABELS, "label.t")
    it = LibSVMIter(write(FOUR), 3, 3, label_libsvm=labels, label_shape=(3,), label_name="y")
    expected = np.array([[0, 0, 0], [0.125, 0, 0], [0, 0, 1.2]], np.float32)
    assert next(it).label[0].asnumpy().tolist() == expected.tolist()
    assert it.provide_label == [("y", (3, 3))]


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, [([0, 1, 2], 0), ([3, 0, 1], 2)]),
        ({"round_batch": False}, [([0, 1, 2], 0), ([3], 0)]),
        ({"num_parts": 2, "part_index": 0}, [([0, 1, 0], 1)]),
        ({"num_parts": 2, "part_index": 1}, [([2, 3, 2], 1)]),
        ({"num_parts": 3, "part_index": 1, "round_batch": False}, [([1, 1], 1)]),
    ],
)
def test_every_epoch_has_every_row_of_the_part(write, keywords, expected):
    it = LibSVMIter(write(FOUR), 3, 3, **keywords)
    for _ in range(2):
        assert len(it) == len(expected)
        assert [(batch.index.tolist(), batch.pad) for batch in it] == expected
        it.reset()


def test_comments_and_query_ids_are_left_out(write):
    text = "# a file\n1 qid:7 0:1e-1\t2:+.5 # 1:3\n\n \t\n-2. 1:-3\r\n#\n"
    batch = next(LibSVMIter(write(text), 3, 2))
    expected = np.array([[0.1, 0, 0.5], [0, -3, 0]], np.float32)
    assert batch.data[0].asnumpy().tolist() == expected.tolist()
    assert batch.label[0].tolist() == [1, -2]


def test_indices_need_no_order(write):
    matrix = next(LibSVMIter(write("1 2:3 0:1\n"), 3, 1)).data[0]
    assert matrix.indices.tolist() == [0, 2]
    assert matrix.asnumpy().tolist() == [[1, 0, 3]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1 3:1", r"row 1: index 3 is outside; data_shape is \(3,\)"),
        ("1 18446744073709551616:1", r"row 1: index 18446744073709551616 is outside"),
        ("1 1:1 1:2", "row 1: an index is there twice"),
        ("1 -1:1", "row 1: '1 -1:1' is not 'label index:value ...'"),
        ("1 0 2", "row 1: '1 0 2' is not"),
        ("1:2 0", "row 1: '1:2 0' is not"),
        ("x 0:1", "row 1: 'x 0:1' is not"),
        ("1 0:x", "row 1: '1 0:x' is not"),
        ("1,2 0:1", "row 1: '1,2 0:1' is not"),
        ("0:1", "row 1: '0:1' is not"),
    ],
)
def test_a_bad_row_is_named(write, row, message):
    it = LibSVMIter(write(f"1 0:1\n{row}\n2 1:1\n"), 3, 3)
    with pytest.raises(FormatError, match=message):
        next(it)


def test_a_file_that_changes_is_an_error(write):
    it = LibSVMIter(write("1\n2\n3\n"), 3, 3)
    write("1\n 2 \n")
    with pytest.raises(FormatError, match=r"data\.t was written to since it was opened first"):
        next(it)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"data_libsvm": "none"}, FileNotFoundError, "none: no such file"),
        ({"data_shape": (2, 2)}, ValueError, "data_shape must be one integer, got"),
        ({"label_shape": 2}, ValueError, r"label_shape must be \(1,\) without label_libsvm"),
        ({"label_libsvm": "label"}, ValueError, "label_shape must be more than 1 with label_lib"),
        ({"dtype": "int32"}, ValueError, "dtype must be one of float32, got int32"),
        ({"num_parts": 0}, ValueError, "num_parts must be at least 1, got 0"),
        ({"num_parts": 5}, ValueError, "4 records cannot be shared by num_parts=5"),
        ({"part_index": 1}, ValueError, r"part_index must be in \[0, num_parts\), got 1 of 1"),
        ({"datalibsvm": 1}, TypeError, "LibSVMIter has no parameter 'datalibsvm'; did you mean"),
    ],
)
def test_wrong_parameters_are_named(write, keywords, error, message, monkeypatch, tmp_path):
    given = {"data_libsvm": write(FOUR), "data_shape": 3, "batch_size": 2, **keywords}
    write(LABELS, "label")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        LibSVMIter(**given)


@pytest.mark.parametrize("count", [1, 5])
def test_there_is_one_row_of_labels_for_each_of_data(write, count):
    labels = write("1\n" * count, "labels.t")
    message = rf"labels\.t: {count} rows of labels for 4 of data in .+$"
    with pytest.raises(FormatError, match=message):
        LibSVMIter(write(FOUR), 3, 2, label_libsvm=labels, label_shape=3)


def test_without_scipy_the_error_says_so(write):
    code = (
        "import sys; sys.modules['scipy'] = sys.modules['scipy.sparse'] = None\n"
        "import gpuio\n"
        f"try: gpuio.io.LibSVMIter({write(FOUR)!r}, 3, 2)\n"
        "except gpuio.BackendError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "matrices in CSR form need SciPy: pip install scipy\n"


def test_a_matrix_may_have_a_million_columns(write):
    with LibSVMIter(write("1 0:2 999999:3\n"), 1_000_000, 1) as it:
        matrix = next(it).data[0]
        assert matrix.shape == (1, 1_000_000)
        assert matrix.indices.tolist() == [0, 999_999]


def test_the_launcher_tells_the_part(write, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with LibSVMIter(write("0\n1\n2\n3\n"), 3, 2, num_parts="auto") as it:
        assert [batch.label[0].tolist() for batch in it] == [[2, 3]]


def test_a_comment_may_be_indented(write):
    with LibSVMIter(write("  # begins\n1 0:1\n\t#2 0:2\n 3 1:1\n"), 3, 2) as it:
        assert next(it).label[0].tolist() == [1, 3]
