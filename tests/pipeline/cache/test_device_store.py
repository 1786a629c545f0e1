"""A cache in the memory of a GPU; the simulated one fails where an order or a byte is wrong."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import numpy.testing as npt
import pytest
from harness import open_device

import gpuio as mx
from gpuio.pipeline.cache.device_store import DeviceStore
from gpuio.pipeline.cache.entries import entry_dtype
from gpuio.testing import draw, encode, write_rec

COUNT = 7
ENTRY = entry_dtype(1)
PLANS = {
    "crop": {"rand_crop": True, "rand_mirror": True},
    "resize": {"resize": 12, "rand_crop": True, "mean_r": 100, "scale": 0.1},
    "resize, warp": {"resize": 13, "max_rotate_angle": 20},
    "NHWC": {"resize": 12, "inter_method": 2, "dtype": "uint8", "layout": "NHWC"},
}


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    path = tmp_path_factory.mktemp("device") / "a.rec"
    images = [encode(draw(14 + n % 3, 16 - n % 4, seed=n), "JPEG") for n in range(COUNT)]
    images[3] = images[3][: len(images[3]) // 2]
    images[5] = encode(draw(12, 20, seed=5))
    write_rec(path, images)
    return path


def iterate(rec, device, epochs=3, **options):
    """The images of all batches, and the figures of the cache."""
    open_device(device)
    with mx.ImageRecordIter(
        rec, (3, 10, 10), 3, device=device, shuffle=True, on_error="zero", preprocess_threads=2,
        **options,
    ) as it:  # fmt: skip
        data = [np.asarray(b.data[0].asnumpy()).copy() for _ in range(epochs) for b in it]
        return np.stack(data), it.stats().get("cache")


@pytest.mark.parametrize("device", ["simulated", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("decoder", ["nvimgcodec", "portable"])
@pytest.mark.parametrize("plan", list(PLANS))
def test_batches_are_the_same_in_every_epoch(rec, plan, decoder, device):
    options = {"decoder": decoder, "deterministic": True} | PLANS[plan]
    expected, _ = iterate(rec, device, **options)
    found, cache = iterate(rec, device, cache="gpu:1MB", **options)
    npt.assert_array_equal(found, expected)
    assert cache["entries"] == COUNT - 1
    assert cache["hits"] >= 2 * (COUNT - 1)


def test_a_cache_that_is_too_small_has_some_of_the_images(rec):
    expected, _ = iterate(rec, "simulated")
    found, cache = iterate(rec, "simulated", cache="gpu:2KB")
    npt.assert_array_equal(found, expected)
    assert 0 < cache["entries"] < COUNT - 1
    assert cache["nbytes"] <= 2000


def test_a_cache_of_a_gpu_needs_one(rec):
    with pytest.raises(
        ValueError, match=r"^cache='gpu:8GB' needs a GPU.*write cache='8GB' for RAM"
    ):
        mx.ImageRecordIter(rec, (3, 10, 10), 3, device="cpu", cache="gpu:8GB")


@pytest.fixture
def store():
    device = open_device("simulated")
    store = DeviceStore(device, COUNT, ENTRY, 1000)
    yield store
    store.close()


def claim(store, sizes):
    rows = np.zeros(len(sizes), ENTRY)
    rows["nbytes"] = sizes
    return store.claim(np.arange(len(sizes)), rows)


def test_images_lie_side_by_side_in_a_chunk(store, monkeypatch):
    monkeypatch.setattr("gpuio.pipeline.cache.device_store._CHUNK", 256)
    address = claim(store, [64, 128, 128, 320])
    assert address[1] - address[0] == 64
    assert all(address)
    assert [len(chunk) for chunk in store._chunks] == [256, 256, 320]
    assert store.header["used"] == 832


def test_the_limit_is_kept(store):
    assert np.count_nonzero(claim(store, [512, 448, 64])) == 2
    assert store.header["used"] == 1000


def test_a_device_without_memory_is_told_of_once(store, monkeypatch):
    def full(*_):
        raise MemoryError("2 bytes are free")

    monkeypatch.setattr(store._device, "empty", full)
    with pytest.warns(UserWarning, match="cache: simulated has no memory for more than 0 bytes"):
        assert not claim(store, [64]).any()
    assert not claim(store, [64]).any()


def test_memory_is_given_back_with_the_store():
    store = DeviceStore(open_device("simulated"), COUNT, ENTRY, 1000)
    claim(store, [64])
    chunk = weakref.ref(store._chunks[0].base)
    store.close()
    gc.collect()
    assert chunk() is None
