"""The parent: starts workers, limits their time, and finds out whose fault a crash is."""

from __future__ import annotations

import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .case import CRASH, HANG, Case, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds.

    Attributes:
        cpu: Of a case, in CPU time.
        idle: Of a case that takes no CPU time.
        wall: Of a case, whatever it does.
        prepare: Of a door that is made ready, which compiles kernels.
    """

    cpu: float = 40
    idle: float = 30
    wall: float = 300
    prepare: float = 900


@dataclass(frozen=True)
class Result:
    """A case that was run, and how many damaged inputs it had."""

    door: str
    seed: int
    verdict: Verdict
    inputs: int
    seconds: float


class WorkerLostError(Exception):
    """A worker ended, or was ended, outside of any case."""


class Runner:
    """Runs cases in a worker, and a new one after each that was lost.

    Args:
        folder: For the files of workers.
        limits: How long things may take.
        module: What the worker is; the tests have others.
    """

    def __init__(
        self, folder: Path, limits: Limits | None = None, module: str = "robustness.worker"
    ) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self.module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._log = folder / "worker.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, door: str, seed: int, count: int) -> Iterator[Result]:
        """The cases of `count` seeds of a door from `seed`, each in its turn."""
        stop = seed + count
        while seed < stop:
            for result in self._ask({"door": door, "seed": seed, "count": stop - seed}):
                seed = result.seed + 1
                yield result

    def run_case(self, case: Case) -> Result:
        """One case, that may be none of any seed."""
        path = self.folder / "case.pickle"
        path.write_bytes(pickle.dumps(case))
        (result,) = self._ask({"door": case.door, "case": str(path)})
        return result

    def case_of(self, door: str, seed: int) -> Case:
        """The case of a seed, made by a worker."""
        path = self.folder / "made.pickle"
        list(self._ask({"door": door, "seed": seed, "save": str(path)}))
        return pickle.loads(path.read_bytes())

    def stop(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                pipe.close()
            self._process = None
            self._buffer = b""

    def _ask(self, request: dict[str, Any]) -> Iterator[Result]:
        """The answers to a request, until it is done or the worker is lost."""
        process = self._started()
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        door, seed, started, limit = request["door"], None, time.monotonic(), self.limits.prepare
        while True:
            line, lost = self._line(seed is not None, limit)
            if lost is not None:
                self.stop()
                if seed is None:
                    printed = self._log.read_text(errors="replace")[-2000:]
                    raise WorkerLostError(f"{door}: {lost.kind}: {lost.text}\n{printed}")
                yield Result(door, seed, lost, 1, time.monotonic() - started)
                return
            event = json.loads(line)
            if event["event"] == "begin":
                seed, started, limit = event["seed"], time.monotonic(), self.limits.wall
            elif event["event"] == "end":
                verdict = Verdict(event["kind"], event["text"])
                seconds, ended = time.monotonic() - started, seed
                seed = None
                yield Result(door, ended, verdict, event["inputs"], seconds)
            elif event["event"] == "done":
                return

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            work = self.folder / "work"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self.module, str(work)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=_TESTS,
                )
        return self._process

    def _line(self, in_case: bool, limit: float) -> tuple[bytes, Verdict | None]:
        """The next line of the worker; or what became of it."""
        process, began = self._process, time.monotonic()
        first = last = _cpu_seconds(process.pid)
        moved = began
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([process.stdout], [], [], 1.0)
            now = time.monotonic()
            if ready:
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    return b"", Verdict(CRASH, self._end_of(process))
                self._buffer += data
                continue
            cpu = _cpu_seconds(process.pid)
            if cpu > last + 0.05:
                last, moved = cpu, now
            busy = in_case and cpu - first > self.limits.cpu
            still = in_case and now - moved > self.limits.idle
            if busy or still or now - began > limit:
                reason = f"{cpu - first:.0f} s of CPU time, {now - began:.0f} s in all"
                return b"", Verdict(HANG, f"{reason} | {self._stacks(process)}")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line, None

    def _end_of(self, process: subprocess.Popen[bytes]) -> str:
        status = process.wait()
        name = signal.Signals(-status).name if status < 0 else f"exit {status}"
        return f"{name} | {_first_lines(self._log)}"

    def _stacks(self, process: subprocess.Popen[bytes]) -> str:
        """Where the threads of a worker are that does not answer."""
        process.send_signal(signal.SIGABRT)  # faulthandler prints them
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        return _first_lines(self._log)


def _first_lines(log: Path) -> str:
    """Of what a worker printed, the places in its stacks that are of gpuio."""
    text = log.read_text(errors="replace")
    start = text.rfind("Fatal Python error")
    lines = text[max(start, 0) :].splitlines()
    ours = [line.strip() for line in lines if "/gpuio/" in line or "/kernels/" in line]
    head = lines[0] if lines else ""
    short = [line.rpartition("/")[2] for line in ours[:3]]
    return "; ".join((head, *short))[:400]


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
