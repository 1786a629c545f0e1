"""Sides of a comparison in turns, so that what disturbs one disturbs the others, too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import gpu_machine
from gpu_child import Child, Ended, Row

OURS = "gpuio"
PINNED = "gpuio, share pinned"
ON_CPU = "gpuio on the CPU"
BARE = "bare nvImageCodec"
SMOOTH, PLAIN = "DALI, fancy upsampling", "DALI, plain upsampling"
TORCHVISION = "torchvision"

START = 90.0  # seconds that a side may take to start
TURN = 60.0  # and to answer
CHECK = 0.1  # how far means and deviations may be apart: crops are random
FIGURES = ("hardware", "hybrid", "cpu", "portable", "unwritten", "engine_failures", "faults")
FIGURES += ("engines", "engines_unavailable_reason", "split", "rates", "decoder_messages")


@dataclass(frozen=True)
class SideOf:
    """One side of a comparison: its script, its class there, and its options."""

    name: str
    script: str
    side: str
    options: dict[str, Any] = field(default_factory=dict)
    device: str | None = None


class Comparison:
    """Sides as processes that wait for their turns.

    Args:
        settings: Of all sides.
        turn: Seconds of one turn of a side.
        end: By `time.monotonic`, when all must be over.

    Attributes:
        rows: What each side said of its turns.
        missing: Why a side did not start, or is gone.
        checks: Mean and deviation of a side's pixels.
        memory: Megabytes of the GPU that a side had.
        versions: Of the sides' packages.
    """

    def __init__(self, settings: Row, turn: float, end: float) -> None:
        self._settings, self._turn, self._end = settings, turn, end
        self._children: dict[str, Child] = {}
        self._counts: dict[str, int] = {}
        self.rows: dict[str, list[Row]] = {}
        self.missing: dict[str, str] = {}
        self.checks: dict[str, Row] = {}
        self.memory: dict[str, float | None] = {}
        self.versions: Row = {}

    def start(self, sides: list[SideOf]) -> None:
        """Start all sides at once; then find out, one by one, how many images are a turn."""
        device, batch_size = self._settings["device"], self._settings["batch_size"]
        for side in sides:
            given = self._settings | {"options": side.options, "device": side.device or device}
            self._children[side.name] = Child(side.script, [side.side, json.dumps(given)])
        for name, child in [*self._children.items()]:
            try:
                checked = child.row(min(START, self._left()))
            except Ended as ended:
                self._lose(name, ended)
            else:
                self.versions |= checked.pop("versions")
                self.checks[name] = checked
        for name, child in [*self._children.items()]:
            try:
                trial = child.ask(batch_size, min(TURN, self._left()))
            except Ended as ended:
                self._lose(name, ended)
            else:
                count = int(self._turn * trial["images"] / trial["seconds"])
                self._counts[name] = max(batch_size, count)

    def round(self, *, backwards: bool) -> None:
        """A turn of every side."""
        names = [*self._children]
        for name in names[::-1] if backwards else names:
            try:
                row = self._children[name].ask(self._counts[name], min(TURN, self._left()))
            except Ended as ended:
                self._lose(name, ended)
            else:
                self.rows.setdefault(name, []).append(row)

    def has_time(self) -> bool:
        """Whether one more round will be over in time."""
        return self._left() > 2 * self._turn * len(self._children)

    def close(self) -> None:
        """End all processes, and see what memory of the GPU each of them gives back."""
        before = gpu_machine.memory(self._settings["device"])
        for name, child in self._children.items():
            child.close()
            after = gpu_machine.memory(self._settings["device"])
            self.memory[name] = None if before is None or after is None else before - after
            before = after

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _lose(self, name: str, ended: Ended) -> None:
        self.missing[name] = last_line(str(ended))
        self._children.pop(name).close()


def compare(settings: Row, wanted: list[SideOf], turn: float, rounds: int, limit: float) -> Row:
    """Sides in turns.

    Args:
        settings: Of all sides.
        wanted: The sides.
        turn: Seconds of one turn.
        rounds: Turns of each; fewer if time runs out, but one.
        limit: Seconds for all.
    """
    comparison = Comparison(settings, turn, time.monotonic() + limit)
    try:
        comparison.start(wanted)
        for number in range(rounds):
            if number == 0 or comparison.has_time():
                comparison.round(backwards=number % 2 == 1)
    finally:
        comparison.close()
    found = comparison.rows
    rates = {n: [round(r["images"] / r["seconds"], 1) for r in rows] for n, rows in found.items()}
    return {
        "images_per_second": rates,
        "median": {name: round(median(values), 1) for name, values in rates.items()},
        "cores": {n: _median(r["cpu"] / r["seconds"] for r in rows) for n, rows in found.items()},
        "gpu_megabytes": comparison.memory,
        "last": {name: _figures(rows[-1]) for name, rows in found.items()},
        "checks": comparison.checks,
        "missing": comparison.missing,
        "disagree": disagree(comparison.checks),
        "versions": comparison.versions,
    }


def disagree(checks: dict[str, Row]) -> list[str]:
    """Sides whose images differ from gpuio's more than random crops do."""
    mine = checks.get(OURS, {})
    return [
        name
        for name, theirs in checks.items()
        if any(abs(theirs[k] - mine[k]) > CHECK for k in ("mean", "std") if k in theirs and mine)
    ]


def last_line(message: str) -> str:
    return message.splitlines()[-1] if message else "it ended"


def _median(values: Iterable[float]) -> float:
    return round(median(values), 2)


def _figures(row: Row) -> Row:
    """Who decoded, in which parts, and what went wrong."""
    stats = row.get("stats", {})
    return {k: stats[k] for k in FIGURES if k in stats} | {
        k: row[k] for k in ("failed",) if k in row
    }
