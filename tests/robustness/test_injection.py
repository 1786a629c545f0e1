from __future__ import annotations

import contextlib
import faulthandler
import os

import pytest

from robustness import injection
from robustness.injection import SCENES, Scene, Seam, attempt, build_shim, numbers, run_in_child

MOST = 10  # of each kind of call


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    library = build_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("no C compiler for shim.c")
    return library


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scene", SCENES)
def test_each_call_to_the_system_may_fail(scene, shim):
    report = run_in_child(scene, MOST, shim, 600)
    assert report.tried
    assert not report.bad, report.bad


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scene", SCENES)
def test_each_function_of_python_may_fail(scene):
    report = run_in_child(scene, MOST, None, 600)
    assert report.tried
    assert not report.bad, report.bad


class Careless(Scene):
    """Takes what it cannot read for empty, and leaves it open where that is tried."""

    def prepare(self):
        (self.folder / "a.rec").write_bytes(b"right")

    def run(self):
        data = b""
        with contextlib.suppress(OSError):
            data = (self.folder / "a.rec").read_bytes()
        if data != b"right":
            raise injection.Wrong("not what was written")


def test_a_planted_fault_is_found(tmp_path):
    kinds = {kind.name: kind for kind in injection.seams()}
    outcome, calls = attempt(Careless(tmp_path), kinds["io.open"], 0)
    assert (outcome.verdict, calls) == ("ok", 1)
    outcome, _ = attempt(Careless(tmp_path), kinds["io.open"], 1)
    assert outcome.verdict == "bad"
    assert "not what was written" in outcome.text


def test_a_child_that_crashes_or_exits_is_reported(tmp_path, monkeypatch):
    for code, word in ((-11, "SIGSEGV"), (3, "exit 3")):

        class Crash(Scene):
            def run(self, code=code):
                faulthandler.disable()
                if code < 0:
                    os.kill(os.getpid(), -code)
                os._exit(code)

        seam = Seam("x", injection, "_LIMIT", 5)
        outcome, _ = attempt(Crash(tmp_path), seam, 1)
        assert outcome.verdict == "crash"
        assert word in outcome.text


def test_some_of_many_calls_are_tried_and_all_of_few():
    assert list(numbers(5, 12)) == [1, 2, 3, 4, 5]
    assert list(numbers(100, 4)) == [1, 34, 67, 100]
