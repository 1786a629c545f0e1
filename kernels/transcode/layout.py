"""Where the blocks of a scan lie among the coefficients of an image.

The coefficients are (N, 64) int16, a row for each block in the order of the zigzag: component after
component, row after row of blocks. Each row is as long as whole MCUs need.

Source: ITU-T T.81, annexes A.2 and A.3.6.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SCAN_COMPONENT = np.dtype([
    ("first", np.int64),  # row of the coefficients that has the component's first block
    ("stride", np.int64),  # blocks in a row of blocks
    ("across", np.int64),  # blocks of an MCU beside each other
    ("down", np.int64),  # and above each other
    ("dc", np.int64),  # number of the Huffman table for DC
    ("ac", np.int64),  # and for AC
])  # fmt: skip
"""A component within a scan. An MCU of a scan of one component is one block."""


@njit(inline="always")
def block_of(component, row, column, y, x):
    """The row of the coefficients for block (y, x) of the MCU (row, column) of a scan."""
    down, across = row * component.down + y, column * component.across + x
    return component.first + down * component.stride + across
