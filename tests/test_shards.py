"""Which files names, patterns and folders stand for, and which of them are missed."""

from __future__ import annotations

import pytest

from gpuio.errors import FormatError
from gpuio.shards import beside, expand_braces, find_files, shard_name


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
