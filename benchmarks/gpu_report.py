"""Everything that only a GPU can show, in one report: `make test-gpu`.

    python benchmarks/gpu_report.py
    python benchmarks/gpu_report.py --rec train.rec --out gpu.json --seconds 540

Tests run first, then comparisons with the CPU, damaged images, 200 epochs in a row, and gpu.py with
the time that is left. Each part is a process with a limit of its own, and the report is written
after each: what fails, or takes too long, leaves the others' figures. The exit status is 0 if all
tests passed and none was skipped for want of a GPU; figures do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import gpu
from gpu_child import Row

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
GRACE = 20  # seconds between the time at which pytest stops to begin tests, and its end
WANT = "no CUDA device"  # what tests say that are skipped for want of a GPU
_TAIL = 3000  # characters of a part's output that are kept where it failed


@dataclass(frozen=True)
class Tests:
    """A part that pytest runs.

    Attributes:
        name: In the report.
        arguments: Of pytest.
        limit: Seconds.
        hidden: Whether the GPU is hidden from it.
    """

    name: str
    arguments: tuple[str, ...]
    limit: float
    hidden: bool = False


TESTS = (
    # All tests that run on a GPU, but for those below. The others are the CPU's, which CI runs:
    # they show nothing of a GPU, and are written for where the default device is the CPU.
    Tests("tests", ("tests", "-m", "gpu", "--ignore=tests/gpu"), 170),
    Tests("comparison", ("tests/gpu/test_same_pixels.py",), 90),
    Tests("faults", ("tests/gpu/test_faults.py",), 60),
    Tests("soak", ("tests/gpu/test_soak.py",), 60),
)
CPU = Tests("tests of the CPU", ("tests", "-m", "not gpu and not slow"), 300, hidden=True)


def run_tests(part: Tests, limit: float, extra: list[str]) -> Row:
    """What pytest found: counts, failures, reasons of skips, and the figures that tests noted.

    Args:
        part: What to run.
        limit: Seconds.
        extra: More arguments of pytest.
    """
    environment = dict(os.environ)
    if part.hidden:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    else:
        environment["GPUIO_REQUIRE_GPU"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.xml"
        # -P: what is imported is the installed package, not the folder with its sources.
        command = [sys.executable, "-P", "-m", "pytest", "-q", "--continue-on-collection-errors"]
        command += [f"--junitxml={found}", f"--session-timeout={max(limit - GRACE, 1):.0f}"]
        process = subprocess.Popen(
            [*command, *part.arguments, *extra],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\nended after {limit:.0f} s"
        report = (
            read(found) if found.exists() else {"failed": 1, "failures": ["there is no result"]}
        )
    report["status"] = process.returncode
    if process.returncode:
        report["output"] = output[-_TAIL:]
    return report


def read(path: Path) -> Row:
    """A result that pytest wrote as XML."""
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    failures, skips, figures = [], {}, {}
    for case in ET.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = [child for child in case if child.tag in ("failure", "error")]
        skipped = case.find("skipped")
        if bad:
            counts["failed"] += 1
            failures.append(f"{name}: {(bad[0].get('message') or '')[:300]}")
        elif skipped is not None:
            counts["skipped"] += 1
            reason = skipped.get("message") or ""
            skips[reason] = skips.get(reason, 0) + 1
        else:
            counts["passed"] += 1
        for figure in case.iter("property"):
            figures[figure.get("name")] = json.loads(figure.get("value") or "null")
    wanting = sum(count for reason, count in skips.items() if WANT in reason)
    return {
        **counts,
        "skipped_for_want_of_a_gpu": wanting,
        "failures": failures,
        "skips": skips,
        "figures": figures,
    }


def passed(report: Row) -> bool:
    """Whether every part of the tests ran to its end, without a failure or the wrong skip."""
    parts = report["tests"].values()
    return bool(parts) and not any(p["status"] or p.get("skipped_for_want_of_a_gpu") for p in parts)


def where(report: Row) -> Path:
    """The file for a report: named after its device."""
    name = str(report["machine"].get("gpu_name", report["device"]))
    return RESULTS / f"gpu-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments; those of gpu.py follow two dashes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="(default: benchmarks/results/gpu-DEVICE.json)")
    parser.add_argument("--rec", type=Path, help="JPEGs for gpu.py (default: demo images are made)")
    parser.add_argument("--device", default="cuda:0", help="or simulated (default: cuda:0)")
    parser.add_argument("--seconds", type=float, default=530, help="for all (default: 530)")
    parser.add_argument("--parts", nargs="+", help="of the tests; all by default")
    parser.add_argument("--cpu", action="store_true", help="also the tests of the CPU")
    parser.add_argument("--no-benchmark", action="store_true", help="without gpu.py")
    parser.add_argument("rest", nargs="*", metavar="-- ...", help="arguments of gpu.py")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    end = time.monotonic() + args.seconds
    report: Row = {
        "machine": gpu.describe(args.device),
        "device": args.device,
        "passed": False,
        "tests": {},
    }
    out = args.out or where(report)
    out.parent.mkdir(exist_ok=True)

    def save(more: dict[str, Any] | None = None) -> None:
        report["passed"] = passed(report)
        out.write_text(json.dumps(report | (more or {}), indent=1) + "\n")

    extra = [] if args.device != "simulated" else ["-k", "simulated"]
    wanted = [p for p in TESTS if args.parts is None or p.name in args.parts]
    for part in (*wanted, *([CPU] if args.cpu else [])):
        begin = time.monotonic()
        found = run_tests(part, min(part.limit, max(end - begin, 1)), extra)
        report["tests"][part.name] = found | {"took": round(time.monotonic() - begin, 1)}
        print(f"{part.name}: {summary(report['tests'][part.name])}", flush=True)
        save()
    if not args.no_benchmark:
        given = [f"--device={args.device}", f"--seconds={max(end - time.monotonic(), 1):.0f}"]
        given += [f"--rec={args.rec}"] if args.rec else []
        bench = gpu.parse([*given, *args.rest])
        report["benchmark"] = gpu.run(bench, lambda found: save({"benchmark": found}))
        save()
        gpu.conclude(report["benchmark"])
        gpu.plot(report["benchmark"], out.with_suffix(".png"))
    print(f"\n{'passed' if report['passed'] else 'NOT PASSED'}: {out}")
    return 0 if report["passed"] else 1


def summary(found: Row) -> str:
    """One line, and one for each failure."""
    counts = ", ".join(f"{found[k]} {k}" for k in ("passed", "failed", "skipped") if k in found)
    lines = [f"{counts} ({found['took']} s, status {found['status']})"]
    return "\n  ".join([*lines, *found["failures"]])


if __name__ == "__main__":
    sys.exit(main())
