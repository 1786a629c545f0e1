"""gpuio.torch.RecordDataset, and DataLoader over it."""

from __future__ import annotations

import multiprocessing
import os
import pickle

import numpy.testing as npt
import pytest

from gpuio import recordio
from gpuio.errors import CorruptRecordError, DecodeError, FormatError, LabelError
from gpuio.testing import draw, encode, write_rec

torch = pytest.importorskip("torch")
RecordDataset = pytest.importorskip("gpuio.torch").RecordDataset
DataLoader = torch.utils.data.DataLoader


@pytest.fixture
def equal(tmp_path):
    """Eight pictures of 20 by 24 pixels, labelled 0 to 7."""
    path = tmp_path / "equal.rec"
    write_rec(path, [encode(draw(20, 24, seed=n), "BMP") for n in range(8)])
    return path


def flipped(image):
    return image.flip(1)


def with_process(image):
    return torch.tensor(os.getpid())


def test_images_and_labels_are_had_by_number(rec, pictures):
    dataset = RecordDataset(rec)
    assert len(dataset) == 13
    for number in (0, 5, 12, -1):
        image, label = dataset[number]
        assert (image.dtype, label.dtype, label.shape) == (torch.uint8, torch.int64, ())
        npt.assert_array_equal(image.numpy(), pictures[number])
        assert label == number % 13


def test_iteration_ends(rec):
    assert [int(label) for _, label in RecordDataset(rec)] == list(range(13))


@pytest.mark.parametrize("number", [13, -14])
def test_other_numbers_are_an_index_error(rec, number):
    with pytest.raises(IndexError, match="of 13 records"):
        RecordDataset(rec)[number]


@pytest.mark.parametrize("number", [1.5, slice(1, 3), "1"])
def test_a_record_number_that_is_no_integer_is_a_type_error(rec, number):
    with pytest.raises(TypeError, match="as an integer"):
        RecordDataset(rec)[number]


def test_raw_images_are_bytes(rec):
    image, label = RecordDataset(rec, raw=True)[3]
    with recordio.MXRecordIO(rec, "r") as records:
        assert image == recordio.unpack(records[3])[1]
    assert label == 3


def test_gray_has_one_channel(rec, pictures):
    image, _ = RecordDataset(rec, channels=1)[2]
    assert image.shape == (*pictures[2].shape[:2], 1)


def test_a_transform_is_applied(rec, pictures):
    image, _ = RecordDataset(rec, transform=flipped)[4]
    npt.assert_array_equal(image.numpy(), pictures[4][:, ::-1])


def test_several_labels_are_floats(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(draw(20, 20))], labels=[[1, 2.5]])
    _, label = RecordDataset(path, label_width=2)[0]
    assert (label.dtype, label.tolist()) == (torch.float32, [1, 2.5])
    with pytest.raises(LabelError, match=r"a\.rec: record 0 at byte 0: it has 2 labels"):
        RecordDataset(path)[0]


def test_a_label_that_is_not_whole_needs_another_dtype(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(draw(20, 20))], labels=[0.5])
    with pytest.raises(LabelError, match=r"record 0 at byte 0: label 0\.5 is no int64"):
        RecordDataset(path)[0]
    assert RecordDataset(path, label_dtype="float32")[0][1] == 0.5


def test_an_error_names_the_damaged_record(tmp_path):
    path = tmp_path / "a.rec"
    _, middle, *_ = write_rec(path, [b"no image", encode(draw(20, 20)), b"another"])
    data = bytearray(path.read_bytes())
    data[middle] ^= 1
    path.write_bytes(data)
    dataset = RecordDataset(path)
    with pytest.raises(DecodeError, match=r"a\.rec: record 0 at byte 0: no known image format"):
        dataset[0]
    with pytest.raises(CorruptRecordError, match="magic"):
        dataset[1]


@pytest.mark.parametrize(
    ("options", "name"),
    [({"channels": 2}, "channels"), ({"label_width": 0}, "label_width"),
     ({"label_dtype": "int8"}, "label_dtype")],
)  # fmt: skip
def test_wrong_values_are_named(rec, options, name):
    with pytest.raises(ValueError, match=name):
        RecordDataset(rec, **options)


def test_a_replaced_file_is_named(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [b"first"] * 3)
    dataset = RecordDataset(path, raw=True)
    assert dataset[1][0] == b"first"
    write_rec(tmp_path / "b.rec", [b"other"] * 3)
    (tmp_path / "b.rec").replace(path)
    with pytest.raises(FormatError, match=r"a\.rec was replaced since it was opened first"):
        dataset[1]


def test_the_files_are_found_from_another_folder(tmp_path, monkeypatch):
    write_rec(tmp_path / "a.rec", [b"raw"])
    monkeypatch.chdir(tmp_path)
    dataset = RecordDataset("a.rec", "a.idx", raw=True)
    pickled = pickle.dumps(dataset)
    monkeypatch.chdir("/")
    assert dataset[0][0] == pickle.loads(pickled)[0][0] == b"raw"


def test_a_pickle_is_small_and_opens_the_files_anew(tmp_path):
    path = tmp_path / "many.rec"
    write_rec(path, [b"raw"] * 5000)
    dataset = RecordDataset(path, path.with_suffix(".idx"), raw=True)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert len(again) == 5000
    assert again[4999][0] == b"raw"
    write_rec(path, [b"raw"] * 4999)
    with pytest.raises(FormatError, match="there are 4999 records, and there were 5000"):
        pickle.loads(pickled)[0]


def test_a_data_loader_makes_batches(equal):
    (images, labels), *_ = DataLoader(RecordDataset(equal), batch_size=8)
    assert (images.dtype, images.shape) == (torch.uint8, (8, 20, 24, 3))
    assert labels.tolist() == list(range(8))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_may_be_forked_or_spawned(equal, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    dataset = RecordDataset(equal, raw=True, transform=with_process)
    dataset[0]  # opened before the fork
    loader = DataLoader(dataset, 2, num_workers=2, multiprocessing_context=method)
    processes, labels = map(torch.cat, zip(*loader, strict=True))
    assert labels.tolist() == list(range(8))
    assert len(processes.unique()) == 2
    assert os.getpid() not in processes


def test_an_error_names_a_record_that_is_no_image_record(tmp_path):
    path = tmp_path / "a.rec"
    with recordio.MXRecordIO(path, "w") as records:
        records.write(b"short")
    with pytest.raises(FormatError, match=r"a\.rec: record 0 at byte 0: image record header"):
        RecordDataset(path)[0]


def test_a_folder_of_images_is_a_data_set_too(tmp_path):
    for name in ("ant/1.png", "bee/0.png"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(encode(draw(8, 10, seed=1), "png"))
    images = RecordDataset(tmp_path)
    assert len(images) == 2
    image, label = images[1]
    assert (image.shape, label.tolist()) == ((8, 10, 3), 1)
