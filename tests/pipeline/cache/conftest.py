"""Caches in a folder of the test's own, instead of the memory that all processes share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """The folder that stands for `/dev/shm`, and the one in it that files of caches lie in."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr("gpuio.pipeline.cache.opening._SHARED_MEMORY", folder)
    return folder / f"gpuio-{os.geteuid()}"
