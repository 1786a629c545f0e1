"""Bytes gathered from many places of a file: the right ones wherever they lie, or an error."""

from __future__ import annotations

import os

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.errors import FormatError
from gpuio.storage import byte_source as module
from gpuio.storage.byte_source import LocalBytes


@pytest.fixture
def content(tmp_path, monkeypatch):
    """A file of 10,000 words, and what they are; stretches are short."""
    monkeypatch.setattr(module, "_STRETCH", 512)
    monkeypatch.setattr(module, "_DENSE", 64)
    words = np.random.default_rng(0).integers(0, 1 << 32, 10_000, np.uint32)
    (tmp_path / "a.rec").write_bytes(words.astype("<u4").tobytes())
    return tmp_path / "a.rec", words


@pytest.mark.parametrize("apart", [1, 3, 16, 17, 60, 700])
@pytest.mark.parametrize("count", [1, 3, 64])
def test_words_come_from_where_they_are(content, apart, count):
    path, words = content
    places = np.cumsum(np.random.default_rng(apart).integers(1, 2 * apart, 4000))
    places = places[places < len(words)]
    beyond = np.concatenate((words, np.zeros(count, np.uint32)))
    with LocalBytes(path) as file:
        found = file.gather(4 * places, 4 * count).view("<u4")
    npt.assert_array_equal(found, beyond[places[:, None] + np.arange(count)])


def test_past_the_end_there_are_zeros(content):
    path, words = content
    with LocalBytes(path) as file:
        for offsets in ([39_996, 40_000, 44_000], [39_996, 1 << 40]):
            found = file.gather(np.array(offsets), 8).view("<u4")
            npt.assert_array_equal(found[0], [words[-1], 0])
            assert not found[1:].any()
        assert file.gather(np.zeros(0, np.int64), 12).shape == (0, 12)


@pytest.mark.parametrize("offsets", [[0, 40, 80], [0, 20_000, 30_000]], ids=["near", "far"])
def test_a_file_that_is_cut_meanwhile_is_an_error(content, offsets, monkeypatch):
    path, _ = content

    def cut(file, *args):
        os.truncate(path, offsets[-1] + 4)
        return read(file, *args)

    read = LocalBytes.readinto
    monkeypatch.setattr(LocalBytes, "readinto", cut)
    expected = f"it had 40000 bytes, and has {offsets[-1] + 4}"
    with LocalBytes(path) as file, pytest.raises(FormatError, match=f"a.rec: .*{expected}"):
        file.gather(np.array(offsets), 12)
