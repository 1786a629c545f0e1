"""Windows of JPEGs are decoded from checkpoints once an image is known."""

from __future__ import annotations

import io

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

import gpuio
from gpuio.kernels.jpeg.scan import CHECKPOINT
from gpuio.pipeline.decode import checkpoints, jpeg
from gpuio.pipeline.decode.checkpoints import Checkpoints
from gpuio.testing import write_rec


def jpeg_of(height: int, width: int, seed: int, **options: object) -> bytes:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", **options)
    return file.getvalue()


FORMS = {
    "4:4:4": {"subsampling": 0, "quality": 90},
    "4:2:2": {"subsampling": 1, "quality": 90},
    "4:2:0": {"subsampling": 2, "quality": 60},
    "a marker after 3 MCUs": {"subsampling": 2, "restart_marker_blocks": 3},
    "a marker after each row": {"subsampling": 0, "restart_marker_rows": 1},
}


@pytest.fixture
def rec(tmp_path):
    images = [
        jpeg_of(60 + 37 * k, 250 - 31 * k, k, **form) for k, form in enumerate(FORMS.values())
    ]
    write_rec(tmp_path / "images.rec", images)
    return tmp_path / "images.rec"


def epochs(rec, count: int, **options: object) -> tuple[list[np.ndarray], dict]:
    """The random crops of some epochs, and what `stats` says in the end."""
    crops = {"random_resized_crop": True, "min_random_area": 0.1, "max_random_area": 0.5}
    with gpuio.ImageRecordIter(
        str(rec), (3, 32, 32), len(FORMS), seed=3, device="cpu", **crops, **options
    ) as it:
        found = []
        for _ in range(count):
            found += [batch.data[0].asnumpy() for batch in it]
            it.reset()
        return found, it.stats()


def test_crops_from_checkpoints_have_the_pixels_of_whole_images(rec):
    found, stats = epochs(rec, 12)
    wanted, _ = epochs(rec, 12, decoder="portable")
    npt.assert_array_equal(found, wanted)
    assert stats["decoded_from_checkpoints"] >= 10 * len(FORMS)
    assert stats["checkpoint_nbytes"] > 0


def test_images_that_are_wanted_whole_have_no_checkpoints(tmp_path):
    write_rec(tmp_path / "a.rec", [jpeg_of(32, 32, seed) for seed in range(4)])
    with gpuio.ImageRecordIter(str(tmp_path / "a.rec"), (3, 32, 32), 4, device="cpu") as it:
        for _ in range(2):
            list(it)
            it.reset()
        assert it.stats()["decoded_from_checkpoints"] == it.stats()["checkpoint_nbytes"] == 0


def test_an_image_without_room_for_checkpoints_is_decoded_without_them(rec, monkeypatch):
    monkeypatch.setattr(checkpoints, "_CHUNK", 0)
    monkeypatch.setattr(jpeg, "Checkpoints", lambda count: Checkpoints(count, limit=200))
    found, stats = epochs(rec, 3)
    wanted, _ = epochs(rec, 3, decoder="portable")
    npt.assert_array_equal(found, wanted)
    assert 0 < stats["checkpoint_nbytes"] <= 200
    assert 0 < stats["decoded_from_checkpoints"] < 2 * len(FORMS)


def test_checkpoints_are_written_once_and_read_when_they_are_known():
    memory = Checkpoints(10)
    ids, rows = np.array([7, 7, 3]), np.array([5, 5, 0])
    address, known = memory.addresses(ids, rows)
    assert (address != 0).tolist() == [True, False, False]
    assert not known.any()
    again, known = memory.addresses(ids, rows)  # while the first kernel may be writing
    assert not again.any()
    assert not known.any()
    memory.confirm(np.array([7]))
    again, known = memory.addresses(ids, rows)
    assert again.tolist() == [address[0], address[0], 0]
    assert known.tolist() == [True, True, False]
    assert memory.hits == 2


def test_checkpoints_of_images_do_not_overlap():
    memory = Checkpoints(1000)
    rows = np.arange(1000) % 700 + 1
    address, _ = memory.addresses(np.arange(1000), rows)
    order = np.argsort(address)
    ends = address[order] + rows[order] * CHECKPOINT.itemsize
    assert (address[order][1:] >= ends[:-1]).all()


def test_a_file_of_a_folder_may_be_replaced_between_epochs(tmp_path):
    folder = tmp_path / "images" / "class"
    folder.mkdir(parents=True)

    def write(seed):
        for k in range(4):
            (folder / f"{k}.jpg").write_bytes(jpeg_of(90, 120, seed + k, quality=90))

    def crops(it):
        it.reset()
        return [batch.data[0].asnumpy() for batch in it]

    write(0)
    options = {"rand_crop": True, "seed": 7, "device": "cpu"}
    shape, path = (3, 32, 32), str(tmp_path / "images")
    with (
        gpuio.ImageRecordIter(path, shape, 4, **options) as it,
        gpuio.ImageRecordIter(path, shape, 4, decoder="portable", **options) as other,
    ):
        for seed in (0, 0, 50, 100):
            write(seed)
            npt.assert_array_equal(crops(it), crops(other))


def test_checkpoints_of_batches_that_nobody_took_are_known(rec):
    options = {"rand_crop": True, "seed": 3, "device": "cpu"}
    with gpuio.ImageRecordIter(str(rec), (3, 32, 32), 1, **options) as it:
        next(it)
        it.reset()
        for _ in range(3):
            list(it)
            it.reset()
        before = it.stats()["decoded_from_checkpoints"]
        list(it)
        assert it.stats()["decoded_from_checkpoints"] - before >= len(FORMS)
