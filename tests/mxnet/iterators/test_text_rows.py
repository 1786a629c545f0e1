"""Rows of text files."""

from __future__ import annotations

import os

import numpy as np
import pytest

from gpuio.errors import FormatError
from gpuio.mxnet.iterators import text_rows
from gpuio.mxnet.iterators.text_rows import TextRows


def rows_of(text, tmp_path, **keywords):
    (tmp_path / "a.txt").write_bytes(text)
    return TextRows.open(tmp_path / "a.txt", **keywords)


@pytest.mark.parametrize(
    "text",
    [b"ab\ncd\nef\n", b"ab\ncd\nef", b"ab\r\ncd\r\nef\r\n", b"\nab\n\r\n\ncd\n \t \nef\n\n\n  "],
)
@pytest.mark.parametrize("block", [1, 2, 3, 1 << 24])
def test_rows_are_found(text, block, tmp_path, monkeypatch):
    monkeypatch.setattr(text_rows, "_BLOCK", block)
    rows = rows_of(text, tmp_path)
    assert len(rows) == 3
    for number, expected in enumerate((b"ab", b"cd", b"ef")):
        read = rows.read(np.array([number]))
        assert read.endswith(b"\n")
        assert read.split() == [expected]
    assert rows.read(np.array([2, 0, 1])).split() == [b"ef", b"ab", b"cd"]
    assert rows.read(np.arange(3)).split() == [b"ab", b"cd", b"ef"]


def test_a_mark_at_the_start_is_no_text(tmp_path):
    assert rows_of(b"\xef\xbb\xbfab\n", tmp_path).read(np.array([0])) == b"ab\n"
    with pytest.raises(FormatError, match="no row in it"):
        rows_of(b"\xef\xbb\xbf", tmp_path)


@pytest.mark.parametrize(
    ("mark", "block"),
    [(b"", 1), (b"", 2), (b"", 5), *((b"\xef\xbb\xbf", size) for size in (3, 4, 5, 64))],
)
def test_rows_are_found_wherever_the_blocks_of_a_file_end(tmp_path, monkeypatch, mark, block):
    monkeypatch.setattr(text_rows, "_BLOCK", block)
    lines = [b"ab", b"", b" c", b"   ", b"def", b"#g", b"\t", b"h"]
    for end in (b"", b"\n", b"\n\n", b"\n  "):
        rows = rows_of(mark + b"\n".join(lines) + end, tmp_path)
        expected = [b"ab", b"c", b"def", b"#g", b"h"]
        assert len(rows) == 5
        assert [rows.read(np.array([n])).strip() for n in range(5)] == expected
        assert len(rows_of(b"\n".join(lines) + end, tmp_path, comments=True)) == 4


def test_a_file_that_is_cut_is_an_error_that_says_where(tmp_path):
    rows = rows_of(b"ab\ncd\nef\n", tmp_path)
    os.truncate(rows.files[0].path, 4)
    with pytest.raises(FormatError, match=r"a\.txt was written to since it was opened first"):
        rows.read(np.array([0]))
    with pytest.raises(FormatError, match="6 bytes expected at byte 3, found 1: the file became"):
        rows.read(np.array([1, 2]))


def test_comments_can_be_left_out(tmp_path):
    assert len(rows_of(b"#x\nab\n#", tmp_path)) == 3
    assert len(rows_of(b"#x\nab\n#", tmp_path, comments=True)) == 1


def test_several_files(tmp_path):
    for name, text in (("b", "3\n"), ("a", "1\n\n2"), ("c", "")):
        (tmp_path / name).write_text(text)
    a, b, c = (str(tmp_path / name) for name in "abc")
    for given in (f"{a};{b}", [a, b], [a, c, b], tmp_path):
        rows = TextRows.open(given)
        assert rows.read(np.arange(len(rows))).split() == [b"1", b"2", b"3"]
    assert rows.where(1) == f"{a}: row 1"
    assert TextRows.open([a, c, b]).where(2) == f"{b}: row 0"
    assert str(TextRows.open([a, b])) == f"{a}; {b}"


def test_hidden_files_of_a_folder_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("1\n2\n")
    (tmp_path / ".a.csv.swp").write_text("3\n")
    assert len(TextRows.open(tmp_path)) == 2


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file"):
        TextRows.open("none.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match="folder: no file in this folder"):
        TextRows.open(tmp_path / "folder")
    with pytest.raises(ValueError, match="s3://a/b: rows are read from files on disk"):
        TextRows.open("s3://a/b")
    with pytest.raises(FormatError, match=r"a\.txt: no row in it"):
        rows_of(b"\n\n", tmp_path)
