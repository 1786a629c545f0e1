"""What is said while kernels are compiled, and how that ends."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from gpuio.core.compile_notice import Notice, while_wanted
from gpuio.core.prefetch import Prefetch
from gpuio.errors import PipelineClosedError


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def compiled(notice, times, clock):
    """Passes that begin at `times`, seconds; then all is compiled."""
    with while_wanted(lambda: True):
        for clock[0] in times:
            notice.pass_begins()
    notice.over()


def test_long_compiling_is_one_line_that_says_how_long_it_took(monkeypatch):
    terminal = on_terminal(monkeypatch)
    clock = [0.0]
    notice = Notice(lambda: clock[0])
    compiled(notice, [5, 5.5, 6.5, 30, 65], clock)
    notice.over()
    begun = "gpuio: compiling kernels for this machine, once ... "
    assert terminal.getvalue() == f"{begun}60 s, kept for the next time\n"


def test_the_line_ends_where_compiling_is_stopped(monkeypatch):
    terminal = on_terminal(monkeypatch)
    clock, wanted = [0.0], [True]
    notice = Notice(lambda: clock[0])
    with while_wanted(lambda: wanted[0]):
        for clock[0] in (0, 2):
            notice.pass_begins()
        wanted[0] = False
        with pytest.raises(PipelineClosedError):
            notice.pass_begins()
    assert terminal.getvalue().endswith("once ... stopped\n")


def test_short_compiling_is_not_said_however_often(monkeypatch):
    terminal = on_terminal(monkeypatch)
    clock = [0.0]
    notice = Notice(lambda: clock[0])
    for start in (0, 10, 20):
        compiled(notice, [start, start + 0.9], clock)
    assert terminal.getvalue() == ""


def test_nothing_is_reported_without_a_terminal(monkeypatch):
    clock = [0.0]
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        compiled(Notice(lambda: clock[0]), [0, 5], clock)
        assert stream is None or not stream.getvalue()


def test_other_threads_may_compile_what_they_want(monkeypatch):
    terminal = on_terminal(monkeypatch)
    clock = [0.0]
    notice = Notice(lambda: clock[0])
    for clock[0] in (0, 90):
        notice.pass_begins()
    assert terminal.getvalue() == ""


def test_closing_ends_compiling_at_the_next_pass():
    notice, compiling, passes = Notice(), threading.Event(), []
    closed = threading.Event()
    ended = threading.Event()

    def batches():
        try:
            while True:  # a compiler with passes without end
                notice.pass_begins()
                passes.append(1)
                compiling.set()
                closed.wait()
        finally:
            ended.set()
        yield

    class Wait:
        def close(self):
            closed.set()

    prefetch = Prefetch(batches(), 1, name="test", waits=[Wait()])
    compiling.wait()
    prefetch.close()
    assert ended.is_set()
    assert len(passes) == 1


def test_a_pass_is_refused_where_nobody_waits():
    with while_wanted(lambda: False), pytest.raises(PipelineClosedError, match="were compiled"):
        Notice().pass_begins()


def test_numba_tells_of_its_passes(monkeypatch):
    import numba

    from gpuio.core import compile_notice as compiling

    compiling.listen()
    begun = []
    monkeypatch.setattr(compiling.Notice, "pass_begins", lambda self: begun.append(1))
    numba.njit(lambda x: x + 1)(1)
    assert begun
