"""Runs one case and says what came of it, but for crashes and hangs, which a parent sees."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuio.errors import GpuioError

from .case import ERROR, EXCEPTION, LEAK, NAMELESS, OK, WRONG, Case, Door, Verdict, Wrong

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_PATIENCE = 2.0  # seconds in which threads that were told to end must be gone


class Judge:
    """Runs cases in this process.

    Attributes:
        folder: For files of a case; emptied after it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unheard: list[str] = []
        sys.unraisablehook = self._note_unraisable
        threading.excepthook = self._note_thread

    def __call__(self, door: Door, case: Case) -> Verdict:
        """What became of `case`."""
        self.folder.mkdir(exist_ok=True)
        files, threads = open_files(), thread_names()
        self._unheard.clear()
        verdict = self._run(door, case)
        shutil.rmtree(self.folder)
        if self._unheard and not verdict.bad:
            verdict = Verdict(EXCEPTION, f"printed, not raised: {self._unheard[0]}")
        left = self._left(files, threads)
        return Verdict(LEAK, left) if left and not verdict.bad else verdict

    def _run(self, door: Door, case: Case) -> Verdict:
        try:
            door.run(case, self.folder)
        except Wrong as error:
            return Verdict(WRONG, str(error))
        except BaseException as error:
            return self._classify(door, error)
        return Verdict(OK)

    def _classify(self, door: Door, error: BaseException) -> Verdict:
        text = "\n".join((str(error), *getattr(error, "__notes__", ())))
        found = f"{type(error).__name__}: {text}"[:400]
        if not isinstance(error, (GpuioError, OSError, *door.documented)):
            return Verdict(EXCEPTION, f"{found} | {place_of(error)}")
        if door.names_file and str(self.folder) not in text:
            return Verdict(NAMELESS, f"{found} | {place_of(error)}")
        return Verdict(ERROR, type(error).__name__)

    def _left(self, files: AbstractSet[str], threads: AbstractSet[str]) -> str:
        """Files and threads that were not there before; empty if there are none."""
        deadline = time.monotonic() + _PATIENCE
        while more := sorted(open_files() - files) + sorted(thread_names() - threads):
            if time.monotonic() > deadline:
                return ", ".join(more)
            gc.collect()
            time.sleep(0.01)
        return ""

    def _note_unraisable(self, what: Any) -> None:
        self._unheard.append(f"{what.err_msg or 'ignored'}: {what.exc_value!r}")

    def _note_thread(self, what: Any) -> None:
        self._unheard.append(f"in thread {what.thread}: {what.exc_value!r}")


def place_of(error: BaseException) -> str:
    """The last place in gpuio, and the last of all, that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/gpuio/" in f.filename or "/kernels/" in f.filename]
    places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in (*ours[-1:], *frames[-1:])]
    return " > ".join(dict.fromkeys(places))


def open_files() -> set[str]:
    """Descriptors of this process with what they are open on."""
    found = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208  a Path takes ten times as long
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
            if not target.endswith("/fd"):
                found.add(f"{number} -> {target}")
    return found


def thread_names() -> set[str]:
    """Threads of gpuio that are alive; those of pools that stay are of no case."""
    return {f"{t.name} {t.ident}" for t in threading.enumerate() if t.name.startswith("gpuio")}
