"""How fast `mx.image.ImageIter` is, beside MXNet's and beside `ImageRecordIter`.

    python benchmarks/image_iter.py
    python benchmarks/image_iter.py --rec train.rec --mxnet MXNET/bin/python --out image_iter.json

As in cpu.py all sides read one shuffled .rec in turns, each in a process of its own, and ratios are
taken within each round. All resize, crop at random, mirror and normalize, bilinearly; "colours"
adds jitter of brightness, contrast and saturation, and "own" an augmenter that is no part of the
library, so that the list runs in Python, image by image.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import machine
import records
from cpu import SHAPE, Kind, Target, ratio, started

COLORS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
RECORD_ITER, IMAGE_ITER = "ImageRecordIter", "ImageIter"


def sides(mxnet: str | None) -> tuple[list[Kind], list[Target]]:
    """What takes turns, and which ratios are looked at."""
    mine = {"module": "gpuio"}
    colors, python = f"{IMAGE_ITER}, colours", f"{IMAGE_ITER}, own augmenter"
    kinds = [
        Kind(RECORD_ITER, "Gpuio"),
        Kind(IMAGE_ITER, "ImageIter", options=mine),
        Kind(colors, "ImageIter", options=mine | COLORS),
        Kind(python, "OwnAugmenter", options=mine),
    ]
    targets = [Target(f"{IMAGE_ITER} / {RECORD_ITER}", IMAGE_ITER, (RECORD_ITER,), 0.9)]
    if mxnet:
        theirs = {"module": "mxnet"}
        plain, jittered = "MXNet's ImageIter", "MXNet's ImageIter, colours"
        kinds += [
            Kind(plain, "ImageIter", mxnet, theirs),
            Kind(jittered, "ImageIter", mxnet, theirs | COLORS),
        ]
        targets += [
            Target(f"{name} / MXNet's", name, (other,), 1)
            for name, other in ((IMAGE_ITER, plain), (colors, jittered), (python, plain))
        ]
    return kinds, targets


def compare(data: records.Records, resize: int, args: argparse.Namespace) -> dict[str, Any]:
    """All sides on one .rec, in turns."""
    kinds, targets = sides(args.mxnet)
    settings = {
        "rec": data.path,
        "epoch": 1,
        "shape": SHAPE,
        "resize": resize,
        "batch_size": args.batch_size,
        "threads": machine.cores(),
        "check": args.batch_size,
    }
    rates: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    with started(kinds, settings) as children:
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            for child in children if number % 2 == 0 else children[::-1]:
                result = child.ask(args.images)
                rates[child.kind.name].append(result["images"] / result["seconds"])
    return {
        "size": data.size,
        "resize": resize,
        "images_per_second": {k: [round(x, 1) for x in v] for k, v in rates.items()},
        "ratios": [ratio(target, rates) for target in targets],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--mxnet", metavar="PYTHON", help="interpreter that has mxnet")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every side (default: 5)")
    parser.add_argument("--batch-size", type=int, default=128, help="(default: 128)")
    parser.add_argument("--records", type=int, default=1024, help="images are repeated to so many")
    parser.add_argument("--images", type=int, default=1024, help="in a turn (default: 1024)")
    args = parser.parse_args()
    device = machine.describe()
    print(f"{device['cpu']}, {device['cores']} cores; batch {args.batch_size}")
    results = []
    with tempfile.TemporaryDirectory() as name:
        pictures = records.load(args.rec, Path(name))
        small = [records.shrink(picture) for picture in pictures]
        for chosen, resize in ((pictures, records.EDGE), (small, -1)):
            data = records.save(f"to{resize}", chosen, args.records, Path(name))
            results.append(compare(data, resize, args))
            high, wide = data.size
            print(f"\n{high:.0f} x {wide:.0f} pixels, resize {resize}: images per second")
            for side, rates in results[-1]["images_per_second"].items():
                print(f"  {side:36} {median(rates):8.0f} {min(rates):8.0f} {max(rates):8.0f}")
            for row in results[-1]["ratios"]:
                print(f"  {row['name']:36} {row['median']:8.2f}")
    if args.out:
        args.out.write_text(json.dumps({"machine": device, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
