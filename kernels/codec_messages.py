"""Compiled functions that nvImageCodec calls back: what its codecs say while they decode."""

from __future__ import annotations

import numpy as np
from numba import carray, njit, types

from gpuio.kernels.native import call, call_long, fetch_add, load64, pointer, store64
from gpuio.kernels.parallel import Routine

DECODED_BY = 5
BY_BATCH, BY_HARDWARE, BY_GPU, BY_HYBRID, BY_CPU = range(DECODED_BY)
"""Who decoded an image. BY_BATCH: a codec that takes whole batches, as those of the hardware do."""

LISTENER = np.dtype(
    [
        ("get", np.uint64),  # address of pthread_getspecific
        ("set", np.uint64),  # address of pthread_setspecific
        ("key", np.uint64),  # the key of both
        ("heard", np.int64),  # warnings so far in threads that do not listen
    ]
)
"""What `warned` reads."""
_HEARD = np.uint64(LISTENER.itemsize - 8)  # where `heard` is

NOTES = np.dtype([("codes", np.uint64), ("count", np.uint64)])
"""What `note` reads: the address of one int8 for each image, and their number."""

_MESSAGE = np.uint64(24)  # where the text stands in an nvimgcodecDebugMessageData_t


@njit(inline="always")
def listen(listener, cell):
    """Let warnings of this thread set the uint64 at address `cell` to 1; address 0 ends that.

    Args:
        listener: Address of a LISTENER, or 0 for none.
        cell: An address, or 0.
    """
    if listener != 0:
        ways = carray(pointer(listener), 1, LISTENER)[0]
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
    ways = carray(pointer(listener), 1, LISTENER)[0]
    cell = np.uint64(call_long(ways.get, (ways.key,)))
    if cell != 0:
        store64(cell, np.uint64(1))
    else:
        fetch_add(listener + _HEARD, np.int64(1))
    return 0


warned = Routine(_warned, types.int32(types.uint64, types.uint64, types.uint64))
"""Its `address` can be called as `fprintf` is."""

_CHARACTERS = 256  # messages of interest are shorter
_STEP = np.frombuffer(b" process #", np.uint8)
_HARDWARE, _HYBRID = np.frombuffer(b"nvjpeg_hw", np.uint8), np.frombuffer(b"nvjpeg_cuda", np.uint8)
_GPU = np.frombuffer(b"nvjpeg", np.uint8), np.frombuffer(b"nvtiff", np.uint8)


@njit(inline="always")
def _reads(text, at, word):
    """Whether `word` stands in a text that ends with a zero."""
    for k in range(len(word)):  # noqa: SIM110  numba has no all()
        if text[at + k] != word[k]:
            return False
    return True


def _note(severity, category, message, notes):
    """Record, from a message of nvImageCodec, which codec decodes an image.

    Such messages look like "0: nvjpeg_cuda_decoder process #17": thread, codec, place in the
    batch. Codecs that take several images at once send none. An image that a codec fails to
    decode is taken by the next one, with another message.

    Args:
        severity: Not used.
        category: Not used.
        message: Address of an nvimgcodecDebugMessageData_t.
        notes: Address of NOTES.

    Returns:
        1, which means that the message is handled.
    """
    text = carray(pointer(load64(message + _MESSAGE)), _CHARACTERS, np.uint8)
    codec = at = 0
    while text[at] != 0 and not _reads(text, at, _STEP):
        if codec == 0 and text[at] == ord(":"):
            codec = at + 2
        at += 1
        if at == _CHARACTERS - len(_STEP):
            return 1
    if text[at] == 0 or codec == 0:
        return 1
    at += len(_STEP)
    place = 0
    while at < _CHARACTERS and ord("0") <= text[at] <= ord("9"):
        place = 10 * place + int(text[at]) - ord("0")
        at += 1
    found = carray(pointer(notes), 1, NOTES)[0]
    if place < found.count:
        kind = BY_CPU
        if _reads(text, codec, _HARDWARE):
            kind = BY_HARDWARE
        elif _reads(text, codec, _HYBRID):
            kind = BY_HYBRID
        elif _reads(text, codec, _GPU[0]) or _reads(text, codec, _GPU[1]):
            kind = BY_GPU
        carray(pointer(found.codes), int(found.count), np.int8)[place] = kind
    return 1


note = Routine(_note, types.int32(types.int32, types.int32, types.uint64, types.uint64))
"""Its `address` is an nvimgcodecDebugCallback_t."""
