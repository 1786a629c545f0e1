"""Scripts as people have them for MXNet, with one line changed: the import."""

from __future__ import annotations

import numbers
import pickle
import queue
import threading

import numpy as np
import numpy.testing as npt
import pytest

import gpuio as mx
from gpuio.testing import draw

PERSONS, EACH, SIDE = 4, 3, 56


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A set of faces: record 0 says where images end; then images; then a record a person."""
    folder = tmp_path_factory.mktemp("faces")
    end = 1 + PERSONS * EACH
    paths = str(folder / "train.idx"), str(folder / "train.rec")
    with mx.recordio.MXIndexedRecordIO(*paths, "w") as records:

        def add(key, label, image=None):
            header = mx.recordio.IRHeader(0, label, key, 0)
            if image is None:
                records.write_idx(key, mx.recordio.pack(header, b""))
            else:
                records.write_idx(key, mx.recordio.pack_img(header, image))

        add(0, [float(end), float(end + PERSONS)])
        for key in range(1, end):
            person = float((key - 1) // EACH)
            # Some sets keep a second label beside the person.
            add(key, [person, 0.0] if key % 2 else person, draw(SIDE, SIDE, seed=key))
        for person in range(PERSONS):
            add(end + person, [1.0 + person * EACH, 1.0 + (person + 1) * EACH])
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Pictures of ten sizes in a .rec, with an .idx and a .lst."""
    folder = tmp_path_factory.mktemp("shapes")
    lines = []
    paths = str(folder / "train.idx"), str(folder / "train.rec")
    with mx.recordio.MXIndexedRecordIO(*paths, "w") as records:
        for key in range(10):
            header = mx.recordio.IRHeader(0, float(key), key, 0)
            records.write_idx(key, mx.recordio.pack_img(header, draw(50 + key, 70, seed=key)))
            lines.append(f"{key}\t{key}\t{key}.jpg\n")
    (folder / "train.lst").write_text("".join(lines))
    return folder


# ---- a set of faces behind PyTorch's DataLoader


class MXFaceDataset:
    """A map-style data set over the images of a set of faces."""

    def __init__(self, root_dir):
        self.imgrec = mx.recordio.MXIndexedRecordIO(
            str(root_dir / "train.idx"), str(root_dir / "train.rec"), "r"
        )
        header, _ = mx.recordio.unpack(self.imgrec.read_idx(0))
        if header.flag > 0:
            self.header0 = (int(header.label[0]), int(header.label[1]))
            self.imgidx = np.array(range(1, int(header.label[0])))
        else:
            self.imgidx = np.array(list(self.imgrec.keys))

    def __getitem__(self, index):
        import torch

        header, img = mx.recordio.unpack(self.imgrec.read_idx(self.imgidx[index]))
        label = header.label
        if not isinstance(label, numbers.Number):
            label = label[0]
        label = torch.tensor(int(label), dtype=torch.long)
        sample = mx.image.imdecode(img).asnumpy()
        return torch.from_numpy(np.ascontiguousarray(sample.transpose(2, 0, 1))), label

    def __len__(self):
        return len(self.imgidx)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_set_of_faces_behind_a_dataloader(faces, workers):
    data = pytest.importorskip("torch.utils.data")
    dataset = MXFaceDataset(faces)
    loader = data.DataLoader(dataset, batch_size=4, shuffle=False, num_workers=workers)
    batches = list(loader)
    assert [tuple(images.shape) for images, _ in batches] == [(4, 3, SIDE, SIDE)] * 3
    labels = np.concatenate([labels.numpy() for _, labels in batches])
    assert labels.tolist() == [person for person in range(PERSONS) for _ in range(EACH)]
    again = list(loader)
    assert all((a[0] == b[0]).all() for a, b in zip(batches, again, strict=True))


def test_a_set_of_faces_can_be_sent_to_another_process(faces):
    pytest.importorskip("torch")
    dataset = MXFaceDataset(faces)
    copy = pickle.loads(pickle.dumps(dataset))
    npt.assert_array_equal(copy[5][0], dataset[5][0])
    assert len(copy) == PERSONS * EACH


# ---- a reader that keeps (path, person, camera) and opens the .rec when it first reads


class RecordReader:
    """Images by number for training that goes by persons: opened late, once in each thread."""

    def __init__(self, root):
        self.root = root
        self.local = threading.local()
        records = mx.recordio.MXIndexedRecordIO(
            str(root / "train.idx"), str(root / "train.rec"), "r"
        )
        header = mx.recordio.unpack(records.read_idx(0))[0]
        self.items = []
        for identity in range(int(header.label[0]), int(header.label[1])):
            first, end = map(int, mx.recordio.unpack(records.read_idx(identity))[0].label)
            self.items += [(key, identity - int(header.label[0])) for key in range(first, end)]
        records.close()

    def read(self, number):
        if not hasattr(self.local, "records"):
            self.local.records = mx.recordio.MXIndexedRecordIO(
                str(self.root / "train.idx"), str(self.root / "train.rec"), "r"
            )
        key, person = self.items[number]
        header, image = mx.recordio.unpack_img(self.local.records.read_idx(key), 1)
        assert header.id == key
        return image[:, :, ::-1], person


