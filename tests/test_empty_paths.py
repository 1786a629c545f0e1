"""A path that is empty, as of an unset variable, is an error with its name at every door."""

from __future__ import annotations

import numpy as np
import pytest

import gpuio as mx
from gpuio.cli import main
from gpuio.recordio import MXIndexedRecordIO, MXRecordIO, pack_img


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a .rec, its .idx and a list, any of which "" could stand for."""
    monkeypatch.chdir(tmp_path)
    with MXIndexedRecordIO("a.idx", "a.rec", "w") as records:
        records.write_idx(0, pack_img((0, 1, 0, 0), np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "a.lst").write_text("0\t1\ta.png\n")
    return tmp_path


DOORS = {
    "uri": lambda path: MXRecordIO(path, "r"),
    "uri to write": lambda path: MXRecordIO(path, "w"),
    "uri by key": lambda path: MXIndexedRecordIO("a.idx", path, "r"),
    "image": lambda path: mx.io.MNISTIter(image=path, label="a.rec"),
    "path_root": lambda path: mx.image.ImageIter(
        1, (3, 8, 8), path_imglist="a.lst", path_root="" if path is None else path
    ),
}


@pytest.mark.parametrize("path", ["", " ", None, 5], ids=repr)
@pytest.mark.parametrize("door", DOORS)
def test_an_empty_path_is_named(folder, door, path):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises((ValueError, TypeError), match=f"{door.split()[0]} must be a path, got "):
        DOORS[door](path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


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
