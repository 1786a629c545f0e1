"""Where compiled kernels are kept: never stale, never in the way of another process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpuio.kernels import code_cache


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one source, a folder for `NUMBA_CACHE_DIR`, and a home, all empty."""
    monkeypatch.setattr(code_cache, "_PACKAGE", tmp_path / "package")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(code_cache, "folder_name", lambda: "gpuio-code-now")
    (tmp_path / "package").mkdir()
    return tmp_path / "package"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_was_saved_is_loaded_from_the_package(package):
    assert code_cache.load("a.o") is None
    code_cache.save("a.o", b"code")
    assert code_cache.load("a.o") == b"code"
    assert files(package) == ["__pycache__/gpuio-code-now/a.o"]


@pytest.mark.parametrize("nbytes", [0, 10, 35])
def test_a_file_that_is_cut_off_is_not_loaded(package, nbytes):
    code_cache.save("a.o", b"code")
    (path,) = package.rglob("a.o")
    path.write_bytes(path.read_bytes()[:nbytes])
    assert code_cache.load("a.o") is None
    code_cache.save("a.o", b"code")
    assert code_cache.load("a.o") == b"code"


def test_a_folder_that_is_given_is_the_only_one(package, tmp_path, monkeypatch):
    code_cache.save("a.o", b"of the package")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "given"))
    assert code_cache.load("a.o") is None
    code_cache.save("a.o", b"given")
    assert code_cache.load("a.o") == b"given"
    assert files(tmp_path / "given") == ["gpuio-code-now/a.o"]


def test_where_the_package_cannot_be_written_the_home_of_the_user_is_used(package, tmp_path):
    (package / "__pycache__").write_text("a file in the place of the folder")
    code_cache.save("a.o", b"code")
    assert code_cache.load("a.o") == b"code"
    assert files(tmp_path / "home") == ["gpuio/gpuio-code-now/a.o"]


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(package, tmp_path):
    (package / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    code_cache.save("a.o", b"code")
    assert code_cache.writable_folder() is None
    assert code_cache.load("a.o") is None


def test_code_in_a_package_that_can_only_be_read_is_used(package):
    code_cache.save("a.o", b"made with the image")
    for place in (package / "__pycache__" / "gpuio-code-now", package / "__pycache__"):
        place.chmod(0o555)
    assert code_cache.load("a.o") == b"made with the image"
    for place in (package / "__pycache__", package / "__pycache__" / "gpuio-code-now"):
        place.chmod(0o755)


def test_a_full_disk_is_no_error(package, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_cache, "_write", full)
    code_cache.save("a.o", b"code")
    assert code_cache.load("a.o") is None


def test_readers_find_all_of_a_file_or_none_while_others_write(package):
    sizes, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            found = code_cache.load("a.o")
            sizes.add(None if found is None else (len(found), len(set(found))))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        code_cache.save("a.o", bytes([number]) * 100_000)
    stop.set()
    reader.join()
    assert sizes <= {None, (100_000, 1)}
    assert files(package) == ["__pycache__/gpuio-code-now/a.o"]


def test_old_folders_go_and_the_newest_stay(package, monkeypatch):
    for number in range(7):
        monkeypatch.setattr(code_cache, "folder_name", lambda n=number: f"gpuio-code-{n}")
        code_cache.save("a.o", b"code")
        os.utime(package / "__pycache__" / f"gpuio-code-{number}", (number, number))
    (package / "__pycache__" / "other").mkdir()
    left = sorted(path.name for path in (package / "__pycache__").iterdir())
    assert left == [f"gpuio-code-{n}" for n in (3, 4, 5, 6)] + ["other"]


@pytest.mark.parametrize("place", ["device.py", "jpeg/decode.py", "jpeg/new.py"])
def test_the_digest_is_of_all_sources_in_all_folders(tmp_path, place):
    (tmp_path / "jpeg").mkdir()
    for name in ("device.py", "jpeg/decode.py"):
        (tmp_path / name).write_text("a = 1\n")
    before = code_cache.source_digest(tmp_path)
    (tmp_path / "jpeg" / "notes.txt").write_text("no source")
    assert code_cache.source_digest(tmp_path) == before
    (tmp_path / place).write_text("a = 2\n")
    assert code_cache.source_digest(tmp_path) != before


def test_variables_of_numba_have_code_of_their_own_but_not_the_place_where_it_lies(monkeypatch):
    before = code_cache.folder_name()
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/elsewhere")
    code_cache.folder_name.cache_clear()
    assert code_cache.folder_name() == before
    monkeypatch.setenv("NUMBA_OPT", "1")
    code_cache.folder_name.cache_clear()
    assert code_cache.folder_name() != before
    code_cache.folder_name.cache_clear()


def test_processes_that_start_at_once_compile_and_load_the_same_code(tmp_path):
    script = "from gpuio.kernels.parallel import _starter; print(_starter(0, 0, 0, 0, 0, 0))"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[0] for process in running] == ["0\n"] * 3
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["parallel._start_threads.o"]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout == "0\n"
    assert Path(folder, "parallel._start_threads.o").exists()
