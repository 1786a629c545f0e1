"""A path that is empty, as of an unset variable, is an error with its name at every door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpuio.cli import main
from gpuio.image import ImageIter, imread
from gpuio.mxnet.iterators.csv_iter import CSVIter
from gpuio.mxnet.iterators.det_record import ImageDetRecordIter
from gpuio.mxnet.iterators.image_record import ImageRecordIter
from gpuio.mxnet.iterators.libsvm_iter import LibSVMIter
from gpuio.mxnet.iterators.mnist_iter import MNISTIter
from gpuio.recordio import MXIndexedRecordIO, MXRecordIO
from gpuio.testing import encode, write_rec


def record_dataset(*args, **keywords):
    """A RecordDataset, which is for those who have PyTorch."""
    pytest.importorskip("torch")
    from gpuio.interop.record_dataset import RecordDataset

    return RecordDataset(*args, **keywords)


IMAGES = {"data_shape": (3, 8, 8), "batch_size": 1, "path_imgrec": "a.rec"}
ROWS = {"data_shape": (2,), "batch_size": 1}
IDX = {"idx_path": "a.idx", "uri": "a.rec", "flag": "r"}
FILES = {"image": "a.rec", "label": "a.rec"}
DOORS = [
    (ImageRecordIter, IMAGES, "path_imgrec"),
    (ImageDetRecordIter, IMAGES, "path_imgrec"),
    (record_dataset, {}, "path_imgrec"),
    (CSVIter, ROWS, "data_csv"),
    (LibSVMIter, ROWS, "data_libsvm"),
    (MNISTIter, FILES, "image"),
    (MNISTIter, FILES, "label"),
    (MXRecordIO, {"flag": "r"}, "uri"),
    (MXRecordIO, {"flag": "w"}, "uri"),
    (MXIndexedRecordIO, IDX, "uri"),
    (MXIndexedRecordIO, IDX | {"flag": "w"}, "idx_path"),
    (imread, {}, "filename"),
]
SEVERAL = [
    (ImageRecordIter, IMAGES, "path_imgidx"),
    (ImageRecordIter, IMAGES, "masks"),
    (ImageDetRecordIter, IMAGES, "path_imgidx"),
    (record_dataset, {"path_imgrec": "a.rec"}, "path_imgidx"),
    (CSVIter, ROWS | {"data_csv": "a.csv"}, "label_csv"),
    (LibSVMIter, ROWS | {"data_libsvm": "a.csv", "label_shape": (2,)}, "label_libsvm"),
]
SINGLE = [
    (ImageRecordIter, IMAGES, "path_imglist"),
    (ImageRecordIter, IMAGES, "mean_img"),
    (ImageRecordIter, IMAGES, "cache_dir"),
    (ImageDetRecordIter, IMAGES, "path_imglist"),
    (ImageDetRecordIter, IMAGES, "mean_img"),
    (ImageIter, IMAGES, "path_imgrec"),
    (ImageIter, IMAGES, "path_imgidx"),
    (ImageIter, IMAGES, "path_imglist"),
    (ImageIter, IMAGES, "path_root"),
]


def name(value: object) -> str | None:
    return value.__name__ if callable(value) else value if isinstance(value, str) else None


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with files of every kind that an empty path could stand for."""
    monkeypatch.chdir(tmp_path)
    write_rec(tmp_path / "a.rec", [encode(np.full((8, 8, 3), n, np.uint8)) for n in range(3)])
    (tmp_path / "a.csv").write_text("1,2\n")
    return tmp_path


@pytest.mark.parametrize("value", ["", " ", None, [""], 5])
@pytest.mark.parametrize(("door", "others", "keyword"), DOORS, ids=name)
def test_a_path_that_is_needed_is_no_empty_one(folder, door, others, keyword, value):
    before = sorted(folder.iterdir())
    with pytest.raises((ValueError, TypeError), match=f"^{keyword} must "):
        door(**others | {keyword: value})
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("value", [["a.rec", ""], [None], 5, b"a.rec"])
@pytest.mark.parametrize(("door", "others", "keyword"), SEVERAL, ids=name)
def test_paths_that_are_not_needed_are_no_empty_ones(door, others, keyword, value):
    with pytest.raises(ValueError, match=f"^{keyword} must "):
        door(**others | {keyword: value})


@pytest.mark.parametrize("value", [" ", [""], ["a.rec"], 5, b"a.rec"])
@pytest.mark.parametrize(("door", "others", "keyword"), SINGLE, ids=name)
def test_a_path_that_is_not_needed_is_one(door, others, keyword, value):
    with pytest.raises((ValueError, TypeError), match=f"^{keyword} must be a path, got "):
        door(**others | {keyword: value})
    assert not Path(" ").exists()


def test_the_folder_of_a_list_is_no_empty_one():
    with pytest.raises(ValueError, match=r"^path_root must be a path, got ''"):
        ImageIter(1, (3, 8, 8), imglist=[[0, "a.png"]], path_root="")


@pytest.mark.parametrize("value", ["", None])
def test_no_path_is_not_given(value):
    keywords = "path_imgidx", "path_imglist", "masks", "mean_img", "cache_dir"
    with ImageRecordIter(**IMAGES, **dict.fromkeys(keywords, value)) as batches:
        assert len(batches) == 3
    with CSVIter("a.csv", (2,), 1, label_csv=value) as rows:
        assert next(rows).label[0].tolist() == [0]
    keywords = "path_imgidx", "path_imglist"
    with ImageIter(**IMAGES, **dict.fromkeys(keywords, value)) as images:
        assert images.next().data[0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize("path", ["", " "], ids=repr)
def test_an_empty_name_of_an_index_is_no_scan(folder, path):
    with pytest.raises(ValueError, match="idx_path must be a path, got "):
        MXIndexedRecordIO(path, "a.rec", "r")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["im2rec", "", "."], "PREFIX"),
        (["im2rec", "a", ""], "ROOT"),
        (["im2rec", "--list", "", "."], "PREFIX"),
        (["rec2idx", ""], "RECORD"),
        (["rec2idx", "a.rec", ""], "INDEX"),
        (["info", ""], "FILE"),
        (["verify", "a.rec", " "], "FILE"),
        (["show", ""], "FILE"),
        (["show", "a.rec", "-o", ""], "-o/--output"),
        (["bench", "a.rec", "--json", ""], "--json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_an_empty_argument_is_status_2(folder, capsys, command, name):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 2
    assert f"argument {name}: must be a path, got " in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("value", ["", None])
def test_no_path_of_an_index_is_not_given(value):
    assert len(record_dataset("a.rec", value)) == 3
