"""What iterators and training loops say to each other, as MXNet's scripts expect it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from gpuio.mxnet.iterators.batch import DataBatch, DataDesc, DataIter


def test_a_description_is_a_pair_with_two_more_attributes():
    desc = DataDesc("data", (4, 3, 2, 2), np.uint8, "NHWC")
    name, shape = desc
    assert (name, shape) == ("data", (4, 3, 2, 2))
    assert desc == ("data", (4, 3, 2, 2))
    assert desc == DataDesc("data", (4, 3, 2, 2))
    assert (desc.dtype, desc.layout) == (np.uint8, "NHWC")
    assert (DataDesc("x", ()).dtype, DataDesc("x", ()).layout) == (np.float32, "NCHW")


def test_a_description_prints_as_in_mxnet():
    assert str(DataDesc("x", (2,), "int8", "N")) == "DataDesc[x,(2,),int8,N]"


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_a_description_can_be_copied(way):
    desc = way(DataDesc("x", (2,), np.int8, None))
    assert desc == ("x", (2,))
    assert (desc.dtype, desc.layout) == (np.int8, None)


@pytest.mark.parametrize(("layout", "axis"), [("NCHW", 0), ("TNC", 1), (None, 0), ("HW", -1)])
def test_the_axis_of_the_batch(layout, axis):
    assert DataDesc.get_batch_axis(layout) == axis


def test_descriptions_from_lists():
    shapes = [("a", (1,)), ("b", (2,))]
    assert DataDesc.get_list(shapes) == shapes
    typed = DataDesc.get_list(shapes, [("b", np.int8), ("a", np.uint8)])
    assert [desc.dtype for desc in typed] == [np.uint8, np.int8]


def test_a_batch_holds_what_it_is_given():
    batch = DataBatch([1], (2,), 3, 4, 5, 6, 7)
    assert (batch.data, batch.label, batch.pad, batch.index) == ([1], (2,), 3, 4)
    assert (batch.bucket_key, batch.provide_data, batch.provide_label) == (5, 6, 7)
    empty = DataBatch(None)
    assert (empty.data, empty.label, empty.pad, empty.index) == (None, None, None, None)


def test_a_batch_takes_lists_only():
    with pytest.raises(AssertionError, match="Data must be list of NDArrays"):
        DataBatch(np.zeros(3))
    with pytest.raises(AssertionError, match="Label must be list of NDArrays"):
        DataBatch([], np.zeros(3))


def test_a_batch_prints_its_shapes():
    batch = DataBatch([np.zeros((2, 3))], [np.zeros(2)])
    assert str(batch) == "DataBatch: data shapes: [(2, 3)] label shapes: [(2,)]"
    assert str(DataBatch([np.zeros(2)])) == "DataBatch: data shapes: [(2,)] label shapes: None"


class Counter(DataIter):
    """Three batches of one number."""

    def __init__(self):
        super().__init__(batch_size=1)
        self.reset()

    def reset(self):
        self.number = -1

    def iter_next(self):
        self.number += 1
        return self.number < 3

    def getdata(self):
        return [np.array([self.number])]

    def getlabel(self):
        return []

    def getpad(self):
        return 0


def test_an_iterator_of_one_s_own_needs_a_few_methods_only():
    it = Counter()
    assert it.batch_size == 1
    assert iter(it) is it
    assert [int(batch.data[0][0]) for batch in it] == [0, 1, 2]
    assert list(it) == []
    it.reset()
    batch = next(it)
    assert (batch.label, batch.pad, batch.index) == ([], 0, None)


def test_the_base_has_no_batch():
    it = DataIter()
    assert (it.batch_size, it.iter_next(), it.getdata(), it.getlabel()) == (0, False, None, None)
    assert (it.getindex(), it.getpad(), it.reset()) == (None, None, None)
    with pytest.raises(StopIteration):
        next(it)


def test_leaving_a_with_closes():
    closed = []

    class Closing(Counter):
        def close(self):
            closed.append(True)

    with Closing() as it:
        next(it)
    assert closed == [True]
