"""How fast images come as PyTorch tensors, beside PyTorch's DataLoader and loaders built on it.

    python benchmarks/torch_loader.py
    python benchmarks/torch_loader.py --rec train.rec --out torch_loader.json

All sides decode the same JPEGs, resize, crop at random, mirror and normalize them, on all cores:
gpuio with threads, the others with one worker process for each core. As in cpu.py they take turns
in one run, each in a process of its own, and ratios are taken within each round.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import machine
import records
from cpu import EPOCH, FIELDS, SHAPE, Kind, Target, disagree, ratio, started

SCRIPT = Path(__file__).with_name("torch_sides.py")
SHARDS = 8  # tar files: enough for a worker each


def kinds() -> tuple[list[Kind], list[Target]]:
    """What takes turns, and which ratios are looked at."""
    pillow, opencv = "DataLoader, Pillow and NumPy", "DataLoader, OpenCV and NumPy"
    found = [
        Kind("gpuio", "GpuioTorch"),
        Kind(pillow, "TorchFiles", options={"decoder": "pillow"}),
        Kind(opencv, "TorchFiles", options={"decoder": "opencv"}),
    ]
    targets = [
        Target("gpuio / DataLoader with Pillow", "gpuio", (pillow,), 1.5),
        Target("gpuio / DataLoader with OpenCV", "gpuio", (opencv,), 1.5),
    ]
    for name, side in (("WebDataset", "Webdataset"), ("LitData", "Litdata")):
        if importlib.util.find_spec(side.lower()) is None:
            print(f"{name}: left out, it is not installed", flush=True)
            continue
        found.append(Kind(f"{name}, OpenCV and NumPy", side, options={"decoder": "opencv"}))
        targets.append(Target(f"gpuio / {name}", "gpuio", (found[-1].name,), None))
    script = [Kind(kind.name, kind.side, options=kind.options, script=SCRIPT) for kind in found]
    return script, targets


def store(pictures: Sequence[records.Picture], count: int, folder: Path) -> dict[str, str]:
    """The same images as files, in tar files and in LitData's chunks; where they are."""
    files, tars, chunks = (folder / name for name in ("files", "tars", "chunks"))
    files.mkdir()
    tars.mkdir()
    for key in range(count):
        (files / f"{key:06}.jpg").write_bytes(pictures[key % len(pictures)].data)
    for shard in range(SHARDS):
        with tarfile.open(tars / f"{shard:03}.tar", "w") as tar:
            for key in range(shard, count, SHARDS):
                data = pictures[key % len(pictures)].data
                for name, content in (("jpg", data), ("cls", str(key % 1000).encode())):
                    member = tarfile.TarInfo(f"{key:06}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    if importlib.util.find_spec("litdata") is not None:
        from litdata.streaming import Cache

        cache = Cache(str(chunks), chunk_bytes="64MB")
        for key in range(count):
            cache[key] = (pictures[key % len(pictures)].data, key % 1000)
        cache.done()
        cache.merge()
    return {"files": str(files), "tars": str(tars), "chunks": str(chunks)}


def compare(
    name: str,
    pictures: Sequence[records.Picture],
    resize: int,
    args: argparse.Namespace,
    folder: Path,
) -> dict[str, Any]:
    """All sides on the same images, in turns."""
    sides, targets = kinds()
    count = -(-args.records // args.batch_size) * args.batch_size
    data = records.save(name, list(pictures), count, folder)
    settings = {
        "rec": data.path,
        "epoch": EPOCH,
        "shape": SHAPE,
        "resize": resize,
        "batch_size": args.batch_size,
        "threads": machine.cores(),
        "check": EPOCH * count,
        **store(pictures, count, folder),
    }
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    with started(sides, settings) as children:
        checks = {c.kind.name: {k: c.checked[k] for k in FIELDS} for c in children}
        versions = {k: v for c in children for k, v in c.checked["versions"].items()}
        disagree(checks)
        for number in range(args.rounds):
            print(f"{name}: round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            for child in children if number % 2 == 0 else children[::-1]:
                result = child.ask(args.images)
                rates[child.kind.name].append(result["images"] / result["seconds"])
    return {
        "data": name,
        "size": data.size,
        "resize": resize,
        "versions": versions,
        "images_per_second": {k: [round(x, 1) for x in v] for k, v in rates.items()},
        "median": {k: round(median(v), 1) for k, v in rates.items()},
        "ratios": [ratio(target, rates) for target in targets],
        "checks": checks,
    }


def show(result: dict[str, Any]) -> None:
    """One data set as tables."""
    high, wide = result["size"]
    print(f"\n{result['data']}: {high:.0f} x {wide:.0f} pixels, resize {result['resize']}")
    head = f"{'median':>8} {'lowest':>8} {'highest':>8}"
    print(f"  {'images per second':44} {head}")
    for name, rates in result["images_per_second"].items():
        print(f"  {name:44} {median(rates):8.0f} {min(rates):8.0f} {max(rates):8.0f}")
    print(f"  {'ratio':44} {head} {'target':>8}")
    for row in result["ratios"]:
        goal, verdict = row["target"], ""
        if goal is not None:
            verdict = f"  >= {goal:<5}{'met' if row['median'] >= goal else 'not met'}"
        low, high = min(row["rounds"]), max(row["rounds"])
        print(f"  {row['name']:44} {row['median']:8.2f} {low:8.2f} {high:8.2f}{verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every side (default: 5)")
    parser.add_argument("--batch-size", type=int, default=128, help="(default: 128)")
    parser.add_argument(
        "--records", type=int, default=2000, help="the images are repeated to so many"
    )
    parser.add_argument("--images", type=int, default=2048, help="in a turn (default: 2048)")
    parser.add_argument("--data", default="large,small", help="(default: %(default)s)")
    args = parser.parse_args()
    device = machine.describe()
    print(f"{device['cpu']}, {device['cores']} cores; batch {args.batch_size}")
    results = []
    with tempfile.TemporaryDirectory() as made:
        pictures = records.load(args.rec, Path(made))
        for name in args.data.split(","):
            chosen = pictures if name == "large" else [records.shrink(p) for p in pictures]
            resize = records.EDGE if name == "large" else -1
            with tempfile.TemporaryDirectory() as folder:
                results.append(compare(name, chosen, resize, args, Path(folder)))
            show(results[-1])
    if args.out:
        versions = results[-1]["versions"]
        report = {"machine": device | versions, "batch_size": args.batch_size, "results": results}
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
