"""Compiled functions that nvImageCodec calls back: what its codecs say while they decode."""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arrays import array_at
from gpuio.kernels.native import call, call_long, device_function, fetch_add, load64, store64
from gpuio.kernels.routine import Routine

LISTENER = np.dtype(
    [
        ("get", np.uint64),  # address of pthread_getspecific
        ("set", np.uint64),  # address of pthread_setspecific
        ("key", np.uint64),  # the key of both
        ("unheard", np.int64),  # warnings so far in threads that do not listen
    ]
)
"""What `warned` reads."""
_UNHEARD = np.uint64(LISTENER.itemsize - 8)  # where `unheard` is

REPORTS = np.dtype([("texts", np.uint64), ("count", np.int64)])
"""What `report` reads: the address of (SLOTS, TEXT_BYTES) bytes, and how many messages came."""
SLOTS, TEXT_BYTES = 16, 256

_COUNT = np.uint64(8)  # where the number stands in REPORTS
_MESSAGE = np.uint64(24)  # where the text stands in an nvimgcodecDebugMessageData_t


@device_function(types.void(types.uint64, types.uint64))
def listen(listener, cell):
    """Let warnings of this thread set the uint64 at address `cell` to 1; address 0 ends that.

    Args:
        listener: Address of a LISTENER, or 0 for none.
        cell: An address, or 0.
    """
    if listener != 0:
        ways = array_at(listener, 1, LISTENER)[0]
        call(ways.set, (ways.key, cell))


def _warned(listener, template, text):
    """Record that libjpeg warns of an image, in the thread that decodes it.

    libjpeg prints its first warning of an image to `stderr`. It gets this function in place of
    `fprintf`, and `listener` in place of `stderr`.

    Args:
        listener: Address of a LISTENER.
        template: Not used.
        text: Not used.

    Returns:
        0, the number of characters printed.
    """
    ways = array_at(listener, 1, LISTENER)[0]
    cell = np.uint64(call_long(ways.get, (ways.key,)))
    if cell != 0:
        store64(cell, np.uint64(1))
    else:
        fetch_add(listener + _UNHEARD, np.int64(1))
    return 0


warned = Routine(_warned, types.int32(types.uint64, types.uint64, types.uint64))
"""Its `address` can be called as `fprintf` is."""


def _report(severity, category, message, reports):
    """Keep the text of a message of nvImageCodec, in place of the oldest one.

    Args:
        severity: Not used.
        category: Not used.
        message: Address of an nvimgcodecDebugMessageData_t.
        reports: Address of REPORTS.

    Returns:
        1, which means that the message is handled.
    """
    text = array_at(load64(message + _MESSAGE), TEXT_BYTES, np.uint8)
    slot = fetch_add(reports + _COUNT, np.int64(1)) % SLOTS
    kept = array_at(load64(reports), (SLOTS, TEXT_BYTES), np.uint8)[slot]
    at = 0
    while at < TEXT_BYTES - 1 and text[at] != 0:
        kept[at] = text[at]
        at += 1
    kept[at] = 0
    return 1


report = Routine(_report, types.int32(types.int32, types.int32, types.uint64, types.uint64))
"""Its `address` is an nvimgcodecDebugCallback_t."""
