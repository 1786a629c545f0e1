"""The array that iterators return on the simulated device."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from gpuio.devices.simulated import SimulatedArray
from gpuio.mxnet.ndarray import NDArray


class SimulatedNDArray(SimulatedArray, NDArray):
    """An array in simulated device memory with MXNet's methods."""

    def asnumpy(self) -> npt.NDArray[Any]:
        """A copy on the host, in order with the stream that was current at export."""
        return self.to_host()
