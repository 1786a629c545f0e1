"""What all routines that make the pixels of a step have in common."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import from_dtype, njit, types
from numba.core.errors import NumbaError

from gpuio.errors import ProgramError
from gpuio.kernels.arrays import array_at
from gpuio.kernels.native import device_function
from gpuio.kernels.routine import Routine
from gpuio.kernels.steps import FIRST_PIXEL_STEP, PIXEL_STEPS, STEP

_PIXEL_STEP = types.UniTuple(types.int32, 4)(
    types.uint64, types.int64, *[types.int32] * 5, types.uint64
)
"""Types of the result and the arguments of a `PixelFunction`."""
STEP_ROW = from_dtype(STEP)
"""Numba's type of a STEP row."""
_PIXELS = types.void(types.uint64, types.int64, types.uint64, types.int64, types.uint64)


def pixel_routine(body, key=""):
    """Make a function the `Routine` for a family of kinds.

    Args:
        body: `body(at, channels, to, pitch, tables)` writes the window of the STEP row at address
            `at` as pixels of `channels` values to address `to`, `pitch` bytes from row to row, and
            may use `table_bytes` bytes at address `tables`.
        key: As for `Routine`.
    """
    return Routine(body, _PIXELS, key)


@device_function(types.uint64(STEP_ROW, types.int64))
def row_address(step, y):
    """Where row `y` of the source of a STEP row starts.

    Loops make an array of one byte there: they know how far they may go, and nothing else asks.
    """
    return step.src + np.uint64(y * step.src_pitch)


@cache
def pixel_function(kind):
    """The function of a kind of PIXEL_STEPS, compiled for the CPU.

    Raises:
        ProgramError: Numba cannot compile it, or it does not return four levels.
    """
    made = PIXEL_STEPS[kind - FIRST_PIXEL_STEP]
    try:
        return njit(_PIXEL_STEP, error_model="numpy")(made.pixel)
    except NumbaError as error:
        found = f"Numba cannot compile its function as {_PIXEL_STEP}"
        raise ProgramError(f"step {made.name}: {found}: {error}") from error


@cache
def pixel_step(kind):
    """The `Routine` for a kind of PIXEL_STEPS, whose function is called for each pixel.

    Its code is not kept on disk: Numba would not see that the function has changed.

    Raises:
        ProgramError: As `pixel_function` says.
    """
    make = pixel_function(kind)

    def own_pixels(at, channels, to, pitch, tables):
        """Write the window of a STEP row; arguments as `pixel_routine` says."""
        step = array_at(at, 1, STEP)[0]
        out = array_at(to, step.rows * pitch, np.uint8)
        picture = (step.src, step.src_pitch, step.src_height, step.src_width, np.int32(channels))
        for y in range(step.rows):
            for x in range(step.cols):
                levels = make(
                    *picture, np.int32(step.y + y), np.int32(step.x + x), step.weights
                )  # fmt: skip
                for c in range(channels):
                    out[y * pitch + x * channels + c] = np.uint8(levels[c])

    return Routine(own_pixels, _PIXELS, cached=False)
