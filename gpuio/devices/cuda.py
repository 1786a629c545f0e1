"""CUDA through its driver's own functions, and Numba for kernels: the driver below `gpu.py`.

`gpu.py` decides the order of work, and `cuda_array.py` that of readers; this file carries it out.
CuPy is the type of arrays, no more: memory, streams and launches are calls of the driver. In tests
`simulated.py` takes the place of this file, or a stub that of the driver. A stream handle such as
1, the default stream, means that of the current device, so each call makes its device current.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Array
from gpuio.devices.driver import Driver
from gpuio.devices.pool import Lease
from gpuio.errors import BackendError

try:
    import cupy
    from cuda.bindings import driver
    from numba import cuda  # noqa: F401  kernels are compiled with it
except ImportError as error:
    raise BackendError(
        f"device 'cuda' needs CuPy and numba-cuda: pip install 'gpuio[cuda13]', or 'gpuio[cuda12]' "
        f"where the driver is of CUDA 12 ({error})"
    ) from error

from gpuio.devices.cuda_context import GpuContext, Owned, open_context

_PER_THREAD = 2  # handle of the default stream of whichever thread uses it
_PORTABLE = 1  # flag of pinned memory: pinned for all devices
_BLOCKING_SYNC, _DISABLE_TIMING = 1, 2  # flags of events
_NON_BLOCKING = 1  # flag of streams


class CudaEvent(Owned):
    """A point in the work of a stream."""

    __slots__ = ()

    def wait(self, stream: int) -> None:
        """Make what is queued on the stream of a handle from now on wait for the event."""
        with self.context:
            self.context.call(driver.cuStreamWaitEvent, stream, self.ptr, 0)

    def synchronize(self) -> None:
        """Make the calling thread wait for the event, without the GIL."""
        with self.context.relaxed():
            self.context.call(driver.cuEventSynchronize, self.ptr)


class _Loaded(NamedTuple):
    """A kernel in a context; `kept` keeps it there."""

    handle: int
    types: tuple[Any, ...]
    kept: object


class CudaDriver(Driver):
    """One GPU. A stream is any object whose `ptr` is a CUDA handle, such as one of CuPy.

    Memory is never recycled by the driver of the device: it is free of queued work when it is
    given back, and other libraries may share it with other processes and devices.

    Args:
        device_id: Number of the GPU among those that CUDA sees; None for the current one, which
            `torch.cuda.set_device` and `cupy.cuda.Device(...).use()` choose.

    Raises:
        BackendError: There is no GPU of this number, or no driver.
    """

    device_id: int

    def __init__(self, device_id: int | None) -> None:
        self._context = open_context(device_id)
        self.name, self.device_id = self._context.name, self._context.device_id

    def new_stream(self) -> Owned:
        with self._context.relaxed():
            handle = int(self._context.call(driver.cuStreamCreate, _NON_BLOCKING))
            return Owned(self._context, handle, driver.cuStreamDestroy)

    def handle(self, stream: Any) -> int:
        return int(stream.ptr)

    def record(self, stream: Any) -> CudaEvent:
        call = self._context.call
        with self._context:
            if stream.ptr == _PER_THREAD:  # the calling thread may be another than the reader's
                call(driver.cuCtxSynchronize)
            handle = int(call(driver.cuEventCreate, _BLOCKING_SYNC | _DISABLE_TIMING))
            event = CudaEvent(self._context, handle, driver.cuEventDestroy)
            call(driver.cuEventRecord, handle, stream.ptr)
        return event

    def wait(self, stream: Any, event: CudaEvent) -> None:
        event.wait(stream.ptr)

    def synchronize(self, event: CudaEvent) -> None:
        event.synchronize()

    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        with self._context.relaxed():
            start = int(self._context.call(driver.cuMemHostAlloc, max(nbytes, 1), _PORTABLE))
            block = (ctypes.c_uint8 * nbytes).from_address(start)
            free = weakref.finalize(block, self._context.destroy, driver.cuMemFreeHost, start)
            free.atexit = False
        return np.ctypeslib.as_array(block)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        with self._context.relaxed():
            start = int(self._context.call(driver.cuMemAlloc, max(nbytes, 1)))
            memory = Owned(self._context, start, driver.cuMemFree)
        return self._array(start, shape, dtype, memory)

    def _array(
        self, start: int, shape: tuple[int, ...], dtype: npt.DTypeLike, owner: object
    ) -> Array:
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        memory = cupy.cuda.UnownedMemory(start, nbytes, owner, self.device_id)
        return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0))

    def address(self, array: Array) -> int:
        return int(array.data.ptr)

    def wrap(self, memory: Array, owner: object) -> Array:
        return self._array(self.address(memory), memory.shape, memory.dtype, owner)

    def copy(self, to: int, start: int, nbytes: int, stream: Any) -> None:
        with self._context:
            self._context.call(driver.cuMemcpyAsync, to, start, nbytes, stream.ptr)

    def fill(self, start: int, value: int, nbytes: int, stream: Any) -> None:
        with self._context:
            self._context.call(driver.cuMemsetD8Async, start, value, nbytes, stream.ptr)

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], args: tuple[int, ...], stream: Any
    ) -> None:
        # Not by Numba: its launcher looks at the type of each argument again, every time.
        loaded = _load(kernel, self._context)
        with self._context:
            self._context.call(
                driver.cuLaunchKernel,
                loaded.handle,
                *grid,
                *kernel.block,
                0,  # bytes of shared memory beside the kernel's own
                stream.ptr,
                (args, loaded.types),
                0,
            )

    def export(self, data: Array, ready: CudaEvent, lease: Lease) -> Any:
        from gpuio.devices.cuda_array import export

        return export(data, ready, lease)

    def scope(self) -> AbstractContextManager[None]:
        return self._context.relaxed()


@cache
def _load(kernel: Any, context: GpuContext) -> _Loaded:
    """A kernel on a device, compiled where no code for it is on disk.

    Raises:
        BackendError: Numba cannot compile it, or the device cannot load it.
    """
    from gpuio.kernels.device import compile_device

    with context.relaxed():
        try:
            compiled = next(iter(compile_device(kernel).overloads.values()))
            function = compiled.library.get_cufunc()
        except Exception as error:
            raise BackendError(
                f"device {context.name!r}: kernel {kernel.name!r} cannot be loaded: {error}"
            ) from error
    types = tuple(getattr(ctypes, f"c_{kind}") for kind in kernel.signature.args)
    return _Loaded(int(function.handle), types, function)
