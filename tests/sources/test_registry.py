"""Sources of other kinds than RecordIO, from `path_imgrec` to the batches."""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest

import gpuio
from gpuio.errors import DecodeError, FormatError, ReadError
from gpuio.sources import registry
from gpuio.sources.folder import FolderSource
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.sources.registry import open_source
from gpuio.testing import draw, encode, write_rec

EXAMPLE = Path(__file__).parents[2] / "examples" / "zip_source.py"
COUNT, CLASSES = 12, 3
OPTIONS = {"data_shape": (3, 16, 16), "batch_size": 4, "preprocess_threads": 1}


@pytest.fixture(autouse=True)
def zips(monkeypatch):
    """The registration of examples/zip_source.py, until the test ends."""
    monkeypatch.setattr(registry, "_openers", list(registry._openers))
    spec = importlib.util.spec_from_file_location("zip_source", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


@pytest.fixture
def pictures(tmp_path):
    """The same pictures as a .rec, in a folder, and in a zip; where they lie."""
    names = [f"class{n // 4}/{n:02}.png" for n in range(COUNT)]
    images = [encode(draw(16, 16, seed=n), "png") for n in range(COUNT)]
    write_rec(tmp_path / "a.rec", images, labels=[n // 4 for n in range(COUNT)])
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w", zipfile.ZIP_STORED) as file:
        for name, image in zip(names, images, strict=True):
            path = tmp_path / "pictures" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
            file.writestr(name, image)
    return tmp_path


def batches(path, **options):
    with gpuio.ImageRecordIter(path, **OPTIONS | options) as it:
        return [
            (b.data[0].asnumpy().copy(), b.label[0].asnumpy().copy(), b.index.copy(), b.pad)
            for b in it
        ]


@pytest.mark.parametrize("kind", ["pictures", "pictures.zip"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": True, "seed": 3, "rand_mirror": True},
        {"num_parts": 5, "part_index": 2, "last_batch": "short"},
    ],
    ids=["in order", "shuffled", "part"],
)
def test_batches_are_those_of_a_rec_of_the_same_images(pictures, kind, options):
    expected = batches(pictures / "a.rec", **options)
    found = batches(pictures / kind, **options)
    assert len(found) == len(expected)
    for theirs, ours in zip(expected, found, strict=True):
        for one, other in zip(theirs, ours, strict=True):
            npt.assert_array_equal(other, one)


@pytest.mark.parametrize("kind", ["pictures", "pictures.zip"])
def test_a_saved_state_continues_with_the_next_batch(pictures, kind):
    options = OPTIONS | {"shuffle": True, "seed": 1}
    with gpuio.ImageRecordIter(pictures / kind, **options) as it:
        it.next()
        state = it.state_dict()
        expected = it.next().index.tolist()
    with gpuio.ImageRecordIter(pictures / kind, **options) as it:
        it.load_state_dict(state)
        assert it.next().index.tolist() == expected
    with (
        gpuio.ImageRecordIter(pictures / "a.rec", **options) as it,
        pytest.raises(gpuio.StateError, match="dataset"),
    ):
        it.load_state_dict(state)


def test_a_missing_or_broken_file_of_a_folder_follows_on_error(pictures):
    it = gpuio.ImageRecordIter(pictures / "pictures", on_error="zero", **OPTIONS)
    missing, broken = pictures / "pictures/class0/01.png", pictures / "pictures/class0/02.png"
    missing.unlink()
    broken.write_bytes(b"no image")
    with it:
        images = it.next().data[0].asnumpy()
        assert [bool(image.any()) for image in images] == [True, False, False, True]
        first, second = it.faults.first
    assert isinstance(first, ReadError)
    assert str(first) == f"{missing}: [Errno 2] No such file or directory"
    assert isinstance(second, DecodeError)
    assert str(broken) in str(second)
    it = gpuio.ImageRecordIter(pictures / "pictures", **OPTIONS)
    (pictures / "pictures/class0/00.png").unlink()
    with it, pytest.raises(ReadError, match=r"00\.png: \[Errno 2\]"):
        it.next()


def test_damage_in_a_zip_is_reported_with_the_file_and_its_name(pictures):
    path = pictures / "pictures.zip"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 9] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"pictures\.zip: class0/00\.png: Bad CRC-32"):
        batches(path)
    assert batches(path, on_error="skip")[0][2].tolist()[:3] == [1, 2, 3]


def test_labels_come_from_a_list_by_the_numbers_of_the_files(pictures):
    lines = [f"{n}\t{n + 0.5}\t{-n}\tx\n" for n in range(COUNT)]
    (pictures / "a.lst").write_text("".join(lines))
    found = batches(pictures / "pictures", path_imglist=pictures / "a.lst", label_width=2)
    npt.assert_array_equal(found[1][1], [[n + 0.5, -n] for n in range(4, 8)])
    with pytest.raises(gpuio.LabelError, match=r"00\.png, key 0: it has 1 labels, not label_wid"):
        batches(pictures / "pictures", label_width=2)


def test_a_folder_of_rec_files_is_read_as_before(pictures):
    assert isinstance(open_source(pictures), RecordIOSource)
    assert isinstance(open_source(pictures / "pictures"), FolderSource)
    assert open_source([pictures / "a.rec"]).fingerprint() == open_source(pictures).fingerprint()


def test_the_source_registered_last_is_asked_first(pictures):
    asked = []

    def opener(options):
        asked.append(options)
        return FolderSource(["00.png"], np.ones((1, 1), np.float32), root=options.paths[0])

    gpuio.register_source(lambda path: path.endswith("class0"), opener)
    source = open_source(pictures / "pictures" / "class0", on_error="skip")
    assert len(source) == 1
    (options,) = asked
    assert options == gpuio.SourceOptions((str(pictures / "pictures/class0"),), (), "skip")


def test_patterns_find_the_files_of_a_suffix(pictures):
    seen = []
    gpuio.register_source(
        ".zip",
        lambda options: seen.append(options.paths) or FolderSource(["a.png"], np.ones((1, 1))),
    )
    (pictures / "b.zip").touch()
    open_source(f"{pictures}/*.zip")
    assert seen == [(str(pictures / "b.zip"), str(pictures / "pictures.zip"))]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((["a.rec", "pictures.zip"],), "path_imgrec must name files of one kind, got "),
        (("pictures.zip", "a.idx"), r"path_imgidx must not be given for .*pictures\.zip"),
        ((["pictures", "pictures"],), "path_imgrec must name one folder of images"),
    ],
    ids=["kinds", "index", "folders"],
)
def test_parameters_that_a_source_cannot_take_are_refused(pictures, given, message, monkeypatch):
    monkeypatch.chdir(pictures)
    with pytest.raises(ValueError, match=message):
        open_source(*given)


