"""What the host checks before kernels run, so that an impossible program is an error everywhere.

A kernel trusts its table: a window outside of its picture, or too little memory, would be a stray
read or write. `check_steps` compares every row with the table of kinds (`steps.STEPS`), all rows
at once; programs of every device pass through it in `devices.base.Work.start`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gpuio.errors import ProgramError
from gpuio.kernels.steps import (
    ANY_CHANNELS,
    COLOR_STEP,
    FIRST_PIXEL_STEP,
    MOST_RADIUS,
    STEP,
    ColorKind,
    StepKind,
    info_of,
    name_of,
    table_bytes,
)

Rows = npt.NDArray[np.void]
Int64s = npt.NDArray[np.int64]
Sides = npt.NDArray[np.int64]
"""(2, N) heights and widths, or y and x, in pixels."""
Mask = npt.NDArray[np.bool_]
Rule = tuple[Mask, Callable[[np.void], str]]
"""(N,) which rows break it, and what makes a message of such a row."""

_FIELDS: dict[str, tuple[np.dtype, int]] = dict(STEP.fields or {})  # type: ignore[arg-type]
_INTEGERS = [name for name in _FIELDS if _FIELDS[name][0] == np.int32]  # they stand together
_PAIRS = [_INTEGERS.index(name) for name in ("src_height", "dst_height", "y", "rows")]
_RGB = 3  # channels


def _same_size(before: Sides, after: Sides, margin: Int64s) -> Mask:
    return after == before


_FITS: dict[int, Callable[[Sides, Sides, Int64s], Mask]] = {
    StepKind.COPY: _same_size,
    StepKind.BLUR: _same_size,
    StepKind.BORDER: lambda before, after, margin: (after == before + 2 * margin) & (margin >= 0),
    StepKind.AREA: lambda before, after, margin: after <= before,
    StepKind.AREA_INTEGER: lambda before, after, margin: before % np.maximum(after, 1) == 0,
}
"""Which sides before and after suit a kind; others suit all."""


class _Columns(NamedTuple):
    """Integers of the rows of a STEP table, each of one width; sizes by twos."""

    kind: Int64s
    margin: Int64s
    color_count: Int64s
    source: Sides
    result: Sides
    start: Sides
    window: Sides

    @classmethod
    def of(cls, table: Rows) -> _Columns:
        shape, strides = (len(table), len(_INTEGERS)), (table.strides[0], 4)
        first = _FIELDS[_INTEGERS[0]][1]
        block = np.ndarray(shape, np.int32, table, first, strides).T.astype(np.int64)
        single = (block[_INTEGERS.index(name)] for name in ("kind", "margin", "color_count"))
        return cls(*single, *(block[at : at + 2] for at in _PAIRS))


def check_steps(
    kernel: str,
    table: Rows,
    channels: int,
    nbytes: Int64s,
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
    tables = table_bytes(table, channels)  # which refuses unknown kinds
    columns = _Columns.of(table)
    rules = [
        *_kind_rules(columns, table, channels),
        _window_rule(columns),
        *_color_rules(columns, table, channels, colors),
        *_memory_rules(columns, table, channels, nbytes, tables, finishes=kernel == "finish"),
    ]
    broken = rules[0][0]
    for mask, _ in rules[1:]:
        broken = broken | mask
    broken &= columns.kind != StepKind.SKIP.value
    if broken.any():
        item = int(broken.argmax())
        found = next(describe(table[item]) for mask, describe in rules if mask[item])
        raise ProgramError(f"{kernel}: item {item}: {name_of(columns.kind[item])} {found}")


def _kind_rules(columns: _Columns, table: Rows, channels: int) -> list[Rule]:
    """Pictures that suit the kinds in the table, and what these read besides."""
    kind, margin, rules = columns.kind, columns.margin, list[Rule]()
    unfit = _either(columns.source < 1)
    for number in {*kind.tolist()} - {StepKind.SKIP}:
        info, mine = info_of(number), kind == number
        if channels not in info.channels:
            rules.append((mine, _say(f"takes pictures of 1, 3 or 4 channels, found {channels}")))
        fits = _same_size if number >= FIRST_PIXEL_STEP else _FITS.get(number)
        if fits is not None:
            unfit |= mine & _either(~fits(columns.source, columns.result, margin))
        if info.warps:
            missing = mine & (table["matrix"] == 0)
            rules.append((missing, _say("takes a matrix, found none")))
        if info.weighs:
            missing = mine & (table["weights"] == 0)
            rules.append((missing, _say("takes weights, found none")))
        if number == StepKind.BLUR:
            wrong = mine & ((margin < 1) | (margin > MOST_RADIUS))
            expected = f"takes a margin of 1 to {MOST_RADIUS} pixels, found {{margin}}"
            rules.append((wrong, _say(expected)))
    sizes = "{dst_height} x {dst_width} pixels of {src_height} x {src_width} with margin {margin}"
    return [*rules, (unfit, _say(f"cannot make {sizes}"))]


def _window_rule(columns: _Columns) -> Rule:
    """A window inside the result."""
    start, window = columns.start, columns.window
    outside = (start < 0) | (window < 1) | (start + window > columns.result)
    return _either(outside), _say(
        "makes {dst_height} x {dst_width} pixels, of which the window must be a part, "
        "found {rows} x {cols} pixels at y {y}, x {x}"
    )


def _color_rules(
    columns: _Columns, table: Rows, channels: int, colors: Sequence[tuple[int, Rows]]
) -> list[Rule]:
    """Colour steps that were uploaded, of kinds that the pictures can have."""
    colored = table["color"] != 0
    if not colored.any():
        return []
    possible = tuple(ColorKind) if channels == _RGB else ANY_CHANNELS
    count, size = columns.color_count, COLOR_STEP.itemsize
    missing, wrong = colored.copy(), np.zeros(len(table), bool)
    for address, steps in colors:
        offset = (table["color"] - np.uint64(address)).astype(np.int64)
        there = colored & (offset >= 0) & (count >= 0) & (offset + size * count <= steps.nbytes)
        missing &= ~there
        kind = steps["kind"].reshape(-1)
        impossible = (kind < 0) | (kind > possible[-1].value)
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
    columns: _Columns,
    table: Rows,
    channels: int,
    nbytes: Int64s,
    tables: Int64s,
    *,
    finishes: bool,
) -> list[Rule]:
    """Pixels, source and tables of (N,) `tables` bytes inside the memory of the item."""
    (y, x), (rows, cols) = columns.start, columns.window
    last, line, source_pitch = rows - 1, cols * channels, table["src_pitch"]
    pitch = line if finishes else table["dst_pitch"]
    pixels = table["scratch" if finishes else "dst"].astype(np.int64)
    rules = [
        (
            (pixels < 0) | (pitch < line) | (pixels + last * pitch + line > nbytes),
            _say("has too little memory for its window of {rows} x {cols} pixels"),
        )
    ]
    copied = (columns.kind == StepKind.COPY.value) & (table["src_in_scratch"] != 0)
    if copied.any():
        source = table["src"].astype(np.int64) + y * source_pitch + x * channels
        outside = (source < 0) | (source + last * source_pitch + line > nbytes)
        rules.append((copied & outside, _say("reads a source that is not in its memory")))
    if tables.any():
        taps = table["taps"].astype(np.int64)
        outside = (tables > 0) & ((taps < 0) | (taps + tables > nbytes))
        rules.append((outside, _say("has too little memory for its tables")))
    if finishes:
        rules.append((table["norm"] == 0, _say("takes values to normalize with, found none")))
    return rules


def _either(mask: npt.NDArray[np.bool_]) -> Mask:
    """(N,) rows of which either side is at fault; `any` takes three times as long."""
    either: Mask = mask[0] | mask[1]
    return either


def _say(text: str) -> Callable[[np.void], str]:
    """What makes a message of a row: `text` with the row's integers in place of their names."""
    return lambda row: text.format(**{name: int(row[name]) for name in _INTEGERS})
