"""gpuio show."""

from __future__ import annotations

import struct

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio.cli import main, show
from gpuio.formats.image_record import pack
from gpuio.formats.recordio import frame
from gpuio.testing import encode, write_rec


def test_stored_images_come_with_key_and_label(rec, pictures):
    tiles = list(show.stored(str(rec), 13))
    assert [tile.caption for tile in tiles] == [f"{100 + n}: {n}" for n in range(13)]
    for tile, picture in zip(tiles, pictures, strict=True):
        npt.assert_array_equal(tile.image, picture)


def test_a_few_stored_images_are_spread_over_the_file(rec):
    tiles = list(show.stored(str(rec), 3))
    assert [tile.caption for tile in tiles] == ["100: 0", "106: 6", "112: 12"]


def test_a_record_without_a_valid_image_is_an_empty_frame(tmp_path, pictures):
    path = tmp_path / "two.rec"
    write_rec(path, [b"no image", encode(pictures[0])], labels=[[1, 2, 3, 4], 5])
    first, second = show.stored(str(path), 2)
    assert first == show.Tile(None, "0: 1, 2, 3, ... (no image)")
    assert second.image is not None
    assert main(["show", str(path), "-o", str(tmp_path / "sheet.png")]) == 0


def test_augmented_images_are_those_of_the_iterator(rec, pictures):
    options = {"data_shape": "3,20,20", "mirror": True, "batch_size": "5"}
    tiles = list(show.augmented(str(rec), options, 7))
    assert [tile.caption for tile in tiles] == [f"{100 + n}: {n}" for n in range(7)]
    for tile, picture in zip(tiles, pictures, strict=False):
        top, left = (np.array(picture.shape[:2]) - 20) // 2
        npt.assert_array_equal(tile.image, picture[top : top + 20, left : left + 20][:, ::-1])


def test_repeats_that_fill_the_last_batch_up_are_not_drawn(rec):
    options = {"data_shape": "3,20,20", "batch_size": "8"}
    assert len(list(show.augmented(str(rec), options, 99))) == 13


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_normalised_images_are_stretched_from_black_to_white(rec, layout):
    options = {"data_shape": "1,20,20", "dtype": "float32", "mean_r": "128", "layout": layout}
    images = [tile.image for tile in show.augmented(str(rec), options, 13)]
    assert images[0].shape == (20, 20, 1)
    assert images[0].dtype == np.uint8
    assert (np.min(images), np.max(images)) == (0, 255)


@pytest.mark.parametrize("options", [[], ["--data-shape", "3,16,16", "--rand-crop"]])
def test_the_sheet_is_written(rec, tmp_path, capsys, options):
    path = tmp_path / "new folder" / "sheet.png"
    command = ["show", str(rec), "-o", str(path), "--count", "6", "--columns", "4", *options]
    assert main(command) == 0
    with Image.open(path) as sheet:
        size = f"{sheet.width} x {sheet.height} pixels"
    assert capsys.readouterr().out == f"{path}: 6 images, {size}\n"


@pytest.mark.parametrize("options", [[], ["--rand-mirror", "--data-shape", "3,16,16"]])
def test_a_gallery_is_written(rec, tmp_path, capsys, options):
    path = tmp_path / "gallery.png"
    assert main(["show", str(rec), "--gallery", "-o", str(path), "--columns", "2", *options]) == 0
    with Image.open(path) as sheet:
        size = f"{sheet.width} x {sheet.height} pixels"
    assert capsys.readouterr().out == f"{path}: 2 images of each augmentation, {size}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count must be at least 1, got 0"),
        (["--columns", "0"], "--columns must be at least 1, got 0"),
        (["--gallery", "--columns", "0"], "--columns must be at least 1, got 0"),
        (["--gallery", "--pad", "x"], "pad must be an integer, got 'x'"),
        (["--resize", "0"], "resize must be at least 1"),
        (["--data-shape", "3,x"], "data_shape must be 3 integers, got '3,x'"),
    ],
)
def test_a_wrong_parameter_is_named(rec, capsys, arguments, message):
    assert main(["show", str(rec), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_file_is_status_2(tmp_path, capsys):
    assert main(["show", str(tmp_path / "none.rec")]) == 2
    assert "none.rec" in capsys.readouterr().err


def test_the_boxes_of_a_detection_set_are_drawn(tmp_path):
    path = tmp_path / "a.rec"
    gray = np.full((40, 60, 3), 90, np.uint8)
    label = [2, 5, 4, 0.25, 0.25, 0.75, 0.75, 9, 0.0, 0.0, 0.1, 0.1]
    write_rec(path, [encode(gray)], labels=[label])
    (tile,) = show.stored(str(path), 1)
    assert tile.caption == "0: 4, 9"
    changed = (tile.image != 90).any(axis=2)
    assert changed[10, 15:45].all()  # the upper edge of the first box
    assert changed[10:30, 44].all()  # its right edge
    assert not changed[15:25, 20:40].any()  # its inside
    assert changed[0, :6].all()  # the other box


def test_boxes_move_with_augmented_pixels(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(np.full((40, 40, 3), 90, np.uint8))], labels=[[4, 0, 0.25, 0.5, 0.75]])
    options = {"data_shape": "3,40,40", "label_kind": "boxes", "label_width": "5", "mirror": True}
    (tile,) = show.augmented(str(path), options, 1)
    assert tile.caption == "0: 4"
    changed = (tile.image != 90).any(axis=2)
    assert changed[15:25, 20].any()
    assert not changed[15:25, 5:15].any()


def test_a_damaged_record_is_an_empty_frame_and_is_reported(tmp_path, pictures, capsys):
    path = tmp_path / "a.rec"
    payloads = [b"abc", struct.pack("<IfQQ", 5, 0, 0, 0), pack((0, 1, 7, 0), encode(pictures[0]))]
    path.write_bytes(b"".join(map(frame, payloads)))
    tiles = list(show.stored(str(path), 3))
    assert [tile.caption for tile in tiles] == ["-: damaged", "-: damaged", "7: 1"]
    assert tiles[0].image is None
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"gpuio: {path}: record 0 at byte 0: image record header of 24 bytes, 3 found"
    assert f"{path}: record 1 at byte 12: 5 labels in 20 bytes, 0 bytes found" in second


@pytest.mark.parametrize("options", [[], ["--data-shape", "3,16,16"]])
def test_a_count_above_that_of_the_records_shows_all_of_them(rec, tmp_path, capsys, options):
    path = tmp_path / "all.png"
    assert main(["show", str(rec), "-o", str(path), "--count", str(10**9), *options]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 13 images, ")
