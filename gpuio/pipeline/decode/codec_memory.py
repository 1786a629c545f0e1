"""Memory for nvImageCodec's own work: device and pinned memory that is kept and used again.

By itself nvJPEG allocates and frees with CUDA's functions while the sizes of images settle, and
each time the whole device stands still, the training too. As DALI does, allocations are made large,
so that few are needed.

Source of the functions: cuda.h of CUDA 13.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping
from ctypes import c_void_p
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import BackendError
from gpuio.kernels.codec_memory import BLOCK, BLOCKS, POOL, allocate, free
from gpuio.pipeline.decode import nvimgcodec_abi as abi

_DEVICE_PADDING: Final = 16 << 20  # bytes, of which allocations are multiples
_PINNED_PADDING: Final = 8 << 20
_PORTABLE: Final = 1  # CU_MEMHOSTALLOC_PORTABLE: pinned for all devices
_MUTEX_BYTES: Final = 64  # at least those of a pthread_mutex_t; zeros are an unlocked one
_ALIGNMENT: Final = 16
_DRIVER: Final = "libcuda.so.1"

Functions = Mapping[str, int]
"""Addresses of the driver's functions by their names."""

DEVICE_FUNCTIONS: Final = ("cuMemAlloc_v2", "cuMemFree_v2")
PINNED_FUNCTIONS: Final = ("cuMemHostAlloc", "cuMemFreeHost")
OTHER_FUNCTIONS: Final = (
    "cuStreamSynchronize",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuThreadExchangeStreamCaptureMode",
)


class CodecMemory:
    """The allocators for the decoders of one device, which must be closed before it.

    Args:
        functions: The driver's functions.
        context: The device's CUcontext.

    Attributes:
        allocators: One for device memory, and one for pinned memory.
    """

    def __init__(self, functions: Functions, context: int) -> None:
        self._device = _Pool(functions, DEVICE_FUNCTIONS, context)
        self._pinned = _Pool(functions, PINNED_FUNCTIONS, context)
        self.allocators = (
            abi.DeviceAllocator.new(**self._device.fields, padding=_DEVICE_PADDING),
            abi.PinnedAllocator.new(**self._pinned.fields, padding=_PINNED_PADDING),
        )

    def kept(self) -> tuple[int, int]:
        """Bytes of device memory and of pinned memory that are allocated."""
        return self._device.nbytes(), self._pinned.nbytes()

    def close(self) -> None:
        """Free all memory."""
        self._device.close()
        self._pinned.close()


class _Pool:
    """One kind of memory.

    Attributes:
        fields: Of an `nvimgcodec_abi.Allocator`.
    """

    def __init__(self, functions: Functions, names: tuple[str, str], context: int) -> None:
        self._blocks = np.zeros(BLOCKS, BLOCK)
        mutex = np.zeros((_MUTEX_BYTES + _ALIGNMENT) // 8, np.uint64)
        pool = np.zeros(1, POOL)
        process = ctypes.CDLL(None)
        pool[0] = (
            self._blocks.ctypes.data,
            -(-mutex.ctypes.data // _ALIGNMENT) * _ALIGNMENT,
            _PORTABLE,
            context,
            ctypes.cast(process.pthread_mutex_lock, c_void_p).value,
            ctypes.cast(process.pthread_mutex_unlock, c_void_p).value,
            *(functions[name] for name in (*names, *OTHER_FUNCTIONS)),
        )
        self.fields = {
            "allocate": allocate.address,
            "free": free.address,
            "context": pool.ctypes.data,
        }
        self._owners = (mutex, pool)
        self.close = weakref.finalize(
            self, _free_all, functions, names[1], context, self._blocks, os.getpid()
        )

    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return int(self._blocks["nbytes"][self._blocks["address"] != 0].sum())


def _free_all(
    functions: Functions, name: str, context: int, blocks: npt.NDArray[np.void], process: int
) -> None:
    """Free all blocks; a forked process, which cannot use CUDA, leaves them to its parent."""
    if os.getpid() != process:
        return
    take = ctypes.CFUNCTYPE(ctypes.c_int, c_void_p)
    take(functions["cuCtxPushCurrent_v2"])(context)
    for block in blocks:
        if block["address"]:
            take(functions[name])(int(block["address"]))
    blocks["address"] = 0
    take(functions["cuCtxPopCurrent_v2"])(ctypes.addressof(c_void_p()))


def open_codec_memory(device_id: int) -> CodecMemory:
    """The memory of decoders on a GPU.

    Raises:
        BackendError: The CUDA driver has no such device, or cannot be loaded.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise BackendError(f"device 'cuda:{device_id}': {error}") from error
    context = c_void_p()
    status = driver.cuInit(0) or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device_id)
    if status or not context.value:
        raise BackendError(f"device 'cuda:{device_id}': no context, CUDA error {status}")
    names = (*DEVICE_FUNCTIONS, *PINNED_FUNCTIONS, *OTHER_FUNCTIONS)
    functions = {name: ctypes.cast(driver[name], c_void_p).value or 0 for name in names}
    return CodecMemory(functions, context.value)  # it keeps the context, as the device does
