"""How fast images come on a GPU, beside the decoder alone, DALI, torchvision and the CPU.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --rec train.rec --out gpu.json

Every measurement is a process of its own with a time limit: what crashes, hangs or is not installed
is noted, and the others go on. The first parts find the best settings of the bare decoder and of
DALI, with which the comparison is then made; its sides take turns, and ratios are taken within each
round. benchmarks/README.md tells what is measured, and what should come out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gpu_machine
import gpu_page
import gpu_show
import gpu_targets
from gpu_bench import Bench
from gpu_child import Row
from gpu_compare import last_line
from gpu_kernels import KINDS

BATCHES = (64, 128, 512)
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MAY_MISS = ("No module named 'nvidia.dali'", "No module named 'torchvision'")
LOADS = (0.3, 0.5, 0.65, 0.8, 0.9, 1.0)  # of DALI, whose default is 0.65


def run(args: argparse.Namespace, save: Callable[[Row], None]) -> Row:
    """Everything, within the time; what is there so far is saved after each part."""
    end = time.monotonic() + args.seconds
    report: Row = {
        "machine": gpu_machine.describe(args.device),
        "device": args.device,
        "images": "given" if args.rec else "drawn",
        "parts": {},
        "targets": [],
        "left_out": [],
    }
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench = Bench(args, Path(folder))
        begin = time.monotonic()
        report["subsampling"] = bench.make()
        report["making_data"] = round(time.monotonic() - begin, 1)
        for part in bench.parts():
            if args.only is not None and part.name not in args.only.split(";"):
                continue
            left = end - time.monotonic()
            if left < 1:
                report["left_out"].append(part.name)
                continue
            begin = time.monotonic()
            found = part.run(min(part.limit, left))
            bench.found[part.name] = found | {"took": round(time.monotonic() - begin, 1)}
            report["parts"] = bench.found
            report["targets"] = gpu_targets.targets(bench.found)
            gpu_show.part(part.name, bench.found[part.name])
            save(report)
    return report


def failures(report: Row) -> list[str]:
    """A line for each part that ended early, and for each side that failed or differs.

    Packages that may be missing are no failures.
    """
    found = []
    for name, part in report.get("parts", {}).items():
        if part.get("error"):
            found.append(f"{name}: {last_line(part['error'])}")
        found += [f"{name}, {side}: {why}" for side, why in part.get("missing", {}).items()]
    found = [line for line in found if not line.endswith(MAY_MISS)]
    for name, part in report.get("parts", {}).items():
        found += [
            f"{name}: {side} has other images than gpuio" for side in part.get("disagree", [])
        ]
    if report.get("left_out"):
        found.append(f"no time was left for: {', '.join(report['left_out'])}")
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs in a .rec (default: pictures are drawn)")
    parser.add_argument("--out", type=Path, help="JSON file, and a page beside it (.png)")
    parser.add_argument("--device", default="cuda:0", help="or simulated (default: cuda:0)")
    parser.add_argument("--seconds", type=float, default=600, help="for all (default: 600)")
    parser.add_argument("--only", help="parts, with semicolons between them")
    parser.add_argument("--sides", help="one class of sides alone, for a trial")
    parser.add_argument("--batch-size", type=int, default=256, help="(default: 256)")
    parser.add_argument("--batches", type=int, nargs="+", default=[*BATCHES], help="for bare")
    parser.add_argument("--shares", type=float, nargs="+", default=[*SHARES], help="of the engines")
    parser.add_argument("--loads", type=float, nargs="+", default=[*LOADS], help="of DALI's")
    parser.add_argument("--kinds", nargs="+", default=[*KINDS], help="of kernels")
    parser.add_argument("--edge", type=int, default=224, help="of the output (default: 224)")
    parser.add_argument("--resize", type=int, default=256, help="shorter edge (default: 256)")
    parser.add_argument("--records", type=int, default=20000, help="(default: 20000)")
    parser.add_argument("--images", type=int, default=1024, help="different ones in memory")
    parser.add_argument("--rounds", type=int, default=4, help="turns of every side (default: 4)")
    parser.add_argument("--turn", type=float, default=1.5, help="seconds of one (default: 1.5)")
    parser.add_argument("--count", type=int, default=30, help="batches of a measurement")
    parser.add_argument("--copied", type=int, default=1 << 30, help="bytes, for copy bandwidth")
    parser.add_argument("--matmul", type=int, default=8192, help="size of products in a step")
    parser.add_argument("--folder", type=Path, help="where files are made, and removed")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()

    def save(report: Row) -> None:
        if args.out:
            args.out.write_text(json.dumps(report, indent=1) + "\n")

    report = run(args, save)
    gpu_show.conclude(report)
    if args.out:
        gpu_page.draw({"benchmark": report}, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
