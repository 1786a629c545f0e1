"""A cache in RAM of batches that a GPU makes: pixels come from the device, and go back to it."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from harness import open_device

import gpuio as mx
from gpuio.testing import draw, encode, write_rec

COUNT = 7
PLANS = {
    "crop": {"rand_crop": True, "rand_mirror": True},
    "resize, warp": {"resize": 13, "max_rotate_angle": 20},
    "NHWC": {"resize": 12, "inter_method": 2, "dtype": "uint8", "layout": "NHWC"},
}


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    path = tmp_path_factory.mktemp("staged") / "a.rec"
    images = [encode(draw(14 + n % 3, 16 - n % 4, seed=n), "JPEG") for n in range(COUNT)]
    images[3] = images[3][: len(images[3]) // 2]
    images[5] = encode(draw(12, 20, seed=5))
    write_rec(path, images)
    return path


def opened(rec, device="simulated", **options):
    open_device(device)
    return mx.ImageRecordIter(
        rec, (3, 10, 10), 3, device=device, shuffle=True, on_error="zero", preprocess_threads=2,
        deterministic=True, **options,
    )  # fmt: skip


def epochs(it, count=3):
    """The images of all batches."""
    return np.stack([b.data[0].asnumpy().copy() for _ in range(count) for b in it])


@pytest.mark.parametrize("device", ["simulated", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("decoder", ["nvimgcodec", "portable"])
@pytest.mark.parametrize("plan", list(PLANS))
def test_batches_are_the_same_in_every_epoch(rec, plan, decoder, device):
    options = {"decoder": decoder} | PLANS[plan]
    with opened(rec, device, **options) as plain, opened(rec, device, cache="1MB", **options) as it:
        npt.assert_array_equal(epochs(it), epochs(plain))
        cache = it.stats()["cache"]
    assert cache["entries"] == COUNT - 1
    assert cache["hits"] >= 2 * (COUNT - 1)


def test_iterators_share_a_cache(rec):
    with opened(rec, cache="1MB") as first, opened(rec, cache="1MB") as second:
        npt.assert_array_equal(epochs(first, 1), epochs(second, 1))
        cache = second.stats()["cache"]
    assert cache["hits"] >= COUNT - 1


def test_an_epoch_that_was_given_up_is_made_up_for(rec):
    with opened(rec, cache="1MB") as it:
        it.next()
        it.reset()
        epochs(it, 1)
        assert it.stats()["cache"]["entries"] == COUNT - 1


def test_without_memory_for_it_nothing_is_kept_and_batches_are_the_same(rec, monkeypatch):
    with opened(rec) as plain:
        expected = epochs(plain, 2)
    monkeypatch.setattr("gpuio.pipeline.cache.staged.Staged.of", _no_memory)
    with opened(rec, cache="1MB") as it:
        npt.assert_array_equal(epochs(it, 2), expected)
        assert it.stats()["cache"] | {"misses": 0} == dict.fromkeys(
            ("hits", "misses", "entries", "nbytes"), 0
        )


def _no_memory(*_):
    raise MemoryError("2 bytes are free")
