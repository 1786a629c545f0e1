from __future__ import annotations

import sys
import threading

import pytest

from robustness.case import ERROR, EXCEPTION, LEAK, NAMELESS, OK, WRONG
from robustness.doors import make_case
from robustness.judge import Judge
from robustness.planted import PLANTED


@pytest.fixture
def judge(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr("robustness.judge._PATIENCE", 0.1)
    yield Judge(tmp_path / "case")
    for thread in threading.enumerate():
        if thread.name == "gpuio-lost":  # it would be found in other tests
            thread.join(60)


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("planted-named", ERROR, "FormatError"),
        ("planted-exception", EXCEPTION, "IndexError: list index out of range"),
        ("planted-nameless", NAMELESS, "FormatError: damaged"),
        ("planted-wrong", WRONG, "pixels of record 3"),
        ("planted-leak", LEAK, "planted.py"),
        ("planted-thread", LEAK, "gpuio-lost"),
        ("planted-printed", EXCEPTION, "printed, not raised"),
    ],
)
def test_a_planted_fault_is_found_and_sound_parts_are_not_one(judge, name, kind, text):
    door = PLANTED[name]()
    assert judge(door, make_case(door, 1)).kind == OK
    verdict = judge(door, make_case(door, 3))
    assert verdict.kind == kind
    assert text in verdict.text
    assert verdict.bad == (kind != ERROR)
    assert not judge.folder.exists()
