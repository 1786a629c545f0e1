"""What all routines that make the pixels of a step have in common."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray, njit, types
from numba.core.errors import NumbaError

from gpuio.errors import ProgramError
from gpuio.kernels.native import pointer
from gpuio.kernels.parallel import Routine
from gpuio.kernels.steps import FIRST_PIXEL_STEP, PIXEL_STEPS, STEP

_PIXEL_STEP = types.UniTuple(types.int32, 4)(
    types.uint64, types.int64, *[types.int32] * 5, types.uint64
)
"""Types of the result and the arguments of a `PixelFunction`."""
_PIXELS = types.void(types.uint64, types.int64, types.uint64, types.int64, types.uint64)


def pixel_routine(body):
    """Make a function the `Routine` for a family of kinds.

    Args:
        body: `body(at, channels, to, pitch, tables)` writes the window of the STEP row at address
            `at` as pixels of `channels` values to address `to`, `pitch` bytes from row to row, and
            may use `table_bytes` bytes at address `tables`.
    """
    return Routine(body, _PIXELS)


@njit(inline="always")
def step_and_pixels(at, to, pitch):
    """The STEP row at address `at`, and (rows * pitch,) uint8 at address `to`."""
    step = carray(pointer(at), 1, STEP)[0]
    return step, carray(pointer(to), step.rows * pitch, np.uint8)


@njit(inline="always")
def source_row(step, y, channels):
    """(src_width * channels,) uint8, row `y` of the source of a STEP row."""
    start = step.src + np.uint64(y * step.src_pitch)
    return carray(pointer(start), step.src_width * channels, np.uint8)


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
        step, out = step_and_pixels(at, to, pitch)
        picture = (step.src, step.src_pitch, step.src_height, step.src_width, np.int32(channels))
        for y in range(step.rows):
            for x in range(step.cols):
                levels = make(
                    *picture, np.int32(step.y + y), np.int32(step.x + x), step.weights
                )  # fmt: skip
                for c in range(channels):
                    out[y * pitch + x * channels + c] = np.uint8(levels[c])

    return Routine(own_pixels, _PIXELS, cached=False)
