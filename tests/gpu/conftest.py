"""Whole runs on a GPU beside the CPU: real on a GPU, small on the simulated device."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import open_device

from gpuio.testing import draw, encode, write_rec

pytest.importorskip("numba.cuda")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _the_cpu_where_no_device_is_named():
    """Unlike other tests: what runs here is to see the GPUs of the machine."""


@pytest.fixture(scope="module")
def scripts():
    """The scripts that measure a GPU, as modules, by name."""
    before = {*sys.modules}
    names = [path.stem for path in BENCHMARKS.glob("gpu*.py")]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield {name: importlib.import_module(name) for name in names}
        for name in {path.stem for path in BENCHMARKS.glob("*.py")} - before:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A .rec of four small JPEGs."""
    path = tmp_path_factory.mktemp("few") / "few.rec"
    images = [encode(draw(60 + k, 80, seed=k), "JPEG", subsampling=2, quality=95) for k in range(4)]
    write_rec(path, images)
    return path


@pytest.fixture
def settings(few):
    """Of the scripts, for a trial that takes no time."""
    return {
        "device": "simulated",
        "rec": str(few),
        "shape": (3, 5, 6),
        "size": (61.5, 80),
        "resize": 9,
        "batch_size": 2,
        "threads": 1,
        "check": 4,
        "images": 4,
        "batches": [2],
        "fewer_threads": [1],
        "shares": [0.5, 1.0],
        "loads": [0.65],
        "kinds": ["bilinear"],
        "seconds": 0.01,
        "count": 1,
        "rounds": 2,
        "copied": 4096,
        "matmul": 16,
        "turns": 2,
        "engines": 0,
        "options": {},
    }


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
