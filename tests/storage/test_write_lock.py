"""Locks on writing a file."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gpuio.errors import BusyError
from gpuio.storage.write_lock import write_lock

HOLD = """
import sys
from gpuio.storage.write_lock import write_lock
with write_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def lock(path) -> bool:
    with write_lock(str(path)) as held:
        return held


def holder(path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_leaves_nothing(tmp_path):
    assert lock(tmp_path / "a")
    assert lock(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_another_process_is_named_and_its_end_frees_the_lock(tmp_path):
    with holder(tmp_path / "a") as process:
        with pytest.raises(BusyError, match=rf"a: another process \(pid {process.pid}\)"):
            lock(tmp_path / "a")
        process.kill()
        process.wait()
    assert (tmp_path / "a.lock").exists()
    assert lock(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_child_does_not_keep_the_lock(tmp_path):
    release, wait = os.pipe()
    with write_lock(str(tmp_path / "a")):
        child = os.fork()
        if not child:
            os.close(wait)
            os.read(release, 1)
            os._exit(0)
    try:
        assert lock(tmp_path / "a")
    finally:
        os.close(wait)
        os.waitpid(child, 0)
        os.close(release)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "second name"])
def test_a_link_pipe_or_folder_is_no_lock(tmp_path, kind):
    other, name = tmp_path / "other", tmp_path / "a.lock"
    other.write_text("old")
    if kind == "link":
        name.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(name)
    elif kind == "folder":
        name.mkdir()
    else:
        name.hardlink_to(other)
    with pytest.raises(OSError, match=r"a\.lock"):
        lock(tmp_path / "a")
    assert other.read_text() == "old"