def test_persons_are_sampled_by_several_threads(faces):
    reader = RecordReader(faces)
    assert len(reader.items) == PERSONS * EACH
    wanted, found = queue.SimpleQueue(), {}
    for number in range(len(reader.items)):
        wanted.put(number)

    def work():
        while not wanted.empty():
            try:
                number = wanted.get_nowait()
            except queue.Empty:
                return
            found[number] = reader.read(number)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number][1] for number in range(12)] == [n // EACH for n in range(12)]
    for number, (image, _) in found.items():
        direct = MXFaceDataset(faces).imgrec.read_idx(number + 1)
        npt.assert_array_equal(image, mx.image.imdecode(mx.recordio.unpack(direct)[1]))


# ---- training over ImageRecordIter, split over devices


def split_and_load(data, ctx_list, batch_axis=0):
    """As `gluon.utils.split_and_load` does it."""
    pieces = np.array_split(np.arange(data.shape[batch_axis]), len(ctx_list))
    return [data[piece[0] : piece[-1] + 1].as_in_context(c) for piece, c in zip(pieces, ctx_list)]  # noqa: B905


def get_data_rec(folder, batch_size, num_workers):
    """Training and validation data, by the keywords of such scripts."""
    mean_rgb, std_rgb = [123.68, 116.779, 103.939], [58.393, 57.12, 57.375]

    def batch_fn(batch, ctx):
        data = split_and_load(batch.data[0], ctx_list=ctx, batch_axis=0)
        label = split_and_load(batch.label[0], ctx_list=ctx, batch_axis=0)
        return data, label

    normalization = {
        "mean_r": mean_rgb[0],
        "mean_g": mean_rgb[1],
        "mean_b": mean_rgb[2],
        "std_r": std_rgb[0],
        "std_g": std_rgb[1],
        "std_b": std_rgb[2],
    }
    files = {
        "path_imgrec": str(folder / "train.rec"),
        "path_imgidx": str(folder / "train.idx"),
        "preprocess_threads": num_workers,
        "batch_size": batch_size,
        "data_shape": (3, 40, 40),
        **normalization,
    }
    train_data = mx.io.ImageRecordIter(
        shuffle=True,
        rand_mirror=True,
        random_resized_crop=True,
        max_aspect_ratio=4.0 / 3.0,
        min_aspect_ratio=3.0 / 4.0,
        max_random_area=1,
        min_random_area=0.08,
        brightness=0.4,
        saturation=0.4,
        contrast=0.4,
        pca_noise=0.1,
        **files,
    )
    val_data = mx.io.ImageRecordIter(shuffle=False, resize=45, **files)
    return train_data, val_data, batch_fn


def test_a_training_loop_over_records_on_two_devices(shapes):
    ctx = [mx.cpu(0), mx.cpu(0)]
    train_data, val_data, batch_fn = get_data_rec(shapes, batch_size=5, num_workers=2)
    seen = []
    for _ in range(2):
        train_data.reset()
        for batch in train_data:
            data, label = batch_fn(batch, ctx)
            assert len(data) == len(label) == 2
            for x, y in zip(data, label, strict=True):
                assert x.context == mx.cpu(0)
                assert np.isfinite(x.asnumpy()).all()
                seen += y.asnumpy().astype(int).tolist()
            mx.nd.waitall()
    assert sorted(seen) == sorted([*range(10), *range(10)])
    val_data.reset()
    outputs = [batch.label[0].asscalar() if batch.pad else batch.label[0] for batch in val_data]
    assert np.concatenate(outputs).tolist() == list(range(10))


def test_a_loop_over_imageiter_with_a_seed_of_its_own(shapes):
    def epoch():
        import random

        random.seed(23)
        data_iter = mx.image.ImageIter(
            batch_size=5,
            data_shape=(3, 40, 40),
            path_imgrec=str(shapes / "train.rec"),
            path_imgidx=str(shapes / "train.idx"),
            shuffle=True,
            rand_crop=True,
            rand_mirror=True,
            mean=True,
            std=True,
        )
        data_iter.reset()
        while True:
            try:
                yield data_iter.next()
            except StopIteration:
                return

    first, second = list(epoch()), list(epoch())
    assert len(first) == 2
    for a, b in zip(first, second, strict=True):
        npt.assert_array_equal(a.data[0].asnumpy(), b.data[0].asnumpy())


def test_scripts_catch_the_error_of_mxnet(tmp_path):
    (tmp_path / "bad.rec").write_bytes(b"no records at all")
    with pytest.raises(mx.base.MXNetError):
        mx.io.ImageRecordIter(
            path_imgrec=str(tmp_path / "bad.rec"), data_shape=(3, 8, 8), batch_size=1
        )
    with pytest.raises(mx.base.MXNetError):
        mx.image.imdecode(b"no image").asnumpy()
