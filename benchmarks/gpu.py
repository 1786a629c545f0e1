"""How fast images come on a GPU, beside the decoder alone, DALI, torchvision and the CPU.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --rec train.rec --out gpu.json --plot gpu.png

Every measurement is a process of its own with a time limit: what crashes, hangs or is not installed
is noted, and the others go on. Sides that are compared take turns, and ratios are taken within each
round. benchmarks/README.md tells what is measured, and what should come out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import machine
import records
from gpu_child import Child, Ended, Row, collect

BATCHES = (64, 128, 256, 512)
FEWER_THREADS = (1, 2, 4)
PACKAGES = (
    "cupy-cuda13x",
    "cupy-cuda12x",
    "numba-cuda",
    "nvidia-nvjpeg",
    "nvidia-nvjpeg-cu12",
    "nvidia-nvimgcodec-cu12",
)
OURS, BARE, BINDING = "gpuio", "nvImageCodec", "nvImageCodec, its Python module"
DALI = ("DALI", "DALI, hw_decoder_load=0.9")
TARGETS = {
    "gpuio / bare decoding": (OURS, (BARE, BINDING), 0.95),
    "gpuio / DALI": (OURS, DALI, 1.1),
    "gpuio / torchvision": (OURS, ("torchvision",), None),
    "gpuio / gpuio on the CPU": (OURS, ("gpuio on the CPU",), None),
}
KERNEL_PART, COPY_PART, LONGER, FIRST = 0.05, 0.5, 0.03, 3.0
START = 90.0  # seconds that a side may take to start
TURN = 60.0  # and to answer
CHECK = 0.1  # how far means and deviations may be apart: crops are random


@dataclass(frozen=True)
class SideOf:
    """One side of a comparison: its class in gpu_sides.py and its options."""

    name: str
    side: str
    options: dict[str, Any] = field(default_factory=dict)
    device: str | None = None


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
        name: In the report.
        limit: Seconds that it may take.
        run: From seconds to what the report says.
    """

    name: str
    limit: float
    run: Callable[[float], Row]


def sides() -> list[SideOf]:
    """All that can be compared; those that are not installed say so when they start."""
    return [
        SideOf(BARE, "Stage"),
        SideOf(BINDING, "Binding"),
        SideOf(OURS, "Gpuio"),
        SideOf("gpuio on the CPU", "Gpuio", device="cpu"),
        SideOf(DALI[0], "Dali"),
        SideOf(DALI[1], "Dali", {"hw_decoder_load": 0.9}),
        SideOf("torchvision", "Torchvision"),
    ]


def gpu_memory(device: str) -> float | None:
    """Megabytes in use on the GPU by all processes, as the driver says."""
    tool = shutil.which("nvidia-smi")
    if tool is None or not device.startswith("cuda"):
        return None
    number = device.partition(":")[2] or "0"
    query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits", f"--id={number}"]
    done = subprocess.run([tool, *query], capture_output=True, text=True, check=False)
    try:
        return float(done.stdout)
    except ValueError:
        return None


def compare(settings: Row, wanted: list[SideOf], turn: float, rounds: int, limit: float) -> Row:
    """Sides in turns, each about `turn` seconds at a time.

    Args:
        settings: Of all sides.
        wanted: The sides.
        turn: Seconds.
        rounds: Turns of each; fewer if time runs out.
        limit: Seconds for all.
    """
    end = time.monotonic() + limit
    children: dict[str, Child] = {}
    missing, checks, versions, memory = {}, {}, {}, {}
    turns: dict[str, int] = {}
    found: dict[str, list[Row]] = {}
    try:
        for side in wanted:
            before = gpu_memory(settings["device"])
            given = settings | {
                "options": side.options,
                "device": side.device or settings["device"],
            }
            child = children[side.name] = Child("gpu_sides.py", [side.side, json.dumps(given)])
            try:
                checked = child.row(min(START, end - time.monotonic()))
                trial = child.ask(settings["batch_size"], min(TURN, end - time.monotonic()))
            except Ended as ended:
                missing[side.name] = _last_line(str(ended))
                children.pop(side.name).close()
                continue
            versions |= checked.pop("versions")
            checks[side.name] = checked
            speed = trial["images"] / trial["seconds"]
            turns[side.name] = max(settings["batch_size"], int(turn * speed))
            after = gpu_memory(settings["device"])
            memory[side.name] = None if before is None or after is None else after - before
            found[side.name] = []
        for number in range(rounds):
            names = list(children)
            for name in names if number % 2 == 0 else names[::-1]:
                try:
                    row = children[name].ask(turns[name], min(TURN, end - time.monotonic()))
                except Ended as ended:
                    missing[name] = _last_line(str(ended))
                    children.pop(name).close()
                    continue
                found[name].append(row)
    finally:
        for child in children.values():
            child.close()
    found = {name: rows for name, rows in found.items() if rows}
    rates = {n: [round(r["images"] / r["seconds"], 1) for r in rows] for n, rows in found.items()}
    return {
        "images_per_second": rates,
        "median": {name: round(median(values), 1) for name, values in rates.items()},
        "cores": {n: _median(r["cpu"] / r["seconds"] for r in rows) for n, rows in found.items()},
        "gpu_megabytes": memory,
        "last": {name: _counts(rows[-1]) for name, rows in found.items()},
        "checks": checks,
        "missing": missing,
        "disagree": disagree(checks),
        "versions": versions,
        "ratios": ratios(rates),
    }


