"""What a kernel can be asked to do to an image, as plain data: kinds of steps and their tables.

NumPy alone is imported here: what plans a batch needs no compiler. `STEP` rows move pixels, and
`COLOR_STEP` rows change the colours of what they made. `STEPS` is the one table of what must be
known of each kind; the kernels, the planner and `check_steps` of kernels/checks.py all read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import ProgramError


class StepKind(IntEnum):
    """How a step makes the pixels of its result from those of its source.

    On the host, arrays are compared with its `value`: with a member itself NumPy takes five times
    as long, which is felt where batches are small.
    """

    SKIP = -1
    """The image is left alone: nothing is read or written."""
    COPY = 0
    NEAREST = 1
    LINEAR = 2
    CUBIC = 3
    AREA = 4
    """Area average where both sides shrink, or stay, but not by whole factors."""
    LANCZOS = 5
    AREA_LINEAR = 6
    """What area average means where a side grows."""
    AREA_INTEGER = 7
    """Area average where both sides shrink by whole factors."""
    WARP_NEAREST = 8
    WARP_LINEAR = 9
    WARP_CUBIC = 10
    WARP_LANCZOS = 11
    BORDER = 12
    """Pixels of one value around the picture."""
    BLUR = 13
    """Convolution along both axes, the picture mirrored about its outermost pixels."""


class ColorKind(IntEnum):
    """What a colour step does to each pixel (red, green, blue) of a picture.

    `a`, `b` and `c` are the parameters of a COLOR_STEP row. Every step rounds to levels 0 to 255.
    """

    NONE = 0
    """Nothing; it fills up the list of an image that has fewer steps than others."""
    BRIGHTNESS = 1
    """Levels times `a`."""
    CONTRAST = 2
    """Levels times `a`, plus `1 - a` times the mean gray of the picture at this point."""
    SATURATION = 3
    """Levels times `a`, plus `1 - a` times the gray of the pixel."""
    HLS = 4
    """Hue plus `a` half degrees, lightness plus `b` levels, saturation plus `c` levels; whole
    numbers."""
    SHIFT = 5
    """Red plus `a`, green plus `b`, blue plus `c` levels; fractions of the sum are cut off."""
    GRAY = 6
    """Each channel is 0.21 red + 0.72 green + 0.07 blue."""


ANY_CHANNELS: Final = (ColorKind.NONE, ColorKind.BRIGHTNESS)
"""Colour steps of pictures of any number of channels; those behind them take red, green, blue."""


class OutputType(IntEnum):
    """Types of the values of a batch."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT8 = 2
    UINT8 = 3
    BFLOAT16 = 4
    """NumPy has no such type: its bits are written."""


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What must be known of a kind of step besides its arithmetic.

    Attributes:
        taps: Entries that its tables have along each axis for a pixel of the result; 0 where it
            has no tables, or where the scale decides (AREA).
        reach: Pixels of the source that it reads to each side of a place, rounding and the
            `margin` of a row left out.
        warps: Whether a matrix says which place of the source each pixel of the result is from.
        weighs: Whether it reads weights: for a warp a `weight_table` of kernels/warp.py, for a
            blur those of the row.
        nearest: The kind that does the same without blending pixels, as labels need it.
        channels: How many channels its pictures may have.
    """

    taps: int
    reach: int
    warps: bool = False
    weighs: bool = False
    nearest: StepKind = StepKind.NEAREST
    channels: tuple[int, ...] = (1, 3, 4)


def _warp(taps: int, reach: int) -> StepInfo:
    return StepInfo(taps, reach, warps=True, weighs=taps > 2, nearest=StepKind.WARP_NEAREST)


STEPS: Final = {
    StepKind.COPY: StepInfo(taps=0, reach=0, nearest=StepKind.COPY),
    StepKind.NEAREST: StepInfo(taps=1, reach=0),
    StepKind.LINEAR: StepInfo(taps=2, reach=1),
    StepKind.CUBIC: StepInfo(taps=4, reach=2),
    StepKind.AREA: StepInfo(taps=0, reach=0),
    StepKind.LANCZOS: StepInfo(taps=8, reach=4),
    StepKind.AREA_LINEAR: StepInfo(taps=2, reach=1),
    StepKind.AREA_INTEGER: StepInfo(taps=0, reach=0),
    StepKind.WARP_NEAREST: _warp(taps=1, reach=0),
    StepKind.WARP_LINEAR: _warp(taps=2, reach=1),
    StepKind.WARP_CUBIC: _warp(taps=4, reach=2),
    StepKind.WARP_LANCZOS: _warp(taps=8, reach=4),
    StepKind.BORDER: StepInfo(taps=0, reach=0, nearest=StepKind.BORDER),
    StepKind.BLUR: StepInfo(taps=0, reach=0, weighs=True, nearest=StepKind.COPY),
}
"""Every kind but SKIP, in the order of their numbers."""

FIRST_PIXEL_STEP: Final = 32
"""Kinds from here on are those of `PIXEL_STEPS`, in its order."""
MOST_KINDS: Final = 64


@dataclass(frozen=True, slots=True)
class PixelStep:
    """A kind of step of the user's own; the picture keeps its size.

    Attributes:
        name: For messages.
        pixel: See `register_pixel_step`.
    """

    name: str
    pixel: PixelFunction


PixelFunction = Callable[..., tuple[int, int, int, int]]
PIXEL_STEPS: Final[list[PixelStep]] = []
_PIXEL_STEP_INFO = StepInfo(taps=0, reach=0, weighs=True, nearest=StepKind.COPY)


def register_pixel_step(name: str, pixel: PixelFunction) -> int:
    """Add a kind of step, for `ResampleChain.pixel_step`, on every device.

        from gpuio.kernels.native import load8

        def inverted(src, pitch, height, width, channels, y, x, values):
            at = src + np.uint64(y * pitch + x * channels)
            red, green, blue = load8(at), load8(at + np.uint64(1)), load8(at + np.uint64(2))
            return 255 - red, 255 - green, 255 - blue, 0

        INVERT = register_pixel_step("INVERT", inverted)

    Args:
        name: For messages; no other step has it.
        pixel: A function that Numba compiles for the CPU and for CUDA, when it is first needed. It
            gets the address of the source's pixel (0, 0), the bytes between its rows, its height,
            width and channels, the place (y, x) in the picture, and the address of the image's
            float32 values; it returns four levels, 0 to 255, of which the first `channels` count.
            Only pixels in the picture and at most `margin` from the place may be read, with the
            loads of `gpuio.kernels.native`. Functions that it calls have `njit(inline="always")`.

    Returns:
        Number of the kind.

    Raises:
        ValueError: The name is taken, or there are too many kinds.
    """
    if name in StepKind.__members__ or any(step.name == name for step in PIXEL_STEPS):
        raise ValueError(f"there is a step named {name} already")
    if FIRST_PIXEL_STEP + len(PIXEL_STEPS) == MOST_KINDS:
        raise ValueError(f"{name}: {len(PIXEL_STEPS)} steps are registered, which are the most")
    PIXEL_STEPS.append(PixelStep(name, getattr(pixel, "py_func", pixel)))
    return FIRST_PIXEL_STEP + len(PIXEL_STEPS) - 1


def info_of(kind: int) -> StepInfo:
    """What must be known of a kind."""
    return _PIXEL_STEP_INFO if kind >= FIRST_PIXEL_STEP else STEPS[StepKind(kind)]


def name_of(kind: int) -> str:
    """Name of a kind, for messages."""
    if kind >= FIRST_PIXEL_STEP:
        return PIXEL_STEPS[kind - FIRST_PIXEL_STEP].name
    return StepKind(kind).name


def _by_kind(name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """(MOST_KINDS,) an attribute of STEPS; 0 for kinds of `PIXEL_STEPS`."""
    column = np.zeros(MOST_KINDS, dtype)
    column[: len(STEPS)] = [getattr(info, name) for info in STEPS.values()]
    return column


TAPS: Final = _by_kind("taps", np.int32)
REACH: Final = _by_kind("reach", np.int64)
WARPS: Final = _by_kind("warps", np.bool_)
NEAREST_OF: Final = _by_kind("nearest", np.int64)
"""`taps`, `reach`, `warps` and `nearest` of STEPS as arrays by kind."""

STEP: Final = np.dtype(
    [
        ("src", np.uint64),  # address of the source pixel (0, 0)
        ("dst", np.uint64),  # address of the first pixel, or of the image in the batch
        ("norm", np.uint64),  # address of the NORM float32 values for `finish`
        ("mean_image", np.uint64),  # address of a (C, H, W) float32 mean for `finish`, or 0
        ("matrix", np.uint64),  # address of 6 float64, canvas to source, for a warp
        # Address of a `weight_table`, for a cubic or Lanczos warp; of 2 * margin + 1 float32 along
        # x and as many along y, for a blur; of the values of a pixel step.
        ("weights", np.uint64),
        ("color", np.uint64),  # address of the first of `color_count` COLOR_STEP rows, or 0
        # Offset of `table_bytes` bytes in the worker's memory; for kernels of a device, address of
        # the tables of `tabulate`.
        ("taps", np.uint64),
        # Offset of rows * cols * channels bytes in the worker's memory, for `finish`.
        ("scratch", np.uint64),
        ("src_pitch", np.int64),  # bytes between source rows
        ("dst_pitch", np.int64),  # bytes between rows written by `resample`
        ("kind", np.int32),  # StepKind
        ("mirror", np.int32),  # whether `finish` writes each row from right to left
        ("fill", np.int32),  # value outside the picture, for a warp or border; of a cubic
        # resize, 1 where OpenCV would have the colours in this order, and not reversed
        ("src_height", np.int32),
        ("src_width", np.int32),
        ("dst_height", np.int32),  # of the whole result
        ("dst_width", np.int32),
        ("y", np.int32),  # window of it that is wanted
        ("x", np.int32),
        ("rows", np.int32),
        ("cols", np.int32),
        ("margin", np.int32),  # width of a border; pixels that others read on each side
        ("src_in_scratch", np.int32),  # whether `src` is an offset in the worker's memory
        ("color_count", np.int32),
    ],
    align=True,
)
"""One step of one image."""

COLOR_STEP: Final = np.dtype(
    [("kind", np.int32), ("a", np.float32), ("b", np.float32), ("c", np.float32)], align=True
)
"""One colour step of one image: a ColorKind and its parameters. Whole numbers are exact."""

NORM: Final = 12
"""float32 values that normalize a picture: means, gains and biases of four channels."""

MOST_RADIUS: Final = 11
"""Largest `margin` of a blur."""

_TAPS_OR_NONE = np.append(TAPS, 0).astype(np.int64)  # as an index, SKIP is the last

AREA_EXTRA: Final = 3
"""Taps of AREA besides whole source pixels: part of one before, of one after, and rounding."""

_RESIZES = np.array(
    [StepKind.NEAREST, StepKind.LINEAR, StepKind.CUBIC, StepKind.AREA, StepKind.LANCZOS]
)


def resize_kinds(
    source: npt.NDArray[np.int64], size: npt.NDArray[np.int64], method: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """What interpolations mean for resizes between given sizes.

    Args:
        source: (N, 2) heights and widths before, in pixels.
        size: (N, 2) heights and widths after.
        method: (N,) interpolations: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos.

    Returns:
        (N,) StepKinds; COPY where the sizes are equal.
    """
    kind = _RESIZES[method]
    shrinks = (size <= source).all(axis=1)
    blocks = (source % np.maximum(size, 1) == 0).all(axis=1)
    area = np.where(
        shrinks,
        np.where(blocks, StepKind.AREA_INTEGER.value, StepKind.AREA.value),
        StepKind.AREA_LINEAR.value,
    )
    kind = np.where(kind == StepKind.AREA.value, area, kind)
    return np.where((size == source).all(axis=1), StepKind.COPY.value, kind)


def check_kinds(kind: npt.NDArray[np.integer]) -> None:
    """Refuse numbers that are no StepKind.

    Args:
        kind: (N,) one for each item of a batch.

    Raises:
        ProgramError: One is not; the message names the item.
    """
    unknown = (kind < StepKind.SKIP.value) | (kind >= len(STEPS))
    if unknown.any() and PIXEL_STEPS:
        unknown &= (kind < FIRST_PIXEL_STEP) | (kind >= FIRST_PIXEL_STEP + len(PIXEL_STEPS))
    if unknown.any():
        item = int(unknown.argmax())
        known = f"kinds are SKIP (-1) to {StepKind(len(STEPS) - 1).name} ({len(STEPS) - 1})"
        raise ProgramError(f"item {item}: {kind[item]} is no kind of step; {known}")


def tap_counts(table: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(N,) taps down and (N,) across that each row of a STEP table has tables for."""
    kind = table["kind"]
    check_kinds(kind)
    fixed = _TAPS_OR_NONE[kind]
    areas = kind == StepKind.AREA.value
    if not areas.any():
        return fixed, fixed
    down, across = (
        table[f"src_{side}"] // np.maximum(table[f"dst_{side}"], 1) + AREA_EXTRA
        for side in ("height", "width")
    )
    return np.where(areas, down, fixed), np.where(areas, across, fixed)


