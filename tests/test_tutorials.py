"""What MXNet's tutorials do with data, step by step, and what they see."""

from __future__ import annotations

import random

import numpy as np
import numpy.testing as npt
import pytest

import gpuio as mx
from gpuio.testing import draw

RNG = np.random.default_rng(0)


def printed(iterator):
    """Shape and pad of each batch, as a loop that prints them shows them."""
    return [(batch.data[0].shape, batch.pad) for batch in iterator]


def test_records_are_written_and_read_one_after_the_other(tmp_path):
    record = mx.recordio.MXRecordIO(str(tmp_path / "tmp.rec"), "w")
    for i in range(5):
        record.write(b"record_%d" % i)
    record.close()
    record = mx.recordio.MXRecordIO(str(tmp_path / "tmp.rec"), "r")
    found = []
    while item := record.read():
        found.append(item)
    assert found == [b"record_0", b"record_1", b"record_2", b"record_3", b"record_4"]
    record.reset()
    assert record.read() == b"record_0"
    record.close()


def test_records_are_read_by_key(tmp_path):
    paths = str(tmp_path / "tmp.idx"), str(tmp_path / "tmp.rec")
    record = mx.recordio.MXIndexedRecordIO(*paths, "w")
    for i in range(5):
        record.write_idx(i, b"record_%d" % i)
    record.close()
    record = mx.recordio.MXIndexedRecordIO(*paths, "r")
    assert record.read_idx(3) == b"record_3"
    assert list(record.keys) == [0, 1, 2, 3, 4]
    record.close()


def test_headers_and_data_are_packed_and_unpacked():
    data = b"data"
    one = mx.recordio.pack(mx.recordio.IRHeader(0, 1.0, 1, 0), data)
    several = mx.recordio.pack(mx.recordio.IRHeader(0, [1.0, 2.0, 3.0], 2, 0), data)
    assert len(one) == 24 + 4
    assert len(several) == 24 + 3 * 4 + 4
    header, content = mx.recordio.unpack(one)
    assert (header, content) == (mx.recordio.IRHeader(0, 1.0, 1, 0), data)
    assert str(header) == "HEADER(flag=0, label=1.0, id=1, id2=0)"
    header, content = mx.recordio.unpack(several)
    assert (header.flag, header.label.tolist(), header.id, content) == (3, [1, 2, 3], 2, data)


def test_images_are_packed_and_unpacked():
    header = mx.recordio.IRHeader(0, 1.0, 1, 0)
    pixels = draw(32, 48, seed=1)
    for form, quality, difference in ((".jpg", 95, 40), (".png", 3, 0)):
        record = mx.recordio.pack_img(header, pixels, quality=quality, img_fmt=form)
        unpacked, image = mx.recordio.unpack_img(record)
        assert unpacked == header
        assert (image.shape, image.dtype) == ((32, 48, 3), np.uint8)
        assert np.abs(image.astype(int) - pixels).max() <= difference


def test_a_hundred_rows_in_batches_of_thirty_end_with_a_pad_of_twenty():
    data, label = RNG.random((100, 3)), RNG.integers(0, 10, (100,))
    iterator = mx.io.NDArrayIter(data=data, label=label, batch_size=30)
    assert printed(iterator) == [((30, 3), 0), ((30, 3), 0), ((30, 3), 0), ((30, 3), 20)]
    iterator.reset()
    batch = iterator.next()
    assert str(batch) == "DataBatch: data shapes: [(30, 3)] label shapes: [(30,)]"
    npt.assert_array_equal(batch.data[0].asnumpy(), data[:30].astype(np.float32))
    assert str(iterator.provide_data[0]) == "DataDesc[data,(30, 3),<class 'numpy.float32'>,NCHW]"
    assert iterator.provide_label == [("softmax_label", (30,))]


def test_the_same_rows_from_a_csv_file(tmp_path):
    data = RNG.random((100, 3), np.float32)
    np.savetxt(tmp_path / "data.csv", data, delimiter=",")
    iterator = mx.io.CSVIter(data_csv=str(tmp_path / "data.csv"), data_shape=(3,), batch_size=30)
    assert printed(iterator) == [((30, 3), 0), ((30, 3), 0), ((30, 3), 0), ((30, 3), 20)]
    npt.assert_allclose(iterator.provide_data[0].shape, (30, 3))
    iterator.reset()
    npt.assert_allclose(iterator.next().data[0].asnumpy(), data[:30], rtol=1e-6)


