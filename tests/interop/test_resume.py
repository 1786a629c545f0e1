"""A run that is killed goes on, from the last saved state, as if nothing had happened."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from gpuio.testing import draw, encode, write_rec

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("resume_worker.py")
COUNT = 61
EPOCHS = 3

spec = importlib.util.spec_from_file_location("resume_worker", WORKER)
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    """Pictures labelled 0 to 60."""
    path = tmp_path_factory.mktemp("resume") / "a.rec"
    write_rec(path, [encode(draw(24, 24, seed=n), "BMP") for n in range(COUNT)])
    return path


def start(rec, folder, processes):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
        str(processes), str(WORKER), str(rec), str(folder), str(EPOCHS),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    output = (folder / "output.txt").open("a")
    with output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


@pytest.fixture(scope="module")
def killed(rec, tmp_path_factory):
    """Kill a run once so many steps are saved, or a little later; its folder, for each number."""

    @cache
    def kill(processes, step):
        folder = tmp_path_factory.mktemp("killed")
        saved = folder / "state.json"
        launcher = start(rec, folder, processes)
        deadline = time.monotonic() + 200
        while not (saved.exists() and json.loads(saved.read_text())["step"] >= step):
            assert launcher.poll() is None, (folder / "output.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        pids = [int((folder / f"pid-{rank}").read_text()) for rank in range(processes)]
        for pid in (launcher.pid, *pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        launcher.wait()
        return folder

    return kill


def go_on(rec, killed, folder, processes):
    """Finish a killed run in a folder of its own; the state it began with."""
    shutil.copytree(killed, folder, dirs_exist_ok=True)
    state = json.loads((folder / "state.json").read_text())
    launcher = start(rec, folder, processes)
    assert launcher.wait(200) == 0, (folder / "output.txt").read_text()
    return state


def lines(folder, processes):
    """What each process wrote down; a kill may cut the last line off."""
    for rank in range(processes):
        whole = (folder / f"{processes}-{rank}.log").read_text().splitlines()
        yield [json.loads(line) for line in whole if line.endswith("}")]


STEPS = {1: 40, 2: 11, 4: 9}  # after which a run of so many processes is killed


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_batches_are_those_of_an_unbroken_run(rec, killed, tmp_path, processes):
    state = go_on(rec, killed(processes, STEPS[processes]), tmp_path, processes)
    assert len(json.dumps(state["loader"])) < 1000
    for rank, found in enumerate(lines(tmp_path, processes)):
        with worker.make(rec, processes, rank) as loader:
            whole = [{"step": n, **line} for n, line in enumerate(worker.steps(loader, EPOCHS))]
        again = [n for n, line in enumerate(found) if n and line["step"] <= found[n - 1]["step"]]
        (first,) = again or [state["step"]]  # where the second run's lines begin
        assert found[:first] == whole[:first]
        assert found[first:] == whole[state["step"] :]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 3)])
def test_with_another_number_of_processes_each_record_still_comes_once(
    rec, killed, tmp_path, before, after
):
    state = go_on(rec, killed(before, STEPS[before]), tmp_path, after)
    seen = [[] for _ in range(EPOCHS)]
    for found in lines(tmp_path, before):
        for line in found:
            if line["step"] < state["step"]:
                seen[line["epoch"]] += line["own"]
    lengths = set()
    for found in lines(tmp_path, after):
        lengths.add(len(found))
        for line in found:
            seen[line["epoch"]] += line["own"]
    assert [sorted(epoch) for epoch in seen] == [list(range(COUNT))] * EPOCHS
    assert len(lengths) == 1  # no process waits for another one's batch
