"""Whole runs on a GPU beside the CPU: real on a GPU, small on the simulated device."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from harness import open_device

from gpuio.testing import draw, encode, write_rec

pytest.importorskip("numba.cuda")


@dataclass(frozen=True)
class Scale:
    """A device, and how much work it can be given.

    Attributes:
        device: Its name.
        real: Whether it is a GPU.
        shape: Of an image of the output.
        sides: Least and largest side of images, in pixels.
        images: In a data set.
        batch_size: Images.
        epochs: In a row.
    """

    device: str
    real: bool
    shape: tuple[int, int, int]
    sides: tuple[int, int]
    images: int
    batch_size: int
    epochs: int


SCALES = {
    "cuda:0": Scale("cuda:0", True, (3, 224, 224), (120, 500), 96, 16, 200),
    "simulated": Scale("simulated", False, (3, 7, 9), (18, 30), 4, 2, 3),
}


@pytest.fixture(
    scope="module",
    params=["simulated", pytest.param("cuda:0", marks=pytest.mark.gpu)],
)
def scale(request):
    open_device(request.param)
    return SCALES[request.param]


@pytest.fixture
def figure(record_property):
    """A function that puts a name and a value into the report."""

    def note(name, value):
        record_property(name, json.dumps(value))

    return note


def photographs(scale, seed=0):
    """JPEGs of a scale's sizes, with all of the usual subsamplings."""
    least, most = scale.sides
    step = max(1, (most - least) // 11)
    return [
        encode(
            draw(least + step * (k * 5 % 12), least + step * (k * 7 % 12), seed=seed + k),
            "JPEG",
            subsampling=k % 3,
            quality=90,
        )
        for k in range(scale.images)
    ]


@pytest.fixture(scope="module")
def rec(scale, tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "photographs.rec"
    write_rec(path, photographs(scale))
    return path
