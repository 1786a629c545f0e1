"""Batches of arrays; the numbers are those of MXNet 1.9.1."""

# ruff: noqa: NPY002  MXNet shuffles with NumPy's global generator

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import numpy.testing as npt
import pytest

import gpuio as mx
from gpuio.errors import PipelineClosedError
from gpuio.mxnet.iterators.array_iter import NDArrayIter
from gpuio.mxnet.ndarray import NDArray


def rows(it):
    """(data, pad) of the batches that are left of an epoch."""
    return [(batch.data[0].astype(int).tolist(), batch.pad) for batch in it]


def numbers(count=10, **keywords):
    """An iterator over 0, 1, 2, ..., which are their own labels."""
    return NDArrayIter(np.arange(count), np.arange(count), **keywords)


def test_a_hundred_rows_in_batches_of_thirty():
    data = np.random.default_rng(0).random((100, 3))
    labels = np.arange(100)
    it = mx.io.NDArrayIter(data=data, label=labels, batch_size=30)
    batches = list(it)
    assert [batch.pad for batch in batches] == [0, 0, 0, 20]
    for batch in batches:
        assert batch.data[0].shape == (30, 3)
        assert batch.index is None
        npt.assert_array_equal(
            batch.data[0].asnumpy(), data[batch.label[0].astype(int)].astype("f4")
        )
    assert batches[3].label[0].tolist() == [*range(90, 100), *range(20)]


@pytest.mark.parametrize(
    ("last", "size", "epochs"),
    [
        ("pad", 4, [[([0, 1, 2, 3], 0), ([4, 5, 6, 7], 0), ([8, 9, 0, 1], 2)]] * 2),
        ("pad", 5, [[([0, 1, 2, 3, 4], 0), ([5, 6, 7, 8, 9], 0)]] * 2),
        ("pad", 25, [[([*range(10), *range(10), *range(5)], 15)]] * 2),
        ("discard", 4, [[([0, 1, 2, 3], 0), ([4, 5, 6, 7], 0)]] * 2),
        ("discard", 11, [[], []]),
        (
            "roll_over",
            4,
            [
                [([0, 1, 2, 3], 0), ([4, 5, 6, 7], 0)],
                [([8, 9, 0, 1], 2), ([2, 3, 4, 5], 0), ([6, 7, 8, 9], 0)],
                [([0, 1, 2, 3], 0), ([4, 5, 6, 7], 0)],
            ],
        ),
        (
            "roll_over",
            3,
            [
                [([0, 1, 2], 0), ([3, 4, 5], 0), ([6, 7, 8], 0)],
                [([9, 0, 1], 1), ([2, 3, 4], 0), ([5, 6, 7], 0)],
                [([8, 9, 0], 2), ([1, 2, 3], 0), ([4, 5, 6], 0), ([7, 8, 9], 0)],
                [([0, 1, 2], 0), ([3, 4, 5], 0), ([6, 7, 8], 0)],
            ],
        ),
        (
            "roll_over",
            15,
            [[], [([*range(10), *range(5)], 10)], [([*range(5, 10), *range(10)], 5)], []],
        ),
    ],
)
def test_the_last_batch(last, size, epochs):
    it = numbers(batch_size=size, last_batch_handle=last)
    for expected in epochs:
        assert len(it) == len(expected)
        assert rows(it) == expected
        it.reset()


def test_labels_stay_with_their_data():
    for last in ("pad", "discard", "roll_over"):
        it = numbers(batch_size=3, shuffle=True, last_batch_handle=last)
        for _ in range(4):
            for batch in it:
                npt.assert_array_equal(batch.data[0], batch.label[0])
            it.reset()


