"""Batches with a cache are those without it, in every epoch, for all that a plan can do."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

import gpuio as mx
from gpuio.testing import draw, encode, write_rec

EPOCHS = 3
SIZES = [(30, 41), (41, 30), (24, 24), (36, 70), (25, 64), (64, 25), (48, 32), (24, 31), (50, 24)]
COUNT = len(SIZES) + 5  # records of `photos`
PLACES = 16  # in the batches of an epoch of them
PLANS = {
    "crop": {"rand_crop": True, "rand_mirror": True},
    "resize, crop": {"resize": 28, "rand_crop": True, "rand_mirror": True},
    "resize by size": {"resize": 28, "inter_method": 9, "rand_crop": True},
    "resize at random": {"resize": 28, "inter_method": 10},
    "resize, cubic": {"resize": 30, "inter_method": 2, "mirror": True},
    "resize, area": {"resize": 24, "inter_method": 3},
    "resize, Lanczos": {"resize": 40, "inter_method": 4, "dtype": "uint8"},
    "resize, nearest, NHWC": {"resize": 33, "inter_method": 0, "layout": "NHWC"},
    "random resized crop": {"random_resized_crop": True, "min_random_area": 0.3},
    "resize, then all the rest": {
        "resize": 32,
        "max_rotate_angle": 20,
        "pad": 2,
        "rand_crop": True,
        "rand_mirror": True,
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "pca_noise": 0.1,
        "mean_r": 120,
        "scale": 0.02,
        "dtype": "float16",
    },
    "colours after a crop": {"rand_crop": True, "contrast": 0.5, "random_h": 20},
    "enlarged": {"resize": 20, "rand_crop": True},
}


def iterate(rec, epochs=EPOCHS, **options):
    """Data, labels and keys of all batches; and the figures of the cache."""
    options = {"data_shape": (3, 24, 24), "batch_size": 4, "shuffle": True, "seed": 3} | options
    batches = []
    with mx.ImageRecordIter(rec, device="cpu", preprocess_threads=2, **options) as it:
        for _ in range(epochs):
            batches += [
                (b.data[0].asnumpy().copy(), b.label[0].asnumpy().copy(), b.index.copy(), b.pad)
                for b in it
            ]
        return batches, it.stats().get("cache")


def check_equal(found, expected):
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            npt.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A .rec of JPEGs of many sizes and kinds, one of them turned, and of a PNG and a bitmap."""
    path = tmp_path_factory.mktemp("photos") / "a.rec"
    pictures = [draw(*size, seed=n) for n, size in enumerate(SIZES)]
    images = [encode(picture, "JPEG", quality=90) for picture in pictures]
    images += [
        encode(pictures[0], "JPEG", orientation=6),
        encode(pictures[1], "JPEG", progressive=True),
        encode(pictures[2], "JPEG", mode="L"),
        encode(pictures[3]),
        encode(pictures[4], "BMP"),
    ]
    write_rec(path, images, labels=[[n, n + 0.5] for n in range(len(images))])
    return path


@pytest.mark.parametrize("decoder", ["auto", "portable"])
@pytest.mark.parametrize("plan", list(PLANS))
def test_batches_are_the_same_in_every_epoch(photos, plan, decoder):
    options = {"label_width": 2, "decoder": decoder} | PLANS[plan]
    expected, none = iterate(photos, **options)
    found, cache = iterate(photos, cache="10MB", **options)
    check_equal(found, expected)
    assert none is None
    assert cache["entries"] == COUNT
    # The last batch is filled up with records of the first one, which may be in the cache by then.
    assert COUNT <= cache["misses"] <= PLACES
    assert cache["hits"] + cache["misses"] == EPOCHS * PLACES


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (4, "RGBA")])
def test_gray_images_and_those_of_four_channels_are_the_same(tmp_path, channels, mode):
    pictures = [draw(30 + n, 40 - n, 4, seed=n) for n in range(6)]
    write_rec(tmp_path / "a.rec", [encode(picture, mode=mode) for picture in pictures])
    options = {"data_shape": (channels, 24, 24), "resize": 27, "rand_crop": True}
    expected, _ = iterate(tmp_path / "a.rec", **options)
    found, cache = iterate(tmp_path / "a.rec", cache="1MB", **options)
    check_equal(found, expected)
    assert cache["entries"] == 6


@pytest.mark.parametrize("resize", [-1, 28])
def test_a_cache_that_is_too_small_has_some_of_the_images(photos, resize):
    options = {"label_width": 2, "resize": resize, "rand_crop": True}
    expected, _ = iterate(photos, **options)
    found, cache = iterate(photos, cache="15KB", **options)
    check_equal(found, expected)
    assert 0 < cache["entries"] < len(SIZES)
    assert cache["nbytes"] <= 15_000
    assert 0 < cache["hits"] < cache["misses"]