class SimpleIter(mx.io.DataIter):
    """Data from functions, as the tutorial on custom iterators makes them."""

    def __init__(self, data_names, data_shapes, data_gen, label_names, label_shapes, label_gen):
        super().__init__()
        self._provide_data = list(zip(data_names, data_shapes, strict=True))
        self._provide_label = list(zip(label_names, label_shapes, strict=True))
        self.num_batches, self.cur_batch = 10, 0
        self.data_gen, self.label_gen = data_gen, label_gen

    def __iter__(self):
        return self

    def reset(self):
        self.cur_batch = 0

    def __next__(self):
        return self.next()

    @property
    def provide_data(self):
        return self._provide_data

    @property
    def provide_label(self):
        return self._provide_label

    def next(self):
        if self.cur_batch >= self.num_batches:
            raise StopIteration
        self.cur_batch += 1
        data = [mx.nd.array(g(d[1])) for d, g in zip(self._provide_data, self.data_gen)]  # noqa: B905
        label = [mx.nd.array(g(d[1])) for d, g in zip(self._provide_label, self.label_gen)]  # noqa: B905
        return mx.io.DataBatch(data, label)


def simple():
    return SimpleIter(
        ["data"],
        [(32, 100)],
        [lambda s: RNG.uniform(-1, 1, s)],
        ["softmax_label"],
        [(32,)],
        [lambda s: RNG.integers(0, 10, s)],
    )


def test_an_iterator_of_ones_own_works_alone_and_inside_others():
    iterator = simple()
    assert printed(iterator) == [((32, 100), None)] * 10
    assert list(iterator) == []
    iterator.reset()
    assert len(list(iterator)) == 10
    with mx.io.PrefetchingIter(simple()) as ahead:
        assert len(printed(ahead)) == 10
        ahead.reset()
        assert len(printed(ahead)) == 10
    assert len(printed(mx.io.ResizeIter(simple(), 25))) == 25


@pytest.fixture
def files(tmp_path):
    """Ten pictures of two classes, as JPEGs, in a list, and in a .rec with its .idx."""
    lines = []
    names = str(tmp_path / "caltech.idx"), str(tmp_path / "caltech.rec")
    with mx.recordio.MXIndexedRecordIO(*names, "w") as records:
        for i in range(10):
            header = mx.recordio.IRHeader(0, float(i % 2), i, 0)
            record = mx.recordio.pack_img(header, draw(60 + i, 80, seed=i))
            records.write_idx(i, record)
            (tmp_path / f"{i}.jpg").write_bytes(mx.recordio.unpack(record)[1])
            lines.append(f"{i}\t{float(i % 2)}\t{i}.jpg\n")
    (tmp_path / "caltech.lst").write_text("".join(lines))
    return tmp_path


def test_a_picture_is_decoded_resized_and_cropped(files):
    encoded = (files / "3.jpg").read_bytes()
    image = mx.image.imdecode(encoded)
    assert (image.shape, image.dtype) == ((63, 80, 3), np.uint8)
    npt.assert_array_equal(image, mx.image.imread(str(files / "3.jpg")))
    npt.assert_array_equal(mx.image.imdecode(encoded, to_rgb=False)[:, :, ::-1], image)
    assert mx.image.imdecode(encoded, flag=0).shape == (63, 80, 1)
    assert mx.image.imresize(image, 100, 70).shape == (70, 100, 3)
    assert mx.image.resize_short(image, 50).shape == (50, 63, 3)
    random.seed(2)
    crop, (x, y, width, height) = mx.image.random_crop(image, (40, 30))
    assert (crop.shape, width, height) == ((30, 40, 3), 40, 30)
    npt.assert_array_equal(crop, image[y : y + 30, x : x + 40])


@pytest.mark.parametrize("source", ["rec", "list", "memory"])
def test_imageiter_gives_batches_of_four(files, source):
    sources = {
        "rec": {"path_imgrec": str(files / "caltech.rec")},
        "list": {"path_imglist": str(files / "caltech.lst"), "path_root": str(files)},
        "memory": {"imglist": [[i % 2, f"{i}.jpg"] for i in range(10)], "path_root": str(files)},
    }
    iterator = mx.image.ImageIter(batch_size=4, data_shape=(3, 48, 56), **sources[source])
    iterator.reset()
    batch = iterator.next()
    assert (batch.data[0].shape, batch.data[0].dtype) == ((4, 3, 48, 56), np.float32)
    assert batch.label[0].asnumpy().tolist() == [0, 1, 0, 1]
    decoded = mx.image.imread(str(files / "0.jpg"))
    expected = mx.image.center_crop(decoded, (56, 48))[0].asnumpy().transpose(2, 0, 1)
    npt.assert_array_equal(batch.data[0][0].asnumpy(), expected)
    assert [b.pad for b in iterator] == [0, 2]


def test_imagerecorditer_gives_batches_of_four(files):
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(files / "caltech.rec"),
        data_shape=(3, 48, 56),
        batch_size=4,
        resize=64,
    )
    iterator.reset()
    batch = iterator.next()
    assert batch.data[0].shape == (4, 3, 48, 56)
    assert batch.label[0].asnumpy().tolist() == [0, 1, 0, 1]
    assert iterator.provide_data[0] == ("data", (4, 3, 48, 56))
    pictures = [image.asnumpy().astype(np.uint8).transpose(1, 2, 0) for image in batch.data[0]]
    assert {picture.shape for picture in pictures} == {(48, 56, 3)}
    assert [b.pad for b in iterator] == [0, 2]
