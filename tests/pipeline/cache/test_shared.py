"""A store in a file: what one process puts there, others find; the last one removes it."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

from gpuio.pipeline.cache.entries import HEADER, Found, entry_dtype

shared = pytest.importorskip("gpuio.pipeline.cache.shared")

COUNT, ENTRY = 10, entry_dtype(1)
START = -(-(HEADER.itemsize + COUNT * ENTRY.itemsize) // 64) * 64
"""Bytes in front of the pixels."""
VERSIONS = np.arange(100, 100 + COUNT, dtype=np.uint64)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gpuio"


@pytest.fixture
def opened(folder):
    """A function that opens a store, as another process would: with memory and locks of its own."""
    stores = []

    def made(limit=START + 1024, name="a", **options):
        stores.append(shared.SharedStore(folder, name, COUNT, ENTRY, limit, **options))
        return stores[-1]

    yield made
    for store in stores:
        store.close()


def rows(records, nbytes=128):
    made = np.zeros(len(records), ENTRY)
    made["nbytes"], made["version"], made["id"] = nbytes, VERSIONS[records], records
    made["height"], made["width"], made["labels"] = 2, 3, 0.5
    return made


def put(store, records, pixels=b"", nbytes=128):
    """Claim memory, write pixels there, and settle; the addresses."""
    records = np.array(records)
    address = store.claim(records, rows(records, nbytes))
    there = address != 0
    for at in address[there].tolist():
        ctypes.memmove(at, pixels, len(pixels))
    store.settle(records[there])
    return address


def find(store, records, versions=VERSIONS):
    records = np.array(records)
    found = Found.nothing(versions[records], 1)
    store.find(records, found)
    return found


def test_what_one_puts_there_another_finds(opened):
    first, second = opened(), opened()
    put(first, [3, 5], b"pixels")
    found = find(second, [5, 4, 3])
    assert found.hit.tolist() == [True, False, True]
    assert [ctypes.string_at(int(at), 6) for at in found.address[[0, 2]]] == [b"pixels"] * 2
    assert found.ids.tolist() == [5, 0, 3]
    assert found.size[0].tolist() == [2, 3]
    assert found.labels[2] == 0.5
    assert second.header["entries"] == 2
    assert second.header["nbytes"] == 256


def test_a_claimed_image_is_not_found_and_not_claimed_again(opened):
    first, second = opened(), opened()
    records = np.array([1, 2])
    assert first.claim(records, rows(records)).all()
    assert not find(second, [1, 2]).hit.any()
    assert not second.claim(records, rows(records)).any()
    assert second.header["used"] == START + 256


def test_memory_that_was_abandoned_is_claimed_again_and_no_more_is_taken(opened):
    first, second = opened(), opened()
    records = np.array([1, 2])
    before = first.claim(records, rows(records)) - np.uint64(first.base)
    first.abandon(records)
    assert not find(second, [1, 2]).hit.any()
    after = second.claim(records, rows(records)) - np.uint64(second.base)
    assert after.tolist() == before.tolist()
    assert second.header["used"] == START + 256


def test_abandoned_memory_that_is_too_small_now_stays_unused(opened):
    store, records = opened(), np.array([1])
    store.claim(records, rows(records))
    store.abandon(records)
    assert not store.claim(records, rows(records, 192)).any()


def test_a_record_that_has_changed_is_not_found(opened):
    store = opened()
    put(store, [1, 2])
    changed = VERSIONS.copy()
    changed[1] += 1
    assert find(store, [1, 2], changed).hit.tolist() == [False, True]


def test_the_limit_is_kept_by_all_together(opened, folder):
    first, second = opened(), opened()
    assert np.count_nonzero(put(first, [0, 1, 2, 3, 4])) == 5
    assert np.count_nonzero(put(second, [5, 6, 7, 8, 9])) == 3
    assert not put(first, [9]).any()
    assert (folder / "a").stat().st_size == START + 1024
    assert first.header["used"] == START + 1024


def test_a_limit_too_small_for_the_entries_is_refused(opened):
    with pytest.raises(ValueError, match=f"^cache must be more than the {START} bytes"):
        opened(START)


def test_the_last_one_to_leave_removes_file_and_folder(opened, folder):
    first, second = opened(), opened()
    put(first, [1])
    first.close()
    assert (folder / "a").exists()
    assert find(second, [1]).hit.all()
    second.close()
    assert not folder.exists()
    assert second.header["entries"] == 1


def test_a_store_that_is_garbage_is_left(folder):
    store = shared.SharedStore(folder, "a", COUNT, ENTRY, START + 64)
    assert folder.exists()
    del store
    assert not folder.exists()


def test_files_of_processes_that_were_killed_are_removed(opened, folder):
    script = (
        "import sys, pathlib, numpy as np\n"
        "from gpuio.pipeline.cache.shared import SharedStore\n"
        "from gpuio.pipeline.cache.entries import entry_dtype\n"
        "store = SharedStore(pathlib.Path(sys.argv[1]), 'old', 1, entry_dtype(1), 1 << 20)\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"open\n"
        opened()
        assert sorted(path.name for path in folder.iterdir()) == ["a", "old"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    opened(name="b")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_a_forked_child_leaves_the_file_to_its_parent(opened, folder):
    store = opened()
    put(store, [1], b"pixels")
    child = os.fork()
    if not child:
        store.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert find(opened(), [1]).hit.all()


def test_file_and_folder_are_for_this_user_alone(opened, folder):
    opened()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "a").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_open_to_others_is_refused(opened, folder):
    folder.mkdir(mode=0o700)
    folder.chmod(0o770)
    with pytest.raises(PermissionError, match=r"open to other users.*remove it"):
        opened()


def test_a_link_is_not_followed(opened, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="gpuio"):
        opened()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_nothing_is_written_where_there_is_no_space(opened, monkeypatch):
    store = opened()
    put(store, [1], b"pixels")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.warns(UserWarning, match=r"is full \(No space left on device\) with \d+ bytes"):
        assert not put(store, [2]).any()
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not put(store, [3]).any()
    assert find(store, [1, 2, 3]).hit.tolist() == [True, False, False]


def test_a_part_of_the_disk_stays_free(opened):
    store = opened(spare=1)
    with pytest.warns(UserWarning, match="cache_size"):
        assert not put(store, [1]).any()


def test_where_a_file_cannot_be_mapped_nothing_is_left(opened, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shared.mmap, "mmap", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened()
    closed = opened()  # where the first file would still be locked, there would be two
    assert sum(path.is_file() for path in folder.iterdir()) == 1
    closed.close()
    assert not folder.exists()