def test_shuffling_is_that_of_mxnet():
    np.random.seed(7)
    it = numbers(batch_size=4, shuffle=True)
    epochs = []
    for _ in range(2):
        epochs.append(rows(it))
        it.reset()
    np.random.seed(7)
    idx, order = np.arange(10), np.arange(10)
    for epoch in epochs:
        np.random.shuffle(idx)
        order = order[idx]
        places = order[np.arange(12) % 10].reshape(3, 4)
        assert epoch == [(places[n].tolist(), [0, 0, 2][n]) for n in range(3)]
    np.random.shuffle(idx)
    npt.assert_array_equal(it.idx, idx)


def test_an_epoch_is_a_permutation():
    it = numbers(batch_size=5, shuffle=True)
    first, second = ([n for data, _ in rows(it) for n in data] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))


def test_rows_kept_by_roll_over_come_from_the_old_order():
    it = numbers(batch_size=4, shuffle=True, last_batch_handle="roll_over")
    seen = [n for data, _ in rows(it) for n in data]
    it.reset()
    data, pad = rows(it)[0]
    assert pad == 2
    assert sorted(seen + data[:2]) == list(range(10))


def test_asking_again_at_the_end_loses_nothing():
    it = numbers(batch_size=4, last_batch_handle="roll_over")
    assert len(rows(it)) == 2
    for _ in range(3):
        with pytest.raises(StopIteration):
            it.next()
    it.reset()
    it.reset()
    assert rows(it)[0] == ([8, 9, 0, 1], 2)


def test_a_reset_in_mid_epoch_starts_over():
    it = numbers(batch_size=4, last_batch_handle="roll_over")
    next(it)
    it.reset()
    assert len(rows(it)) == 2
    it.reset()
    next(it)
    it.reset()
    assert rows(it)[0] == ([0, 1, 2, 3], 0)


def test_a_hard_reset_forgets_what_was_kept():
    it = numbers(batch_size=4, last_batch_handle="roll_over")
    assert len(rows(it)) == 2
    it.hard_reset()
    assert rows(it)[0] == ([0, 1, 2, 3], 0)


def test_a_new_loop_begins_the_next_epoch():
    it = numbers(batch_size=5)
    assert rows(it) == rows(it)
    assert it


def test_names_and_order_of_sources():
    it = NDArrayIter([np.zeros(2), np.ones((2, 3))], [[5, 6]], 2)
    assert it.provide_data == [("_0_data", (2,)), ("_1_data", (2, 3))]
    assert it.provide_label == [("softmax_label", (2,))]
    assert it.num_source == 3
    it = NDArrayIter({"z": [1, 2], "a": [3, 4]}, {"y": [5, 6]}, 2)
    assert [name for name, _ in it.provide_data] == ["a", "z"]
    batch = next(it)
    assert [array.tolist() for array in batch.data] == [[3, 4], [1, 2]]
    it = NDArrayIter(np.zeros(2), batch_size=2, data_name="x")
    assert it.provide_data == [("x", (2,))]
    assert it.provide_label == []
    assert next(it).label == []


def test_dtypes():
    for given in ([1, 2], np.array([1, 2]), np.array([1, 2], np.uint8), np.array([1.0, 2.0])):
        assert next(NDArrayIter([given])).data[0].dtype == np.float32
    for shuffle in (False, True):
        it = NDArrayIter(mx.nd.array([1, 2], dtype="int32"), shuffle=shuffle)
        assert it.provide_data[0].dtype is np.int32
        assert next(it).data[0].dtype == np.int32


def test_a_batch_is_an_array_of_its_own():
    source = np.arange(4, dtype=np.float32)
    for given in (source, source.view(NDArray)):
        batch = next(NDArrayIter(given, batch_size=4))
        assert isinstance(batch.data[0], NDArray)
        batch.data[0][:] = -1
        assert source.tolist() == [0, 1, 2, 3]


def test_a_numpy_array_is_copied_and_an_ndarray_is_not():
    source = np.zeros(2, np.float32)
    copied, shared = NDArrayIter(source, batch_size=2), NDArrayIter(source.view(NDArray), None, 2)
    source[:] = 1
    assert next(copied).data[0].tolist() == [0, 0]
    assert next(shared).data[0].tolist() == [1, 1]


