"""Compiling kernels: long compilations are announced, and stop when nobody needs the kernels.

Numba compiles in the thread that needs a kernel first, which takes about a minute where its disk
cache is empty. It emits an event for each of its hundreds of passes. At each event a thread whose
work is no longer wanted, for example after an interrupt, gives up; so `close` waits for one pass, a
few seconds at most.
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
    """Announces compiling: a line when it takes long, and one when it is over.

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
            raise PipelineClosedError("the iterator was closed while its kernels were compiled")
        with self._lock:
            now = self._clock()
            if self._began is None:
                self._began = now
            if now - self._began >= _SHORT and not self._said:
                self._said = True
                _say("compiling kernels for this machine, once; this takes about a minute ...")

    def over(self) -> None:
        """Note that all kernels that are needed now are compiled."""
        if self._began is None:
            return
        with self._lock:
            if self._said and self._began is not None:
                seconds = self._clock() - self._began
                _say(f"kernels are compiled, in {seconds:.0f} s, and kept for the next time")
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
    """Write a line to standard error, if that is a terminal."""
    stream = sys.stderr
    if stream is not None and not stream.closed and stream.isatty():
        print(f"gpuio: {text}", file=stream, flush=True)
