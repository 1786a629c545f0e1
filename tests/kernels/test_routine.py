"""Functions with machine code of their own: compiled once, kept, loaded in other processes."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from numba import types

from gpuio.kernels import code_cache, routine
from gpuio.kernels.native import device_function
from gpuio.kernels.routine import Routine

BINARY = types.int64(types.int64, types.int64)


@device_function(types.int64(types.int64))
def twice(value):
    return 2 * value


@pytest.fixture
def kept(monkeypatch):
    """Names and contents of what is kept."""
    files = {}
    monkeypatch.setattr(code_cache, "load", files.get)
    monkeypatch.setattr(code_cache, "save", files.__setitem__)
    monkeypatch.setattr(routine, "_names", set())
    return files


def made(key="", **options):
    def combined(a, b):
        return twice(a) + b

    return Routine(combined, BINARY, key, **options)


def test_code_is_kept_and_loaded_without_compiling(kept, monkeypatch):
    assert not made("second").is_kept
    first = made("first")
    assert not first.is_kept
    assert first(3, 4) == 10
    assert first.is_kept
    (name,) = kept
    assert name.endswith("combined-first.o")
    monkeypatch.setattr(routine, "_names", set())
    monkeypatch.setattr(Routine, "_compiled", property(lambda self: pytest.fail("compiled")))
    assert made("first").is_kept
    monkeypatch.setattr(routine, "_names", set())
    assert made("first")(3, 4) == 10


def test_code_that_is_not_to_be_kept_is_not(kept):
    assert made(cached=False)(3, 4) == 10
    assert kept == {}


def test_two_routines_never_share_a_name(kept):
    made("a")
    made("b")
    with pytest.raises(ValueError, match=r"combined-a\.o: two routines would be kept"):
        made("a")


def test_threads_that_want_it_at_once_compile_it_once(kept, monkeypatch):
    compiled, calls = Routine._compiled.func, []

    def counted(self):
        calls.append(self)
        return compiled(self)

    monkeypatch.setattr(Routine, "_compiled", property(counted))
    wanted = made("threads")
    threads = [threading.Thread(target=wanted.compile) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_device_function_is_plain_python_outside_of_kernels():
    assert twice(21) == 42


def test_arguments_choose_the_signature_that_takes_them():
    @device_function(types.int32(types.float32), types.int32(types.int32))
    def kind(value):
        return value // 2 * 2

    def of_integer(a, b):
        return kind(a)

    assert Routine(of_integer, BINARY, cached=False)(7, 0) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_a_child_that_is_forked_while_a_thread_compiles_can_compile(kept):
    def slow(a, b):
        return twice(a) * b

    started, go_on = threading.Event(), threading.Event()

    class Slow(Routine):
        @property
        def _compiled(self):
            started.set()
            go_on.wait(10)
            return Routine._compiled.func(self)

    worker = threading.Thread(target=lambda: Slow(slow, BINARY, "b").address)
    worker.start()
    started.wait(10)
    threading.Timer(0.2, go_on.set).start()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        os._exit(0 if made("child")(3, 4) == 10 else 1)
    worker.join()
    assert os.waitpid(child, 0)[1] == 0
