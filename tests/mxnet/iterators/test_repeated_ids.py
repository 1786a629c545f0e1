"""Ids that are there several times: samples are right, or an error names both places."""

from __future__ import annotations

import numpy as np
import pytest

import gpuio
from gpuio import recordio
from gpuio.errors import FormatError
from gpuio.formats.image_list import load_labels
from gpuio.formats.image_record import IRHeader
from gpuio.sources.labels import ragged_list_labels
from gpuio.testing import encode


@pytest.fixture
def flat(tmp_path):
    """A .rec of three images of one value each, all with key and id 0, labels 0 to 2."""
    with recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "w") as records:
        for value in range(3):
            image = np.full((8, 8, 3), 40 * value, np.uint8)
            records.write_idx(0, recordio.pack(IRHeader(0, value, 0, 0), encode(image, "PNG")))
    return tmp_path / "a.rec"


def test_a_rec_is_read_by_places(flat):
    with gpuio.ImageRecordIter(flat, (3, 8, 8), 3, path_imgidx=flat.with_suffix(".idx")) as it:
        batch = it.next()
        assert batch.label[0].tolist() == [0, 1, 2]
        assert batch.data[0][:, 0, 0, 0].tolist() == [0, 40, 80]


def test_other_labels_for_one_id_are_an_error_that_names_both_lines(flat, tmp_path):
    path = tmp_path / "a.lst"
    path.write_text("5\t1\ta\n\n0\t1\ta\n5\t2\ta\n")
    expected = r"a\.lst: lines 1 and 4: both have id 5, with different labels"
    with pytest.raises(FormatError, match=expected):
        load_labels(path, 1)
    with pytest.raises(FormatError, match=expected):
        ragged_list_labels(path)
    with pytest.raises(FormatError, match=expected):
        gpuio.ImageRecordIter(flat, (3, 8, 8), 3, path_imglist=path)


def test_the_same_labels_again_are_none(tmp_path):
    path = tmp_path / "a.lst"
    path.write_text("5\t1\tnan\ta\n0\t3\t4\ta\n5\t1\tnan\tb\n")
    ids, labels = load_labels(path, 2)
    assert ids.tolist() == [5, 0]
    assert np.array_equal(labels, [[1, np.nan], [3, 4]], equal_nan=True)
    relabel, most = ragged_list_labels(path)
    assert most == 2
    assert np.array_equal(relabel(np.array([5, 7]))[0], [[1, np.nan], [0, 0]], equal_nan=True)


@pytest.mark.parametrize(("again", "what"), [("0\t2\ta.png", "labels"), ("0\t1\tb.png", "paths")])
def test_image_iter_refuses_a_list_in_which_an_id_means_two_samples(tmp_path, again, what):
    path = tmp_path / "a.lst"
    path.write_text(f"0\t1\ta.png\n{again}\n")
    with pytest.raises(FormatError, match=rf"a\.lst: lines 1 and 2: .*different {what}"):
        gpuio.image.ImageIter(1, (3, 8, 8), path_imglist=path, path_root=tmp_path)


def test_image_iter_takes_a_sample_that_is_there_again(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(np.full((8, 8, 3), 7, np.uint8), "PNG"))
    (tmp_path / "a.lst").write_text("0\t1\ta.png\n0\t1\ta.png\n")
    given = {"path_imglist": tmp_path / "a.lst", "path_root": tmp_path}
    batch = gpuio.image.ImageIter(2, (3, 8, 8), **given).next()
    assert batch.label[0].tolist() == [1, 1]
    assert (batch.data[0] == 7).all()


def test_image_iter_refuses_an_index_in_which_a_key_means_two_records(flat):
    with pytest.raises(FormatError, match=r"a\.idx: key 0 stands for the records at bytes 0 and"):
        gpuio.image.ImageIter(3, (3, 8, 8), path_imgrec=flat, path_imgidx=flat.with_suffix(".idx"))


def test_ids_beyond_int64_are_given_as_they_are(tmp_path):
    image = encode(np.zeros((8, 8, 3), np.uint8), "PNG")
    path = tmp_path / "a.rec"
    ids = [1, 2**63, 2**64 - 1]
    with recordio.MXRecordIO(path, "w") as records:
        for number in ids:
            records.write(recordio.pack(IRHeader(0, 0.0, number, 0), image))
    with gpuio.ImageRecordIter(path, (3, 8, 8), 3) as it:
        assert it.next().index.tolist() == ids
    (tmp_path / "a.lst").write_text(f"1\t5\ta\n{-(2**63)}\t6\tb\n")
    with gpuio.ImageRecordIter(
        path, (3, 8, 8), 3, path_imglist=tmp_path / "a.lst", on_error="zero"
    ) as it:
        assert it.next().label[0].tolist() == [5, 0, 0]
        assert [
            f"no line for its id {number}" in str(e)
            for number, e in zip(ids[1:], it.faults.first, strict=True)
        ] == [True, True]


@pytest.mark.parametrize("key", [2**63, -(2**63) - 1, 10**30])
def test_keys_that_no_index_can_hold_are_refused_before_anything_is_written(tmp_path, key):
    with recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "w") as records:
        with pytest.raises(ValueError, match=f"key {key} must be an integer of 64 bits"):
            records.write_idx(key, b"abcd")
        records.write_idx(-(2**63), b"abcd")
    with recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "r") as records:
        assert list(records.keys) == [-(2**63)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_part_makes_the_mean_image_of_all_records(tmp_path, shuffle):
    path = tmp_path / "a.rec"
    with recordio.MXRecordIO(path, "w") as records:
        for value in range(12):
            image = np.full((8, 8, 3), 20 * value, np.uint8)
            records.write(recordio.pack(IRHeader(0, value, value, 0), encode(image, "PNG")))
    for parts, part in ((1, 0), (3, 0), (3, 2)):
        mean = tmp_path / f"{parts}-{part}.bin"
        given = {"num_parts": parts, "part_index": part, "last_batch": "drop"}
        with gpuio.ImageRecordIter(
            path, (3, 8, 8), 5 if parts == 1 else 4, mean_img=mean, shuffle=shuffle, **given
        ) as it:
            batch = it.next()
        values = batch.data[0][:, 0, 0, 0] + 110
        assert np.allclose(values, 20 * batch.label[0], atol=1e-4)
