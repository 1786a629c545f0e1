"""Records of a batch: many reads at once, and their heads checked, without the GIL."""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arrays import BYTES, arguments, array_at
from gpuio.kernels.native import call_long, device_function, load32
from gpuio.kernels.parallel import Task
from gpuio.kernels.routine import Routine

SPAN = np.dtype(
    [
        ("fd", np.int64),  # file descriptor
        ("offset", np.int64),  # in the file, in bytes
        ("nbytes", np.int64),
        ("dst", np.uint64),  # address to read to
        ("got", np.int64),  # bytes read; fewer where the file ends or fails
        ("errno", np.int64),  # why it failed; 0 where it did not
    ],
    align=True,
)

RECORD = np.dtype(
    [
        ("address", np.uint64),  # of the frame, then of the image
        ("nbytes", np.int64),  # of the frame and what follows it, then of the image
        ("id", np.uint64),
        ("labels", np.uint64),  # address of the labels
        ("label_count", np.int64),
        ("valid", np.int64),  # 1 when all of it is where the format says
    ],
    align=True,
)

_EINTR = 4  # a signal came: ask again
_MAGIC = np.uint32(0xCED7230A)
_HEADER = 24


@Task
def read_spans(args, item, worker, base):
    """Read a row of a SPAN table from its file.

    Args:
        args: Address of the table, address of `pread`, address of what returns the address of this
            thread's errno.
    """
    arg = arguments(args, 3)
    span = array_at(arg[0], item + 1, SPAN)[item]
    span.got = span.errno = 0
    while span.got < span.nbytes:
        done = np.uint64(span.got)
        left = np.uint64(span.nbytes) - done
        at = np.uint64(span.offset) + done
        got = call_long(arg[1], (np.uint64(span.fd), span.dst + done, left, at))
        if got > 0:
            span.got += got
            continue
        if got < 0:
            # A C function is free to leave an argument alone: this one takes none.
            errno = load32(np.uint64(call_long(arg[2], (np.uint64(0),))))
            if errno == _EINTR:
                continue
            span.errno = errno
        break


@device_function(types.uint32(BYTES, types.int64))
def _word(buffer, at):
    return (
        np.uint32(buffer[at])
        | np.uint32(buffer[at + 1]) << np.uint32(8)
        | np.uint32(buffer[at + 2]) << np.uint32(16)
        | np.uint32(buffer[at + 3]) << np.uint32(24)
    )


@device_function(types.int64(BYTES))
def _unframe(buffer):
    """Make the frame at the start of `buffer` a payload from byte 8 on; its length, or -1.

    The parts of a split record are moved together in place: between two of them stand 8 bytes of
    head, and 4 of them become the magic that was cut out.
    """
    at, end, parts = 0, 8, 0
    while True:
        if at + 8 > len(buffer) or _word(buffer, at) != _MAGIC:
            return -1
        lrec = _word(buffer, at + 4)
        flag, nbytes = lrec >> np.uint32(29), np.int64(lrec & np.uint32(0x1FFFFFFF))
        if flag > 3 or (flag <= 1) != (parts == 0):
            return -1
        padded = (nbytes + 3) // 4 * 4
        if at + 8 + padded > len(buffer):
            return -1
        if parts > 0:
            for k in range(4):
                buffer[end + k] = np.uint8((_MAGIC >> np.uint32(8 * k)) & np.uint32(255))
            end += 4
            for k in range(nbytes):
                buffer[end + k] = buffer[at + 8 + k]
        end += nbytes
        at += 8 + padded
        parts += 1
        if flag == 0 or flag == 3:
            return end - 8


def _unpack(records, count, labels, width, ragged):
    """As `unpack_records`, of addresses."""
    rows, values = array_at(records, count, RECORD), array_at(labels, (count, width), np.float32)
    for i in range(count):
        row = rows[i]
        row.valid = 0
        frame = array_at(row.address, row.nbytes, np.uint8)
        payload = _unframe(frame)
        row.nbytes = 0
        if payload < _HEADER:
            continue
        header = row.address + np.uint64(8)
        flag = np.int64(_word(frame, 8))
        if payload < _HEADER + 4 * flag:
            continue
        row.id = array_at(header + np.uint64(8), 1, np.uint64)[0]
        row.label_count = max(flag, 1)
        row.labels = header + np.uint64(4 if flag == 0 else _HEADER)
        row.address = header + np.uint64(_HEADER + 4 * flag)
        row.nbytes = payload - _HEADER - 4 * flag
        row.valid = 1
        if row.label_count == width or (ragged != 0 and row.label_count < width):
            found = array_at(row.labels, row.label_count, np.float32)
            for k in range(row.label_count):
                values[i, k] = found[k]


_unpacker = Routine(
    _unpack,
    types.void(types.uint64, types.int64, types.uint64, types.int64, types.int64),
    nogil=False,  # waiting for the GIL would take longer
)


def unpack_records(records, labels, ragged):
    """Find header, labels and image in every row of a RECORD table.

    Args:
        records: (N,) RECORD, frames in, images out; `valid` is 0 where anything is wrong.
        labels: (N, W) float32, contiguous, filled where a record has W labels; other rows stay as
            they are.
        ragged: Whether rows are also filled where a record has fewer labels, as far as they go.
    """
    _unpacker(records.ctypes.data, len(records), labels.ctypes.data, labels.shape[1], ragged)
