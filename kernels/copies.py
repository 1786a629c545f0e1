"""Copies between arrays of the host, by several threads and without the GIL."""

from __future__ import annotations

import numpy as np

from gpuio.kernels.arrays import arguments, array_at
from gpuio.kernels.native import call_long
from gpuio.kernels.parallel import Task

COPY_JOB = np.dtype([("dst", np.uint64), ("src", np.uint64), ("nbytes", np.uint64)])
"""Addresses, and how much is copied."""


@Task
def copy_items(args, item, worker, base):
    """Copy the bytes of a row of a COPY_JOB table.

    Args:
        args: Address of two uint64: the table; the function memcpy.
    """
    table, memcpy = arguments(args, 2)
    row = array_at(table, item + 1, COPY_JOB)[item]
    call_long(memcpy, (row.dst, row.src, row.nbytes))