def test_what_ram_is_too_small_for_goes_to_disk(photos, tmp_path):
    options = {"label_width": 2, "rand_crop": True}
    expected, _ = iterate(photos, **options)
    found, cache = iterate(photos, cache="15KB", cache_dir=tmp_path / "disk", **options)
    check_equal(found, expected)
    assert cache["entries"] == COUNT
    assert cache["misses"] <= PLACES
    assert not list((tmp_path / "disk").iterdir())


def test_of_cached_images_nothing_is_read(photos):
    with mx.ImageRecordIter(photos, (3, 24, 24), 7, label_width=2, cache="1MB") as it:
        read = []
        for _ in range(2):
            labels = [batch.label[0].asnumpy()[:, 0].tolist() for batch in it]
            read.append(it.stats()["stages"]["read"]["nbytes"])
    assert read[0] > 0
    assert read[1] == 0
    assert np.concatenate(labels).tolist() == list(range(14))


def test_labels_of_a_list_are_looked_up_anew(photos, tmp_path):
    lines = [f"{n}\t{n * 10}\tx\n" for n in range(14)]
    (tmp_path / "a.lst").write_text("".join(lines))
    options = {"path_imglist": tmp_path / "a.lst"}
    expected, _ = iterate(photos, **options)
    found, _ = iterate(photos, cache="1MB", **options)
    check_equal(found, expected)
    assert {float(label) for _, labels, *_ in found for label in labels} == set(range(0, 140, 10))


def test_masks_follow_the_images(tmp_path):
    pictures = [draw(30 + n, 40 - n, seed=n) for n in range(6)]
    write_rec(tmp_path / "a.rec", [encode(picture, "JPEG") for picture in pictures])
    write_rec(tmp_path / "m.rec", [encode(picture[..., :1]) for picture in pictures])
    masks = []
    for cache in (None, "1MB"):
        with mx.ImageRecordIter(
            tmp_path / "a.rec", (3, 24, 24), 3, masks=tmp_path / "m.rec", resize=26,
            rand_crop=True, rand_mirror=True, max_rotate_angle=10, cache=cache,
        ) as it:  # fmt: skip
            masks.append(
                [
                    (b.data[0].asnumpy().copy(), b.masks.asnumpy().copy())
                    for _ in range(EPOCHS)
                    for b in it
                ]
            )
    check_equal(masks[1], masks[0])


def test_boxes_follow_the_images(tmp_path):
    pictures = [encode(draw(30 + n, 40 - n, seed=n), "JPEG") for n in range(6)]
    boxes = [[2, 5, n, 0.1, 0.2, 0.7, 0.9] for n in range(6)]
    write_rec(tmp_path / "a.rec", pictures, labels=boxes)
    found = []
    for cache in (None, "1MB"):
        with mx.ImageDetRecordIter(
            tmp_path / "a.rec", (3, 24, 24), 3, rand_mirror_prob=0.5, rand_crop_prob=0.5,
            cache=cache,
        ) as it:  # fmt: skip
            found.append(
                [
                    (b.data[0].asnumpy().copy(), b.label[0].asnumpy().copy())
                    for _ in range(EPOCHS)
                    for b in it
                ]
            )
    check_equal(found[1], found[0])


def test_the_mean_image_is_the_same(photos, tmp_path):
    options = {"resize": 28, "label_width": 2}
    expected, _ = iterate(photos, mean_img=tmp_path / "one.nd", **options)
    found, _ = iterate(photos, mean_img=tmp_path / "two.nd", cache="1MB", **options)
    check_equal(found, expected)


@pytest.mark.parametrize("policy", ["zero", "skip", "replace"])
def test_a_damaged_image_is_a_fault_in_every_epoch_and_takes_no_more_memory(tmp_path, policy):
    images = [encode(draw(30, 40, seed=n), "JPEG") for n in range(6)]
    images[2] = images[2][: len(images[2]) // 2]
    images[4] = b"nothing"
    write_rec(tmp_path / "a.rec", images)
    options = {"on_error": policy, "resize": 26, "rand_crop": True}
    expected, _ = iterate(tmp_path / "a.rec", 4, **options)
    found, cache = iterate(tmp_path / "a.rec", 4, cache="30KB", **options)
    check_equal(found, expected)
    assert cache["entries"] == 4


def test_a_damaged_image_raises_in_every_epoch(tmp_path):
    images = [encode(draw(30, 40, seed=n), "JPEG") for n in range(4)]
    images[3] = images[3][: len(images[3]) // 2]
    write_rec(tmp_path / "a.rec", images)
    with mx.ImageRecordIter(tmp_path / "a.rec", (3, 24, 24), 2, cache="1MB") as it:
        for _ in range(2):
            it.next()
            with pytest.raises(mx.DecodeError, match="record 3 at byte"):
                it.next()
            it.reset()


def test_images_that_are_decoded_one_by_one_are_cached(photos, monkeypatch):
    monkeypatch.setattr("gpuio.pipeline.decode.portable._KEPT", 0)
    options = {"label_width": 2, "decoder": "portable", "resize": 28}
    expected, _ = iterate(photos, **options)
    found, cache = iterate(photos, cache="1MB", **options)
    check_equal(found, expected)
    assert cache["misses"] <= PLACES
