"""The headers of many records: what unpacking each of them finds; errors where a file was cut."""

from __future__ import annotations

import os

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.cli.headers import read_headers
from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats.image_record import unpack
from gpuio.formats.recordio import MAGIC, RecordFile
from gpuio.testing import write_rec

MAGIC_BYTES = MAGIC.to_bytes(4, "little")


@pytest.fixture
def written(tmp_path):
    """A .rec of all kinds of records, and where they start."""
    path = tmp_path / "a.rec"
    choose = np.random.default_rng(0)
    labels = [float(n) if n % 3 else [float(n)] * (1 + 7 * (n % 20)) for n in range(90)]
    images = [choose.bytes(int(nbytes)) for nbytes in choose.integers(0, 60, 90)]
    images[7] = images[6] = b"12" + MAGIC_BYTES * 2 + b"3"  # the record is split
    images[80] = choose.bytes(70_000)
    ids = [int(n) for n in choose.integers(0, 1 << 62, 90)]
    return path, np.array(write_rec(path, images, labels=labels, ids=ids)[:-1])


@pytest.mark.parametrize("block", [1 << 16, 7])
def test_headers_are_those_that_unpacking_finds(written, monkeypatch, block):
    monkeypatch.setattr("gpuio.cli.headers._BLOCK", block)
    path, offsets = written
    headers = read_headers(path, offsets)
    with RecordFile(path) as file:
        for row, offset in enumerate(offsets.tolist()):
            header, image = unpack(file.read(offset)[0])
            assert headers["flag"][row] == header.flag
            assert headers["label"][row] == np.atleast_1d(header.label)[0]
            assert headers["id"][row] == header.id
            assert headers["nbytes"][row] == len(image)
            if len(image) >= 4:
                assert headers["start"][row].tobytes() == image[:4]


@pytest.mark.parametrize("more", [4, 60, 5000])
def test_a_file_cut_inside_a_record_is_an_error_that_names_it(written, more):
    path, offsets = written
    os.truncate(path, offsets[80] + more)
    with pytest.raises(CorruptRecordError, match=rf"record at byte {offsets[80]}: .* is gone"):
        read_headers(path, offsets[:81])
    npt.assert_array_equal(read_headers(path, offsets[:80])["nbytes"] >= 0, True)


@pytest.mark.parametrize("left", [0, 8, 1000, 40_000])
def test_a_file_cut_after_it_was_gone_through_is_a_formaterror(written, left):
    path, offsets = written
    os.truncate(path, left)
    with pytest.raises(FormatError, match=r"a\.rec"):
        read_headers(path, offsets)
