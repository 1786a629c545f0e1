"""Which files names, patterns and folders stand for, and which of them are missed."""

from __future__ import annotations

import numpy.testing as npt
import pytest

from gpuio import ImageRecordIter
from gpuio.errors import FormatError, StateError
from gpuio.storage.shards import beside, expand_braces, find_files, shard_name
from gpuio.testing import draw, encode, write_rec


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set of twelve shards, one of two, and another file, empty all; the working folder."""
    for number in range(12):
        (tmp_path / f"{shard_name('train', number, 12)}.rec").touch()
    for number in range(2):
        (tmp_path / f"{shard_name('val', number, 2)}.rec").touch()
    (tmp_path / "extra.rec").touch()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = [f"train-{number:05d}-of-00012.rec" for number in range(12)]
VAL = ["val-00000-of-00002.rec", "val-00001-of-00002.rec"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", ["a"]),
        ("a{1,2}b", ["a1b", "a2b"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{0..1}{a,}", ["0a", "0", "1a", "1"]),
        ("{}{a}{1..}{,}", ["{}{a}{1..}", "{}{a}{1..}"]),
        ("a{1..2", ["a{1..2"]),
    ],
)
def test_braces_are_spelled_out_as_by_a_shell(name, expected):
    assert expand_braces(name) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("extra.rec", ["extra.rec"]),
        ("train-*.rec", TRAIN),
        ("train-{00000..00011}-of-00012.rec", TRAIN),
        ("{val,train}-*.rec", VAL + TRAIN),
        ("val-*.rec;extra.rec", [*VAL, "extra.rec"]),
        (("extra.rec", "val-*.rec"), ["extra.rec", *VAL]),
        (["extra.rec", "extra.rec"], ["extra.rec", "extra.rec"]),
        ("*.rec", ["extra.rec", *TRAIN, *VAL]),
    ],
)
def test_files_come_in_the_order_given(folder, given, expected):
    assert find_files(given, ".rec") == expected


def test_a_folder_is_all_its_files_of_the_suffix(folder):
    names = ["extra.rec", *TRAIN, *VAL]
    assert find_files(folder, ".rec") == [str(folder / name) for name in names]


def test_hidden_files_of_a_folder_are_left_out(folder):
    (folder / "._extra.rec").touch()  # as macOS leaves beside what it copies
    assert find_files(folder, ".rec") == find_files(f"{folder}/*.rec", ".rec")


def test_a_name_that_looks_like_a_pattern_is_itself_if_there(folder):
    for name in ("a{1,2}.rec", "[a].rec"):
        (folder / name).touch()
        assert find_files(name, ".rec") == [name]


def test_some_of_a_set_may_be_named_one_by_one(folder):
    assert find_files(TRAIN[3], ".rec") == [TRAIN[3]]
    assert find_files(TRAIN[2:4], ".rec") == TRAIN[2:4]
    assert find_files("train-{00002..00003}-of-00012.rec", ".rec") == TRAIN[2:4]
    assert find_files("train-0000[23]-*.rec", ".rec") == TRAIN[2:4]


@pytest.mark.parametrize(
    "given", ["train-*.rec", "train-*-of-00012.rec", "train-{00000..00011}-of-00012.rec", "."]
)
def test_missing_shards_are_named(folder, given):
    for number in (3, 11):
        (folder / TRAIN[number]).unlink()
    expected = r"train-00003-of-00012.rec, (\./)?train-00011-of-00012.rec: no such file; 2 of 12 "
    with pytest.raises(FileNotFoundError, match=expected):
        find_files(given, ".rec")


def test_of_many_missing_ones_a_few_are_named(folder):
    given = "train-{00000..00127}-of-00128.rec"
    expected = r"train-00004-of-00128\.rec and 123 more: no such file; 128 of 128 \.rec files"
    with pytest.raises(FileNotFoundError, match=expected):
        find_files(given, ".rec")


def test_two_sets_of_one_name_are_not_mixed(folder):
    (folder / "train-00000-of-00013.rec").touch()
    expected = r"train-\*-of-00012\.rec and train-\*-of-00013\.rec; name one"
    with pytest.raises(FormatError, match=expected):
        find_files("train-*.rec", ".rec")
    assert find_files("train-*-of-00012.rec", ".rec") == TRAIN


def test_nothing_named_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"no \.rec file is named"):
        find_files([], ".rec")


def test_a_neighbour_differs_in_its_suffix():
    assert beside("a.b/train.x.rec", ".idx") == "a.b/train.x.idx"
    assert beside("s3://bucket/train.rec", ".idx") == "s3://bucket/train.idx"


@pytest.fixture
def sets(tmp_path):
    """A file of 20 records with keys from 50, and the same as a set of three shards."""
    images = [encode(draw(20, 20, seed=number)) for number in range(20)]
    write_rec(tmp_path / "whole.rec", images, ids=range(50, 70))
    for number, (start, stop) in enumerate([(0, 6), (6, 13), (13, 20)]):
        path = tmp_path / f"{shard_name('cut', number, 3)}.rec"
        write_rec(path, images[start:stop], ids=range(50 + start, 50 + stop))
    return tmp_path


def load(path, **options) -> ImageRecordIter:
    return ImageRecordIter(path, (3, 20, 20), 4, shuffle=True, seed=3, **options)


def test_shards_are_shuffled_as_one_file(sets):
    for part in range(2):
        where = {"num_parts": 2, "part_index": part}
        with (
            load(sets / "whole.rec", **where) as whole,
            load(f"{sets}/cut-{{00000..00002}}-of-00003.rec", **where) as cut,
        ):
            for one, other in zip(whole, cut, strict=True):
                npt.assert_array_equal(one.index, other.index)
                npt.assert_array_equal(one.data[0], other.data[0])


def test_a_state_is_of_the_shards_in_their_order(sets):
    names = find_files(f"{sets}/cut-*.rec", ".rec")
    with load(names) as loader, load(names[::-1]) as other:
        next(loader)
        state = loader.state_dict()
        with pytest.raises(StateError, match="state has dataset="):
            other.load_state_dict(state)
    with load(tuple(names)) as again:
        again.load_state_dict(state)


def test_nothing_between_separators_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.rec", "b.rec"):
        (tmp_path / name).touch()
    assert find_files("a.rec;", ".rec") == ["a.rec"]
    assert find_files(";a.rec; ;b.rec;", ".rec") == ["a.rec", "b.rec"]
    for nothing in ("", ";", None, []):
        with pytest.raises(FileNotFoundError, match=r"no \.rec file is named"):
            find_files(nothing, ".rec")
    with pytest.raises(ValueError, match="a path must not be empty"):
        find_files(["a.rec", ""], ".rec")
