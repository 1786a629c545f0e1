"""Checkpoints beside a .rec: windows of the first epoch are decoded from them."""

from __future__ import annotations

import os
import shutil

import numpy as np
import numpy.testing as npt
import pytest

import gpuio
from gpuio.cli import main
from gpuio.cli.rec2idx import _write_checkpoints
from gpuio.pipeline.decode import checkpoint_file
from gpuio.testing import draw, encode, write_rec

IMAGES = 5


@pytest.fixture
def rec(tmp_path):
    images = [
        encode(draw(70 + 30 * k, 180 - 20 * k, seed=k), "JPEG", quality=90, subsampling=k % 3)
        for k in range(IMAGES)
    ]
    progressive = encode(draw(64, 64, seed=9), "JPEG", progressive=True)
    damaged = images[0][: len(images[0]) // 2]
    path = tmp_path / "images.rec"
    write_rec(path, [*images, progressive, damaged, b"none"])
    return path


def crops(path, **options):
    """The random crops of a batch, and what `stats` says."""
    options = {"rand_crop": True, "seed": 5, "device": "cpu", "on_error": "zero"} | options
    with gpuio.ImageRecordIter(path, (3, 32, 32), IMAGES + 3, **options) as it:
        return next(it).data[0].asnumpy(), it.stats()


def test_the_first_epoch_is_decoded_from_stored_checkpoints(rec, capsys):
    assert main(["rec2idx", str(rec), "--checkpoints"]) == 0
    assert f"{rec.with_suffix('.checkpoints')}: {IMAGES} images" in capsys.readouterr().out
    found, stats = crops(rec)
    assert stats["decoded_from_checkpoints"] == IMAGES
    npt.assert_array_equal(found, crops(rec, decoder="portable")[0])


def test_an_index_with_keys_of_its_own_is_left_as_it_is(rec):
    index = rec.with_suffix(".idx")
    lines = index.read_text().splitlines()
    index.write_text(
        "".join(f"{100 + int(line.split()[0])}\t{line.split()[1]}\n" for line in lines)
    )
    before = index.read_bytes()
    assert main(["rec2idx", str(rec), "--checkpoints"]) == 0
    assert index.read_bytes() == before
    assert crops(rec)[1]["decoded_from_checkpoints"] == IMAGES


def test_a_damaged_file_has_no_checkpoints_and_says_so(rec, capsys):
    data = rec.read_bytes()
    rec.write_bytes(data[:-20])
    main(["rec2idx", str(rec), "--checkpoints"])
    assert "is damaged: no checkpoints are written" in capsys.readouterr().err
    assert not rec.with_suffix(".checkpoints").exists()


def test_a_copy_that_keeps_the_time_keeps_its_checkpoints(rec, tmp_path):
    main(["rec2idx", str(rec), "--checkpoints"])
    (tmp_path / "copy").mkdir()
    for suffix in (".rec", ".idx", ".checkpoints"):
        shutil.copy2(rec.with_suffix(suffix), tmp_path / "copy")
    assert crops(tmp_path / "copy" / "images.rec")[1]["decoded_from_checkpoints"] == IMAGES


def test_several_files_have_their_own_checkpoints(rec, tmp_path):
    write_rec(tmp_path / "more.rec", [encode(draw(50, 90, seed=20), "JPEG", quality=90)])
    main(["rec2idx", str(rec), "--checkpoints"])
    both = [str(tmp_path / "more.rec"), str(rec)]
    found, stats = crops(both)
    assert stats["decoded_from_checkpoints"] >= IMAGES - 1  # one may be in the second batch
    npt.assert_array_equal(found, crops(both, decoder="portable")[0])


def _other_time(rec):
    os.utime(rec, (1, 1))


def _cut_off(rec):
    path = rec.with_suffix(".checkpoints")
    path.write_bytes(path.read_bytes()[:-7])


def _emptied(rec):
    rec.with_suffix(".checkpoints").write_bytes(b"")


def _wrong_entry(rec):
    path = rec.with_suffix(".checkpoints")
    data = bytearray(path.read_bytes())
    data[-40:-32] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(data)


def _entry_that_wraps_around(rec):
    """The last image has 2 ** 64 - 1 as its first checkpoint, and two of them."""
    path = rec.with_suffix(".checkpoints")
    data = bytearray(path.read_bytes())
    data[-48:-32] = (2**64 - 1).to_bytes(8, "little") + (2).to_bytes(8, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    "change", [_other_time, _cut_off, _emptied, _wrong_entry, _entry_that_wraps_around]
)
def test_checkpoints_that_do_not_fit_are_left_alone_with_a_warning(rec, change):
    main(["rec2idx", str(rec), "--checkpoints"])
    change(rec)
    with pytest.warns(UserWarning, match="gpuio rec2idx --checkpoints .* makes it anew"):
        found, stats = crops(rec)
    assert stats["decoded_from_checkpoints"] == 0
    npt.assert_array_equal(found, crops(rec, decoder="portable")[0])


def test_checkpoints_of_other_bytes_do_no_harm(rec):
    """Images go to the portable codec or have wrong pixels, and nothing crashes."""
    main(["rec2idx", str(rec), "--checkpoints"])
    path = rec.with_suffix(".checkpoints")
    data = bytearray(path.read_bytes())
    rng, end = np.random.default_rng(0), checkpoint_file._END.itemsize + 8 * 3 * IMAGES
    for _ in range(20):
        data[:-end] = rng.integers(0, 256, len(data) - end, dtype=np.uint8).tobytes()
        path.write_bytes(data)
        crops(rec)


def test_an_image_with_fewer_checkpoints_than_rows_of_mcus_has_none(rec):
    main(["rec2idx", str(rec), "--checkpoints"])
    path = rec.with_suffix(".checkpoints")
    data = bytearray(path.read_bytes())
    data[-40:-32] = (1).to_bytes(8, "little")  # of the last image
    path.write_bytes(data)
    found, stats = crops(rec)
    assert stats["decoded_from_checkpoints"] == IMAGES - 1
    npt.assert_array_equal(found, crops(rec, decoder="portable")[0])


def test_checkpoints_of_a_url_are_an_error():
    with pytest.raises(ValueError, match="beside files on disk only"):
        _write_checkpoints("memory://a.rec", 1)
