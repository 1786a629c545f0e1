"""The .lst: what im2rec packs, and labels by id."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lists import image_list

from gpuio.errors import FormatError
from gpuio.formats import image_list as module
from gpuio.formats.image_list import ImageList, load_labels
from gpuio.storage import opening

REAL = Path(__file__).parents[2].parent / "shared" / "data"
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(width=32, allow_nan=False)
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=9)


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "a.lst"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_line_has_an_index_labels_and_a_path(tmp_path):
    path = write(tmp_path, "3\t1.500000\ta/b c.jpg\n\n 1 \t 2 \t x.png \r\n")
    images = ImageList.load(path)
    assert images.ids.tolist() == [3, 1]
    assert images.labels.tolist() == [[1.5], [2]]
    assert images.paths == ["a/b c.jpg", "x.png"]
    assert len(images) == 2


def test_lines_may_have_different_numbers_of_labels(tmp_path):
    images = ImageList.load(write(tmp_path, "0\t1\t2\t3\ta\n1\t4\tb\n"))
    assert images.widths.tolist() == [3, 1]
    npt.assert_array_equal(images.labels, np.array([[1, 2, 3], [4, np.nan, np.nan]], np.float32))
    assert images.values.dtype == images.labels.dtype == np.float32


def test_writes_as_im2rec_does(tmp_path):
    path = tmp_path / "a.lst"
    image_list([7, 2], [3, [0.25, 1]], ["a b.jpg", "é.jpg"]).save(path)
    assert path.read_bytes() == "7\t3.000000\ta b.jpg\n2\t0.250000\t1.000000\té.jpg\n".encode()


@given(rows=st.lists(st.tuples(integers, st.lists(floats, min_size=1), names)))
def test_a_saved_list_is_loaded(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("list") / "a.lst"
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    images = image_list(*columns)
    images.save(path)
    again = ImageList.load(path)
    npt.assert_array_equal(again.ids, images.ids)
    npt.assert_array_equal(again.values, images.values)
    npt.assert_array_equal(again.starts, images.starts)
    assert again.paths == columns[2]


def test_names_need_not_be_text(tmp_path):
    path = write(tmp_path, b"0\t1.000000\t\xff\xe9.jpg\n")
    content = path.read_bytes()
    ImageList.load(path).save(path)
    assert path.read_bytes() == content


def test_an_empty_list_is_one(tmp_path):
    images = ImageList.load(write(tmp_path, "\n"))
    assert len(images) == 0
    assert images.labels.shape == (0, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1\t2", "index, labels and path separated by tabs expected, found '1.t2'"),
        ("1 2 a.jpg", "index, labels and path separated by tabs expected"),
        ("a\t2\tb", "index must be a 64-bit integer, found 'a'"),
        ("9223372036854775808\t2\tb", "index must be a 64-bit integer"),
        ("1\t2\tx\tb", "label 2 of 2 must be a number, found 'x'"),
    ],
)
def test_a_bad_line_is_reported_with_its_number(tmp_path, line, reason):
    path = write(tmp_path, f"0\t0\ta\n\n{line}\n5\t0\tb\n")
    with pytest.raises(FormatError, match=rf"a\.lst: line 3: {reason}"):
        ImageList.load(path)


def test_labels_by_id(tmp_path):
    path = write(tmp_path, "5 1 2 a.jpg\n\n3\t0x10\t1e3\n4 -1 .5 6 7 b c\r\n")
    ids, labels = load_labels(path, 2)
    assert ids.dtype == np.int64
    assert labels.dtype == np.float32
    assert ids.tolist() == [5, 3, 4]
    assert labels.tolist() == [[1, 2], [16, 1000], [-1, 0.5]]


def test_an_id_may_be_repeated_with_its_labels_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LINES", 2)
    ids, labels = load_labels(write(tmp_path, "1 1\n2 2\n1 1\n4 4\n2 2\n"), 1)
    assert ids.tolist() == [1, 2, 4]
    assert labels.tolist() == [[1], [2], [4]]
    with pytest.raises(FormatError, match="lines 2 and 5: both have id 2"):
        load_labels(write(tmp_path, "1 1\n2 2\n1 1\n4 4\n2 5\n"), 1)


def test_no_lines_give_no_labels(tmp_path):
    ids, labels = load_labels(write(tmp_path, ""), 3)
    assert ids.shape == (0,)
    assert labels.shape == (0, 3)


def test_a_part_is_a_list_of_its_lines():
    images = image_list([4, 5, 6, 7], [[1], [2, 3], [4], [5]], list("abcd"))
    part = images.part(1, 3)
    assert (part.ids.tolist(), part.paths) == ([5, 6], ["b", "c"])
    npt.assert_array_equal(part.labels, [[2, 3], [4, np.nan]])
    assert len(images.part(2, 2)) == 0
    assert images.part(0, 4).labels.tolist()[1] == [2, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 2", "index and 2 labels expected, found '1 2'"),
        ("1", "index and 2 labels expected"),
        ("1 0x1p99999 2 a.jpg", "label 1 of 2 must be a number, found '0x1p99999'"),
        ("1 2 my cat.jpg", "label 2 of 2 must be a number, found 'my'"),
        ("1.5 2 3", "index must be a 64-bit integer, found '1.5'"),
    ],
)
@pytest.mark.parametrize("others", ["", "0 0 0 a\n\n"])
def test_a_bad_label_is_reported_with_its_line(tmp_path, line, reason, others):
    number = others.count("\n") + 1
    with pytest.raises(FormatError, match=f"line {number}: {reason}"):
        load_labels(write(tmp_path, others + line + "\n"), 2)


def test_a_label_width_is_positive(tmp_path):
    with pytest.raises(ValueError, match="label_width must be at least 1, got 0"):
        load_labels(write(tmp_path, ""), 0)


@pytest.mark.skipif(not REAL.exists(), reason="no real .lst files beside this checkout")
def test_real_lists_are_read_alike_by_both():
    for path in REAL.glob("*.lst"):
        images = ImageList.load(path)
        ids, labels = load_labels(path, 1)
        npt.assert_array_equal(np.sort(ids), np.unique(images.ids))
        assert len(labels) == len(ids)


def test_a_list_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.lst"
    path.write_text("0\t1\ta.jpg\n")
    monkeypatch.setattr(opening, "open_plain", lambda path, **_: os.open(path, os.O_WRONLY))
    with pytest.raises(OSError, match=r"Bad file descriptor.*a\.lst"):
        ImageList.load(path)
