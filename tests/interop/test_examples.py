"""The examples that train, on small data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gpuio.testing import draw, encode, write_rec

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ("--classes", "4", "--side", "32", "--batch-size", "4")


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    """Forty pictures in four classes."""
    path = tmp_path_factory.mktemp("examples") / "train.rec"
    images = [encode(draw(48, 56, seed=n), "JPEG") for n in range(40)]
    write_rec(path, images, labels=[n % 4 for n in range(40)])
    return path


def command_of(name, *arguments, processes=0):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = [*(launcher if processes else []), str(EXAMPLES / name), *arguments, *SMALL]
    return [sys.executable, *map(str, words)]


def run(name, *arguments, processes=0, **environment):
    """What an example prints.

    When a process of torchrun exits, a thread of gloo may still hold tensors, and aborts it
    (https://github.com/pytorch/pytorch/pull/179291): then it is run once more.
    """
    for _ in range(2):
        done = subprocess.run(
            command_of(name, *arguments, processes=processes),
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        if not processes or "terminate called without an active exception" not in done.stderr:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill_after_a_checkpoint(path, name, *arguments, processes=0):
    """Start an example, and kill it with all its processes once it has saved something."""
    launcher = subprocess.Popen(
        command_of(name, *arguments, processes=processes),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not path.exists():
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(launcher.pid, signal.SIGSTOP)  # it starts no process again
    workers = descendants(launcher.pid)
    assert len(workers) >= processes
    for pid in (*workers, launcher.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    launcher.wait()


def descendants(pid):
    """The processes that a process has started, and those that they have.

    The kernel's own list of children may leave some out while others end.
    """
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
    found = [pid]
    for parent in found:
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


@pytest.mark.parametrize("processes", [0, 2])
def test_training_with_torch_continues_after_a_kill_as_if_there_was_none(rec, tmp_path, processes):
    pytest.importorskip("torch")
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc to find processes")
    epochs = 6  # so many that the first steps are long over when the last ones are made
    whole = run("train_torch.py", rec, "--epochs", epochs, processes=processes)
    path = tmp_path / "run.pt"
    arguments = (rec, "--epochs", epochs, "--checkpoint", path, "--every", 1)
    kill_after_a_checkpoint(path, "train_torch.py", *arguments, processes=processes)
    again = run("train_torch.py", *arguments, processes=processes)
    assert f"epoch {epochs - 1}: step {(5 if processes else 10) * epochs}, loss" in whole
    assert again.splitlines()[-2:] == whole.splitlines()[-2:]


def test_training_with_lightning_continues(rec, tmp_path):
    pytest.importorskip("lightning")
    folder = tmp_path / "run"
    out = run("train_lightning.py", rec, folder, "--epochs", 1, "--every", 4)
    assert "step 10 ('loss', tensor(" in out
    out = run("train_lightning.py", rec, folder, "--epochs", 2, "--every", 4)
    assert "step 20 ('loss', tensor(" in out


def test_training_with_jax_uses_all_devices(rec):
    pytest.importorskip("jax")
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    out = run("train_jax.py", rec, "--epochs", 2, **flags)
    assert "epoch 1: loss" in out
    assert "on 2 devices" in out


def test_training_with_ray_continues(rec, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("ray.train")
    environment = {"RAY_USAGE_STATS_ENABLED": "0"}
    arguments = (rec, tmp_path / "run", "--workers", 2, "--every", 2)
    out = run("train_ray.py", *arguments, "--epochs", 1, **environment)
    assert "step 5, loss" in out
    out = run("train_ray.py", *arguments, "--epochs", 2, **environment)
    assert "step 10, loss" in out