def disagree(checks: dict[str, Row]) -> list[str]:
    """Sides whose images differ from gpuio's more than random crops do."""
    mine = checks.get(OURS, {})
    return [
        name
        for name, theirs in checks.items()
        if any(abs(theirs[k] - mine[k]) > CHECK for k in ("mean", "std") if k in theirs and mine)
    ]


def _last_line(message: str) -> str:
    return message.splitlines()[-1] if message else "it ended"


def _median(values: Iterator[float]) -> float:
    return round(median(values), 2)


def _counts(row: Row) -> Row:
    """Who decoded, and how many could not be."""
    stats = row.get("stats", {})
    kinds = ("hardware", "gpu", "hybrid", "cpu", "portable", "engines", "faults")
    return {k: stats[k] for k in kinds if k in stats} | {k: row[k] for k in ("failed",) if k in row}


def ratios(rates: dict[str, list[float]]) -> list[Row]:
    """The ratio of gpuio and the best of others in every round, and the median."""
    rows = []
    for name, (over, others, least) in TARGETS.items():
        there = [other for other in others if other in rates]
        if over not in rates or not there:
            continue
        best = max(there, key=lambda other: median(rates[other]))
        rounds = [a / b for a, b in zip(rates[over], rates[best], strict=False)]
        value = median(rounds)
        rows.append(
            {"name": name, "beside": best, "rounds": [round(x, 3) for x in rounds]}
            | _target(value, least)
        )
    return rows


def _target(value: float, least: float | None = None, most: float | None = None) -> Row:
    row: Row = {"value": round(value, 4)}
    if least is not None:
        return row | {"least": least, "met": value >= least}
    if most is not None:
        return row | {"most": most, "met": value <= most}
    return row


def targets(parts: dict[str, Row]) -> list[Row]:
    """The figures that should come out in some way, and whether they did."""
    rows = []
    for name in ("large", "small"):
        part = parts.get(name, {})
        rows += [{**row, "name": f"{name}: {row['name']}"} for row in part.get("ratios", [])]
        speed = part.get("median", {}).get(OURS)
        kernels = _only(parts, f"kernels, {name}")
        if kernels:
            used = _target(kernels["of_copy_bandwidth"], least=COPY_PART)
            rows.append({"name": f"{name}: kernels, of the copy bandwidth"} | used)
        if kernels and speed:
            batch = part["batch_size"] / speed
            used = _target(kernels["kernel_us"] / 1e6 / batch, most=KERNEL_PART)
            rows.append({"name": f"{name}: kernels, of a batch's time"} | used)
    step, warm = _only(parts, "overlap"), _only(parts, "first batch, warm")
    if step:
        rows.append({"name": "training step, longer by"} | _target(step["longer"], most=LONGER))
    if warm:
        first = _target(warm["first_batch"], most=FIRST)
        rows.append({"name": "first batch with a warm cache, seconds"} | first)
    return rows


def _only(parts: dict[str, Row], name: str) -> Row:
    """The one row of a measurement, empty where there is none."""
    found = parts.get(name, {}).get("rows", [])
    return found[0] if found else {}


