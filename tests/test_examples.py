"""The examples, on small data."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from gpuio.testing import draw, encode

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_faces_are_read_as_scripts_for_mxnet_read_them(tmp_path):
    out = run("faces.py", tmp_path / "faces", "--persons", 3, "--images", 2)
    assert "6 faces of 3 persons; the first, of person 0:" in out
    assert "shape (112, 112, 3)" in out
    assert "{0: 2, 1: 2, 2: 2}" in out


def test_folders_become_pictures_of_batches_in_both_ways(tmp_path):
    for n in range(18):
        folder = tmp_path / "images" / f"class{n % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(60, 80, seed=n)).save(folder / f"{n}.jpg")
    out = run("folders.py", tmp_path / "images", tmp_path / "out")
    for name in ("ImageRecordIter", "ImageIter"):
        assert f"{name}.png: labels [" in out
        with Image.open(tmp_path / "out" / f"{name}.png") as sheet:
            assert sheet.size == (4 * 224, 4 * 224)
            assert np.asarray(sheet).std() > 10


def test_pictures_of_a_zip_are_batches(tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as file:
        for n in range(6):
            file.writestr(f"train/class{n % 2}/{n}.jpg", encode(draw(300, 260, seed=n)))
    out = run("zip_source.py", tmp_path / "pictures.zip")
    assert out == "(6, 3, 224, 224) images of classes [0.0, 1.0]\n"
