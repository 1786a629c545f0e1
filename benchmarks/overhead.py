"""The time that `.torch()` adds to the bare iterator, and that `state_dict` takes.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --batch-size 256 --out overhead.json

The source is a stand-in that returns the same finished batch again and again, so that only the
loader is measured: the time of decoding varies by more than that. States are those of an iterator
in mid-epoch. Figures are medians of rounds that take turns, in microseconds of the calling thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import machine

import gpuio
from gpuio.testing import draw, encode, write_rec

SHAPE = (3, 224, 224)
RECORDS = 64
ROUNDS = 15
LOOPS = 2000  # batches, or states, in a round
LIMITS = {".torch()": 20, "state_dict()": 50}  # microseconds


class Again(gpuio.ImageRecordIter):
    """Returns its first batch `LOOPS` times in each loop."""

    def iter_next(self) -> bool:
        if self.current_batch is None:
            assert super().iter_next()
            self._count = 0
        self.begun = True
        self._count += 1
        return self._count <= LOOPS

    def __iter__(self) -> Iterator[gpuio.DataBatch]:
        self._count = 0
        return self


def loop(batches: object) -> float:
    """Seconds for a batch, of one epoch."""
    begin = time.thread_time()
    for _ in batches:
        pass
    return (time.thread_time() - begin) / LOOPS


def call(function: Callable[[], object]) -> float:
    """Seconds for a call."""
    begin = time.thread_time()
    for _ in range(LOOPS):
        function()
    return (time.thread_time() - begin) / LOOPS


def measure(rec: Path, batch_size: int) -> dict[str, float]:
    """Microseconds of each side, and what the loaders add."""
    options = {"batch_size": batch_size, "dtype": "uint8", "shuffle": True}
    nhwc = Again(rec, SHAPE, layout="NHWC", **options)
    source = Again(rec, SHAPE, **options)
    state = gpuio.ImageRecordIter(rec, SHAPE, **options | {"batch_size": 8})
    next(state)
    sides = {
        "bare iterator": partial(loop, source),
        ".numpy()": partial(loop, source.numpy()),
        ".torch()": partial(loop, source.torch()),
        ".torch(channels_last=True), NHWC": partial(loop, nhwc.torch(channels_last=True)),
        "state_dict()": partial(call, state.torch().state_dict),
    }
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            rounds[name].append(side())
    for it in (nhwc, source, state):
        it.close()
    base = rounds["bare iterator"]
    figures = {}
    for name, seconds in rounds.items():
        if name.startswith("."):
            seconds = [with_ - without for with_, without in zip(seconds, base, strict=True)]
        figures[name] = round(1e6 * median(seconds), 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=256, help="(default: 256)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rec = Path(folder) / "few.rec"
        write_rec(rec, [encode(draw(240, 240, seed=n), "JPEG") for n in range(RECORDS)])
        figures = measure(rec, args.batch_size)
    for name, value in figures.items():
        added = " added" if name.startswith(".") else ""
        limit = f", allowed {LIMITS[name]}" if name in LIMITS else ""
        print(f"{name:34} {value:8.2f} us{added}{limit}")
    if args.out:
        report = {"machine": machine.describe(), "batch_size": args.batch_size, "us": figures}
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
