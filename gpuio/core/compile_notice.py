"""Compiling kernels: long compilations are announced, and stop when nobody needs the kernels.

Numba compiles in the thread that needs a kernel first, which takes some seconds where nothing is
kept on disk. It emits an event for each of its hundreds of passes. At each event a thread whose
work is no longer wanted, for example after an interrupt, gives up; so `close` waits for one pass, a
second at most.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from gpuio.errors import PipelineClosedError

_SHORT: Final = 1.0  # seconds of compiling that are not announced

_local = threading.local()


@contextmanager
def while_wanted(wanted: Callable[[], bool]) -> Iterator[None]:
    """Stop compilations of this thread, within the `with` block, once `wanted` returns False."""
    _local.wanted = wanted
    try:
        yield
    finally:
        del _local.wanted


class Notice:
    """Announces compiling that takes long: a line, at whose end stands how long it took.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began: float | None = None
        self._said = False

    def pass_begins(self) -> None:
        """Note that a pass of the compiler begins.

        Raises:
            PipelineClosedError: The work of this thread is no longer wanted.
        """
        wanted = getattr(_local, "wanted", None)
        if wanted is None:
            return  # gpuio did not start this thread
        if not wanted():
            self._end("stopped")
            raise PipelineClosedError("the iterator was closed while its kernels were compiled")
        with self._lock:
            now = self._clock()
            if self._began is None:
                self._began = now
            if now - self._began >= _SHORT and not self._said:
                self._said = True
                _say("gpuio: compiling kernels for this machine, once ... ")

    def over(self) -> None:
        """Note that all kernels that are needed now are compiled."""
        if self._began is not None:
            self._end(f"{self._clock() - self._began:.0f} s, kept for the next time")

    def _end(self, text: str) -> None:
        with self._lock:
            if self._said:
                _say(f"{text}\n")
            self._began, self._said = None, False


notice: Final = Notice()


@cache
def listen() -> None:
    """Register `notice` for Numba's events."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            notice.pass_begins()

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:run_pass", Listener())


def _say(text: str) -> None:
    """Write a part of a line to standard error, if that is a terminal."""
    stream = sys.stderr
    if stream is not None and not stream.closed and stream.isatty():
        print(text, end="", file=stream, flush=True)
