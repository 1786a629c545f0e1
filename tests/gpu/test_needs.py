"""Packages that a report of a GPU needs: what is missing is named."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement


def test_what_is_missing_is_named(scripts, monkeypatch):
    needs = scripts["gpu_needs"]
    versions = {"numpy": "2.5.2", "torch": "2.11.0"}
    monkeypatch.setattr(needs, "installed", versions.get)
    monkeypatch.setattr(needs.shutil, "which", {"nvcc": "/usr/local/cuda/bin/nvcc"}.get)
    texts = ("numpy>=1.26", "numpy<2.5", "torch>=2.4", "jax>=0.5", "cuda-toolkit[nvrtc]==13.*")
    assert needs.missing([*map(Requirement, texts)]) == [
        "jax>=0.5 is not installed",
        "numpy 2.5.2 is installed, but gpuio needs <2.5",
    ]
    assert needs.absent(13) == ["DALI (nvidia-dali-cuda130)", "torchvision (torchvision)"]


@pytest.mark.parametrize("cuda", [12, 13])
def test_packages_are_those_that_pyproject_asks_for(scripts, cuda):
    wanted = scripts["gpu_needs"].required(cuda)
    names = {need.name for need in wanted}
    assert {"numba", "numba-cuda", f"cupy-cuda{cuda}x", "torch", "jax", "pytest"} <= names
    assert "gpuio" not in names
    (below,) = [need for need in wanted if need.name == "numpy" and "<" in str(need.specifier)]
    assert not below.specifier.contains("2.5.0")
