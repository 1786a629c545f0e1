"""Which files a data set is made of, and where its records lie in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats.index import Index
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.sources.recordio.table import RecordTable
from gpuio.storage.shards import shard_name
from gpuio.testing import write_rec


@pytest.fixture
def parts(tmp_path):
    """b.rec with 3 records, a.rec with 2, c.rec with 1; keys count on from b over a to c."""
    number = 0
    for name, count in (("b", 3), ("a", 2), ("c", 1)):
        images = [b"%s%d" % (name.encode(), n) for n in range(count)]
        write_rec(tmp_path / f"{name}.rec", images, ids=range(number, number + count))
        number += count
    return tmp_path


def content(dataset):
    return [dataset.payload(n)[24:].decode() for n in range(len(dataset))]


def test_a_file_is_all_its_records(parts):
    dataset = RecordIOSource.open(parts / "b.rec")
    assert content(dataset) == ["b0", "b1", "b2"]
    assert dataset.table.paths == (str(parts / "b.rec"),)


def test_several_files_keep_the_order_given(parts):
    names = [parts / "b.rec", parts / "a.rec"]
    for form in (names, ";".join(map(str, names))):
        dataset = RecordIOSource.open(form)
        assert content(dataset) == ["b0", "b1", "b2", "a0", "a1"]
        assert dataset.table.first.tolist() == [0, 3, 5]
        assert dataset.table.file_of(np.arange(5)).tolist() == [0, 0, 0, 1, 1]


def test_the_index_beside_a_file_is_used(parts):
    assert RecordIOSource.open([parts / "b.rec", parts / "a.rec"]).keys.tolist() == [0, 1, 2, 3, 4]
    (parts / "c.idx").unlink()
    assert RecordIOSource.open(parts).keys is None
    assert content(RecordIOSource.open(parts)) == ["a0", "a1", "b0", "b1", "b2", "c0"]


def test_shards_are_one_data_set(parts):
    for number, name in enumerate("bac"):
        for suffix in (".rec", ".idx"):
            (parts / f"{name}{suffix}").rename(parts / f"{shard_name('s', number, 3)}{suffix}")
    expected = [parts / f"s-0000{number}-of-00003.rec" for number in range(3)]
    for form in (
        f"{parts}/s-*.rec",
        f"{parts}/s-{{00000..00002}}-of-00003.rec",
        tuple(expected),
        parts,
    ):
        dataset = RecordIOSource.open(form)
        assert dataset.table.paths == tuple(map(str, expected))
        assert dataset.keys.tolist() == [0, 1, 2, 3, 4, 5]
        assert content(dataset) == ["b0", "b1", "b2", "a0", "a1", "c0"]
        assert dataset.where(3) == f"{expected[1]}: record 3 at byte 0"
    expected[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"s-00001-of-00003\.rec: no such file; 1 of 3"):
        RecordIOSource.open(f"{parts}/s-*.rec")


@given(
    st.lists(
        st.lists(st.integers(0, 50).map(lambda n: 4 * n), max_size=8).map(sorted), max_size=4
    ).filter(any)
)
def test_a_record_goes_on_to_the_next_one_or_the_end(files):
    counts, sizes = [len(offsets) for offsets in files], [1000 + n for n in range(len(files))]
    table = RecordTable(
        tuple(map(str, range(len(files)))),
        np.array(sizes),
        np.cumsum([0, *counts]),
        np.concatenate([np.array(offsets, np.int64) for offsets in files]),
    )
    ends = [
        min([x for x in offsets if x > offset], default=size)
        for offsets, size in zip(files, sizes, strict=True)
        for offset in offsets
    ]
    ids = np.random.default_rng(0).permutation(len(table))
    assert table.distances(ids).tolist() == (np.array(ends) - table.offsets)[ids].tolist()


def test_a_fingerprint_is_of_the_records_in_their_order(parts):
    one = RecordIOSource.open([parts / "b.rec", parts / "a.rec"]).fingerprint()
    assert one != RecordIOSource.open([parts / "a.rec", parts / "b.rec"]).fingerprint()
    assert one != RecordIOSource.open([parts / "b.rec", parts / "c.rec"]).fingerprint()
    for name in "ba":
        (parts / f"{name}.idx").unlink()
        (parts / "elsewhere").mkdir(exist_ok=True)
        (parts / f"{name}.rec").rename(parts / "elsewhere" / f"{name}.rec")
    moved = parts / "elsewhere"
    assert one == RecordIOSource.open([moved / "b.rec", moved / "a.rec"]).fingerprint()


def test_a_folder_and_a_pattern_are_sorted_by_name(parts):
    everything = ["a0", "a1", "b0", "b1", "b2", "c0"]
    assert content(RecordIOSource.open(parts)) == everything
    assert content(RecordIOSource.open(parts / "*.rec")) == everything
    assert content(RecordIOSource.open(f"{parts}/[bc].rec")) == ["b0", "b1", "b2", "c0"]


def test_a_name_that_looks_like_a_pattern_is_a_name_first(tmp_path):
    path = tmp_path / "[a].rec"
    write_rec(path, [b"it"])
    assert content(RecordIOSource.open(path)) == ["it"]


def test_an_index_gives_the_keys(parts):
    dataset = RecordIOSource.open(parts / "a.rec", parts / "a.idx")
    assert dataset.keys.tolist() == [3, 4]
    assert content(dataset) == ["a0", "a1"]


def test_each_file_may_have_its_index(parts):
    dataset = RecordIOSource.open(f"{parts}/b.rec;{parts}/a.rec", f"{parts}/b.idx;{parts}/a.idx")
    assert dataset.keys.tolist() == [0, 1, 2, 3, 4]
    assert RecordIOSource.open(parts, parts).keys.tolist() == [3, 4, 0, 1, 2, 5]


def test_one_index_may_be_for_all_files_laid_end_to_end(parts):
    files = [parts / "b.rec", parts / "a.rec", parts / "c.rec"]
    single = parts / "all.idx"
    start, lines = 0, []
    for file in files:
        index = Index.load(file.with_suffix(".idx"))
        lines += [f"{k}\t{start + o}\n" for k, o in zip(index.keys, index.offsets, strict=True)]
        start += file.stat().st_size
    single.write_text("".join(lines[::-1]))
    dataset = RecordIOSource.open(files, single)
    assert dataset.keys.tolist() == [0, 1, 2, 3, 4, 5]
    assert content(dataset) == ["b0", "b1", "b2", "a0", "a1", "c0"]
    assert dataset.table.offsets.tolist() == RecordIOSource.open(files).table.offsets.tolist()
    numbers = np.arange(6)
    assert dataset.nbytes(numbers).tolist() == RecordIOSource.open(files).nbytes(numbers).tolist()


def test_an_index_in_another_order_changes_keys_not_the_order(parts):
    idx = parts / "b.idx"
    idx.write_text("".join(reversed(idx.read_text().splitlines(keepends=True))))
    dataset = RecordIOSource.open(parts / "b.rec", idx)
    assert dataset.keys.tolist() == [0, 1, 2]
    assert content(dataset) == ["b0", "b1", "b2"]


def test_an_index_may_leave_records_out(parts):
    idx = parts / "b.idx"
    lines = idx.read_text().splitlines(keepends=True)
    idx.write_text(lines[0] + lines[2])
    dataset = RecordIOSource.open(parts / "b.rec", idx)
    assert dataset.keys.tolist() == [0, 2]
    assert content(dataset) == ["b0", "b2"]


def test_messages_name_file_record_and_place(parts):
    dataset = RecordIOSource.open(parts)
    assert dataset.where(3) == f"{parts}/b.rec: record 3 at byte {dataset.table.offsets[3]}"


def test_missing_files_are_named(parts):
    for missing in (parts / "d.rec", f"{parts}/a.rec;{parts}/d.rec", parts / "d*.rec"):
        with pytest.raises(FileNotFoundError, match=r"d\*?\.rec: no such file"):
            RecordIOSource.open(missing)
    with pytest.raises(FileNotFoundError, match=r"d\.idx: no such file"):
        RecordIOSource.open(parts / "a.rec", parts / "d.idx")
    (parts / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: no \.rec file in this folder"):
        RecordIOSource.open(parts / "empty")


def test_a_file_of_another_kind_is_named(parts):
    (parts / "d.lst").write_text("0\t1.0\ta.jpg\n")
    with pytest.raises(FormatError, match=r"d\.lst: not a RecordIO file, but a \.lst: `gpuio"):
        RecordIOSource.open(parts / "d.lst")
    with pytest.raises(FormatError, match=r"a\.idx: not a RecordIO file, but an \.idx: give the"):
        RecordIOSource.open([parts / "a.rec", parts / "a.idx"])


def test_no_record_at_all_is_an_error(tmp_path):
    (tmp_path / "a.rec").touch()
    with pytest.raises(FormatError, match=r"a\.rec: no record in it"):
        RecordIOSource.open(tmp_path / "a.rec")


def test_an_empty_file_among_others_is_passed_over(parts):
    (parts / "aa.rec").touch()
    dataset = RecordIOSource.open(parts)
    assert content(dataset) == ["a0", "a1", "b0", "b1", "b2", "c0"]
    assert dataset.where(2).startswith(f"{parts}/b.rec")


def test_the_number_of_index_files_must_fit(parts):
    with pytest.raises(FormatError, match=r"names 2 files for 3 \.rec files"):
        RecordIOSource.open(parts, f"{parts}/a.idx;{parts}/b.idx")


def test_the_index_of_another_file_is_found_out(parts):
    with pytest.raises(FormatError, match=r"b\.idx is not the index of .*c\.rec"):
        RecordIOSource.open(parts / "c.rec", parts / "b.idx")


def test_damage_is_found_when_a_file_is_gone_through(parts):
    path = parts / "b.rec"
    path.with_suffix(".idx").unlink()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptRecordError, match="record at byte 0: magic is"):
        RecordIOSource.open(path)