def table_bytes(table: npt.NDArray[np.void], channels: int) -> npt.NDArray[np.int64]:
    """(N,) bytes that the CPU's kernels take for tables of each row, at most; a multiple of 64.

    Args:
        table: (N,) STEP.
        channels: 1, 3 or 4.
    """
    kind = table["kind"]
    down, across = tap_counts(table)
    if kind.max(initial=0) == StepKind.COPY.value:
        return across  # 0: copies have no tables
    rows, cols = table["rows"].astype(np.int64), -(-table["cols"].astype(np.int64) // 16) * 16
    # Rows of the source, resized along x, that are kept.
    lines = np.where(kind == StepKind.AREA.value, 2, across) * 4 * channels + 16
    nbytes = 8 * (across * cols + down * rows) + lines * cols
    warps = WARPS[np.maximum(kind, 0)]
    if warps.any():
        nbytes = np.where(warps, 32 * cols, nbytes)
    nbytes = np.where(across > 0, -(-nbytes // 64) * 64 + _SPARE, 0)
    blurs = kind == StepKind.BLUR.value
    if blurs.any():
        margin = table["margin"].astype(np.int64)
        lines = (2 * margin + 2) * 4 * channels * cols + channels * (cols + 2 * margin)
        nbytes = np.where(blurs, -(-lines // 64) * 64 + _SPARE, nbytes)
    return nbytes


_SPARE = 1024  # bytes: each of at most ten tables begins at a multiple of 64