class Listed(gpuio.RecordSource):
    """The records of a list."""

    def __init__(self, options, count=3, keys=None):
        self.count, self.keys = count, keys

    def __len__(self):
        return self.count

    def read(self, record):
        return gpuio.EncodedImage(encode(draw(16, 16, seed=record)), [record], record)

    def where(self, record):
        return f"listed: {record}"

    def fingerprint(self):
        return np.int64(7)


@pytest.fixture
def listed(tmp_path):
    """Where a file of `Listed` lies."""
    (tmp_path / "a.listed").touch()
    return tmp_path / "a.listed"


@pytest.mark.parametrize(
    ("opener", "error", "found"),
    [
        (lambda options: None, TypeError, "opened as NoneType, which is no RecordSource"),
        (lambda options: Listed(options, 0), FormatError, "a.listed: no record in it"),
        (
            lambda options: Listed(options, keys=np.arange(2)),
            TypeError,
            r"keys must be an int64 array of shape \(3,\), got ndarray of int64 and shape \(2,\)",
        ),
        (lambda options: Listed(options, keys=[0, 1, 2]), TypeError, "got list of int64"),
        (lambda options: Listed(options, keys=np.arange(3) / 2), TypeError, "got .* of float64"),
    ],
)
def test_an_opener_must_return_a_source_with_records(listed, opener, error, found):
    gpuio.register_source(".listed", opener)
    with pytest.raises(error, match=found):
        open_source(listed)


def test_a_state_holds_plain_integers_whatever_a_fingerprint_is(listed):
    gpuio.register_source(".listed", Listed)
    with gpuio.ImageRecordIter(listed, **OPTIONS) as it:
        it.next()
        assert json.loads(json.dumps(it.state_dict())) == it.state_dict()


@pytest.mark.parametrize(("match", "opener"), [("", Listed), (".listed", "Listed")])
def test_a_registration_is_checked(match, opener):
    with pytest.raises(ValueError, match="match must be the suffix of files or a function"):
        gpuio.register_source(match, opener)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_processes_read_a_zip_at_places_of_their_own(pictures):
    source = open_source(pictures / "pictures.zip")
    expected = [source.read(record).image for record in range(COUNT)]
    assert expected[0] == (pictures / "pictures" / "class0" / "00.png").read_bytes()
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                same = all(
                    source.read(record).image == expected[record] for record in [*range(COUNT)] * 50
                )
            finally:
                os._exit(not same)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def test_damaged_zips_are_named(pictures):
    path = pictures / "pictures.zip"
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\1\2") + 8] = 1  # the last member is encrypted
    path.write_bytes(data)
    source = open_source(path)
    with pytest.raises(FormatError, match=r"pictures\.zip: class2/11\.png: .*password required"):
        source.read(11)
    path.write_bytes(data[:500])
    with pytest.raises(FormatError, match=r"pictures\.zip: File is not a zip file"):
        open_source(path)


def test_the_last_member_of_a_name_counts_in_a_zip(pictures):
    with (
        zipfile.ZipFile(pictures / "pictures.zip", "a") as file,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        file.writestr("class0/00.png", b"new")
    source = open_source(pictures / "pictures.zip")
    assert len(source) == COUNT
    assert source.read(0).image == b"new"


def test_a_zip_is_one_data_set(pictures):
    with pytest.raises(ValueError, match="a zip is one data set, got 2"):
        open_source([pictures / "pictures.zip"] * 2)
