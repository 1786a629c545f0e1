"""A file on disk grows by whole pieces."""

from __future__ import annotations

import pytest

from gpuio.errors import FormatError
from gpuio.storage.appender import LocalAppender
from gpuio.storage.opening import open_appender


def test_pieces_follow_each_other(tmp_path):
    file = open_appender(str(tmp_path / "a"))
    assert [file.append(b"abc"), file.append(b"de")] == [0, 3]
    assert file.position == 5
    file.cut(3)
    assert file.append(b"f") == 3
    file.close()
    file.close()
    assert (tmp_path / "a").read_bytes() == b"abcf"


def test_an_old_file_is_emptied(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    open_appender(str(tmp_path / "a")).close()
    assert (tmp_path / "a").read_bytes() == b""


def test_a_file_continues_where_it_ended(tmp_path):
    path = str(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"abc")
    file = LocalAppender(path, 3)
    assert file.append(b"d") == 3
    file.close()
    with pytest.raises(FormatError, match=r"a: 3 bytes when its writer was pickled, now 4"):
        LocalAppender(path, 3)


def test_a_piece_that_cannot_be_written_leaves_no_trace(tmp_path):
    file = LocalAppender(str(tmp_path / "a"))
    file.append(b"abc")
    real = file._file

    class Full:
        name = real.name

        def __getattr__(self, name):
            return getattr(real, name)

        def write(self, data):
            real.write(data[:1])
            raise OSError(28, "No space left on device")

    file._file = Full()
    with pytest.raises(OSError, match=r"No space left on device: .*a"):
        file.append(b"defg")
    assert file.position == 3
    file._file = real
    file.close()
    assert (tmp_path / "a").read_bytes() == b"abc"
