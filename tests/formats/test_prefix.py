"""Words at the start of records: the right ones wherever records lie, or an error."""

from __future__ import annotations

import os

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.errors import FormatError
from gpuio.formats import prefix as module
from gpuio.formats.prefix import read_words
from gpuio.formats.recordio import RecordFile


@pytest.fixture
def content(tmp_path, monkeypatch):
    """A file of 10,000 words, and what they are; stretches are short."""
    monkeypatch.setattr(module, "_STRETCH", 512)
    monkeypatch.setattr(module, "_DENSE", 64)
    monkeypatch.setattr(module, "_AT_ONCE", 50)
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
    with RecordFile(path) as file:
        found = read_words(file, 4 * places, count)
    npt.assert_array_equal(found, beyond[places[:, None] + np.arange(count)])


def test_past_the_end_there_are_zeros(content):
    path, words = content
    with RecordFile(path) as file:
        for offsets in ([39_996, 40_000, 44_000], [39_996, 1 << 40]):
            found = read_words(file, np.array(offsets), 2)
            npt.assert_array_equal(found[0], [words[-1], 0])
            assert not found[1:].any()
        assert read_words(file, np.zeros(0, np.int64), 3).shape == (0, 3)


@pytest.mark.parametrize("offsets", [[0, 40, 80], [0, 20_000, 30_000]], ids=["near", "far"])
def test_a_file_that_is_cut_meanwhile_is_an_error_that_names_the_byte(content, offsets):
    path, _ = content

    class Cut(RecordFile):
        @property
        def size(self) -> int:
            return 40_000

    os.truncate(path, offsets[-1] + 4)
    with Cut(path) as file, pytest.raises(FormatError) as caught:
        read_words(file, np.array(offsets), 3)
    assert str(path) in str(caught.value)
    start, expected, found = (80, 12, 4) if offsets[1] > 40 else (0, 92, 84)
    if offsets[1] > 40:
        start = offsets[-1]
    text = f"{expected} bytes expected at byte {start}, found {found}: the file became shorter"
    assert text in str(caught.value)
