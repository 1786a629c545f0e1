"""Whole labels that float32 cannot hold are never stored as others in silence."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import gpuio
from gpuio import recordio
from gpuio.errors import FormatError, LabelError, LabelWarning
from gpuio.formats.image_list import ImageList, load_labels
from gpuio.formats.image_record import rounded_whole
from gpuio.interop import labels
from gpuio.testing import draw, encode, write_rec

LARGE = 25130987  # float32 has 25130986 and 25130988


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32, np.float64, object])
def test_the_first_whole_number_that_changes_is_found(kind):
    assert rounded_whole(np.array([1, 1 << 24, 25130988, LARGE, 16777217], kind)) == 3


@pytest.mark.parametrize("values", [[0.1, 2**24], [np.nan, np.inf, -np.inf], [1e300], [2.0**60]])
def test_numbers_that_float32_rounds_as_expected_are_not_reported(values):
    assert rounded_whole(np.array(values)) is None


@pytest.mark.parametrize("label", [LARGE, -LARGE, [LARGE], np.array([0, LARGE]), float(LARGE)])
def test_packing_one_warns(label):
    with pytest.warns(LabelWarning, match=r"label -?25130987 cannot be held .* -?25130988"):
        recordio.pack((0, label, 0, 0), b"")


@pytest.mark.parametrize("label", [1 << 24, 25130988, 0.1, np.nan, [0.5, 3]])
def test_packing_others_does_not(label, recwarn):
    recordio.pack((0, label, 0, 0), b"")
    assert not recwarn.list


def test_a_list_with_one_is_an_error_that_names_the_line(tmp_path):
    path = tmp_path / "a.lst"
    path.write_text(f"0\t1\ta.png\n1\t{LARGE}\tb.png\n")
    with pytest.raises(FormatError, match=r"a\.lst: line 2: label 25130987 cannot be held"):
        ImageList.load(path)
    rec = tmp_path / "a.rec"
    write_rec(rec, [encode(draw(9, 9), "PNG")] * 2)
    with pytest.raises(FormatError, match=r"a\.lst: line 2: label 25130987 cannot be held"):
        gpuio.ImageRecordIter(rec, (3, 8, 8), 2, path_imglist=path)


@pytest.mark.parametrize("text", ["9007199254740993", "-16777217", "16777217.0", f"{10**30 + 1}"])
def test_no_whole_number_of_a_list_slips_through_float64(tmp_path, text):
    path = tmp_path / "a.lst"
    path.write_text(f"0\t{text}\ta.png\n")
    with pytest.raises(FormatError, match=r"a\.lst: line 1: label -?\d+ cannot be held"):
        ImageList.load(path)
    with pytest.raises(FormatError, match=r"a\.lst: line 1: label -?\d+ cannot be held"):
        load_labels(path, 1)


@pytest.mark.parametrize(
    "text", ["16777218", "1e30", "0x1p60", "1e400", "nan", f"{2**60}", "1" + 40 * "0"]
)
def test_numbers_that_float32_holds_are_taken(tmp_path, text):
    path = tmp_path / "a.lst"
    path.write_text(f"0\t{text}\ta.png\n")
    assert len(load_labels(path, 1)[1]) == 1


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_an_id_that_no_header_can_hold_is_named(number):
    with pytest.raises(struct.error, match=f"id must be 0 to .* got {number}"):
        recordio.pack((0, 1.0, number, 0), b"")


def test_a_list_in_memory_with_one_is_an_error_that_names_the_sample(tmp_path):
    with pytest.raises(LabelError, match="sample 2: label 25130987"):
        gpuio.image.ImageIter(
            1, (3, 8, 8), imglist=[[1, "a.png"], [LARGE, "b.png"]], path_root=tmp_path
        )


def test_text_with_one_is_an_error_that_names_the_row(tmp_path):
    data, target = tmp_path / "data.csv", tmp_path / "label.csv"
    data.write_text("1\n2\n")
    target.write_text(f"1\n{LARGE}\n")
    given = {"data_shape": 1, "batch_size": 2, "label_csv": target}
    with (
        gpuio.io.CSVIter(data, **given) as batches,
        pytest.raises(FormatError, match=r"label\.csv: row 1: label 25130987"),
    ):
        batches.next()
    with gpuio.io.CSVIter(data, dtype="int64", **given) as batches:
        assert batches.next().label[0].tolist() == [1, LARGE]
    data.write_text(f"1 0:1\n{LARGE} 0:2\n")
    with (
        gpuio.io.LibSVMIter(data, 2, batch_size=2) as batches,
        pytest.raises(FormatError, match=r"data\.csv: row 1: label 25130987"),
    ):
        batches.next()


def test_arrays_with_one_warn_and_keep_it_as_ndarray():
    stored = np.array([LARGE, 1])
    with pytest.warns(LabelWarning, match="softmax_label: label 25130987"):
        gpuio.io.NDArrayIter(np.arange(2), stored, 2)
    batch = gpuio.io.NDArrayIter(np.arange(2), gpuio.nd.array(stored, dtype="int64"), 2).next()
    assert batch.label[0].tolist() == [LARGE, 1]


def test_lists_and_tensors_with_one_warn_too():
    torch = pytest.importorskip("torch")
    for stored in (
        [LARGE, 1],
        torch.tensor([LARGE, 1]),
        torch.tensor([LARGE, 1.0], dtype=torch.float64),
    ):
        with pytest.warns(LabelWarning, match="y: label 25130987") as warned:
            gpuio.io.NDArrayIter(np.arange(2), {"y": stored}, 2)
        assert warned[0].filename == __file__
    for stored in (torch.tensor([3, 1]), torch.tensor([0.5, 2], dtype=torch.bfloat16)):
        assert len(gpuio.io.NDArrayIter(np.arange(2), stored, 2)) == 1


def test_large_labels_as_integers_warn_as_they_may_have_been_rounded_before():
    stored = np.array([25130988], np.float32)
    with pytest.warns(LabelWarning, match="labels beyond 16777216"):
        assert labels.convert(stored, np.dtype("int64")).tolist() == [25130988]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.5, 2.0**63, -(2.0**70)])
def test_a_label_that_is_no_integer_is_an_error_that_names_the_key(value, recwarn):
    stored = np.array([3, value], np.float32)
    with pytest.raises(LabelError, match="key 17: label"):
        labels.convert(stored, np.dtype("int64"), [16, 17])
    assert not recwarn.list  # of NumPy, about the cast
