"""Calls of the CUDA driver: what fails is an error that names the device, the call and the reason.

NVIDIA's binding of the driver is a dependency of numba-cuda, and its calls take a microsecond. All
work is in the primary context of the device, which PyTorch, CuPy and JAX use too.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from cuda.bindings import driver

from gpuio.errors import BackendError

_SUCCESS = driver.CUresult.CUDA_SUCCESS
_OUT_OF_MEMORY = driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
_NO_CONTEXT = driver.CUresult.CUDA_ERROR_INVALID_CONTEXT
_NOT_INITIALIZED = driver.CUresult.CUDA_ERROR_NOT_INITIALIZED
_RELAXED = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
_CAPABILITY = (
    driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
    driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
)


class Owned:
    """A stream, an event or memory of a device, which is destroyed when nothing refers to it.

    Args:
        context: Context in which it was made.
        ptr: Its handle or address.
        destroy: Function of `cuda.bindings.driver` that destroys it.

    Attributes:
        context: As given.
        ptr: As given.
    """

    __slots__ = ("__weakref__", "context", "ptr")

    def __init__(self, context: GpuContext, ptr: int, destroy: Callable[[int], Any]) -> None:
        self.context, self.ptr = context, ptr
        # At exit the driver may be gone; it gives everything back with the process.
        weakref.finalize(self, context.destroy, destroy, ptr).atexit = False


class GpuContext:
    """The primary context of a GPU; `with` makes it current in the thread, as a stack does.

    There is one for each GPU and process, which `open_context` gives.

    Args:
        device_id: Number of the GPU among those that CUDA sees.

    Attributes:
        device_id: Number of the GPU.
        name: Name of the device.
    """

    def __init__(self, device_id: int) -> None:
        self.device_id, self.name = device_id, f"cuda:{device_id}"
        self._process = os.getpid()
        self._handle = int(self.call(driver.cuDevicePrimaryCtxRetain, device_id))

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability of the GPU."""
        major, minor = (
            self.call(driver.cuDeviceGetAttribute, each, self.device_id) for each in _CAPABILITY
        )
        return int(major), int(minor)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a function of `cuda.bindings.driver`, None where it has none.

        Raises:
            BackendError: It failed, or work failed that was queued before.
            MemoryError: The device, or pinned memory, is full.
        """
        return _check(self.name, function, function(*args))

    def __enter__(self) -> None:
        self.call(driver.cuCtxPushCurrent, self._handle)

    def __exit__(self, kind: object, *rest: object) -> None:
        popped = driver.cuCtxPopCurrent()
        if kind is None:  # otherwise the first error is the one to report
            _check(self.name, driver.cuCtxPopCurrent, popped)

    @contextmanager
    def relaxed(self) -> Generator[None]:
        """Make the context current, also while another thread captures a CUDA graph.

        By default, calls such as an allocation fail in all threads during a capture.
        """
        with self:
            before = self.call(driver.cuThreadExchangeStreamCaptureMode, _RELAXED)
            try:
                yield
            except BaseException:
                driver.cuThreadExchangeStreamCaptureMode(before)
                raise
            self.call(driver.cuThreadExchangeStreamCaptureMode, before)

    def destroy(self, function: Callable[[int], Any], ptr: int) -> None:
        """Destroy an object of the context; a forked process leaves it to the one that made it.

        An error here is one of earlier work, which the next call reports again.
        """
        if os.getpid() == self._process:
            with suppress(BackendError), self.relaxed():
                function(ptr)


def open_context(device_id: int | None) -> GpuContext:
    """The context of a GPU.

    Args:
        device_id: Number of the GPU among those that CUDA sees; None for the current one of the
            thread, which `torch.cuda.set_device` and `cupy.cuda.Device(...).use()` choose.

    Raises:
        BackendError: There is no GPU of this number, or no driver.
    """
    name = "cuda" if device_id is None else f"cuda:{device_id}"
    try:
        _check(name, driver.cuInit, driver.cuInit(0))
    except RuntimeError as error:  # the library is missing
        raise BackendError(f"device {name!r}: {error}") from error
    count = _check(name, driver.cuDeviceGetCount, driver.cuDeviceGetCount())
    if device_id is None:
        found = driver.cuCtxGetDevice()
        none = found[0] == _NO_CONTEXT  # nothing was chosen
        device_id = 0 if none else int(_check(name, driver.cuCtxGetDevice, found))
    if device_id >= count:
        raise BackendError(f"device {name!r}: CUDA sees {count} GPUs, from 0 on")
    return _context(device_id)


@cache
def _context(device_id: int) -> GpuContext:
    return GpuContext(device_id)


def _check(device: str, function: Callable[..., Any], returned: tuple[Any, ...]) -> Any:
    code, *results = returned
    if code != _SUCCESS:
        raise _failure(device, function, code)
    return results[0] if results else None


def _failure(device: str, function: Callable[..., Any], code: Any) -> Exception:
    _, said = driver.cuGetErrorString(code)
    text = f"device {device!r}: {function.__name__}: {said.decode()} ({code.name})"
    if code == _OUT_OF_MEMORY:
        return MemoryError(text)
    if code == _NOT_INITIALIZED:
        text += (
            "; a process that was forked from one that used CUDA cannot use it: start it with "
            "multiprocessing.get_context('spawn')"
        )
    return BackendError(text)
