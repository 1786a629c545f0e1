"""What tells a file from one in its place."""

from __future__ import annotations

import os

import pytest

from gpuio.errors import FormatError
from gpuio.storage.byte_source import LocalBytes
from gpuio.storage.identity import FileIdentity


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(b"a" * 10_000)
    return path


def check(identity, path):
    with LocalBytes(path) as file:
        identity.check(file)


def set_time(path, status):
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_file_that_is_as_it_was_is_the_same(path):
    check(FileIdentity.of(str(path)), path)


@pytest.mark.parametrize(("content", "now"), [(b"b" * 10_000, 10_000), (b"", 0), (b"c" * 9, 9)])
def test_a_file_that_was_written_anew_is_another(path, content, now):
    identity, before = FileIdentity.of(str(path)), path.stat()
    with path.open("wb") as file:  # the same file
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    reason = rf"a\.rec was written to since .* it had 10000 bytes of .*, and has {now} bytes"
    with pytest.raises(FormatError, match=reason):
        check(identity, path)


def test_a_file_that_took_its_place_is_another(path, tmp_path):
    identity, before = FileIdentity.of(str(path)), path.stat()
    for change in (b"b" + b"a" * 9_999, b"a" * 9_999 + b"b"):
        (tmp_path / "b.rec").write_bytes(change)
        set_time(tmp_path / "b.rec", before)  # as tools do that keep the time
        (tmp_path / "b.rec").replace(path)
        with pytest.raises(FormatError, match=r"a\.rec was replaced since it was opened first"):
            check(identity, path)


def test_a_number_that_the_file_system_gave_anew_makes_no_other_file(path, tmp_path):
    identity, before = FileIdentity.of(str(path)), path.stat()
    (tmp_path / "b.rec").write_bytes(b"a" * 10_000)
    set_time(tmp_path / "b.rec", before)
    (tmp_path / "b.rec").replace(path)
    check(identity, path)


def test_a_read_that_stops_short_is_gone_on_with(path, monkeypatch):
    identity, pread = FileIdentity.of(str(path)), os.pread
    monkeypatch.setattr(os, "pread", lambda fd, nbytes, at: pread(fd, max(nbytes // 2, 1), at))
    check(identity, path)


def test_a_read_that_fails_names_the_file(path, monkeypatch):
    def fails(descriptor, nbytes, at):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fails)
    with pytest.raises(OSError, match=r"Input/output error.*a\.rec"):
        FileIdentity.of(str(path))
