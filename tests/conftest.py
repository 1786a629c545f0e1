"""What all tests may use."""

from __future__ import annotations

import gc

import hypothesis
import pytest

from gpuio.testing import backend as backend
from gpuio.testing import draw, encode, write_rec

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("gpuio", deadline=None)
hypothesis.settings.load_profile("gpuio")


@pytest.fixture(scope="session")
def pictures():
    """Thirteen RGB pictures, of different sizes, and all at least 20 by 20."""
    return [draw(20 + 3 * n % 11, 20 + 5 * n % 13, seed=n) for n in range(13)]


@pytest.fixture(scope="session")
def rec(tmp_path_factory, pictures):
    """A .rec of them, stored without loss, with labels 0 to 12 and keys 100 to 112."""
    path = tmp_path_factory.mktemp("rec") / "thirteen.rec"
    images = [encode(picture, "BMP") for picture in pictures]
    write_rec(path, images, ids=range(100, 113))
    return path


@pytest.fixture(autouse=True, scope="module")
def _quick_collections():
    """Let the tests that collect garbage not go through all that other modules have imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _the_cpu_where_no_device_is_named(monkeypatch):
    """Also on a machine with a GPU: most tests are about the pixels of the CPU."""
    monkeypatch.setattr("gpuio.backends.visible_gpus", lambda: 0)