def test_attributes():
    it = numbers(batch_size=4)
    assert (it.num_data, it.num_source, it.batch_size, it.cursor) == (10, 2, 4, -4)
    assert (it.last_batch_handle, it.shuffle, it.layout) == ("pad", False, "NCHW")
    next(it)
    assert it.cursor == 0
    assert it.data[0][0] == "data"
    assert it.label[0][0] == "softmax_label"
    npt.assert_array_equal(it.data_list[1], np.arange(10))
    shuffled = numbers(batch_size=10, shuffle=True)
    npt.assert_array_equal(shuffled.data[0][1], next(shuffled).data[0])


def test_the_methods_of_the_current_batch():
    it = numbers(batch_size=4)
    with pytest.raises(RuntimeError, match="no current batch"):
        it.getdata()
    pads = []
    while it.iter_next():
        assert it.getdata()[0].tolist() == it.getlabel()[0].tolist()
        assert it.getindex() is None
        pads.append(it.getpad())
    assert pads == [0, 0, 2]


@pytest.mark.parametrize("last", ["pad", "roll_over", "discard"])
def test_the_batch_axis_need_not_be_the_first(last):
    data = np.arange(2 * 5 * 3).reshape(2, 5, 3)
    label = np.arange(2 * 5).reshape(2, 5)
    it = NDArrayIter(data, label, 2, last_batch_handle=last, shuffle=True, layout="TNC")
    assert it.num_data == 5
    assert it.provide_data == [("data", (2, 2, 3))]
    assert it.provide_data[0].layout == "TNC"
    for batch in it:
        assert batch.data[0].shape == (2, 2, 3)
        npt.assert_array_equal(batch.data[0][..., 0], 3 * batch.label[0])


class Dataset:
    """What NDArrayIter asks of a dataset of h5py, which takes ascending indices only."""

    chunks = None

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.read = 0

    def __getitem__(self, key):
        if isinstance(key, tuple):
            for part in key:
                assert isinstance(part, slice) or (np.diff(part) > 0).all()
        values = self.values[key]
        self.read += len(values)
        return values


