"""How fast augmented images come on a CPU, beside the decoder alone, MXNet and DALI.

    python benchmarks/augment.py
    python benchmarks/augment.py --rec train.rec --mxnet MXNET/bin/python --dali DALI/bin/python \
        --out augment.json

As in cpu.py all sides read one shuffled .rec in turns, each in a process of its own, and ratios are
taken within each round. What stands beside gpuio does the same with its own random numbers; the
decoder alone decodes whole images, and nothing else. benchmarks/README.md tells more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import records
from cpu import BARE, SHAPE, Kind, Target, compare, show

AFFINE = {"max_rotate_angle": 10, "max_shear_ratio": 0.1}
RESIZED_CROP = {
    "rand_crop": False,
    "random_resized_crop": True,
    "min_random_area": 0.08,
    "max_random_area": 1.0,
    "min_aspect_ratio": 3 / 4,
    "max_aspect_ratio": 4 / 3,
}
COLORS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
OVER_MXNET, OVER_DALI = 1.2, 1.5


@dataclass(frozen=True)
class Case:
    """What is done to images.

    Attributes:
        name: For the command line.
        what: For tables.
        augment: Keywords of ImageRecordIter.
        least: By data set, the part of the decoder's speed that is wanted; None for any.
        whole: Whether the window is cut from the image as it is, so that no resize comes first.
    """

    name: str
    what: str
    augment: dict[str, Any]
    least: dict[str, float | None]
    whole: bool = False


CASES = (
    Case("affine", "rotation, shear, random crop", AFFINE, {"large": 0.75, "small": 0.6}),
    Case("resized", "random resized crop", RESIZED_CROP, {"large": 1.0, "small": None}, whole=True),
    Case(
        "colors",
        "random resized crop, colour jitter",
        RESIZED_CROP | COLORS,
        {"large": 0.7, "small": None},
        whole=True,
    ),
    Case("crop-colors", "random crop, colour jitter", COLORS, {"large": 0.7, "small": None}),
)


def sides(args: argparse.Namespace, least: float | None) -> tuple[list[Kind], list[Target]]:
    """What takes turns, and which ratios are looked at."""
    bare = (BARE + "simplejpeg", BARE + "nvImageCodec")
    found = [Kind(bare[0], "BareSimplejpeg"), Kind(bare[1], "BareNvimgcodec")]
    found.append(Kind("gpuio", "Gpuio"))
    targets = [Target("gpuio / whole images decoded", "gpuio", bare, least)]
    if args.mxnet:
        threads = {"preprocess_threads": machine.cores()}
        openmp = {"OMP_NUM_THREADS": str(machine.cores())}
        names = ('MXNet, ctx="cpu"', "MXNet, default ctx")
        found += [
            Kind(names[0], "MXNet", args.mxnet, {"ctx": "cpu"} | threads, openmp),
            Kind(names[1], "MXNet", args.mxnet, threads, openmp),
        ]
        targets.append(Target("gpuio / MXNet, best setting", "gpuio", names, OVER_MXNET))
    if args.dali:
        found.append(Kind("DALI", "DaliAugment", args.dali))
        targets.append(Target("gpuio / DALI", "gpuio", ("DALI",), OVER_DALI))
    return found, targets


def measured(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Every case on each data set."""
    count = -(-args.records // args.batch_size) * args.batch_size
    pictures = records.load(args.rec, folder)
    for name in args.data.split(","):
        chosen = [records.shrink(picture) for picture in pictures] if name == "small" else pictures
        data = records.save(name, chosen, count, folder)
        edge = records.EDGE if name == "large" else -1
        for case in CASES:
            if case.name in args.cases.split(","):
                resize = -1 if case.whole else edge
                plan = sides(args, case.least[name])
                result = compare(data, SHAPE, resize, args, *plan, case.augment)
                first = f"shorter edge to {resize}, " if resize > 0 else ""
                what = f"{first}{case.what}, mirror, normalize"
                yield result | {"case": case.name, "augment": case.augment, "what": what}
        Path(data.path).unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--mxnet", metavar="PYTHON", help="interpreter that has mxnet")
    parser.add_argument("--dali", metavar="PYTHON", help="interpreter that has nvidia.dali")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every side (default: 5)")
    parser.add_argument("--batch-size", type=int, default=128, help="(default: 128)")
    parser.add_argument("--records", type=int, default=2000, help="images are repeated to so many")
    parser.add_argument("--images", type=int, default=4096, help="in a turn (default: 4096)")
    parser.add_argument("--data", default="large,small", help="(default: %(default)s)")
    names = ",".join(case.name for case in CASES)
    parser.add_argument("--cases", default=names, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where files are made, and removed")
    parser.add_argument("--verbose", action="store_true", help="print gpuio's own accounts, too")
    args = parser.parse_args()
    device = machine.describe()
    print(f"{device['cpu']}, {device['cores']} cores; batch {args.batch_size}")
    results, versions = [], {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for result in measured(args, Path(folder)):
            show(result)
            versions |= result.pop("versions")
            results.append(result)
    if args.out:
        report = {
            "machine": device | versions,
            "images": "given" if args.rec else "demo",
            "batch_size": args.batch_size,
            "images_per_turn": args.images,
            "results": results,
        }
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
