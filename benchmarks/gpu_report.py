"""Everything that only a GPU can show, in one report: `make test-gpu`.

    python benchmarks/gpu_report.py
    python benchmarks/gpu_report.py --rec train.rec --out gpu.json --seconds 530

Kernels are compiled first, while no clock runs. Then come the tests, each suite a process of its
own, and gpu.py with the time that is left. The report is written after each part: what crashes,
fails or takes too long leaves the others' figures. It is one JSON and, drawn from that, one page,
beside each other. The exit status is 0 if all packages are there and all tests passed, none of them
skipped for want of a GPU or of a package; figures do not count.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import date
from pathlib import Path

import gpu
import gpu_machine
import gpu_needs
import gpu_page
import gpu_show
import gpu_tests
import gpu_warm
from gpu_child import Row

RESULTS = Path(__file__).parent / "results"


def passed(report: Row) -> bool:
    """Whether nothing is missing, all kernels were compiled, and every test passed."""
    tests = report["tests"].values()
    ready = not report["missing"] and not report["warm_up"].get("failures")
    return bool(tests) and ready and all(map(gpu_tests.passed, tests))


def failures(report: Row) -> list[str]:
    """A line for each thing that is missing or went wrong."""
    found = [f"packages: {line}" for line in report["missing"]]
    found += [f"warm-up: {line}" for line in report["warm_up"].get("failures", [])]
    for name, suite in report["tests"].items():
        found += [f"{name}: {line}" for line in gpu_tests.failures(suite)]
    return found + gpu.failures(report.get("benchmark", {}))


def where(report: Row) -> Path:
    """The file for a report: named after its device and day."""
    name = str(report["machine"].get("gpu_name", report["device"])).lower()
    return RESULTS / f"gpu-{re.sub('[^a-z0-9]+', '-', name).strip('-')}-{report['date']}.json"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments; those of gpu.py follow two dashes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="(default: benchmarks/results/gpu-DEVICE-DATE)")
    parser.add_argument("--rec", type=Path, help="JPEGs for gpu.py (default: drawn pictures)")
    parser.add_argument("--device", default="cuda:0", help="or simulated (default: cuda:0)")
    parser.add_argument("--seconds", type=float, default=530, help="for all (default: 530)")
    parser.add_argument("--suites", nargs="+", help="of the tests; all by default")
    parser.add_argument("--cpu", action="store_true", help="also the tests of the CPU")
    parser.add_argument("--no-benchmark", action="store_true", help="without gpu.py")
    parser.add_argument("rest", nargs="*", metavar="-- ...", help="arguments of gpu.py")
    return parser.parse_args(arguments)


class Report:
    """A report that is written again after each part.

    Args:
        args: Of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._end = args, time.monotonic() + args.seconds
        cuda, real = gpu_needs.cuda_version(), args.device != "simulated"
        self.found: Row = {
            "date": date.today().isoformat(),
            "machine": gpu_machine.describe(args.device),
            "device": args.device,
            "passed": False,
            "missing": gpu_needs.missing(gpu_needs.required(cuda)) if real else [],
            "not_compared": gpu_needs.absent(cuda),
            "warm_up": {},
            "tests": {},
            "failures": [],
        }
        self.out: Path = args.out or where(self.found)
        self.out.parent.mkdir(exist_ok=True)

    def save(self) -> None:
        """Write what there is so far."""
        self.found["passed"], self.found["failures"] = passed(self.found), failures(self.found)
        gpu_page.save(self.found, self.out)

    def prepare(self) -> bool:
        """Name what is missing, and compile; whether there is a device to go on with."""
        if self.found["missing"]:
            print("\n  ".join(["packages", *self.found["missing"], gpu_needs.CARRY]), flush=True)
        device, kinds = self._args.device, gpu.parse(self._args.rest).kinds
        warm = self.found["warm_up"] = gpu_warm.warm_up(device, kinds, self._left())
        print(f"kernels compiled in {warm['took']} s", flush=True)
        self.save()
        return bool(warm["opened"])

    def test(self) -> None:
        """Run all suites."""
        wanted = gpu_tests.suites(self._args.device)
        wanted = [s for s in wanted if self._args.suites is None or s.name in self._args.suites]
        if self._args.cpu:
            wanted.append(gpu_tests.CPU)
        for suite, found in gpu_tests.run_all(wanted, self._end):
            self.found["tests"][suite.name] = found
            print(f"{suite.name}: {gpu_tests.summary(found)}", flush=True)
            self.save()

    def measure(self) -> None:
        """Run gpu.py with the time that is left."""
        given = [f"--device={self._args.device}", f"--seconds={max(self._left(), 1):.0f}"]
        given += [f"--rec={self._args.rec}"] if self._args.rec else []

        def keep(benchmark: Row) -> None:
            self.found["benchmark"] = benchmark
            self.save()

        keep(gpu.run(gpu.parse([*given, *self._args.rest]), keep))
        gpu_show.conclude(self.found["benchmark"])

    def _left(self) -> float:
        return self._end - time.monotonic()


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    report = Report(args)
    if report.prepare():
        report.test()
        if not args.no_benchmark:
            report.measure()
    page = gpu_page.draw(report.found, report.out.with_suffix(".png"))
    print("\n  ".join(["", *report.found["failures"]]))
    print(f"{'passed' if report.found['passed'] else 'NOT PASSED'}: {report.out}, {page}")
    return 0 if report.found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
