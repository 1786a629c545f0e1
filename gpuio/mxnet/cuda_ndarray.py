"""The array that iterators return on a GPU: CuPy's, with MXNet's methods."""

from __future__ import annotations

from typing import Any

import cupy
import numpy.typing as npt

from gpuio.devices.cuda_array import OrderedArray
from gpuio.mxnet.context import Context, gpu
from gpuio.mxnet.ndarray import ArrayMethods, NDArray


class CudaNDArray(ArrayMethods, OrderedArray):
    """A CuPy array with MXNet's methods, each in order with the batch that it belongs to."""

    def asnumpy(self) -> npt.NDArray[Any]:
        """A copy on the host, made once the batch is written."""
        return self.to_host()

    @property
    def context(self) -> Context:
        """The GPU, such as `gpu(0)`."""
        return gpu(self.device.id)

    def as_in_context(self, context: Context) -> CudaNDArray | NDArray:
        """This array on a device: itself, or a copy."""
        if context == self.context:
            return self
        if context.device_type == "cpu":
            return self.asnumpy().view(NDArray)
        self.wait_to_read()
        with cupy.cuda.Device(context.device_id):
            copied: CudaNDArray = cupy.array(self).view(type=CudaNDArray)
            copied.detach()
            cupy.cuda.get_current_stream().synchronize()
        return copied

    def wait_to_read(self) -> None:
        """Make the calling thread wait until the values are there."""
        self.synchronize()


def copy_to_gpu(host: NDArray, context: Context) -> CudaNDArray:
    """A copy of an array on a GPU."""
    with cupy.cuda.Device(context.device_id):
        copied: CudaNDArray = cupy.asarray(host.asnumpy()).view(type=CudaNDArray)
    return copied
