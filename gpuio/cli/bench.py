"""gpuio bench: how fast a .rec is loaded, and which room is the limit."""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from gpuio.cli import loader
from gpuio.iterators import ImageRecordIter

_SHAPE: Final = (3, 224, 224)
_BATCH: Final = 128
_IDLE: Final = 0.5  # a room that is busy for less of the time is not the limit
_STATES: Final = ("busy", "starved", "blocked")


@dataclass(slots=True)
class Measurement:
    """What was measured, over one or more epochs.

    Attributes:
        images: Loaded, without those that only fill batches up.
        batches: Handed out.
        epochs: Begun.
        seconds: For all that, the start of every epoch included.
        first_batch: Seconds from making the iterator to its first batch, before the rest.
        waited: Seconds that the consumer waited for batches.
        stages: Seconds `busy`, `starved` and `blocked`, by room.
        decoding: Seconds of all threads together, warming up included.
        augmenting: Likewise.
        decoder: Its name.
        faults: Images that could not be had.
    """

    images: int = 0
    batches: int = 0
    epochs: int = 0
    seconds: float = 0
    first_batch: float = 0
    waited: float = 0
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    decoding: float = 0
    augmenting: float = 0
    decoder: str = ""
    faults: int = 0

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / max(self.seconds, 1e-9)

    def add(self, stats: dict[str, Any]) -> None:
        """Count in what the iterator says about an epoch."""
        self.waited += stats["waited"]
        self.decoding, self.augmenting = stats["decoding"], stats["augmenting"]
        self.decoder, self.faults = stats["decoder"], stats["faults"]
        for name, times in stats["stages"].items():
            total = self.stages.setdefault(name, dict.fromkeys(_STATES, 0.0))
            for state in _STATES:
                total[state] += times[state]

    def share(self, stage: str, state: str) -> float:
        """Part of the time that a room was busy, starved or blocked."""
        return self.stages[stage][state] / max(self.seconds, 1e-9)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        f"Without --data-shape it is {_SHAPE}, without --batch-size {_BATCH}. Batches are dropped "
        "as they come, so this is the most that a training loop can get. Files are read from "
        "memory where the system has cached them. A room is starved while the one before it has "
        "nothing ready, and blocked while the one behind it has no place. "
        "Example: gpuio bench train.rec --shuffle --resize 256 --rand-crop --rand-mirror. "
        "Exit status: 0, or 2 for a wrong parameter or a file that cannot be used."
    )
    parser.usage = "%(prog)s FILE [--seconds S] [--json PATH] [loader options]"
    loader.configure(parser)
    parser.add_argument(
        "--seconds", type=float, default=10, metavar="S", help="to measure for (default: 10)"
    )
    parser.add_argument("--json", metavar="PATH", help="write the figures to this file, too")


def run(args: argparse.Namespace) -> int:
    """Measure and report; the exit status."""
    if args.seconds <= 0:
        raise ValueError(f"--seconds must be above 0, got {args.seconds}")
    parameters = {"data_shape": _SHAPE, "batch_size": _BATCH, **loader.chosen(args)}
    found = measure(args.file, parameters, args.seconds)
    print("\n".join(report(found)))
    if args.json:
        Path(args.json).write_text(json.dumps(_figures(args.file, parameters, found), indent=1))
    return 0


def measure(file: str, parameters: dict[str, Any], seconds: float) -> Measurement:
    """Load `file` for some `seconds`, epoch after epoch, after one batch to warm up.

    Raises:
        ValueError: An epoch has no batch.
    """
    found = Measurement()
    start = time.perf_counter()
    with ImageRecordIter(file, **parameters) as batches:
        if not len(batches):
            raise ValueError("an epoch has no batch: batch_size is above the number of records")
        next(batches)
        found.first_batch = time.perf_counter() - start
        start = time.perf_counter()
        while found.seconds < seconds:
            batches.reset()
            found.epochs += 1
            while batches.iter_next():
                found.batches += 1
                found.images += len(batches.getdata()[0]) - batches.getpad()
                found.seconds = time.perf_counter() - start
                if found.seconds >= seconds:
                    break
            found.add(batches.stats())
    return found


def report(found: Measurement) -> list[str]:
    """The lines of the report."""
    amount = f"{found.images} images in {found.seconds:.2f} s, {found.epochs} epochs begun"
    lines = [
        f"{found.rate:.0f} images/s: {amount}; decoder {found.decoder}",
        f"first batch after {found.first_batch:.2f} s",
        f"{'room':10}{'busy':>8}{'starved':>10}{'blocked':>10}",
    ]
    for name in found.stages:
        busy, starved, blocked = (f"{100 * found.share(name, state):.0f} %" for state in _STATES)
        lines.append(f"{name:10}{busy:>8}{starved:>10}{blocked:>10}")
    if found.faults:
        lines.append(f"{found.faults} images could not be had")
    return [*lines, verdict(found)]


def verdict(found: Measurement) -> str:
    """One sentence: which room is the limit."""
    first = max(found.stages, key=lambda name: found.share(name, "busy"))
    share = found.share(first, "busy")
    if share < _IDLE:
        return (
            f"No room is the limit: {first} is busy most, {100 * share:.0f} % of the time; epochs "
            "may be too short."
        )
    text = f"The limit is {first}: busy {100 * share:.0f} % of the time"
    work = found.decoding + found.augmenting
    if first == "decode" and work:
        text += f", {100 * found.decoding / work:.0f} % of its work decoding, the rest augmentation"
    return f"{text}."


def _figures(file: str, parameters: dict[str, Any], found: Measurement) -> dict[str, Any]:
    import os
    from importlib.metadata import version

    return {
        "gpuio": version("gpuio"),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "cpus": os.cpu_count(),
        "file": file,
        "parameters": parameters,
        "images_per_second": found.rate,
        **asdict(found),
    }
