"""Many cases of many doors: turns, the journal, what was found, and the table at the end."""

from __future__ import annotations

import json
import pickle
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from .case import CRASH, VERDICTS, Case, Verdict
from .minimise import minimise
from .runner import Runner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .runner import Result

_TURN = 4.0  # seconds after which it is the next door's turn
_MOST = 500  # cases in a turn
_KEPT = 3  # cases of one kind that are minimised and kept
_SHRINK = 45.0  # seconds for the smallest case


class Campaign:
    """Runs cases and keeps account.

    Args:
        folder: For the journal and what is found.

    Attributes:
        found: How many bad cases there were of each kind, by door, verdict and text.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "found").mkdir(parents=True, exist_ok=True)
        self.found: Counter[tuple[str, str, str]] = Counter()
        self._examples: dict[tuple[str, str, str], str] = {}
        self._cases: Counter[tuple[str, str]] = Counter()
        self._inputs: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._new: list[Result] = []  # bad ones of this turn
        self._runner = Runner(folder)
        self._journal = (folder / "journal.jsonl").open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.stop()
        self._journal.close()

    @property
    def inputs(self) -> int:
        """Damaged inputs so far."""
        return sum(self._inputs.values())

    def run(
        self,
        doors: Sequence[str],
        *,
        seed: int = 0,
        seconds: float | None = None,
        inputs: int | None = None,
        cases: int | None = None,
    ) -> None:
        """Let doors take turns until the time is over, or so much was tried.

        Args:
            doors: Names.
            seed: Of the first case of each.
            seconds: How long.
            inputs: Damaged inputs of all doors together.
            cases: Of each door; which makes what is run the same everywhere.
        """
        began = time.monotonic()
        after = dict.fromkeys(doors, seed)
        size = dict.fromkeys(doors, 10)
        while True:
            for door in doors:
                count = size[door] if cases is None else cases
                start = time.monotonic()
                for result in self._runner.run(door, after[door], count):
                    self._note(result)
                self._keep_new()
                after[door] += count
                per_case = (time.monotonic() - start) / count
                size[door] = max(1, min(_MOST, int(_TURN / per_case)))
                late = seconds is not None and time.monotonic() - began > seconds
                if late or (inputs is not None and self.inputs >= inputs):
                    return
            if cases is not None:
                return

    def replay(self, path: Path) -> str:
        """What became of a case that was kept."""
        case = pickle.loads(path.read_bytes())
        verdict = self._runner.run_case(case).verdict
        return f"{case.door}, seed {case.seed}: {verdict.kind}: {verdict.text}"

    def table(self) -> str:
        """Counts for each door and verdict, then what was found."""
        kinds = [kind for kind in VERDICTS if any(k == kind for _, k in self._cases)]
        rows = [["door", "inputs", "cases", "inputs/s", *kinds]]
        for door in self._inputs:
            counts = [self._cases[door, kind] for kind in kinds]
            rate = self._inputs[door] / max(self._seconds[door], 1e-9)
            rows.append([door, *map(str, (self._inputs[door], sum(counts), int(rate), *counts))])
        totals = [sum(self._cases[door, kind] for door in self._inputs) for kind in kinds]
        rate = self.inputs / max(sum(self._seconds.values()), 1e-9)
        rows.append(["all", *map(str, (self.inputs, sum(totals), int(rate), *totals))])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                f"{row[0]:{widths[0]}}" if not n else f"{text:>{widths[n]}}"
                for n, text in enumerate(row)
            )
            for row in rows
        ]
        for key, count in self.found.most_common():
            door, kind, _ = key
            lines.append(f"{count:5} x {door}: {kind}: {self._examples[key]}")
        return "\n".join(lines)

    def _note(self, result: Result) -> None:
        verdict = result.verdict
        self._cases[result.door, verdict.kind] += 1
        self._inputs[result.door] += result.inputs
        self._seconds[result.door] += result.seconds
        self._write(
            door=result.door,
            seed=result.seed,
            inputs=result.inputs,
            kind=verdict.kind,
            text=verdict.text,
            seconds=round(result.seconds, 4),
        )
        if verdict.bad:
            key = (result.door, verdict.kind, signature(verdict))
            self.found[key] += 1
            self._examples.setdefault(key, f"seed {result.seed}: {verdict.text}")
            if self.found[key] <= _KEPT:
                self._new.append(result)

    def _write(self, **what: Any) -> None:
        self._journal.write(json.dumps(what) + "\n")
        self._journal.flush()

    def _keep_new(self) -> None:
        while self._new:
            self._keep(self._new.pop())

    def _keep(self, result: Result) -> None:
        """Write the case down, as it was and as small as it can be."""
        case = self._runner.case_of(result.door, result.seed)
        wanted = signature(result.verdict)

        def still_bad(smaller: Case) -> bool:
            verdict = self._runner.run_case(smaller).verdict
            return verdict.kind == result.verdict.kind and signature(verdict) == wanted

        place = self.folder / "found" / f"{case.door}-{case.seed}"
        if not still_bad(case):
            self._write(door=case.door, seed=case.seed, note="does not happen alone")
        else:
            case = minimise(case, still_bad, _SHRINK)
        place.with_suffix(".pickle").write_bytes(pickle.dumps(case))
        for number in case.damaged:
            place.with_suffix(f".part{number}").write_bytes(case.parts[number])
        text = f"{result.verdict.kind}: {result.verdict.text}\nchoices: {dict(case.choices)}\n"
        place.with_suffix(".txt").write_text(text)


def signature(verdict: Verdict) -> str:
    """What two cases of one fault have in common."""
    if verdict.kind == CRASH:
        return verdict.text
    what, _, place = verdict.text.rpartition(" | ")
    if place and what:
        return f"{what.partition(':')[0]} {place}"
    text = verdict.text
    return re.sub(r"0x[0-9a-f]+|-?\d[\d.]*|'[^']*'|/\S+|\[.*\]", "#", text)[:160]
