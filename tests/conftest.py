"""What all tests may use."""

from __future__ import annotations

import gc
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from harness import device as device

import gpuio as mx
from gpuio.testing import draw, encode, write_rec

with suppress(ImportError):  # tests of a GPU do without it
    import hypothesis

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
    monkeypatch.setattr("gpuio.devices.visible_gpus", lambda: 0)


@pytest.fixture
def fail_start(monkeypatch):
    """Let the n-th thread from now on not start, as where the system has no more of them.

    Returns:
        What sets n, and gives a list with what is left of it: 0 or less once a thread has failed.
    """
    real = threading.Thread.start

    def fail(number):
        left = [number]

        def start(thread):
            left[0] -= 1
            if left[0] == 0:
                raise RuntimeError("can't start new thread")
            real(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        return left

    return fail


COUNT, SIZE = 20, 5  # samples that every kind of iterator below has, and how many are in a batch


@pytest.fixture(scope="session")
def twenty(tmp_path_factory):
    """Folder of twenty samples with the labels 0 to 19, in the files of every iterator."""
    folder = tmp_path_factory.mktemp("twenty")
    pictures = [draw(10, 10, seed=n) for n in range(COUNT)]
    files = [encode(picture) for picture in pictures]
    boxes = [[2, 5, n, 0.1, 0.1, 0.9, 0.9] for n in range(COUNT)]
    write_rec(folder / "a.rec", files)
    write_rec(folder / "boxes.rec", files, labels=boxes)
    write_rec(folder / "masks.rec", [encode(picture[..., :1]) for picture in pictures])
    for n, file in enumerate(files):
        (folder / f"{n}.png").write_bytes(file)
    (folder / "a.csv").write_text("".join(f"{n}\n" for n in range(COUNT)))
    (folder / "a.libsvm").write_text("".join(f"{n} 0:1\n" for n in range(COUNT)))
    head = struct.pack(">4i", 2051, COUNT, 2, 2)
    (folder / "images").write_bytes(head + bytes(4 * COUNT))
    (folder / "labels").write_bytes(struct.pack(">2i", 2049, COUNT) + bytes(range(COUNT)))
    return folder


def _image_iter(folder, **options):
    made = [[n, f"{n}.png"] for n in range(COUNT)]
    return mx.image.ImageIter(SIZE, (3, 8, 8), imglist=made, path_root=folder, **options)


def _records(folder, **options):
    options = {
        "path_imgrec": folder / "a.rec",
        "data_shape": (3, 8, 8),
        "batch_size": SIZE,
    } | options
    return mx.ImageRecordIter(**options)


def _torch(folder):
    pytest.importorskip("torch")
    return _records(folder, shuffle=True).torch()


def _libsvm(folder):
    pytest.importorskip("scipy")
    return mx.io.LibSVMIter(folder / "a.libsvm", 1, SIZE)


def _numbers(**options):
    return mx.io.NDArrayIter(np.arange(COUNT), np.arange(COUNT), SIZE, **options)


KINDS = {
    "ImageRecordIter": _records,
    "ImageRecordIter, shuffled": lambda folder: _records(folder, shuffle=True),
    "ImageRecordIter, portable": lambda folder: _records(folder, decoder="portable"),
    "ImageRecordIter, masks": lambda folder: _records(folder, masks=folder / "masks.rec"),
    "ImageDetRecordIter": lambda folder: mx.ImageDetRecordIter(
        folder / "boxes.rec", (3, 8, 8), SIZE
    ),
    "numpy": lambda folder: _records(folder, shuffle=True).numpy(),
    "torch": _torch,
    "NDArrayIter": lambda _: _numbers(shuffle=True),
    "NDArrayIter, roll_over": lambda _: _numbers(last_batch_handle="roll_over"),
    "NDArrayIter, discard": lambda _: _numbers(last_batch_handle="discard"),
    "CSVIter": lambda folder: mx.io.CSVIter(
        folder / "a.csv", 1, SIZE, label_csv=folder / "a.csv", prefetch_buffer=1
    ),
    "LibSVMIter": _libsvm,
    "MNISTIter": lambda folder: mx.io.MNISTIter(folder / "images", folder / "labels", SIZE),
    "ResizeIter": lambda folder: mx.io.ResizeIter(_records(folder), COUNT // SIZE),
    "PrefetchingIter": lambda folder: mx.io.PrefetchingIter(_records(folder)),
    "PrefetchingIter, two": lambda folder: mx.io.PrefetchingIter([_records(folder), _numbers()]),
    "ImageIter": lambda folder: _image_iter(folder, shuffle=True),
    "ImageIter, in Python": lambda folder: _image_iter(folder, aug_list=[_cropped]),
    "ImageIter, discard": lambda folder: _image_iter(folder, last_batch_handle="discard"),
    "ImageIter, roll_over": lambda folder: _image_iter(folder, last_batch_handle="roll_over"),
    "ImageDetIter": lambda folder: mx.image.ImageDetIter(
        SIZE, (3, 8, 8), path_imgrec=folder / "boxes.rec", path_imgidx=folder / "boxes.idx"
    ),
}
"""Every kind of iterator, over the samples of `twenty`."""


def _cropped(image):
    return image[:8, :8]


@dataclass
class Kind:
    """How to make an iterator of one kind, and what to ask of it."""

    name: str
    folder: Any
    made: list[Any]

    def make(self):
        self.made.append(KINDS[self.name](self.folder))
        return self.made[-1]

    def labels(self, batch):
        """Those of the samples of a batch, which are 0 to 19 in an epoch."""
        label = np.asarray(batch[1] if isinstance(batch, tuple) else batch.label[0])
        if self.name == "ImageDetRecordIter":
            label = label[:, 6]
        if self.name == "ImageDetIter":
            label = label[:, 0, 0]
        return label.astype(int).tolist()

    def seen(self, batches):
        """The labels of all batches, sorted."""
        return sorted(label for batch in batches for label in self.labels(batch))


@pytest.fixture(params=list(KINDS))
def kind(request, twenty):
    """Each kind of iterator in turn; all that were made are closed at the end."""
    kind = Kind(request.param, twenty, [])
    yield kind
    for it in kind.made:
        it.close()
