"""Each call of the CUDA driver fails once, from the first of a loader to the last of its end.

The driver is a stub, below real numba-cuda and gpuio's own files. Functions whose names begin with
an underscore run in a child that has the stub; it forks a process for each fault.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
import stub_cuda

from gpuio.testing import draw, encode, write_rec

pytestmark = pytest.mark.slow

OUT_OF_MEMORY, LAUNCH_FAILED = 2, 719
DEVICE = "cuda:1"
COUNT = 4  # images
SECONDS = 60  # after which a process that hangs is ended
SOME = (
    24  # of a function that is called more often, each fifth call fails: it begins and ends others
)
NOTHING = {"device memory": 0, "pinned memory": 0, "streams": 0, "events": 0}
DESTROYS = ("cuMemFree_v2", "cuMemFreeHost", "cuEventDestroy_v2", "cuStreamDestroy_v2")


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "some.rec"
    write_rec(path, [encode(draw(20 + k, 24, seed=k), "PNG") for k in range(COUNT)])
    return str(path)


def _in_fork(function, *args):
    """What a function returns in a forked process, or the signal that ended it."""
    with tempfile.NamedTemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            try:
                Path(answer.name).write_text(json.dumps(function(*args)))
            except BaseException as error:
                os.write(2, f"{error!r}\n".encode())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        return {"ended by": status} if status else json.loads(Path(answer.name).read_text())


def _outcome(path, name, number, stays):
    """What comes of an epoch in which call `number` of a function fails; of any for ""."""
    from stub_cuda import calls, loading

    ignored = []
    sys.unraisablehook = lambda info: ignored.append(str(info.exc_value))
    code = OUT_OF_MEMORY if "Alloc" in name else LAUNCH_FAILED
    if number >= 0:
        calls.fail(name, number, code, stays=stays)
    error = None
    try:
        loading.read(path, DEVICE)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
        del raised
    gc.collect()
    return {
        "came": number < 0 or not calls.pending() or stays,
        "error": error,
        "ignored": ignored,
        "alive": calls.alive(),
        "depth": calls.depth(),
        "threads": [each.name for each in threading.enumerate()[1:]],
        "calls": Counter(calls.calls()),
    }


def _ready(path):
    """Load and compile all that an epoch needs, without CUDA in this process."""
    from stub_cuda import loading

    import gpuio.devices.cuda  # noqa: F401

    _in_fork(_outcome, path, "", -1, False)
    loading.read(path, "cpu")
    gc.collect()
    gc.freeze()  # so that collections of the forked processes are short
    return _in_fork(_outcome, path, "", -1, False)["calls"]


def _each_fails(path):
    outcomes = []
    for name, count in _ready(path).items():
        for number in range(0, count, 1 if count <= SOME else 5):
            found = _in_fork(_outcome, path, name, number, False)
            outcomes.append({**found, "name": name, "number": number})
    return outcomes


def _lost(path):
    count = sum(_ready(path).values())
    return [_in_fork(_outcome, path, "", number, True) for number in range(0, count, count // 12)]


@pytest.fixture(scope="module")
def outcomes(rec):
    """Of each fault: its function, the number of the call, and what came of it."""
    return stub_cuda.run(_each_fails, rec)


def told(outcome):
    """What was said of a fault: raised, or printed where a finalizer cannot raise."""
    return [*filter(None, [outcome.get("error")]), *outcome.get("ignored", [])]


def test_every_process_ends_by_itself_and_has_met_its_fault(outcomes):
    assert [each for each in outcomes if not each.get("came")] == []
    assert len(outcomes) > 100


def test_no_thread_is_left(outcomes):
    assert [each for each in outcomes if each["threads"]] == []


def test_what_was_current_is_so_again(outcomes):
    pops = "cuCtxPopCurrent_v2"  # which was to bring that about
    assert [each for each in outcomes if each["depth"] and each["name"] != pops] == []


def test_every_error_names_the_device_and_the_call_and_is_gpuios(outcomes):
    for each in outcomes:
        for text in told(each):
            _, name, what = text.partition(f"device {DEVICE!r}: ")
            assert name, each
            assert what.startswith(("cu", "kernel ")), each
        assert (each["error"] or "BackendError").startswith("BackendError"), each


def test_only_what_destroys_or_is_tried_again_is_silent(outcomes):
    silent = {each["name"] for each in outcomes if not told(each)}
    context = {"cuCtxPushCurrent_v2", "cuThreadExchangeStreamCaptureMode", "cuCtxPopCurrent_v2"}
    spare = {"cuMemAlloc_v2", "cuMemHostAlloc"}  # less is asked for, and had
    assert silent <= {*DESTROYS, *context, *spare}


def test_nothing_leaks_but_the_one_that_could_not_be_destroyed(outcomes):
    for each in outcomes:
        left = sum(each["alive"].values())
        assert left <= (each["name"] in DESTROYS or not told(each)), each


def test_a_lost_device_is_an_error_whenever_it_is_lost(rec):
    outcomes = stub_cuda.run(_lost, rec)
    assert len(outcomes) >= 12
    for each in outcomes:
        assert each.get("threads") == [], each
        assert all(f"device {DEVICE!r}: " in text for text in told(each)), each
    assert sum(each["error"] is not None for each in outcomes) > 6
