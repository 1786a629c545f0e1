"""Batches from .csv files; the numbers of full batches are those of MXNet 1.9.1."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import gpuio as mx
from gpuio.errors import FormatError, PipelineClosedError
from gpuio.mxnet.iterators.csv_iter import CSVIter
from gpuio.mxnet.ndarray import NDArray

FOUR = "1,2,3\n2,3,4\n3,4,5\n4,5,6\n"


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="data.csv"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write_file


def rows(it):
    """(first column, pad) of the batches of an epoch."""
    return [(batch.data[0][:, 0].tolist(), batch.pad) for batch in it]


def test_the_example_of_mxnet(write):
    it = mx.io.CSVIter(data_csv=write(FOUR), data_shape=(3,), batch_size=2)
    first, second = it
    assert first.data[0].asnumpy().tolist() == [[1, 2, 3], [2, 3, 4]]
    assert second.data[0].asnumpy().tolist() == [[3, 4, 5], [4, 5, 6]]
    assert isinstance(first.data[0], NDArray)
    assert first.data[0].dtype == first.label[0].dtype == np.float32
    assert first.label[0].tolist() == [0, 0]
    assert second.index.tolist() == [2, 3]
    assert it.provide_data == [("data", (2, 3))]
    assert it.provide_label == [("softmax_label", (2,))]
    assert (it.batch_size, len(it)) == (2, 2)


@pytest.mark.parametrize(
    ("size", "round_batch", "expected"),
    [
        (3, True, [([1, 2, 3], 0), ([4, 1, 2], 2)]),
        (3, False, [([1, 2, 3], 0), ([4], 0)]),
        (10, True, [([1, 2, 3, 4, 1, 2, 3, 4, 1, 2], 6)]),
        (10, False, [([1, 2, 3, 4], 0)]),
        (4, True, [([1, 2, 3, 4], 0)]),
    ],
)
def test_every_epoch_has_every_row(write, size, round_batch, expected):
    it = CSVIter(write(FOUR), (3,), size, round_batch=round_batch)
    for _ in range(3):
        assert len(it) == len(expected)
        assert rows(it) == expected
        it.reset()
    assert rows(it) == expected
    assert rows(it) == expected  # a new loop is a new epoch


def test_the_files_are_found_after_a_change_of_folder(write, tmp_path, monkeypatch):
    write(FOUR)
    monkeypatch.chdir(tmp_path)
    it = CSVIter("data.csv", (3,), 4)
    monkeypatch.chdir("/")
    assert rows(it) == rows(it) == [([1, 2, 3, 4], 0)]


def test_a_file_that_was_replaced_between_epochs_is_named(write, tmp_path):
    it = CSVIter(write(FOUR), (3,), 4)
    assert rows(it) == [([1, 2, 3, 4], 0)]
    write(FOUR.replace("1", "7"), "other.csv")
    (tmp_path / "other.csv").replace(tmp_path / "data.csv")
    with pytest.raises(FormatError, match=r"data\.csv was replaced since"):
        rows(it)


def test_a_reset_in_mid_epoch_starts_over(write):
    it = CSVIter(write(FOUR), (3,), 1)
    it.reset()
    for _ in range(3):
        assert next(it).index == [0]
        it.reset()


def test_labels(write):
    data, label = write(FOUR), write("7,1\n8,2\n9,3\n10,4\n", "label.csv")
    it = CSVIter(data, (3,), 3, label_csv=label, label_shape=(2,), data_name="x", label_name="y")
    assert next(it).label[0].tolist() == [[7, 1], [8, 2], [9, 3]]
    assert next(it).label[0].tolist() == [[10, 4], [7, 1], [8, 2]]
    assert it.provide_data == [("x", (3, 3))]
    assert it.provide_label == [("y", (3, 2))]
    one = write("7\n8\n9\n10\n", "one.csv")
    assert next(CSVIter(data, 3, 4, label_csv=one)).label[0].tolist() == [7, 8, 9, 10]
    for none in (None, "", "NULL"):
        assert next(CSVIter(data, 3, 4, label_csv=none, label_shape=2)).label[0].shape == (4,)


def test_shapes(write):
    path = write("1,2,3,4,5,6\n7,8,9,10,11,12\n")
    for shape in ((3, 2), "(3, 2)", [3, 2]):
        batch = next(CSVIter(path, shape, 2))
        assert batch.data[0].tolist()[0] == [[1, 2], [3, 4], [5, 6]]


def test_dtypes(write):
    path = write("9007199254740993,-2\n3,4\n")
    batch = next(CSVIter(path, 2, 2, dtype="int64"))
    assert batch.data[0].tolist() == [[9007199254740993, -2], [3, 4]]
    assert batch.label[0].dtype == np.int64
    it = CSVIter(write("1.0,2e1\n3,4\n"), 2, 2, dtype=np.int32)
    assert it.provide_data[0].dtype is it.provide_label[0].dtype is np.int32
    assert next(it).data[0].tolist() == [[1, 20], [3, 4]]


def test_forms_of_numbers_and_rows(write):
    path = write(" 1 ,-2.5e-1,+3,\r\n\r\n \nnan,inf,.5,\r\n7,8,9")
    data = next(CSVIter(path, 3, 3)).data[0]
    assert data[[0, 2]].tolist() == [[1, -0.25, 3], [7, 8, 9]]
    assert np.isnan(data[1, 0])
    assert data[1, 1:].tolist() == [np.inf, 0.5]


def test_several_files(write):
    a, b = write("1\n2\n", "a.csv"), write("3\n4\n", "b.csv")
    assert rows(CSVIter(f"{a};{b}", 1, 3)) == [([1, 2, 3], 0), ([4, 1, 2], 2)]
    assert rows(CSVIter([b, a], 1, 4)) == [([3, 4, 1, 2], 0)]


@pytest.mark.parametrize(
    ("row", "dtype", "message"),
    [
        ("1,2", None, r"row 1: 2 values, not 3; data_shape is \(3,\)"),
        ("1,2,3,4", None, "row 1: 4 values, not 3"),
        ("1,2,", None, "row 1: 2 values, not 3"),
        ("a,b,c", None, "row 1: 'a' is no float32"),
        ("1,,3", None, "row 1: '' is no float32"),
        ("1,2.5,3", "int32", "row 1: '2.5' is no int32"),
        ("1,3e9,3", "int32", "row 1: '3e9' is no int32"),
        ("1,3000000000,3", "int32", "row 1: '3000000000' is no int32"),
    ],
)
def test_a_bad_row_is_named(write, row, dtype, message):
    it = CSVIter(write(f"1,2,3\n{row}\n4,5,6\n"), 3, 1, dtype=dtype)
    next(it)
    with pytest.raises(FormatError, match=message):
        next(it)
    with pytest.raises(StopIteration):
        it.next()
    it.reset()
    next(it)
    it.close()


def test_a_bad_label_is_named(write):
    data, label = write("1\n2\n"), write("1\nx\n", "label.csv")
    with pytest.raises(FormatError, match=r"label\.csv: row 1: 'x' is no .* label_shape is \(1,\)"):
        next(CSVIter(data, 1, 2, label_csv=label))


def test_a_file_that_changes_is_an_error(write):
    path = write("1\n2\n3\n")
    it = CSVIter(path, 1, 3)
    write("1\n")
    with pytest.raises(FormatError, match=r"data\.csv: 6 bytes expected at byte 0, found 2: the "):
        next(it)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"data_csv": "none.csv"}, FileNotFoundError, r"none\.csv: no such file"),
        ({"data_shape": 0}, ValueError, "data_shape must be integers of at least 1, got 0"),
        ({"data_shape": (3, "x")}, ValueError, "data_shape must be an integer, got 'x'"),
        ({"label_shape": ()}, ValueError, "label_shape must be integers of at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"prefetch_buffer": 0}, ValueError, "prefetch_buffer must be at least 1, got 0"),
        ({"round_batch": 2}, ValueError, "round_batch must be True or False, got 2"),
        ({"dtype": "float64"}, ValueError, "dtype must be one of float32, int32, int64, got floa"),
        ({"data_cvs": "x"}, TypeError, "CSVIter has no parameter 'data_cvs'; did you mean 'data_c"),
    ],
)
def test_wrong_parameters_are_named(write, keywords, error, message):
    with pytest.raises(error, match=message):
        CSVIter(**{"data_csv": write(FOUR), "data_shape": 3, "batch_size": 2, **keywords})


@pytest.mark.parametrize("count", [3, 5, 8])
def test_there_is_one_row_of_labels_for_each_of_data(write, count):
    labels = write("1\n" * count, "labels.csv")
    message = rf"labels\.csv: {count} rows of labels for 4 of data in .*\.csv$"
    with pytest.raises(FormatError, match=message):
        CSVIter(write(FOUR), 3, 2, label_csv=labels)
    with pytest.raises(FormatError, match="no row in it"):
        CSVIter(write(""), 3, 2)


def test_no_thread_is_left_behind(write):
    path = write(FOUR)
    before = set(threading.enumerate())
    with CSVIter(path, 3, 1, prefetch_buffer=1) as it:
        next(it)
        assert len(set(threading.enumerate()) - before) == 1
    assert not set(threading.enumerate()) - before
    with pytest.raises(PipelineClosedError):
        it.next()
    it = CSVIter(path, 3, 1, prefetch_buffer=1)
    next(it)
    del it
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize("none", [None, "", "NULL"])
def test_no_file_of_labels_has_several_names(write, none):
    assert next(CSVIter(write(FOUR), 3, 4, label_csv=none)).label[0].tolist() == [0] * 4


def test_a_row_may_have_more_values_than_an_image_has_pixels_on_a_side(write):
    text = ",".join(map(str, range(40_000)))
    with CSVIter(write(f"{text}\n"), 40_000, 1) as it:
        assert it.provide_data[0].shape == (1, 40_000)
        assert next(it).data[0].tolist() == [list(range(40_000))]


def test_a_shape_of_more_values_than_int64_counts_is_wrong_for_every_row(write):
    with (
        CSVIter(write("1,2\n"), (1 << 40, 1 << 40), 1) as it,
        pytest.raises(FormatError, match=f"row 0: 2 values, not {1 << 80}; data_shape is"),
    ):
        next(it)


def test_large_integers_stay_exact_beside_others_that_are_written_as_floats(write):
    large = [[9007199254740993, -9007199254740995], [1, 1000]]
    text = f"{large[0][0]}, {large[0][1]}\n1.0,1e3\n"
    with CSVIter(write(text), 2, 2, dtype="int64", label_csv=write(text, "label.csv"),
                 label_shape=2) as it:  # fmt: skip
        batch = next(it)
    assert batch.data[0].tolist() == batch.label[0].tolist() == large
