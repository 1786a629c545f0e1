"""What the host checks before kernels run, so that an impossible program is an error everywhere.

A kernel trusts its table: a window outside of its picture, or too little memory, would be a stray
read or write. `check_steps` compares every row with the table of kinds (`steps.STEPS`), all rows
at once; programs of every device pass through it in `devices.base.Work.start`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from gpuio.errors import ProgramError
from gpuio.kernels.steps import (
    ANY_CHANNELS,
    COLOR_STEP,
    MOST_RADIUS,
    STEP,
    STEPS,
    WARPS,
    ColorKind,
    StepKind,
    check_kinds,
    table_bytes,
)

Rows = npt.NDArray[np.void]
Sides = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[np.int64]]
"""Integers of the rows of a STEP table, by name."""
Rule = tuple[Mask, Callable[[np.void], str]]
"""(N,) which rows break it, and what makes a message of such a row."""

_FIELDS: dict[str, tuple[np.dtype, int]] = dict(STEP.fields or {})  # type: ignore[arg-type]
_INTEGERS = [name for name in _FIELDS if _FIELDS[name][0] == np.int32]  # they stand together
_WEIGHS = np.array([info.weighs for info in STEPS.values()])
_RGB = 3  # channels

_FITS: dict[int, Callable[[Sides, Sides, Sides], Mask]] = {
    StepKind.COPY: lambda before, after, margin: after == before,
    StepKind.BLUR: lambda before, after, margin: after == before,
    StepKind.BORDER: lambda before, after, margin: (after == before + 2 * margin) & (margin >= 0),
    StepKind.AREA: lambda before, after, margin: after <= before,
    StepKind.AREA_INTEGER: lambda before, after, margin: before % np.maximum(after, 1) == 0,
}
"""Which sides before and after, in pixels, suit a kind; others suit all."""


def check_steps(
    kernel: str,
    table: Rows,
    channels: int,
    nbytes: npt.NDArray[np.int64],
    colors: Sequence[tuple[int, Rows]],
) -> None:
    """Refuse a table that its kernel cannot take.

    Args:
        kernel: "resample" or "finish".
        table: (N,) STEP, as the CPU's kernels take it.
        channels: Channels of the pictures.
        nbytes: (N,) memory that each item has.
        colors: Arrays of COLOR_STEP on the host, each with the address where kernels find a copy.

    Raises:
        ProgramError: A row is wrong; the message names kernel, item and kind, and says what was
            expected and found.
    """
    check_kinds(table["kind"])
    used = table["kind"] != StepKind.SKIP
    columns = _columns(table)
    columns["kind"] = np.where(used, columns["kind"], StepKind.COPY)
    rules = [
        *_shape_rules(columns, table, channels),
        *_color_rules(columns, table, channels, colors),
        *_memory_rules(columns, table, channels, nbytes, finishes=kernel == "finish"),
    ]
    broken = rules[0][0]
    for mask, _ in rules[1:]:
        broken = broken | mask
    broken = broken & used
    if broken.any():
        item = int(broken.argmax())
        found = next(describe(table[item]) for mask, describe in rules if mask[item])
        kind = StepKind(columns["kind"][item])
        raise ProgramError(f"{kernel}: item {item}: {kind.name} {found}")


def _shape_rules(columns: Columns, table: Rows, channels: int) -> list[Rule]:
    """Sizes that suit the kind, a window inside the result, and what the kind reads besides."""
    kind, margin = columns["kind"], columns["margin"]
    source = columns["src_height"], columns["src_width"]
    size = columns["dst_height"], columns["dst_width"]
    y, x, rows, cols = (columns[name] for name in ("y", "x", "rows", "cols"))
    unfit = (source[0] < 1) | (source[1] < 1)
    for present in set(kind.tolist()):
        rule = _FITS.get(present)
        if rule is not None:
            for before, after in zip(source, size, strict=True):
                unfit |= (kind == present) & ~rule(before, after, margin)
    outside = (y < 0) | (x < 0) | (rows < 1) | (cols < 1)
    outside |= (y + rows > size[0]) | (x + cols > size[1])
    return [
        (~_takes(channels)[kind], _say(f"takes pictures of 1, 3 or 4 channels, found {channels}")),
        (
            unfit,
            _say(
                "cannot make {dst_height} x {dst_width} pixels of {src_height} x {src_width} "
                "with margin {margin}"
            ),
        ),
        (
            outside,
            _say(
                "makes {dst_height} x {dst_width} pixels, of which the window must be a part, "
                "found {rows} x {cols} pixels at y {y}, x {x}"
            ),
        ),
        (WARPS[kind] & (table["matrix"] == 0), _say("takes a matrix, found none")),
        (_WEIGHS[kind] & (table["weights"] == 0), _say("takes weights, found none")),
        (
            (kind == StepKind.BLUR) & ((margin < 1) | (margin > MOST_RADIUS)),
            _say(f"takes a margin of 1 to {MOST_RADIUS} pixels, found {{margin}}"),
        ),
    ]


def _color_rules(
    columns: Columns, table: Rows, channels: int, colors: Sequence[tuple[int, Rows]]
) -> list[Rule]:
    """Colour steps that were uploaded, of kinds that the pictures can have."""
    colored = table["color"] != 0
    if not colored.any():
        return []
    possible = tuple(ColorKind) if channels == _RGB else ANY_CHANNELS
    count, size = columns["color_count"], COLOR_STEP.itemsize
    missing, wrong = colored.copy(), np.zeros(len(table), bool)
    for address, steps in colors:
        offset = (table["color"] - np.uint64(address)).astype(np.int64)
        there = colored & (offset >= 0) & (count >= 0) & (offset + size * count <= steps.nbytes)
        missing &= ~there
        kind = steps["kind"].reshape(-1)
        impossible = (kind < 0) | (kind > possible[-1])
        if impossible.any():
            before = np.concatenate([[0], np.cumsum(impossible)])  # of these, before each step
            first = np.where(there, offset // size, 0)
            wrong |= before[first + np.where(there, count, 0)] > before[first]
    names = ", ".join(ColorKind(kind).name for kind in possible)
    return [
        (missing, _say("has {color_count} colour steps that were not uploaded")),
        (wrong, _say(f"has a colour step of another kind than {names}")),
    ]


def _memory_rules(
    columns: Columns, table: Rows, channels: int, nbytes: npt.NDArray[np.int64], *, finishes: bool
) -> list[Rule]:
    """Pixels, tables and source inside the memory of the item."""
    last, line = columns["rows"] - 1, columns["cols"] * channels
    pitch = line if finishes else table["dst_pitch"]
    pixels = table["scratch" if finishes else "dst"].astype(np.int64)
    taps, size = table["taps"].astype(np.int64), table_bytes(table, channels)
    source = table["src"].astype(np.int64)
    source = source + columns["y"] * table["src_pitch"] + columns["x"] * channels
    source_end = source + last * table["src_pitch"] + line
    copied = (table["src_in_scratch"] != 0) & (columns["kind"] == StepKind.COPY)
    rules = [
        (
            (pixels < 0) | (pitch < line) | (pixels + last * pitch + line > nbytes),
            _say("has too little memory for its window of {rows} x {cols} pixels"),
        ),
        (
            (size > 0) & ((taps < 0) | (taps + size > nbytes)),
            _say("has too little memory for its tables"),
        ),
        (
            copied & ((source < 0) | (source_end > nbytes)),
            _say("reads a source that is not in its memory"),
        ),
    ]
    if finishes:
        rules.append((table["norm"] == 0, _say("takes values to normalize with, found none")))
    return rules


@cache
def _takes(channels: int) -> npt.NDArray[np.bool_]:
    """By kind, whether it takes pictures of `channels`."""
    return np.array([channels in info.channels for info in STEPS.values()])


def _columns(table: Rows) -> Columns:
    shape, strides = (len(table), len(_INTEGERS)), (table.strides[0], 4)
    first = _FIELDS[_INTEGERS[0]][1]
    block = np.ndarray(shape, np.int32, table, first, strides).T.astype(np.int64)
    return dict(zip(_INTEGERS, block, strict=True))


def _say(text: str) -> Callable[[np.void], str]:
    """What makes a message of a row: `text` with the row's integers in place of their names."""
    return lambda row: text.format(**{name: int(row[name]) for name in _INTEGERS})
