"""Measurements that may crash or hang: each in a process of its own, with a time limit."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""What a child says in one line."""

_TAIL = 1500  # characters of what a child printed before it ended


class Ended(Exception):  # noqa: N818  it is not always an error
    """A child is gone; the message says how, and what it printed last."""


class Child:
    """A Python script that answers in lines of JSON.

    Args:
        script: Beside this file.
        arguments: Of the script.
        environment: Added to ours.
    """

    def __init__(
        self, script: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | dict(environment or {}),
            start_new_session=True,  # so that it is ended with all that it has started
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, question: object, limit: float) -> Row:
        """The answer to a line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{question}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `row` says how it ended
        return self.row(limit)

    def row(self, limit: float) -> Row:
        """The next line.

        Args:
            limit: Seconds to wait for it at most.

        Raises:
            Ended: There is none.
        """
        try:
            line = self._lines.get(timeout=max(limit, 0.01))
        except queue.Empty:
            self.close()
            raise Ended(f"no answer within {limit:.0f} s") from None
        if not line:
            status = self._process.wait()
            if status == 0:
                raise Ended("")
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            raise Ended(f"{how}: {self._tail()}")
        return json.loads(line)

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-_TAIL:]

    def close(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def collect(
    script: str,
    name: str,
    settings: Row,
    limit: float,
    environment: Mapping[str, str] | None = None,
) -> Row:
    """All that a measurement says within its time: `rows`, and in `error` why there are no more."""
    child = Child(script, [name, json.dumps(settings)], environment)
    rows: list[Row] = []
    end = time.monotonic() + limit
    try:
        while True:
            rows.append(child.row(end - time.monotonic()))
    except Ended as ended:
        return {"rows": rows, "error": str(ended)}
    finally:
        child.close()


def answer(measurements: Mapping[str, Callable[[Row], Iterator[Row]]]) -> None:
    """What a script of measurements does: `SCRIPT NAME SETTINGS`, a line for each row."""
    # Libraries print; the answers go to where the output was, and all else to the errors.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for row in measurements[sys.argv[1]](json.loads(sys.argv[2])):
        print(json.dumps(row), file=answers)
