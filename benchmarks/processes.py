"""Images per second of several processes together, beside one process with all cores.

    python benchmarks/processes.py
    python benchmarks/processes.py --rec train.rec --processes 4 --out processes.json

Training on several GPUs takes a process for each, and every process has a loader, which reads its
part of the data. As in cpu.py the sides take turns in one run, and ratios are taken within each
round. Processes begin a turn together; its rate is that of all their images over the longest time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import machine
import records
from cpu import EPOCH, SHAPE, Child, Kind, Target, ratio

ONE = "1 process"


class Team:
    """Processes that are asked together.

    Args:
        name: For tables.
        kinds: What each is.
        settings: Of all.
    """

    def __init__(self, name: str, kinds: Sequence[Kind], settings: dict[str, Any]) -> None:
        self.name = name
        with ExitStack() as stack:
            self.children = []
            for kind in kinds:
                self.children.append(Child(kind, settings))
                stack.callback(self.children[-1].close)
            self._stack = stack.pop_all()

    def rate(self, count: int) -> float:
        """Images per second while all of them deliver their share of `count`."""
        for child in self.children:
            child.begin(count // len(self.children))
        results = [child.answer() for child in self.children]
        return sum(r["images"] for r in results) / max(r["seconds"] for r in results)

    def close(self) -> None:
        self._stack.close()


def kinds(processes: int) -> tuple[dict[str, list[Kind]], list[Target]]:
    """The processes of each side, and which ratios are looked at."""
    cores = machine.cores()
    shared, each = (
        f"{processes} processes, {max(cores // processes, 1)} thread(s) each",
        f"{processes} processes, {cores} thread(s) each",
    )
    sides = {ONE: [Kind(ONE, "Gpuio")]}
    for name, threads in ((shared, max(cores // processes, 1)), (each, cores)):
        sides[name] = [
            Kind(
                f"part {part} of {name}",
                "Gpuio",
                options={
                    "num_parts": processes,
                    "part_index": part,
                    "preprocess_threads": threads,
                },
            )
            for part in range(processes)
        ]
    return sides, [Target(f"{name} / {ONE}", name, (ONE,), 0.95) for name in (shared, each)]


@contextmanager
def started(sides: dict[str, list[Kind]], settings: dict[str, Any]) -> Iterator[list[Team]]:
    """Every side, warm and at rest."""
    with ExitStack() as stack:
        teams = []
        for name, chosen in sides.items():
            teams.append(Team(name, chosen, settings))
            stack.callback(teams[-1].close)
        yield teams


def compare(data: records.Records, resize: int, args: argparse.Namespace) -> dict[str, Any]:
    """All sides on one .rec, in turns."""
    sides, targets = kinds(args.processes)
    settings = {
        "rec": data.path,
        "epoch": EPOCH,
        "shape": SHAPE,
        "resize": resize,
        "batch_size": args.batch_size,
        "threads": machine.cores(),
        "check": data.count,
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    with started(sides, settings) as teams:
        for number in range(args.rounds):
            print(f"{data.name}: round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            for team in teams if number % 2 == 0 else teams[::-1]:
                rates[team.name].append(team.rate(args.images))
    return {
        "data": data.name,
        "size": data.size,
        "resize": resize,
        "images_per_second": {k: [round(x, 1) for x in v] for k, v in rates.items()},
        "median": {k: round(median(v), 1) for k, v in rates.items()},
        "ratios": [ratio(target, rates) for target in targets],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--processes", type=int, default=2, help="(default: 2)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every side (default: 5)")
    parser.add_argument("--batch-size", type=int, default=128, help="(default: 128)")
    parser.add_argument(
        "--records", type=int, default=2000, help="the images are repeated to so many"
    )
    parser.add_argument("--images", type=int, default=4096, help="in a turn (default: 4096)")
    parser.add_argument("--data", default="large,small", help="(default: %(default)s)")
    args = parser.parse_args()
    device = machine.describe()
    print(f"{device['cpu']}, {device['cores']} cores; batch {args.batch_size}")
    count = -(-args.records // args.batch_size) * args.batch_size
    results = []
    with tempfile.TemporaryDirectory() as folder:
        pictures = records.load(args.rec, Path(folder))
        for name in args.data.split(","):
            chosen = pictures if name == "large" else [records.shrink(p) for p in pictures]
            data = records.save(name, chosen, count, Path(folder))
            results.append(compare(data, records.EDGE if name == "large" else -1, args))
            high, wide = data.size
            print(f"\n{name}: {high:.0f} x {wide:.0f} pixels; images per second, ratios")
            for side, rates in results[-1]["images_per_second"].items():
                print(f"  {side:44} {median(rates):8.0f} {min(rates):8.0f} {max(rates):8.0f}")
            for row in results[-1]["ratios"]:
                verdict = "met" if row["median"] >= row["target"] else "not met"
                low, high_ratio = min(row["rounds"]), max(row["rounds"])
                print(
                    f"  {row['name']:44} {row['median']:8.2f} {low:8.2f} {high_ratio:8.2f}"
                    f"  >= {row['target']:<5}{verdict}"
                )
    if args.out:
        report = {"machine": device, "batch_size": args.batch_size, "results": results}
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
