"""Batches of MNIST's files; orders and numbers are those of MXNet 1.9.1."""

from __future__ import annotations

import struct

import numpy as np
import numpy.testing as npt
import pytest

import gpuio as mx
from gpuio.errors import FormatError
from gpuio.mxnet.iterators.mnist_iter import MNISTIter, shuffled

ORDERS = {
    0: [16, 2, 3, 5, 14, 18, 13, 19, 4, 7, 6, 8, 9, 10, 15, 12, 0, 17, 1, 11],
    1: [6, 11, 13, 2, 4, 15, 5, 17, 8, 0, 19, 16, 1, 10, 12, 14, 9, 18, 3, 7],
    7: [18, 15, 5, 12, 17, 7, 11, 16, 0, 19, 3, 6, 10, 1, 4, 14, 13, 8, 2, 9],
}


def write(folder, count, height=2, width=3):
    """Files in which the first value of image n, and its label, are n."""
    images = np.zeros((count, height, width), np.uint8)
    images[:, 0, 0] = range(count)
    images[:, -1, -1] = 255
    head = struct.pack(">4i", 2051, count, height, width)
    (folder / "images").write_bytes(head + images.tobytes())
    (folder / "labels").write_bytes(struct.pack(">2i", 2049, count) + bytes(range(count)))
    return str(folder / "images"), str(folder / "labels")


@pytest.fixture
def twenty(tmp_path):
    return write(tmp_path, 20)


def labels(it):
    return [batch.label[0].astype(int).tolist() for batch in it]


def test_values_and_shapes(twenty):
    image, label = twenty
    it = mx.io.MNISTIter(image=image, label=label, batch_size=8, shuffle=False, silent=True)
    assert it.provide_data == [("data", (8, 1, 2, 3))]
    assert it.provide_label == [("softmax_label", (8,))]
    assert len(it) == 2
    first, second = it
    assert first.data[0].dtype == first.label[0].dtype == np.float32
    npt.assert_array_equal(first.data[0][:, 0, 0, 0], np.arange(8) / 256)
    npt.assert_array_equal(first.data[0][:, 0, 1, 2], 255 / 256)
    assert second.label[0].asnumpy().tolist() == list(range(8, 16))
    assert second.index.tolist() == list(range(8, 16))
    assert first.pad == second.pad == 0
    flat = MNISTIter(image, label, 8, flat=True, data_name="x", label_name="y")
    assert next(flat).data[0].shape == (8, 6)
    assert flat.provide_data + flat.provide_label == [("x", (8, 6)), ("y", (8,))]


@pytest.mark.parametrize("seed", ORDERS)
def test_the_order_is_that_of_mxnet_in_every_epoch(twenty, seed):
    assert shuffled(20, seed).tolist() == ORDERS[seed]
    it = MNISTIter(*twenty, 10, seed=seed)
    for _ in range(2):
        assert [n for batch in labels(it) for n in batch] == ORDERS[seed]
        it.reset()
    batch = next(it)
    npt.assert_array_equal(batch.data[0][:, 0, 0, 0] * 256, batch.label[0])
    npt.assert_array_equal(batch.index, batch.label[0])


def test_the_default_is_shuffled_with_seed_0(twenty):
    assert labels(MNISTIter(*twenty, 20)) == [ORDERS[0]]


def test_long_orders_are_permutations():
    order = shuffled(70_000, 5)
    assert order.dtype == np.int64
    npt.assert_array_equal(np.sort(order), np.arange(70_000))
    assert shuffled(1, 0).tolist() == [0]
    assert shuffled(5, -1).tolist() == shuffled(5, 2**32 - 1).tolist()


def test_parts(tmp_path):
    paths = write(tmp_path, 11)
    part = {"num_parts": 3, "part_index": 1}
    assert labels(MNISTIter(*paths, 2, shuffle=False, **part)) == [[3, 4], [5, 6]]
    assert labels(MNISTIter(*paths, 2, seed=3, **part)) == [[5, 4], [6, 3]]
    first = MNISTIter(*paths, 2, shuffle=False, num_parts=3)
    assert [(batch.label[0].tolist(), batch.pad) for batch in first] == [([0, 1], 0), ([2, 0], 1)]


def test_fewer_images_than_a_batch_give_none(tmp_path):
    it = MNISTIter(*write(tmp_path, 3), 4)
    assert len(it) == 0
    assert list(it) == []
    assert it


def test_files_that_are_wrong_are_named(tmp_path, twenty):
    image, label = twenty
    with pytest.raises(FormatError, match=r"labels: magic is 0x00000801, not 0x00000803"):
        MNISTIter(label, label)
    few = tmp_path / "few"
    few.write_bytes(b"1234")
    with pytest.raises(FormatError, match="few: 4 bytes are too few"):
        MNISTIter(image, few)
    few.write_bytes(struct.pack(">2i", 2049, 3) + b"12")
    with pytest.raises(FormatError, match=r"few: 2 bytes of data, not 3 for \[3\]"):
        MNISTIter(image, few)
    few.write_bytes(struct.pack(">2i", 2049, 2) + b"12")
    with pytest.raises(FormatError, match=r"few: 2 labels for 20 images of .*images"):
        MNISTIter(image, few)
    few.write_bytes(struct.pack(">4I", 2051, 1 << 31, 1 << 31, 4))  # 0 values, modulo 2 ** 64
    with pytest.raises(FormatError, match="few: 0 bytes of data, not 18446744073709551616 for"):
        MNISTIter(few, label)
    with pytest.raises(FileNotFoundError):
        MNISTIter(tmp_path / "none", label)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"flat": 2}, ValueError, "flat must be True or False, got 2"),
        ({"seed": "x"}, ValueError, "seed must be an integer, got 'x'"),
        ({"dtype": "uint8"}, ValueError, "dtype must be one of float32, got uint8"),
        ({"part_index": 2}, ValueError, r"part_index must be in \[0, num_parts\), got 2 of 1"),
        (
            {"shufle": True},
            TypeError,
            "MNISTIter has no parameter 'shufle'; did you mean 'shuffle'",
        ),
    ],
)
def test_wrong_parameters_are_named(twenty, keywords, error, message):
    with pytest.raises(error, match=message):
        MNISTIter(*twenty, **keywords)
