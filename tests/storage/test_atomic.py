"""Files that appear when they are complete."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from gpuio.errors import BusyError
from gpuio.storage.atomic import committed, write_file


def write(file, text: str) -> None:
    with file.open() as opened:
        opened.write(text.encode())


def test_files_appear_at_the_end(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    b.write_text("old")
    with committed(a, b) as files:
        for file in files:
            write(file, "new")
        assert not a.exists()
        assert b.read_text() == "old"
    assert a.read_text() == b.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [a, b]


def test_unfinished_files_have_names_of_their_own(tmp_path):
    names = set()
    for _ in range(3):
        with committed(tmp_path / "a") as (file,):
            write(file, "new")
            names.add(file.name)
    assert len(names) == 3
    assert all(re.fullmatch(r"a\.[0-9a-f]{16}\.partial", Path(n).name) for n in names)


def test_a_partial_file_never_replaces_an_existing_one(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    victim = tmp_path / "victim"
    victim.write_text("old")
    link = tmp_path / f"a.{'0' * 16}.partial"

    def attack(file) -> None:
        link.symlink_to(victim)
        write(file, "new")

    with pytest.raises(FileExistsError), committed(tmp_path / "a") as (file,):
        attack(file)
    assert victim.read_text() == "old"
    assert not (tmp_path / "a").exists()


def test_a_second_writer_fails_at_once(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"

    def second(*paths) -> None:
        with committed(*paths):
            pytest.fail("two writers at once")

    with committed(a, b) as files:
        for file in files:
            write(file, "first")
        message = rf"{re.escape(str(b))}: another process \(pid {os.getpid()}\) is writing it"
        with pytest.raises(BusyError, match=message):
            second(b)
        with pytest.raises(BusyError):
            second(tmp_path / "c", a)
    assert a.read_text() == b.read_text() == "first"
    assert sorted(tmp_path.iterdir()) == [a, b]


def test_without_a_lock_the_last_one_stays(tmp_path):
    path = tmp_path / "a"
    with committed(path) as (one,), committed(path, lock=False) as (other,):
        write(one, "one")
        write(other, "other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_partial_files_of_a_killed_writer_are_removed(tmp_path):
    left = tmp_path / f"a.{'7' * 16}.partial"
    others = [tmp_path / name for name in (f"ab.{'7' * 16}.partial", "a.partial", "a.77.partial")]
    for path in (left, *others):
        path.write_text("left")
    (tmp_path / "a.lock").write_text("1 elsewhere")
    with committed(tmp_path / "a") as (file,):
        assert not left.exists()
        write(file, "new")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", *others])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_all_is_as_before(tmp_path, error):
    def fail():
        with committed(tmp_path / "a", tmp_path / "b") as (file, _):
            write(file, "new")
            raise error

    (tmp_path / "a").write_text("old")
    with pytest.raises(error):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_content_is_on_the_disk_before_its_name_and_the_old_second_file_goes_first(
    tmp_path, monkeypatch
):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("old")
    b.write_text("old")
    steps: list[str] = []

    def note(what, function):
        def noted(*args, **kwargs):
            named = args[0]
            if isinstance(named, int):
                named = Path(f"/proc/self/fd/{named}").readlink()
            steps.append(f"{what} {Path(named).name[:1]}")
            steps.append(f"a {a.exists() and a.read_text()}, b {b.exists() and b.read_text()}")
            return function(*args, **kwargs)

        return noted

    monkeypatch.setattr(os, "fsync", note("sync", os.fsync))
    monkeypatch.setattr(os, "replace", note("rename", os.replace))
    with committed(a, b) as files:
        for file in files:
            write(file, "new")
    folder = f"sync {tmp_path.name[:1]}"
    assert steps == [
        *("sync a", "a old, b old", "sync b", "a old, b old"),
        *(folder, "a old, b False"),
        *("rename a", "a old, b False", folder, "a new, b False"),
        *("rename b", "a new, b False", folder, "a new, b new"),
    ]


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a"):
        write_file(tmp_path / "a", b"new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder, so .*a cannot"):
        write_file(tmp_path / "nowhere" / "a", b"new")


def test_a_device_is_written_to_and_not_replaced():
    write_file("/dev/null", b"new")
    assert not Path("/dev/null").is_file()
