"""MXNet's methods of arrays on a GPU; what needs no GPU is tested over memory of the host."""

from __future__ import annotations

import numpy as np
import pytest
from harness import open_device

import gpuio as mx
from gpuio.devices.pool import Lease
from gpuio.mxnet.ndarray import DeviceMethods, wrap

cupy = pytest.importorskip("cupy")
from gpuio.devices.cuda_array import OrderedArray  # noqa: E402  needs CuPy


def test_a_wrapped_array_keeps_memory_and_order():
    memory = np.arange(24, dtype=np.float32)
    unowned = cupy.cuda.UnownedMemory(memory.ctypes.data, memory.nbytes, memory, 0)
    plain = cupy.ndarray((2, 3, 4), np.float32, cupy.cuda.MemoryPointer(unowned, 0))
    exported = plain.view(type=OrderedArray)
    exported._ready, exported._lease = "ready", Lease(None)
    for array in (wrap(exported), wrap(exported)[:, 0]):
        assert isinstance(array, DeviceMethods)
        assert array.data.ptr == memory.ctypes.data
        assert (array._ready, array._lease) == ("ready", exported._lease)


@pytest.mark.gpu
def test_gpu_arrays_of_nd_answer_as_others_do():
    open_device("cuda:0")
    array = mx.nd.array([[1, 2], [3, 4]], mx.gpu(0))
    assert isinstance(array, cupy.ndarray)
    assert array.context == mx.gpu(0)
    assert array.asnumpy().tolist() == [[1, 2], [3, 4]]
    assert array[0, 1].asscalar() == 2
    assert array.as_in_context(mx.cpu()).tolist() == [[1, 2], [3, 4]]
    assert mx.nd.ones(3).as_in_context(mx.gpu(0)).asnumpy().tolist() == [1, 1, 1]
    assert (array * 2).asnumpy().tolist() == [[2, 4], [6, 8]]


def test_an_array_of_the_simulated_device_answers_as_others_do(rec):
    with mx.ImageRecordIter(rec, (3, 16, 16), 2, device="simulated") as batches:
        array = next(batches).data[0]
    assert isinstance(array, mx.nd.NDArray)
    assert array.context == mx.cpu()
    assert array.wait_to_read() is None
    assert array[0, 0, 0, 0].asscalar() == array.asnumpy()[0, 0, 0, 0]
