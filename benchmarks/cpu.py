"""How fast images come on a CPU, beside the decoder alone, MXNet and DALI.

    python benchmarks/cpu.py
    python benchmarks/cpu.py --rec train.rec --mxnet MXNET/bin/python --dali DALI/bin/python \
        --out cpu.json --plot cpu.png

All sides take turns in one run, each in a process of its own that rests while another one works,
so that ratios mean something on a machine whose speed varies: they are taken within each round,
and the median of the rounds is reported. benchmarks/README.md tells what each side does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import machine
import records
from records import Picture, Records

SCRIPT = Path(__file__).with_name("sides.py")
SHAPE = (3, 224, 224)
EPOCH = 2  # times that a file is read in an epoch
BARE = "libjpeg-turbo: "
CHECK = 0.1  # how far means and deviations may be apart: crops are random
FIELDS = ("images", "mean", "std", "shape")


@dataclass(frozen=True)
class Kind:
    """One side: its name in tables, its class in a script, its interpreter and what it needs."""

    name: str
    side: str
    python: str = sys.executable
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    script: Path = SCRIPT


@dataclass(frozen=True)
class Target:
    """A ratio of two sides and what it should be; the best of several is compared with."""

    name: str
    over: str
    under: tuple[str, ...]
    least: float | None


class Child:
    """A side in a process of its own."""

    def __init__(self, kind: Kind, settings: dict[str, Any]) -> None:
        self.kind = kind
        command = [
            kind.python,
            str(kind.script),
            kind.side,
            json.dumps(settings | {"options": kind.options}),
        ]
        # Without OMP_NUM_THREADS and the like, unless this side sets them.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment | kind.environment,
        )
        self.checked = self.answer()

    def ask(self, count: int) -> dict[str, Any]:
        """Have at least `count` images delivered."""
        self.begin(count)
        return self.answer()

    def begin(self, count: int) -> None:
        """Let the side begin with that."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"{self.kind.name} ended:\n{self.log.read().decode()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def kinds(args: argparse.Namespace, *, windows: bool) -> tuple[list[Kind], list[Target]]:
    """The sides of one data set, and which ratios are looked at."""
    bare = (BARE + "simplejpeg", BARE + "nvImageCodec")
    sides = [Kind(bare[0], "BareSimplejpeg"), Kind(bare[1], "BareNvimgcodec")]
    if windows:
        sides.append(Kind("gpuio", "Gpuio"))
        return sides, [Target("gpuio / whole images decoded", "gpuio", bare, 1.7)]
    thread, process = "gpuio beside a Python thread", "gpuio beside a Python process"
    sides += [
        Kind("gpuio", "Gpuio"),
        Kind(thread, "GpuioBesideThread"),
        Kind(process, "GpuioBesideProcess"),
    ]
    targets = [
        Target("gpuio / whole images decoded", "gpuio", bare, 1.3),
        Target("gpuio beside a Python thread / gpuio", thread, ("gpuio",), 0.75),
        Target("gpuio beside a Python process / gpuio", process, ("gpuio",), None),
    ]
    if args.mxnet:
        cores = machine.cores()
        threads = {"preprocess_threads": cores}
        openmp = {"OMP_NUM_THREADS": str(cores)}
        names = ('MXNet, ctx="cpu"', "MXNet, default ctx", "MXNet, all defaults")
        sides += [
            Kind(names[0], "MXNet", args.mxnet, {"ctx": "cpu"} | threads, openmp),
            Kind(names[1], "MXNet", args.mxnet, threads, openmp),
            Kind(names[2], "MXNet", args.mxnet),
        ]
        targets.append(Target("gpuio / MXNet, best setting", "gpuio", names, 2.5))
    if args.dali:
        sides.append(Kind("DALI", "Dali", args.dali))
        targets.append(Target("gpuio / DALI", "gpuio", ("DALI",), 1.9))
    return sides, targets


@contextmanager
def started(sides: list[Kind], settings: dict[str, Any]) -> Iterator[list[Child]]:
    """Every side, one started after the other, warm and at rest."""
    with ExitStack() as stack:
        children = []
        for side in sides:
            children.append(Child(side, settings))
            stack.callback(children[-1].close)
        yield children


def compare(
    data: Records,
    shape: tuple[int, int, int],
    resize: int,
    args: argparse.Namespace,
    sides: list[Kind],
    targets: list[Target],
    augment: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All sides on one data set, in turns; `augment` are keywords of ImageRecordIter."""
    settings = {
        "augment": augment or {},
        "rec": data.path,
        "epoch": EPOCH,
        "shape": shape,
        "resize": resize,
        "batch_size": args.batch_size,
        "threads": machine.cores(),
        "check": EPOCH * data.count,
    }
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    work: dict[str, list[float]] = {side.name: [] for side in sides}
    with started(sides, settings) as children:
        checks = {
            c.kind.name: {k: c.checked[k] for k in FIELDS if k in c.checked} for c in children
        }
        versions = {k: v for c in children for k, v in c.checked["versions"].items()}
        disagree(checks)
        for number in range(args.rounds):
            print(f"{data.name}: round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            for child in children if number % 2 == 0 else children[::-1]:
                result = child.ask(args.images)
                rates[child.kind.name].append(result["images"] / result["seconds"])
                if result["cpu"] is not None:
                    work[child.kind.name].append(1000 * result["cpu"] / result["images"])
                if args.verbose and "stats" in result:
                    print(child.kind.name, json.dumps(result["stats"]), flush=True)
    return {
        "data": {k: v for k, v in asdict(data).items() if k != "path"},
        "data_shape": list(shape),
        "resize": resize,
        "versions": versions,
        "images_per_second": {k: [round(x, 1) for x in v] for k, v in rates.items()},
        "median": {name: round(median(values), 1) for name, values in rates.items()},
        "cpu_milliseconds": {name: round(median(v), 3) for name, v in work.items() if v},
        "ratios": [ratio(target, rates) for target in targets],
        "checks": checks,
    }


def ratio(target: Target, rates: dict[str, list[float]]) -> dict[str, Any]:
    """The ratio in every round, and their median."""
    best = max(target.under, key=lambda name: median(rates[name]))
    rounds = [a / b for a, b in zip(rates[target.over], rates[best], strict=True)]
    return {
        "name": target.name,
        "over": best,
        "rounds": [round(x, 3) for x in rounds],
        "median": round(median(rounds), 3),
        "target": target.least,
    }


def disagree(checks: dict[str, dict[str, Any]]) -> None:
    """Stop where sides deliver different images: then their speeds mean nothing."""
    mine = checks["gpuio"]
    for name, theirs in checks.items():
        for key in ("mean", "std"):
            if key in theirs and abs(theirs[key] - mine[key]) > CHECK:
                raise SystemExit(f"{name}: {key} of the pixels is {theirs[key]}, not {mine[key]}")
        for key in ("images", "shape"):
            if theirs.get(key, mine[key]) != mine[key]:
                raise SystemExit(f"{name}: {key} is {theirs[key]}, not {mine[key]}")


def show(result: dict[str, Any]) -> None:
    """One data set as tables."""
    data, (_, height, width) = result["data"], result["data_shape"]
    high, wide = data["size"]
    print(
        f"\n{data['name']}: {data['count']} images of {high:.0f} x {wide:.0f} pixels and "
        f"{data['nbytes'] / 1000:.0f} kB on average; {result['what']}, to {height} x {width}"
    )
    head = f"{'median':>8} {'lowest':>8} {'highest':>8}"
    print(f"  {'images per second':44} {head} {'CPU ms':>8}")
    for name, rates in result["images_per_second"].items():
        work = result["cpu_milliseconds"].get(name)
        cpu = "" if work is None else f" {work:8.3f}"
        print(f"  {name:44} {median(rates):8.0f} {min(rates):8.0f} {max(rates):8.0f}{cpu}")
    print(f"  {'ratio':44} {head} {'target':>8}")
    for row in result["ratios"]:
        goal, verdict = row["target"], ""
        if goal is not None:
            verdict = f"  >= {goal:<5}{'met' if row['median'] >= goal else 'not met'}"
        low, high = min(row["rounds"]), max(row["rounds"])
        print(f"  {row['name']:44} {row['median']:8.2f} {low:8.2f} {high:8.2f}{verdict}")
        if row["name"].endswith(("decoded", "setting")):
            print(f"    (the fastest: {row['over']})")


def plot(results: list[dict[str, Any]], path: Path, device: str) -> None:
    """One panel of bars for each data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    counts = [len(result["median"]) for result in results]
    figure, panels = plt.subplots(
        len(results), figsize=(8, 1.2 + 0.42 * sum(counts)), height_ratios=counts, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for panel, result in zip(panels[:, 0], results, strict=True):
        names = list(result["median"])
        rates = [result["median"][name] for name in names]
        spread = [
            [
                rate - min(result["images_per_second"][n])
                for n, rate in zip(names, rates, strict=True)
            ],
            [
                max(result["images_per_second"][n]) - rate
                for n, rate in zip(names, rates, strict=True)
            ],
        ]
        colors = ["#76b900" if n.startswith("gpuio") else "#9a9a9a" for n in names]
        bars = panel.barh(names, rates, color=colors, xerr=spread, error_kw={"lw": 0.8})
        panel.bar_label(bars, [f"{rate:.0f}" for rate in rates], label_type="center", fontsize=8)
        panel.invert_yaxis()
        panel.tick_params(labelsize=8)
        panel.set_title(f"{result['data']['name']}: {result['what']}", fontsize=9, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel(f"images per second, median of rounds ({device})", fontsize=8)
    figure.savefig(path, dpi=150)


def cases(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Each data set in turn, made, measured and removed."""
    count = -(-args.records // args.batch_size) * args.batch_size
    pictures = records.load(args.rec, folder)
    wanted = args.data.split(",")

    def run(
        name: str, chosen: list[Picture], shape: tuple[int, int, int], resize: int
    ) -> dict[str, Any]:
        data = records.save(name, chosen, count, folder)
        try:
            return compare(data, shape, resize, args, *kinds(args, windows=name == "windows"))
        finally:
            Path(data.path).unlink()

    crop = "random crop, mirror, normalize"
    if "large" in wanted:
        yield run("large", pictures, SHAPE, records.EDGE) | {
            "what": f"shorter edge to {records.EDGE}, {crop}"
        }
    if "small" in wanted:
        small = [records.shrink(picture) for picture in pictures]
        yield run("small", small, SHAPE, -1) | {"what": crop}
    if "windows" in wanted:
        fits, (height, width), area = records.window(pictures)
        if len(fits) < 8:
            print("\nwindows: left out, too few images of about one size", flush=True)
            return
        yield run("windows", fits, (3, height, width), -1) | {
            "what": f"{crop} of {area:.1%} of the area",
            "area": round(area, 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--mxnet", metavar="PYTHON", help="interpreter that has mxnet")
    parser.add_argument("--dali", metavar="PYTHON", help="interpreter that has nvidia.dali")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, help="draw them, as PNG")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every side (default: 5)")
    parser.add_argument("--batch-size", type=int, default=128, help="(default: 128)")
    parser.add_argument(
        "--records", type=int, default=2000, help="the images are repeated to so many"
    )
    parser.add_argument("--images", type=int, default=4096, help="in a turn (default: 4096)")
    parser.add_argument("--data", default="large,small,windows", help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where files are made, and removed")
    parser.add_argument("--verbose", action="store_true", help="print gpuio's own accounts, too")
    args = parser.parse_args()
    for name in ("mxnet", "dali"):
        if not getattr(args, name):
            print(f"{name}: left out, no --{name} PYTHON given", flush=True)
    device = machine.describe()
    print(
        f"{device['cpu']}, {device['cores']} cores; batch {args.batch_size}, {args.rounds} rounds"
    )
    results = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for result in cases(args, Path(folder)):
            show(result)
            results.append(result)
    versions = {k: v for result in results for k, v in result.pop("versions").items()}
    report = {
        "machine": device | versions,
        "images": "given" if args.rec else "demo",
        "batch_size": args.batch_size,
        "images_per_turn": args.images,
        "results": results,
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    if args.plot:
        plot(results, args.plot, f"{device['cores']} cores")


if __name__ == "__main__":
    main()
