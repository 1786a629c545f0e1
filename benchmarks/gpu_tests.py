"""The tests that need a GPU: which there are, and what pytest found."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from gpu_child import Row

ROOT = Path(__file__).parents[1]
GRACE = 20  # seconds between the time at which pytest stops to begin tests, and its end
MARKED = (
    "tests/devices/test_cpu.py",
    "tests/devices/test_names.py",
    "tests/interop/test_torch.py",
    "tests/mxnet/test_device_ndarray.py",
    "tests/pipeline/cache/test_device_store.py",
    "tests/pipeline/cache/test_staged.py",
    "tests/pipeline/decode/test_nvimgcodec_gpu.py",
)
"""Files outside of tests/gpu with tests that are marked `gpu`. A machine for a report need not have
what the other files import."""

WANT = ("no CUDA device", "could not import")
"""What tests say that are skipped for want of a GPU or of a package."""

MAY_MISS = ("nvidia.dali",)
"""Packages that a report can do without."""

ENVIRONMENT = {
    "GPUIO_REQUIRE_GPU": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take most of the memory, beside others
    "PYTHONFAULTHANDLER": "1",
}
_TAIL = 3000  # characters of a suite's output that are kept where it failed
_TEST = re.compile(r"^tests/\S+::\w+(?:\[[^]\n]*\])?", re.MULTILINE)


@dataclass(frozen=True)
class Suite:
    """Tests that one process runs, so that a crash loses no others.

    Attributes:
        name: In the report.
        arguments: Of pytest.
        limit: Seconds.
        alone: Whether nothing else may use the GPU meanwhile.
    """

    name: str
    arguments: tuple[str, ...]
    limit: float
    alone: bool = False


def suites(device: str) -> list[Suite]:
    """All of a device; those of the simulated device try the others' lines."""
    real = device != "simulated"
    kinds = ("hardware", "hybrid", "cpu", "chain") if real else ("cpu",)
    of = () if real else ("-k", "simulated")
    marked = [Suite("marked", (*MARKED, "-m", "gpu"), 150)] if real else []
    return [
        *marked,
        Suite("comparison", ("tests/gpu/test_same_pixels.py", *of), 120),
        Suite("frameworks", ("tests/gpu/test_frameworks.py", *of), 120),
        *(
            Suite(
                f"damage, {kind}",
                ("tests/gpu/test_faults.py", "-k", f"{device}-{kind}"),
                90,
            )
            for kind in kinds
        ),
        Suite("soak", ("tests/gpu/test_soak.py", *of), 90, alone=True),
    ]


CPU = Suite("tests of the CPU", ("tests", "-m", "not gpu and not slow"), 300)


def run_all(wanted: list[Suite], end: float) -> Iterator[tuple[Suite, Row]]:
    """Suites and what came of them, as they end: side by side, then those that must be alone.

    Args:
        wanted: What to run.
        end: By `time.monotonic`, when all must be over.
    """

    def run_one(suite: Suite) -> Row:
        begin = time.monotonic()
        found = run(suite, min(suite.limit, max(end - begin, 1)))
        return found | {"took": round(time.monotonic() - begin, 1)}

    together = [suite for suite in wanted if not suite.alone]
    with ThreadPoolExecutor(max(len(together), 1)) as pool:
        running = {pool.submit(run_one, suite): suite for suite in together}
        for future in as_completed(running):
            yield running[future], future.result()
    for suite in wanted:
        if suite.alone:
            yield suite, run_one(suite)


def run(suite: Suite, limit: float) -> Row:
    """What pytest found: counts, failures, reasons of skips, and the figures that tests noted."""
    environment = os.environ | ENVIRONMENT
    if (ROOT / "shared").exists():  # data for tests that came along within the checkout
        environment.setdefault("GPUIO_SHARED", str(ROOT / "shared"))
    if suite is CPU:
        environment |= {"CUDA_VISIBLE_DEVICES": ""}
        del environment["GPUIO_REQUIRE_GPU"]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.xml"
        # -P: what is imported is the installed package, not the folder with its sources.
        command = [sys.executable, "-P", "-m", "pytest", "-v", "--continue-on-collection-errors"]
        command += [f"--junitxml={result}", f"--session-timeout={max(limit - GRACE, 1):.0f}"]
        process = subprocess.Popen(
            [*command, *suite.arguments],
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
        report = read(result) if result.exists() else ended(process.returncode, output)
    report["status"] = process.returncode
    if process.returncode:
        report["output"] = output[-_TAIL:]
    return report


def ended(status: int, output: str) -> Row:
    """The report of a process that left no result: how it ended, and in which test."""
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    begun = _TEST.findall(output)
    where = f" in {begun[-1]}" if begun else ""
    return {"failed": 1, "failures": [f"ended by {how}{where}"]}


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
    return {
        **counts,
        "wanting": sum(count for reason, count in skips.items() if _wants(reason)),
        "failures": failures,
        "skips": skips,
        "figures": figures,
    }


def _wants(reason: str) -> bool:
    return any(w in reason for w in WANT) and not any(name in reason for name in MAY_MISS)


def summary(found: Row) -> str:
    """One line, and one for each failure and for each reason of a skip that counts as one."""
    counts = ", ".join(f"{found[k]} {k}" for k in ("passed", "failed", "skipped") if k in found)
    lines = [f"{counts} ({found['took']} s, status {found['status']})", *failures(found)]
    return "\n  ".join(lines)


def failures(found: Row) -> list[str]:
    """What a suite's tests failed at, or could not be run for; once where many failed alike."""
    by_message: dict[str, list[str]] = {}
    for line in found["failures"]:
        name, _, message = line.partition(": ")
        by_message.setdefault(message, []).append(name)
    lines = [
        f"{names[0] if len(names) == 1 else f'{len(names)} tests'}: {message}".removesuffix(": ")
        for message, names in by_message.items()
    ]
    wanting = [f"skipped: {reason}" for reason in found.get("skips", {}) if _wants(reason)]
    return lines + wanting


def passed(found: Row) -> bool:
    """Whether the tests of a suite ran to the end, without a failure or a skip that counts."""
    return not found["status"] and not failures(found)
