"""Image files in folders as a source."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest

from gpuio.devices import make_device
from gpuio.devices.ring import Ring
from gpuio.errors import ReadError
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Selection
from gpuio.sources.folder import FolderSource


@pytest.fixture
def pictures(tmp_path):
    names = "cat/2.JPG", "cat/10.png", "ant/z/1.bmp", "ant/a.webp", "bee/x.txt", "bee/1.tiff"
    for number, name in enumerate((*names, "not_in_a_class.jpg")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (number + 1))
    return tmp_path


def test_classes_and_files_come_in_the_order_of_names(pictures):
    source = FolderSource.open(pictures)
    assert source.classes == ("ant", "bee", "cat")
    assert list(source.paths) == [
        "ant/a.webp",
        "ant/z/1.bmp",
        "bee/1.tiff",
        "cat/10.png",
        "cat/2.JPG",
    ]
    assert source.labels.tolist() == [[0], [0], [1], [2], [2]]
    assert source.read(2).image == bytes([5]) * 6
    assert source.read(4).labels.tolist() == [2]
    assert source.label_counts().tolist() == [1] * 5
    assert source.nbytes(np.array([4, 0])).tolist() == [1, 4]


def test_labels_and_order_are_those_of_torchvision(pictures):
    datasets = pytest.importorskip("torchvision.datasets")
    expected, source = datasets.ImageFolder(pictures), FolderSource.open(pictures)
    found = [(source.where(n), int(label)) for n, (label,) in enumerate(source.labels)]
    assert found == expected.samples
    assert list(source.classes) == expected.classes


def test_a_class_without_an_image_is_an_error(pictures):
    (pictures / "dog").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no image in the folders dog, and no \.rec"):
        FolderSource.open(pictures)
    with pytest.raises(FileNotFoundError, match=r"z: no folder in it, and no \.rec"):
        FolderSource.open(pictures / "ant" / "z")


def test_the_fingerprint_is_that_of_names_and_labels_wherever_the_folder_lies(pictures, tmp_path):
    before = FolderSource.open(pictures).fingerprint()
    moved = tmp_path.parent / f"{tmp_path.name}_moved"
    pictures.rename(moved)
    source = FolderSource.open(moved)
    assert source.fingerprint() == before
    assert FolderSource(source.paths, source.labels + 1).fingerprint() != before
    assert FolderSource(source.paths[::-1], source.labels).fingerprint() != before


def test_files_come_in_the_order_asked_for_and_missing_ones_are_faults(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * (5 + number))
    names = ["0.bin", "1.bin", "2.bin", "none.bin", "n\0.bin"]
    source = FolderSource(names, np.zeros((5, 2), np.float32), root=tmp_path)
    read = RecordReader(source, label_width=2)
    ring = Ring(make_device("cpu", 1).empty_host, 2, source.batch_nbytes(4))
    (records,) = read([Selection(np.array([2, 3, 0, 2, 4]), 0)], ring)
    found = [
        ctypes.string_at(int(address), int(nbytes))
        for address, nbytes in zip(records.address, records.nbytes, strict=True)
    ]
    assert found == [b"\2" * 7, b"", b"\0" * 5, b"\2" * 7, b""]
    assert records.samples.labels.shape == (5, 2)
    assert records.samples.keys.tolist() == [2, 3, 0, 2, 4]
    faults = records.samples.faults
    assert sorted(faults) == [1, 4]
    assert isinstance(faults[1], ReadError)
    assert str(faults[1]) == f"{tmp_path}/none.bin: [Errno 2] No such file or directory"
    assert isinstance(faults[1].__cause__, FileNotFoundError)
    assert "no file name" in str(faults[4])


def test_labels_are_a_row_for_each_path():
    with pytest.raises(ValueError, match=r"labels must be \(N, W\).*shape \(2,\) for 2 paths"):
        FolderSource(["a", "b"], np.zeros(2, np.float32))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no links and pipes")
def test_links_are_followed_but_for_those_that_lead_back(tmp_path):
    for name in ("a/one.png", "b/two.png", "c/three.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "b" / "to_c").symlink_to("../c")
    (tmp_path / "c" / "to_b").symlink_to("../b")
    source = FolderSource.open(tmp_path)
    assert list(source.paths) == [
        "a/one.png",
        "b/two.png",
        "b/to_c/three.png",
        "c/three.png",
        "c/to_b/two.png",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_a_fault_that_names_it_once(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe.png")
    reader = RecordReader(FolderSource.open(tmp_path))
    (batch,) = reader([Selection(np.array([0]), 0)], Ring(make_device("cpu", 1).empty_host, 1))
    message = str(batch.samples.faults[0])
    assert message == (
        f"{tmp_path}/a/pipe.png: a plain file expected, found a folder, pipe or device"
    )


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one.png").touch()
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="Permission denied"):
        FolderSource.open(tmp_path)
