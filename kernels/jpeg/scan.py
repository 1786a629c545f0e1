"""The scan of a picture: restart intervals one after the other, and checkpoints to begin at.

A checkpoint says where the codes of a row of MCUs begin, and what has to be known there. With the
checkpoints of a picture, rows above and below a window, and MCUs to the right of it, are not read.

Source: ITU-T T.81, F.2.1.3.1 (predictors), E.2.4 (restart intervals).
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.arrays import array_at
from gpuio.kernels.jpeg.entropy import (
    BITS,
    BLOCK,
    COUNT,
    NEXT,
    bits_left,
    decode_mcus,
    start_reading,
    unstuff,
)
from gpuio.kernels.jpeg.header import JOB
from gpuio.kernels.jpeg.words import load_big_endian, load_u8
from gpuio.kernels.native import device_function

CHECKPOINT = np.dtype(
    [
        (
            "offset",
            np.uint32,
        ),  # of the byte in which the codes of a row begin, from the file's start
        ("left", np.uint32),  # MCUs up to the next restart marker; 0 without restart markers
        ("predictors", np.int16, (3,)),
        ("bit", np.uint8),  # of that byte
        ("restarts", np.uint8),  # modulo 8, markers before the row
    ]
)
"""Where a row of MCUs begins."""

SCAN = np.dtype(
    [
        ("reader", np.int64, (4,)),
        ("predictors", np.int64, (3,)),
        ("start", np.int64),  # address of the bytes of this interval, as they stand in the file
        ("source", np.int64),  # address behind these
        ("end", np.int64),  # address behind the bytes that may be read
        ("bytes", np.int64),  # address of the bytes of this interval, without stuffing
        ("left", np.int64),  # MCUs up to the next restart marker
        ("restarts", np.int64),  # markers so far
        (
            "first_saved",
            np.int64,
        ),  # row of MCUs, the first one whose checkpoint is in this interval
        ("saves", np.int64),  # whether checkpoints are written
    ],
    align=True,
)
"""How far the scan of a picture is read."""

_SCAN, _ROW, _CHECKPOINT_BYTES = from_dtype(SCAN), from_dtype(JOB), CHECKPOINT.itemsize


@device_function(types.void(_SCAN, types.int64), inline=False)
def _start_interval(scan, start):
    scan.start = start
    scan.source, used = unstuff(start, scan.end, scan.bytes)
    start_reading(scan.reader, scan.bytes, used)


@device_function(types.void(_SCAN, _ROW, types.int64), inline=False)
def start_scan(scan, row, place):
    """Begin to read the scan of a picture.

    Args:
        scan: A SCAN.
        row: A JOB.
        place: Address for the bytes of an interval.
    """
    scan.end, scan.bytes = row.data + row.nbytes, place
    scan.left, scan.restarts, scan.first_saved = np.int64(row.restart), 0, 0
    scan.saves = row.checkpoints != 0 and row.known == 0
    for c in range(3):
        scan.predictors[c] = 0
    _start_interval(scan, row.data + row.scan)


@device_function(types.uint64(_ROW, types.int64))
def _checkpoint(row, my):
    """Address of the CHECKPOINT of a row of MCUs."""
    return np.uint64(row.checkpoints) + np.uint64(_CHECKPOINT_BYTES * my)


@device_function(types.boolean(_SCAN, _ROW, *[types.int64] * 3), inline=False)
def resume(scan, row, my, rows, place):
    """Begin to read at the checkpoint of a row of MCUs, up to that of the next row.

    Args:
        scan: A SCAN.
        row: A JOB.
        my: Row of MCUs.
        rows: Number of rows.
        place: Address for the bytes of an interval.

    Returns:
        Whether the checkpoint lies in the scan.
    """
    checkpoint = array_at(_checkpoint(row, my), 1, CHECKPOINT)[0]
    scan.bytes, scan.saves, scan.end = place, 0, row.data + row.nbytes
    if my + 1 < rows:  # and the byte of a stuffed one
        following = array_at(_checkpoint(row, my + 1), 1, CHECKPOINT)[0]
        scan.end = min(scan.end, row.data + np.int64(following.offset) + 2)
    start = row.data + np.int64(checkpoint.offset)
    if start < row.data + row.scan or start > scan.end:
        return False
    scan.left, scan.restarts = np.int64(checkpoint.left), np.int64(checkpoint.restarts)
    for c in range(3):
        scan.predictors[c] = checkpoint.predictors[c]
    _start_interval(scan, start)
    bit = np.int64(checkpoint.bit & 7)
    scan.reader[NEXT] = scan.bytes + 7
    scan.reader[BITS] = np.int64(load_big_endian(scan.bytes) << bit)
    scan.reader[COUNT] = 56 - bit
    return True


@device_function(types.void(_SCAN, _ROW, types.int64), inline=False)
def save(scan, row, my):
    """Write the checkpoint of a row of MCUs, which is about to be read.

    Its offset is that in the interval, without stuffed bytes, until the interval is at its end.
    """
    used = 8 * (scan.reader[NEXT] - scan.bytes) - scan.reader[COUNT]
    checkpoint = array_at(_checkpoint(row, my), 1, CHECKPOINT)[0]
    checkpoint.offset, checkpoint.bit = used >> 3, used & 7
    checkpoint.left, checkpoint.restarts = scan.left, scan.restarts & 7
    for c in range(3):
        checkpoint.predictors[c] = scan.predictors[c]
        if not -0x8000 <= scan.predictors[c] <= 0x7FFF:
            scan.saves = 0


@device_function(types.void(_SCAN, _ROW, types.int64), inline=False)
def end_interval(scan, row, my):
    """Turn the offsets of checkpoints before row `my` of MCUs into those of the file."""
    if scan.saves:
        at, used = scan.start, np.int64(0)
        for saved in range(scan.first_saved, my):
            checkpoint = array_at(_checkpoint(row, saved), 1, CHECKPOINT)[0]
            wanted = np.int64(checkpoint.offset)
            while used < wanted and at < scan.source:
                at += 2 if load_u8(at) == 0xFF else 1
                used += 1
            checkpoint.offset = at - row.data
        scan.first_saved = my


@device_function(types.boolean(_SCAN, _ROW, types.int64), inline=False)
def _next_interval(scan, row, my):
    """Go on behind a restart marker; whether it is the one that has to be there."""
    if not 0 <= bits_left(scan.reader) < 8 or scan.source + 2 > scan.end:
        return False
    if load_u8(scan.source + 1) != 0xD0 + (scan.restarts & 7):
        return False
    end_interval(scan, row, my)
    scan.restarts += 1
    for c in range(3):
        scan.predictors[c] = 0
    scan.left = np.int64(row.restart)
    _start_interval(scan, scan.source + 2)
    return True


@device_function(
    types.boolean(_SCAN, _ROW, types.Array(from_dtype(BLOCK), 1, "C"), *[types.int64] * 3),
    inline=False,
)
def read_group(scan, row, blocks, offsets, my, count):
    """Decode MCUs side by side, with the restart markers between them.

    Args:
        scan: A SCAN.
        row: A JOB.
        blocks: (B,) BLOCK, those of an MCU.
        offsets: As for `decode_mcus`.
        my: Row of MCUs.
        count: Number of MCUs, at most `BLOCKS`.

    Returns:
        Whether all is as it should be.
    """
    done = 0
    while done < count:
        now = count - done
        if row.restart:
            # The checkpoint of this row is in the interval before, if the row begins with a marker.
            if scan.left == 0 and not _next_interval(scan, row, my + 1):
                return False
            now = min(now, scan.left)
            scan.left -= now
        if not decode_mcus(scan.reader, blocks, offsets, done, now):
            return False
        done += now
    return True


@device_function(types.boolean(_SCAN))
def row_is_good(scan):
    """Whether no more bits were used than there are, and predictors are as libjpeg keeps them."""
    good = bits_left(scan.reader) >= 0
    for c in range(3):
        good &= abs(scan.predictors[c]) <= 1 << 30
    return good


@device_function(types.boolean(_SCAN), inline=False)
def is_at_end(scan):
    """Whether the marker behind the scan is the end of the picture, to which libjpeg reads on."""
    at = scan.source
    while at + 1 < scan.end and load_u8(at) == 0xFF and load_u8(at + 1) == 0xFF:
        at += 1
    return at + 1 < scan.end and load_u8(at + 1) == 0xD9