@pytest.mark.parametrize("last", ["pad", "roll_over", "discard"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_arrays_on_disk_are_read_batch_by_batch(last, shuffle, tmp_path):
    values = np.arange(20).reshape(10, 2)
    mapped = np.memmap(tmp_path / "values", np.int16, "w+", shape=(10, 2))
    mapped[:] = values
    stored = Dataset(values)
    it = NDArrayIter({"a": stored, "b": mapped}, values, 4, shuffle, last)
    assert stored.read == 0
    assert [desc.dtype for desc in it.provide_data] == [np.float32] * 2
    for _ in range(3):
        for batch in it:
            for data in batch.data:
                assert data.dtype == np.float32
                npt.assert_array_equal(data, batch.label[0])
        it.reset()
    it.hard_reset()
    before = stored.read
    next(it)
    assert stored.read == before + 4


def test_h5py(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "values.h5", "w") as file:
        file["x"] = np.arange(10)
        it = NDArrayIter(file["x"], np.arange(10), 4, shuffle=True)
        for batch in it:
            npt.assert_array_equal(batch.data[0], batch.label[0])


@pytest.mark.parametrize("last", ["pad", "roll_over", "discard"])
def test_sparse_matrices(last):
    sparse = pytest.importorskip("scipy.sparse")
    dense = (np.arange(40).reshape(10, 4) % 3).astype(np.float32)
    for make in (sparse.csr_matrix, sparse.csr_array, sparse.coo_matrix):
        it = NDArrayIter(make(dense), np.arange(10), 4, shuffle=True, last_batch_handle=last)
        assert it.provide_data == [("data", (4, 4))]
        for batch in it:
            assert batch.data[0].stype == "csr"
            npt.assert_array_equal(batch.data[0].asnumpy(), dense[batch.label[0].astype(int)])
    with pytest.raises(ValueError, match="layout must begin with 'N'"):
        NDArrayIter(sparse.csr_matrix(dense), layout="TN")


class OnDevice:
    """A tensor of another library, which NumPy cannot read where it is."""

    __cuda_array_interface__ = __dlpack__ = None

    def get(self):
        return np.arange(3)

    def __array__(self, *args, **keywords):
        raise TypeError("implicit conversion")


def test_arrays_of_other_libraries():
    class ByDlpack:
        def __init__(self):
            self.values = np.arange(3)

        def __dlpack__(self, **keywords):
            return self.values.__dlpack__()

        def __dlpack_device__(self):
            return self.values.__dlpack_device__()

    class Tracked(OnDevice):
        def detach(self):
            tensor = SimpleNamespace(dtype="torch.int64", numpy=lambda: np.arange(3))
            return SimpleNamespace(cpu=lambda: tensor)

    class ByArray:
        def __array__(self, *args, **keywords):
            return np.arange(3)

    for source in (OnDevice(), Tracked(), ByDlpack(), ByArray()):
        assert next(NDArrayIter(source, batch_size=3)).data[0].tolist() == [0, 1, 2]


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    tracked, short = torch.arange(3.0, requires_grad=True), torch.arange(3.0, dtype=torch.bfloat16)
    batch = next(NDArrayIter([tracked, short], torch.arange(3), 3))
    for values in (*batch.data, *batch.label):
        assert values.tolist() == [0, 1, 2]


def test_a_longer_source_is_used_as_far_as_there_are_samples():
    it = NDArrayIter({"data1": np.zeros((10, 2)), "data2": np.arange(20)}, np.arange(20), 4)
    assert it.num_data == 10
    assert list(it)[2].data[1].tolist() == [8, 9, 0, 1]


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"data": None}, ValueError, "data must have at least one array, got none"),
        ({"data": []}, ValueError, "data must have at least one array, got none"),
        ({"data": (np.zeros(2),)}, TypeError, "data must be an array, .* got tuple"),
        ({"data": "abc"}, TypeError, "data must be an array, .* got str"),
        ({"data": ["abc"]}, TypeError, "'data' must be like an array, got str"),
        ({"data": {"x": object()}}, TypeError, "'x' must be like an array, got object"),
        ({"data": [[1, 2], [3, [4]]]}, TypeError, "'_1_data' must be like an array, got list"),
        ({"data": [1, 2]}, ValueError, r"'_0_data' must have the axis 0 .* got shape \(\)"),
        ({"data": np.zeros((0, 3))}, ValueError, "'data' has no sample"),
        ({"label": np.zeros(3)}, ValueError, "'softmax_label' has 3 samples, 'data' has 4"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"shuffle": "maybe"}, ValueError, "shuffle must be True or False, got 'maybe'"),
        ({"last_batch_handle": "keep"}, ValueError, "last_batch_handle must be one of pad, dis"),
        ({"layout": "CHW"}, ValueError, "layout must have an 'N' for the batch, got 'CHW'"),
        ({"batchsize": 3}, TypeError, "no parameter 'batchsize'; did you mean 'batch_size'"),
    ],
)
def test_wrong_parameters_are_named(keywords, error, message):
    with pytest.raises(error, match=message):
        NDArrayIter(**{"data": np.zeros(4), **keywords})


def test_closing():
    with numbers(batch_size=4) as it:
        batch = next(it)
    it.close()
    assert batch.data[0].tolist() == [0, 1, 2, 3]
    for use in (it.next, it.reset, it.hard_reset, it.iter_next):
        with pytest.raises(PipelineClosedError, match="this iterator was closed"):
            use()


def test_sparse_matrices_are_known_without_importing_scipy(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    next(NDArrayIter(np.zeros(3)))
    assert "scipy" not in sys.modules
