"""MXNet's arrays, as far as data scripts need them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import numpy.testing as npt
import pytest

import gpuio as mx
from gpuio.errors import BackendError
from gpuio.mxnet.ndarray import NDArray

nd = mx.nd


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        ([1, 2], (2,)),
        (3, ()),
        (np.arange(3), (3,)),
        (np.zeros((0, 2)), (0, 2)),
        ([[1], [2]], (2, 1)),
    ],
)
def test_an_array_made_of_numbers_is_float32(source, shape):
    got = nd.array(source)
    assert isinstance(got, nd.NDArray)
    assert (got.shape, got.dtype) == (shape, np.float32)
    npt.assert_array_equal(got.asnumpy(), np.asarray(source))


def test_dtypes():
    assert nd.array([1.5, 2], dtype="int32").dtype == np.int32
    assert nd.array(nd.array([1], dtype="uint8")).dtype == np.uint8
    assert nd.zeros((2, 3)).dtype == nd.ones(3).dtype == np.float32
    assert nd.zeros(2, dtype="int8").dtype == nd.ones((1,), mx.cpu(), "int8").dtype == np.int8
    assert nd.zeros((2, 3)).tolist() == [[0, 0, 0]] * 2
    assert nd.ones(3).tolist() == [1, 1, 1]


def test_an_array_is_a_copy():
    for source in (np.zeros(2, np.float32), nd.zeros(2)):
        got = nd.array(source)
        got[0] = 1
        assert source[0] == 0


def test_a_source_that_is_no_array_is_refused():
    for source in ("abc", [[1], [2, 3]], object()):
        with pytest.raises(TypeError, match="source_array must be like an array, got"):
            nd.array(source)


def test_a_numpy_array_and_back():
    array = nd.array([[1, 2], [3, 4]])
    plain = array.asnumpy()
    assert type(plain) is np.ndarray
    assert np.shares_memory(plain, array)
    assert type(array * 2) is type(array[0]) is type(array.astype("uint8")) is NDArray
    assert (array.size, array.T.tolist()) == (4, [[1, 3], [2, 4]])


def test_one_element():
    labels = nd.array([3, 1.5])
    first = labels[0]
    assert isinstance(first, NDArray)
    assert first.asscalar() == first.asnumpy() == first == float(first) == 3
    assert type(first.asscalar()) is np.float32
    assert nd.array([[7]]).asscalar() == 7
    assert [label.asscalar() for label in labels] == [3, 1.5]
    assert {3.0: "three"}[first] == "three"
    assert ["a", "b", "c", "d"][int(first)] == "d"
    assert "abcd"[nd.array([2], dtype="int64")[0]] == "c"
    assert f"{first:.2f}" == "3.00"
    with pytest.raises(ValueError, match=r"an array of shape \(2,\) is not a scalar"):
        labels.asscalar()
    with pytest.raises(TypeError, match=r"an array of shape \(2,\) cannot be a key"):
        hash(labels)


def test_assignment_reaches_the_array():
    array = nd.zeros((2, 2))
    array[0][1] = 5
    array[1, 1] = 6
    array[:, 0] = 1
    assert array.tolist() == [[1, 5], [1, 6]]


def test_context():
    array = nd.zeros((2,), ctx=mx.cpu())
    assert array.context == array.ctx == mx.cpu()
    assert array.as_in_context(mx.cpu()) is array.as_in_ctx(mx.cpu(1)) is array
    assert array.wait_to_read() is nd.waitall() is None


def test_copyto():
    array, target = nd.array([1.5, 2]), nd.zeros((2,), dtype="int32")
    assert array.copyto(target) is target
    assert target.tolist() == [1, 2]
    copied = array.copyto(mx.cpu())
    assert copied.tolist() == [1.5, 2]
    assert not np.shares_memory(copied, array)
    with pytest.raises(ValueError, match=r"other must have shape \(2,\), got \(3,\)"):
        array.copyto(nd.zeros(3))


def test_a_gpu_that_is_not_there_is_refused():
    gpu, array = mx.gpu(99), nd.zeros(2)
    for use in (
        lambda: nd.array([1], gpu),
        lambda: nd.zeros(1, gpu),
        lambda: nd.ones(1, gpu),
        lambda: array.as_in_context(gpu),
        lambda: array.copyto(gpu),
    ):
        with pytest.raises(BackendError, match="cuda:99"):
            use()


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_an_array_can_be_copied(way):
    got = way(nd.array([1, 2]))
    assert isinstance(got, NDArray)
    assert got.tolist() == [1, 2]


@pytest.mark.parametrize("module", [mx.nd, mx.ndarray])
def test_no_other_name_exists(module):
    for name in ("dot", "relu", "random", "save"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}': gpuio is the data"):
            getattr(module, name)
    assert module.NDArray is NDArray
    for name in module.__all__:
        assert hasattr(module, name)