class Bench:
    """All measurements, in the order of their importance.

    Args:
        args: Of the command.
        folder: For data.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.settings: Row = {
            "device": args.device,
            "shape": (3, args.edge, args.edge),
            "batch_size": args.batch_size,
            "threads": machine.cores(),
            "check": 2 * args.batch_size,
            "images": args.images,
            "batches": args.batches,
            "fewer_threads": [n for n in FEWER_THREADS if n < machine.cores()],
            "seconds": args.turn / 4,
            "count": args.count,
            "rounds": args.rounds,
            "copied": args.copied,
            "matmul": args.matmul,
            "turns": 5,
            "engines": 0,
        }

    def make(self) -> None:
        """Make the data: as it is, and small."""
        pictures = records.load(self.args.rec, self.folder)
        shrunk = [records.shrink(picture) for picture in pictures]
        count = self.args.records
        self.data = {
            "large": (records.save("large", pictures, count, self.folder), self.args.resize),
            "small": (records.save("small", shrunk, count, self.folder), -1),
        }

    def given(self, name: str) -> Row:
        """Settings for a data set."""
        data, resize = self.data[name]
        return self.settings | {"rec": data.path, "size": data.size, "resize": resize}

    def parts(self) -> list[Part]:
        """What is measured, in this order."""
        caches = {"NUMBA_CACHE_DIR": "numba", "CUPY_CACHE_DIR": "cupy"}
        fresh = {name: str(self.folder / folder) for name, folder in caches.items()}

        def measure(
            script: str, name: str, data: str = "large", **more: Any
        ) -> Callable[[float], Row]:
            environment = more.pop("environment", None)
            return lambda limit: collect(
                f"{script}.py", name, self.given(data) | more, limit, environment
            )

        few = {"batch_size": min(64, self.args.batch_size)}
        risky = {
            "stream order": ("order", 40, few | {"batch_size": min(16, few["batch_size"])}),
            "damage": ("damage", 40, few),
            "windows": ("regions", 30, few),
        }
        return [
            Part("hardware", 60, self._hardware),
            Part("large", 150, lambda limit: self._compare("large", limit)),
            Part("kernels, large", 60, measure("gpu_loop", "kernels")),
            Part("overlap", 60, measure("gpu_loop", "overlap")),
            Part("first batch, cold", 150, measure("gpu_loop", "first", environment=fresh)),
            Part("first batch, warm", 60, measure("gpu_loop", "first", environment=fresh)),
            Part("decoding, large", 90, measure("gpu_decode", "rates")),
            Part("small", 120, lambda limit: self._compare("small", limit)),
            Part("kernels, small", 60, measure("gpu_loop", "kernels", "small")),
            Part("difference", 40, measure("gpu_decode", "difference", **few)),
            *(
                Part(
                    f"{name}, {kind}",
                    limit,
                    measure("gpu_decode", what, **more | {"kinds": [kind]}),
                )
                for name, (what, limit, more) in risky.items()
                for kind in ("hardware", "hybrid", "cpu")
            ),
            Part("share of the engines", 30, measure("gpu_decode", "share")),
            Part("decoders", 40, measure("gpu_decode", "decoders")),
            Part("decoding, small", 90, measure("gpu_decode", "rates", "small")),
        ]

    def _hardware(self, limit: float) -> Row:
        found = collect("gpu_decode.py", "hardware", self.given("large"), limit)
        if found["rows"]:
            self.settings["engines"] = found["rows"][0]["engines"]
        return found

    def _compare(self, name: str, limit: float) -> Row:
        data = {k: v for k, v in asdict(self.data[name][0]).items() if k != "path"}
        wanted = [s for s in sides() if self.args.sides in (None, s.side)]
        found = compare(self.given(name), wanted, self.args.turn, self.args.rounds, limit)
        return {"data": data, "batch_size": self.args.batch_size, **found}


def describe(device: str) -> Row:
    """The machine, its GPU as the driver names it, and versions."""
    found: Row = dict(machine.describe())
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    tool = shutil.which("nvidia-smi")
    if tool is not None and device.startswith("cuda"):
        names = ("name", "driver_version", "memory.total", "mig.mode.current")
        query = [f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
        query.append(f"--id={device.partition(':')[2] or '0'}")
        done = subprocess.run([tool, *query], capture_output=True, text=True, check=False)
        values = [value.strip() for value in done.stdout.strip().split(",")]
        if done.returncode == 0:
            found |= {f"gpu_{k}": v for k, v in zip(names, values, strict=True)}
    return found


def run(args: argparse.Namespace, save: Callable[[Row], None]) -> Row:
    """Everything, within the time; what is there so far is saved after each part."""
    end = time.monotonic() + args.seconds
    report: Row = {
        "machine": describe(args.device),
        "device": args.device,
        "images": "given" if args.rec else "demo",
        "parts": {},
        "targets": [],
        "left_out": [],
    }
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench = Bench(args, Path(folder))
        begin = time.monotonic()
        bench.make()
        report["making_data"] = round(time.monotonic() - begin, 1)
        chosen = [p for p in bench.parts() if args.only is None or p.name in args.only.split(";")]
        for part in chosen:
            left = end - time.monotonic()
            if left < 1:
                report["left_out"].append(part.name)
                continue
            begin = time.monotonic()
            found = part.run(min(part.limit, left))
            report["parts"][part.name] = found | {"took": round(time.monotonic() - begin, 1)}
            report["targets"] = targets(report["parts"])
            show(part.name, report["parts"][part.name])
            save(report)
    return report


def show(name: str, part: Row) -> None:
    """A table of one part."""
    print(f"\n{name} ({part['took']} s)", flush=True)
    if "median" in part:
        print(f"  {'images/s':34} {'median':>9} {'min':>9} {'max':>9} {'cores':>6} {'GPU MB':>8}")
        for side, rates in part["images_per_second"].items():
            used = part["gpu_megabytes"][side]
            print(
                f"  {side:34} {median(rates):9.0f} {min(rates):9.0f} {max(rates):9.0f} "
                f"{part['cores'][side]:6.1f} {'-' if used is None else round(used):>8}"
            )
        for side, reason in part["missing"].items():
            print(f"  {side}: {reason}")
        if part["disagree"]:
            print(f"  other images than gpuio's: {', '.join(part['disagree'])}")
    for row in part.get("rows", []):
        print("  " + ", ".join(f"{k} {v}" for k, v in row.items() if v != ""))
    if part.get("error"):
        print(f"  ended early: {_last_line(part['error'])}")


def conclude(report: Row) -> None:
    """The figures beside what they should be."""
    print("\ntargets")
    for row in report["targets"]:
        bound = next((f"{w} {row[w]}" for w in ("least", "most") if w in row), "")
        verdict = {True: "met", False: "not met"}.get(row.get("met"), "")
        print(f"  {row['name']:48} {row['value']:9.3f}  {bound:10} {verdict}")
    if report["left_out"]:
        print(f"no time was left for: {', '.join(report['left_out'])}")


def plot(report: Row, path: Path) -> None:
    """Bars of images per second, one panel for each data set."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    parts = {n: p for n, p in report["parts"].items() if p.get("median")}
    if not parts:
        return
    counts = [len(part["median"]) for part in parts.values()]
    figure, panels = plt.subplots(
        len(parts), figsize=(8, 1.2 + 0.42 * sum(counts)), height_ratios=counts, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for panel, (name, part) in zip(panels[:, 0], parts.items(), strict=True):
        names, rates = list(part["median"]), list(part["median"].values())
        colors = ["#76b900" if side == OURS else "#9a9a9a" for side in names]
        bars = panel.barh(names, rates, color=colors)
        panel.bar_label(bars, [f"{rate:.0f}" for rate in rates], label_type="center", fontsize=8)
        panel.invert_yaxis()
        panel.tick_params(labelsize=8)
        height, width = part["data"]["size"]
        panel.set_title(f"{name}: {width:.0f} x {height:.0f}", fontsize=9, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    device = report["machine"].get("gpu_name", report["device"])
    panels[-1, 0].set_xlabel(f"images per second, median of rounds ({device})", fontsize=8)
    figure.savefig(path, dpi=150)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, help="draw them, as PNG")
    parser.add_argument("--device", default="cuda:0", help="or simulated (default: cuda:0)")
    parser.add_argument("--seconds", type=float, default=1800, help="for all (default: 1800)")
    parser.add_argument("--only", metavar="PART;PART", help="only these parts")
    parser.add_argument("--sides", metavar="SIDE", help="only this class of gpu_sides.py")
    parser.add_argument("--batch-size", type=int, default=256, help="(default: 256)")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--edge", type=int, default=224, help="of the output (default: 224)")
    parser.add_argument("--resize", type=int, default=records.EDGE, help="(default: 256)")
    parser.add_argument("--records", type=int, default=20000, help="(default: 20000)")
    parser.add_argument("--images", type=int, default=1024, help="different ones in memory")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every side (default: 5)")
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of one (default: 2)")
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
    conclude(report)
    if args.plot:
        plot(report, args.plot)


if __name__ == "__main__":
    main()
