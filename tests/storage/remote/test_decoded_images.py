"""Decoded images of files at URLs: cached by the version that the store tells."""

from __future__ import annotations

import os

import numpy as np
import numpy.testing as npt
import pytest

from gpuio import ImageRecordIter
from gpuio.testing import draw, encode, write_rec

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="takes a system with posix_fallocate"
)


@pytest.fixture
def opened(store, far_rec, tmp_path, monkeypatch):
    """A function that opens the file on the server with a cache; and puts another file there."""
    memory = tmp_path / "shm"
    memory.mkdir()
    monkeypatch.setattr("gpuio.pipeline.cache.opening._SHARED_MEMORY", memory)
    made = []

    def make(path=far_rec):
        for suffix in (".rec", ".idx"):
            store.files[f"/train{suffix}"] = path.with_suffix(suffix).read_bytes()
        made.append(
            ImageRecordIter(f"{store.url}/train.rec", (3, 24, 28), 8, cache="1MB", device="cpu")
        )
        return made[-1]

    yield make
    for it in made:
        it.close()


def epoch(it):
    return np.concatenate([batch.data[0].asnumpy() for batch in it])


def test_cached_images_are_not_requested_again(store, opened):
    first, second = opened(), opened()
    expected = epoch(first)
    store.asked.clear()
    npt.assert_array_equal(epoch(first), expected)
    npt.assert_array_equal(epoch(second), expected)
    assert [span for span in store.asked if span != (0, 0)] == []  # but for looks at the file
    assert second.stats()["cache"]["hits"] == 40


def test_another_file_at_the_url_has_a_cache_of_its_own(store, opened, tmp_path):
    old = epoch(opened())
    pictures = [draw(30, 34, seed=100 + n) for n in range(40)]
    write_rec(tmp_path / "other.rec", [encode(picture, "JPEG") for picture in pictures])
    store.etag = '"two"'
    it = opened(tmp_path / "other.rec")
    assert (epoch(it) != old).any(axis=(1, 2, 3)).all()
    assert it.stats()["cache"]["hits"] == 0


def test_a_store_that_tells_no_version_is_refused(store, opened):
    store.headers = {"ETag": None, "Last-Modified": None}
    with pytest.raises(ValueError, match="cache='1MB' needs records that tell when they change"):
        opened()
