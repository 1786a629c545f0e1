"""Tables for kernels of a device: where rows and columns read and with which weights.

Devices make the tables of most resizes themselves (device_taps.py). The host makes those of warps,
and of Lanczos resizes, whose sines must be the CPU's: each row of a STEP table has tables of its
own, which `tap_bytes` measures and `tabulate` writes.

For a resize the tables are, one after the other, (taps, cols) int32 bytes from the start of a
source row to a pixel, (taps, cols) weights, (taps, rows) int32 source rows and (taps, rows)
weights, as kernels/taps.py makes them; weights are int32 in 1/2048, those of AREA float32. For a
warp they are (cols,) int64 x and (cols,) y of the columns, (rows,) x and (rows,) y of the rows, in
1/1024 pixels: the whole numbers of kernels/warp.py. Other kinds have no tables.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arrays import arguments, array_at
from gpuio.kernels.native import device_function
from gpuio.kernels.parallel import Task
from gpuio.kernels.pixels import STEP_ROW
from gpuio.kernels.steps import AREA_EXTRA, STEP, TAPS, WARPS, StepKind, tap_counts
from gpuio.kernels.taps import area_taps, fixed_taps
from gpuio.kernels.warp import column_places, row_place

ALIGNMENT = 16
"""The tables of a row take a multiple of this many bytes."""


def tap_bytes(table):
    """(N,) int64 bytes that the tables of each row take, a multiple of ALIGNMENT.

    Args:
        table: (N,) STEP, on the host.
    """
    kind = table["kind"]
    rows, cols = table["rows"].astype(np.int64), table["cols"].astype(np.int64)
    down, across = tap_counts(table)
    nbytes = 8 * (across * cols + down * rows)
    nbytes = np.where(WARPS[np.maximum(kind, 0)], 16 * (cols + rows), nbytes)
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@device_function(types.void(STEP_ROW, types.int64, types.uint64))
def _tabulate_resize(step, channels, out):
    cols, rows = np.int64(step.cols), np.int64(step.rows)
    across = down = np.int64(TAPS[step.kind])
    if step.kind == StepKind.AREA:
        across = np.int64(step.src_width // step.dst_width + AREA_EXTRA)
        down = np.int64(step.src_height // step.dst_height + AREA_EXTRA)
    width, height = 4 * across * cols, 4 * down * rows
    places = array_at(out, across * cols, np.int32)
    lines = array_at(out + np.uint64(2 * width), down * rows, np.int32)
    to = out + np.uint64(width), out + np.uint64(2 * width + height)
    if step.kind == StepKind.AREA:
        weights = array_at(to[0], across * cols, np.float32)
        shares = array_at(to[1], down * rows, np.float32)
        args = (step.src_width, step.dst_width, step.x, cols, across, channels)
        area_taps(*args, places, weights)
        area_taps(step.src_height, step.dst_height, step.y, rows, down, 1, lines, shares)
    else:
        taps = array_at(to[0], across * cols, np.int32), array_at(to[1], down * rows, np.int32)
        args = (step.kind, step.src_width, step.dst_width, step.x, cols, channels, True)
        fixed_taps(*args, places, taps[0])
        args = (step.kind, step.src_height, step.dst_height, step.y, rows, 1, False)
        fixed_taps(*args, lines, taps[1])


@device_function(types.void(STEP_ROW, types.uint64))
def _tabulate_warp(step, out):
    cols, rows = np.int64(step.cols), np.int64(step.rows)
    places = array_at(out, 2 * (cols + rows), np.int64)
    matrix = array_at(step.matrix, 6, np.float64)
    column_places(matrix, step.x, cols, places[:cols], places[cols : 2 * cols])
    for y in range(rows):
        at = row_place(matrix, step.y + y)
        places[2 * cols + y], places[2 * cols + rows + y] = np.int64(at[0]), np.int64(at[1])


@Task
def tabulate(args, item, worker, base):
    """The tables of a row of a STEP table on the host, to the host's copy of where `taps` points.

    Reads no source and writes nothing but those tables; `matrix` is an address of the host.

    Args:
        args: Address of the table, channels, what to add to `taps` to get an address of the host,
            modulo 2**64.
    """
    arg = arguments(args, 3)
    step = array_at(arg[0], item + 1, STEP)[item]
    kind, out = step.kind, step.taps + arg[2]
    if kind == StepKind.SKIP:
        return
    if WARPS[kind]:
        _tabulate_warp(step, out)
    elif TAPS[kind] > 0 or kind == StepKind.AREA:
        _tabulate_resize(step, np.int64(arg[1]), out)
