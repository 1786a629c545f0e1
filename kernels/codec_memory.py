"""Compiled functions that nvImageCodec calls for memory, from any of its threads, without the GIL.

Memory is kept and used again, as CUDA's own functions that free memory stop the whole device.
Memory that is given back is free once the stream's work on it is done, and not before: the engines
of Hopper write when they are called, so being in order with the stream would not be enough.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.arrays import array_at
from gpuio.kernels.native import call, device_function, load64, stack, store32, store64
from gpuio.kernels.routine import Routine

BLOCK = np.dtype([("address", np.uint64), ("nbytes", np.uint64), ("used", np.uint64)])
"""Memory that was allocated; address 0 where there is none."""
BLOCKS = 512
"""Blocks that a pool can keep; what is allocated beyond them is freed at once."""
POOL = np.dtype(
    [
        ("blocks", np.uint64),  # address of (BLOCKS,) BLOCK
        ("mutex", np.uint64),  # address of a pthread_mutex_t
        ("flags", np.uint64),  # third argument of `allocate`
        ("context", np.uint64),  # a CUcontext
        # Addresses of functions.
        ("lock", np.uint64),  # pthread_mutex_lock
        ("unlock", np.uint64),
        ("allocate", np.uint64),  # cuMemAlloc or cuMemHostAlloc
        ("free", np.uint64),  # cuMemFree or cuMemFreeHost
        ("synchronize", np.uint64),  # cuStreamSynchronize
        ("push", np.uint64),  # cuCtxPushCurrent
        ("pop", np.uint64),  # cuCtxPopCurrent
        ("capture", np.uint64),  # cuThreadExchangeStreamCaptureMode
    ]
)
"""What the functions here get as their context."""

_ZERO = np.uint64(0)
_POOL_ROW = from_dtype(POOL)
_BLOCK_ROWS = types.Array(from_dtype(BLOCK), 1, "C")
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


@device_function(types.void(_POOL_ROW, types.uint64))
def _enter(pool, mode):
    """Make the device current, and allow any call while another thread captures a CUDA graph.

    Args:
        pool: A POOL.
        mode: Address of an int32, which keeps the mode before for `_leave`.
    """
    call(pool.push, (pool.context,))
    store32(mode, np.int32(_RELAXED))
    call(pool.capture, (mode,))


@device_function(types.void(_POOL_ROW, types.uint64))
def _leave(pool, mode):
    """Put back what `_enter` has changed."""
    call(pool.capture, (mode,))
    call(pool.pop, (stack(8),))


@device_function(types.int64(_BLOCK_ROWS, types.uint64))
def _best(blocks, nbytes):
    """The smallest free block of at least `nbytes` bytes, or -1."""
    best = -1
    for k in range(BLOCKS):
        block = blocks[k]
        fits = block.address != 0 and block.used == 0 and block.nbytes >= nbytes
        if fits and (best < 0 or block.nbytes < blocks[best].nbytes):
            best = k
    return best


@device_function(types.int32(_POOL_ROW, _BLOCK_ROWS, types.uint64, types.uint64))
def _allocate_anew(pool, blocks, where, nbytes):
    """Allocate memory, if need be in place of all that is kept; CUDA's status."""
    status = call(pool.allocate, (where, nbytes, pool.flags))
    if status != 0:
        for k in range(BLOCKS):
            if blocks[k].address != 0 and blocks[k].used == 0:
                call(pool.free, (blocks[k].address,))
                blocks[k].address = _ZERO
        status = call(pool.allocate, (where, nbytes, pool.flags))
    if status == 0:
        for k in range(BLOCKS):
            if blocks[k].address == 0:
                blocks[k].address, blocks[k].nbytes = load64(where), nbytes
                blocks[k].used = np.uint64(1)
                break
    return status


def _allocate(context, where, nbytes, stream):
    """Write the address of memory that no work still uses.

    Args:
        context: Address of a POOL.
        where: Address to write to.
        nbytes: Size of the memory.
        stream: Not used.

    Returns:
        0, or CUDA's status.
    """
    pool = array_at(context, 1, POOL)[0]
    blocks = array_at(pool.blocks, BLOCKS, BLOCK)
    call(pool.lock, (pool.mutex,))
    status, best = 0, _best(blocks, nbytes)
    if best < 0:
        mode = stack(8)
        _enter(pool, mode)
        status = _allocate_anew(pool, blocks, where, nbytes)
        _leave(pool, mode)
    else:
        blocks[best].used = np.uint64(1)
        store64(where, blocks[best].address)
    call(pool.unlock, (pool.mutex,))
    return status


def _free(context, address, nbytes, stream):
    """Wait for the work of a stream, and let memory be used again.

    Args:
        context: Address of a POOL.
        address: The memory; 0 for none.
        nbytes: Not used.
        stream: Handle of the stream whose work may still use the memory.

    Returns:
        0, or CUDA's status.
    """
    if address == 0:
        return 0
    pool = array_at(context, 1, POOL)[0]
    blocks = array_at(pool.blocks, BLOCKS, BLOCK)
    mode = stack(8)
    _enter(pool, mode)
    status = call(pool.synchronize, (stream,))
    call(pool.lock, (pool.mutex,))
    kept = False
    for k in range(BLOCKS):
        if blocks[k].address == address:
            blocks[k].used, kept = _ZERO, True
    if not kept:
        status = call(pool.free, (address,))
    call(pool.unlock, (pool.mutex,))
    _leave(pool, mode)
    return status


_SIGNATURE = types.int32(types.uint64, types.uint64, types.uint64, types.uint64)
allocate = Routine(_allocate, _SIGNATURE)
"""Its `address` is an nvimgcodecDeviceMalloc_t, and an nvimgcodecPinnedMalloc_t."""
free = Routine(_free, _SIGNATURE)
"""Its `address` is an nvimgcodecDeviceFree_t, and an nvimgcodecPinnedFree_t."""
