"""CPU seconds until the first batch, of plans that are common, never compiled and compiled.

    python benchmarks/first_batch.py
    python benchmarks/first_batch.py --rec train.rec --plans resize colors --out first_batch.json

Each figure is that of a fresh process, from its start to the first batch, imports included: once
with an empty cache ("cold"), and once more with what the first one left there ("warm"). Cold
figures are also given as a multiple of what Numba takes for the functions of `twelve.py` in a
process of the same round. Figures are medians of rounds in which all take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import machine

from gpuio.testing import draw, encode, write_rec

SHAPE = (3, 224, 224)
BATCH, RECORDS = 32, 64
TWELVE = Path(__file__).with_name("twelve.py")
TARGETS = {"cold": 4.0, "warm": 1.0}  # times the twelve functions; CPU seconds
NORMALIZED = {
    f"{name}_{channel}": value
    for name, value in (("mean", 115.0), ("std", 57.0))
    for channel in "rgb"
}
CROPPED = {"resize": 256, "rand_crop": True, "rand_mirror": True}
RESIZED = {
    "random_resized_crop": True,
    "rand_mirror": True,
    "min_random_area": 0.08,
    "max_random_area": 1.0,
    "min_aspect_ratio": 0.75,
    "max_aspect_ratio": 1.333,
}
COLORS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
PLANS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "resize": {**CROPPED, **NORMALIZED},
    "uint8": {**CROPPED, "dtype": "uint8", "layout": "NHWC"},
    "float16": {**CROPPED, **NORMALIZED, "dtype": "float16"},
    "resized crop": {**RESIZED, **NORMALIZED},
    "colors": {**RESIZED, **COLORS, **NORMALIZED},
    "all colors": {**RESIZED, **COLORS, "random_h": 18, "random_l": 25, "pca_noise": 0.1},
    "rotate": {**CROPPED, "max_rotate_angle": 10, "max_shear_ratio": 0.1, **NORMALIZED},
    "cubic": {**CROPPED, **NORMALIZED, "inter_method": 2},
}
"""By name, the parameters of `ImageRecordIter` beside file, shape and batch size."""

CHILD = """
import json, sys, time
import gpuio
rec, options = sys.argv[1], json.loads(sys.argv[2])
options["data_shape"] = tuple(options["data_shape"])
with gpuio.ImageRecordIter(rec, **options) as batches:
    next(batches)
    print(time.process_time())
"""


def cpu_seconds(command: list[str], cache: Path) -> float:
    """What a child prints; it keeps compiled code in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    run = subprocess.run(
        [sys.executable, *command], env=environment, check=True, capture_output=True, text=True
    )
    return float(run.stdout)


def one_round(rec: Path, plans: list[str]) -> dict[str, Any]:
    """CPU seconds of the twelve functions, and cold and warm of each plan."""
    found: dict[str, Any] = {"cold": {}, "warm": {}}
    with tempfile.TemporaryDirectory() as folder:
        found["twelve"] = cpu_seconds([str(TWELVE)], Path(folder))
        for number, name in enumerate(plans):
            options = {"data_shape": SHAPE, "batch_size": BATCH, "shuffle": True, **PLANS[name]}
            command = ["-c", CHILD, str(rec), json.dumps(options)]
            for state in ("cold", "warm"):
                found[state][name] = cpu_seconds(command, Path(folder) / str(number))
    return found


def figures(rounds: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Medians of a plan."""
    ratios = [each["cold"][name] / each["twelve"] for each in rounds]
    return {
        **{state: round(median(r[state][name] for r in rounds), 2) for state in ("cold", "warm")},
        "times_twelve": round(median(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="a .rec of JPEGs (default: drawn pictures)")
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=[*PLANS], metavar="PLAN")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rec = args.rec
        if rec is None:
            rec = Path(folder) / "few.rec"
            write_rec(rec, [encode(draw(375, 500, seed=n), "JPEG") for n in range(RECORDS)])
        rounds = [one_round(rec, args.plans) for _ in range(args.rounds)]
    twelve = round(median(each["twelve"] for each in rounds), 2)
    plans = {name: figures(rounds, name) for name in args.plans}
    print(f"twelve small functions of Numba: {twelve:.2f} CPU seconds")
    print(f"{'CPU seconds to the first batch':32} {'cold':>6} {'/ twelve':>9} {'warm':>6}")
    for name, row in plans.items():
        print(f"{name:32} {row['cold']:6.2f} {row['times_twelve']:9.2f} {row['warm']:6.2f}")
    print(f"{'at most':32} {'':6} {TARGETS['cold']:9.2f} {TARGETS['warm']:6.2f}")
    if args.out:
        report = {"machine": machine.describe(), "twelve": twelve, "plans": plans}
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
