"""How many labels records have."""

from __future__ import annotations

import os

import pytest

from gpuio.errors import FormatError
from gpuio.sources.recordio import source as module
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.testing import write_rec

MAGIC = (0xCED7230A).to_bytes(4, "little")


def test_labels_are_counted_in_all_files(tmp_path):
    labels = [[1, 2, 3], 7, [5] * 40, [1]]
    write_rec(tmp_path / "a.rec", [b"image"] * 4, labels=labels)
    write_rec(tmp_path / "b.rec", [MAGIC * 9, b""], labels=[[1, 2], [3, 4, 5]])
    dataset = RecordIOSource.open([tmp_path / "a.rec", tmp_path / "b.rec"])
    assert dataset.label_counts().tolist() == [3, 0, 40, 1, 2, 3]


def test_a_damaged_record_counts_for_none(tmp_path):
    path = tmp_path / "a.rec"
    starts = write_rec(path, [b"image"] * 4, labels=[[1, 2], [3, 4], [5, 6], [7, 8]])
    data = bytearray(path.read_bytes())
    data[starts[1] + 8 : starts[1] + 12] = b"\xff" * 4  # four thousand million labels
    data[starts[2]] ^= 1
    path.write_bytes(data)
    source = RecordIOSource.open(path, path.with_suffix(".idx"))
    assert source.label_counts().tolist() == [2, 0, 0, 2]


def test_a_length_or_a_number_of_labels_beyond_the_file_counts_for_none(tmp_path):
    path = tmp_path / "a.rec"
    starts = write_rec(path, [b"image"] * 3, labels=[[1, 2], [3, 4], [5, 6]])
    data = bytearray(path.read_bytes())
    data[starts[1] + 4 : starts[1] + 12] = b"\xff\xff\xff\x1f\0\0\0\x07"
    path.write_bytes(data)
    source = RecordIOSource.open(path, path.with_suffix(".idx"))
    assert source.label_counts().tolist() == [2, 0, 2]


def test_a_wrong_line_of_the_index_costs_no_label(tmp_path):
    path = tmp_path / "a.rec"
    starts = write_rec(path, [b"image"] * 3, labels=[[1, 2], [3, 4, 5, 6], [5, 6]])
    with path.with_suffix(".idx").open("a") as file:
        file.write(f"9\t{starts[1] + 36}\n")
    source = RecordIOSource.open(path, path.with_suffix(".idx"))
    assert source.label_counts().tolist() == [2, 4, 0, 2]


@pytest.mark.parametrize("nbytes", [40, 30_000], ids=["small", "large"])
def test_labels_are_counted_wherever_records_lie(tmp_path, monkeypatch, nbytes):
    monkeypatch.setattr(module, "_COUNTED", 7)
    labels = [[1.0] * (1 + n % 5) for n in range(40)]
    write_rec(tmp_path / "a.rec", [bytes(nbytes + n) for n in range(40)], labels=labels)
    dataset = RecordIOSource.open(tmp_path / "a.rec")
    assert dataset.label_counts().tolist() == [1 + n % 5 for n in range(40)]


@pytest.mark.parametrize("left", [0, 4, 1000])
def test_a_file_that_was_cut_since_it_was_opened_is_an_error(tmp_path, left):
    path = tmp_path / "a.rec"
    write_rec(path, [bytes(200)] * 9, labels=[[1, 2]] * 9)
    dataset = RecordIOSource.open(path)
    size = path.stat().st_size
    os.truncate(path, left)
    with pytest.raises(FormatError, match=rf"a\.rec was .*it had {size} bytes .* has {left} bytes"):
        dataset.label_counts()
