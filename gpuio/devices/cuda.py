"""CUDA through CuPy (memory, streams, events) and Numba (kernels): the driver below `gpu.py`.

`gpu.py` decides the order of work, and `cuda_array.py` that of readers; this file carries it out.
It cannot run without a GPU; in tests `simulated.py` takes its place. A stream handle such as 1, the
default stream, means that of the current device, so each call makes its device current.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Array
from gpuio.devices.driver import Driver
from gpuio.devices.pool import Lease
from gpuio.errors import BackendError

try:
    import cupy
    from numba import cuda
except ImportError as error:
    raise BackendError(
        f"device 'cuda' needs CuPy and numba-cuda: pip install 'gpuio[cuda13]', or 'gpuio[cuda12]' "
        f"where the driver is of CUDA 12 ({error})"
    ) from error

_PER_THREAD = 2  # handle of the default stream of whichever thread uses it


class CudaDriver(Driver):
    """One GPU.

    Args:
        device_id: Number of the GPU among those that CUDA sees; None for the current one, which
            `torch.cuda.set_device` and `cupy.cuda.Device(...).use()` choose.

    Raises:
        BackendError: There is no GPU of this number, or no driver.
    """

    def __init__(self, device_id: int | None) -> None:
        runtime = cupy.cuda.runtime
        try:
            count = runtime.getDeviceCount()
            device_id = runtime.getDevice() if device_id is None else device_id
        except runtime.CUDARuntimeError as error:
            name = "cuda" if device_id is None else f"cuda:{device_id}"
            raise BackendError(f"device {name!r}: {error}") from error
        if device_id >= count:
            raise BackendError(f"device 'cuda:{device_id}': CUDA sees {count} GPUs, from 0 on")
        self.name, self.device_id = f"cuda:{device_id}", device_id
        self._device = cupy.cuda.Device(device_id)
        self._pool = cupy.cuda.MemoryPool()  # freed with its loader; CuPy's own pool keeps memory

    def new_stream(self) -> Any:
        with self._device:
            return cupy.cuda.Stream(non_blocking=True)

    def handle(self, stream: Any) -> int:
        return int(stream.ptr)

    def record(self, stream: Any) -> Any:
        with self._device:
            if stream.ptr == _PER_THREAD:  # the calling thread may be another than the reader's
                cupy.cuda.runtime.deviceSynchronize()
            event = cupy.cuda.Event(block=True, disable_timing=True)
            cupy.cuda.runtime.eventRecord(event.ptr, stream.ptr)
        return event

    def wait(self, stream: Any, event: Any) -> None:
        with self._device:
            cupy.cuda.runtime.streamWaitEvent(stream.ptr, event.ptr)

    def synchronize(self, event: Any) -> None:
        with self._device:
            event.synchronize()

    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        with self._device:
            pinned = cupy.cuda.alloc_pinned_memory(nbytes)
        return np.frombuffer(pinned, np.uint8, nbytes)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        with self._device:
            nbytes = math.prod(shape) * np.dtype(dtype).itemsize
            return cupy.ndarray(shape, dtype, self._pool.malloc(nbytes))

    def empty_alone(self, nbytes: int) -> Array:
        with self._device:
            pointer = cupy.cuda.MemoryPointer(cupy.cuda.Memory(nbytes), 0)  # from no pool
            return cupy.ndarray((nbytes,), np.uint8, pointer)

    def address(self, array: Array) -> int:
        return int(array.data.ptr)

    def wrap(self, memory: Array, owner: object) -> Array:
        unowned = cupy.cuda.UnownedMemory(
            self.address(memory), memory.nbytes, owner, self.device_id
        )
        pointer = cupy.cuda.MemoryPointer(unowned, 0)
        return cupy.ndarray(memory.shape, memory.dtype, pointer)

    def copy(self, to: int, start: int, nbytes: int, stream: Any) -> None:
        runtime = cupy.cuda.runtime
        runtime.memcpyAsync(to, start, nbytes, runtime.memcpyDefault, stream.ptr)

    def fill(self, start: int, value: int, nbytes: int, stream: Any) -> None:
        cupy.cuda.runtime.memsetAsync(start, value, nbytes, stream.ptr)

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], args: tuple[int, ...], stream: Any
    ) -> None:
        # Not `compiled[grid, block, stream](...)`: that keeps a configuration for every grid, and
        # warns of grids that leave a part of the GPU idle, as those of small batches do.
        _compiled(kernel).launch(args, grid, kernel.block, cuda.external_stream(stream.ptr))

    def export(self, data: Array, ready: Any, lease: Lease) -> Any:
        from gpuio.devices.cuda_array import export

        return export(data, ready, lease)

    @contextmanager
    def scope(self, stream: Any) -> Generator[None]:
        with cuda.gpus[self.device_id], self._device, stream:
            yield


@cache
def _compiled(kernel: Any) -> Any:
    from gpuio.kernels.device import compile_device

    return next(iter(compile_device(kernel).overloads.values()))
