"""Files opened by path or URL: the same bytes, whichever it is."""

from __future__ import annotations

import numpy as np
import pytest

from gpuio.errors import FormatError, PipelineClosedError
from gpuio.storage.identity import FileIdentity, identity_of
from gpuio.storage.opening import open_bytes, open_file, read_bytes

CONTENT = bytes(range(256)) * 10


@pytest.fixture(params=["path", "URL"])
def place(request, tmp_path):
    """Where a file with `CONTENT` lies."""
    if request.param == "path":
        (tmp_path / "a").write_bytes(CONTENT)
        return str(tmp_path / "a")
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/opening/a", CONTENT)
    return "memory://opening/a"


def test_ranges_are_read_at_any_offset(place):
    with open_bytes(place) as file:
        assert (file.path, file.size) == (place, len(CONTENT))
        assert file.pread(7, 300) == CONTENT[300:307]
        assert file.pread(100, len(CONTENT) - 10) == CONTENT[-10:]
        assert file.pread(1, len(CONTENT)) == b""
        buffer = bytearray(20)
        assert file.readinto(buffer, len(CONTENT) - 5) == 5
        assert buffer == CONTENT[-5:] + bytes(15)


def test_some_bytes_are_gathered_from_many_offsets(place):
    offsets = np.array([0, 3, 3, 900, len(CONTENT) - 2])
    padded = np.frombuffer(CONTENT + bytes(4), np.uint8)
    with open_bytes(place) as file:
        found = file.gather(offsets, 4)
        assert file.gather(np.zeros(0, np.int64), 4).shape == (0, 4)
    np.testing.assert_array_equal(found, padded[offsets[:, None] + np.arange(4)])


def test_a_closed_file_is_read_no_more(place):
    file = open_bytes(place)
    file.close()
    file.close()
    with pytest.raises(PipelineClosedError, match="this file was closed, and is read no more"):
        file.pread(1, 0)


def test_a_whole_file_is_read(place):
    assert read_bytes(place) == CONTENT
    with open_file(place) as file:
        assert file.read(5) + file.read() == CONTENT


def test_a_missing_file_is_reported(place):
    for open_ in (open_bytes, open_file, read_bytes):
        with pytest.raises(FileNotFoundError):
            open_(place + ".none")


def test_only_a_file_on_disk_has_an_identity(place):
    identity = identity_of(place)
    assert isinstance(identity, FileIdentity | None)
    with open_bytes(place) as file:
        file.check_identity(identity)
        file.check_identity(None)


def test_a_file_that_was_written_to_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    identity = identity_of(str(tmp_path / "a"))
    with (tmp_path / "a").open("ab") as file:
        file.write(b"more")
    with (
        open_bytes(tmp_path / "a") as opened,
        pytest.raises(FormatError, match="was written to since it was opened first"),
    ):
        opened.check_identity(identity)
