"""What is opened by name is a plain file, and nothing is waited for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpuio.image import imread
from gpuio.mxnet.iterators.mnist_iter import MNISTIter
from gpuio.mxnet.iterators.text_rows import TextRows
from gpuio.storage.plain_file import is_trusted, open_plain, read_plain


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    return tmp_path / "a"


def test_a_plain_file_is_opened_as_asked(path):
    descriptor = open_plain(path)
    assert os.read(descriptor, 9) == b"abc"
    os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY)
    descriptor = open_plain("b", os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600, dir_fd=folder)
    assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
    os.close(descriptor)
    os.close(folder)
    assert (path.parent / "b").exists()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT])
def test_a_pipe_is_no_plain_file_and_is_not_waited_for(tmp_path, flags):
    os.mkfifo(tmp_path / "pipe")
    table = Path("/dev/fd")
    before = len([*table.iterdir()])
    with pytest.raises(OSError, match="pipe: a plain file expected"):
        open_plain(tmp_path / "pipe", flags)
    assert len([*table.iterdir()]) == before


def test_folders_and_devices_are_no_plain_files(tmp_path):
    for path in (tmp_path, "/dev/null"):
        with pytest.raises(OSError, match="a plain file expected"):
            open_plain(path)


def test_links_are_followed_only_where_that_is_asked_for(path):
    link, nowhere = path.parent / "link", path.parent / "nowhere"
    link.symlink_to(path)
    nowhere.symlink_to(path.parent / "none")
    os.close(open_plain(link, follow=True))
    for name in (link, nowhere):
        with pytest.raises(OSError, match=name.name):
            open_plain(name, os.O_RDWR | os.O_CREAT)
    assert not (path.parent / "none").exists()


@pytest.mark.parametrize(("mode", "trusted"), [(0o644, True), (0o664, False), (0o602, False)])
def test_a_file_that_others_may_write_is_not_trusted(path, mode, trusted):
    path.chmod(mode)
    assert is_trusted(path.stat()) == trusted


def test_a_file_of_another_user_is_trusted_only_if_that_is_root(path, monkeypatch):
    owner = path.stat().st_uid
    monkeypatch.setattr("gpuio.storage.plain_file.os.geteuid", lambda: owner + 1)
    assert is_trusted(path.stat()) == (owner == 0)


@pytest.mark.parametrize(
    "read", [read_plain, imread, TextRows.open, lambda path: MNISTIter(image=path, label=path)]
)
@pytest.mark.parametrize("endless", [False, True])
def test_readers_of_whole_files_wait_for_no_writer_and_end(tmp_path, read, endless):
    pipe = tmp_path / "pipe"
    if endless:
        pipe.symlink_to("/dev/zero")
    else:
        os.mkfifo(pipe)
    with pytest.raises(OSError, match="pipe: a plain file expected"):
        read(pipe)
