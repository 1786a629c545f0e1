"""Samples by their keys, and how messages name them."""

from __future__ import annotations

import numpy as np
import pytest

from gpuio import recordio
from gpuio.mxnet.image.samples import KeyedSamples


@pytest.fixture
def rec(tmp_path):
    path = tmp_path / "a.rec"
    with recordio.MXIndexedRecordIO(tmp_path / "a.idx", path, "w") as writer:
        for key in (7, 3):
            writer.write_idx(key, recordio.pack((0, float(key), key, 0), b"image"))
    return path


def opened(rec=None, idx=None, imglist=None, *, keyed=False, listed=None):
    return KeyedSamples(rec, idx, listed, imglist, None, "float32", keyed=keyed)


def test_a_rec_has_the_keys_of_its_idx_or_counts_its_records(rec):
    indexed = opened(rec, rec.with_suffix(".idx"))
    assert indexed.imgidx == [7, 3]
    assert indexed.where(3).startswith(f"index: 3 ({rec}: record at byte ")
    assert indexed.read_record(7) == (7.0, b"image")
    assert opened(rec, keyed=True).imgidx == [0, 1]
    scanned = opened(rec)
    assert (scanned.imgidx, list(scanned.keys)) == (None, [0, 1])
    assert scanned.name(0) == "in a .rec read in order"


def test_a_list_names_the_file_of_a_sample():
    samples = opened(imglist=[[1, "a.png"], [[2, 3], "b.png"]])
    assert samples.keys == ["1", "2"]
    assert samples.where("2") == "filename: b.png (key 2 of imglist)"
    np.testing.assert_array_equal(samples.imglist["2"][0], np.float32([2, 3]))


def test_labels_of_a_list_are_made_when_asked_for_in_the_type_asked_for(tmp_path):
    path = tmp_path / "a.lst"
    path.write_text("5\t1\t2\tx.png\n9\t3\t4\ty.png\n")
    samples = opened(listed=path)
    assert str(samples) == str(path)
    assert list(samples.imglist) == [5, 9]
    label, name = samples.imglist[9]
    assert (label.tolist(), label.dtype, name) == ([3, 4], np.float32, "y.png")
