from __future__ import annotations

import random
import threading
import warnings

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio import image, recordio
from gpuio.errors import CorruptRecordError, FormatError, LabelError
from gpuio.mxnet.ndarray import NDArray
from gpuio.testing import draw, encode

SHAPE = (3, 8, 9)
COUNT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten pictures of 8 by 9, as files, in a list and in a .rec with keys 100 to 109."""
    folder = tmp_path_factory.mktemp("images")
    writer = recordio.MXIndexedRecordIO(str(folder / "a.idx"), str(folder / "a.rec"), "w")
    lines = []
    for n in range(COUNT):
        pixels = draw(8, 9, seed=n)
        Image.fromarray(pixels).save(folder / f"{n}.png")
        header = recordio.IRHeader(0, float(n), 100 + n, 0)
        writer.write_idx(100 + n, recordio.pack(header, encode(pixels)))
        lines.append(f"{100 + n}\t{10 * n}\t{n}.png\n")
    writer.close()
    (folder / "a.lst").write_text("".join(lines))
    return folder


@pytest.fixture
def rec(folder):
    return {"path_imgrec": str(folder / "a.rec")}


@pytest.fixture
def indexed(folder, rec):
    return {**rec, "path_imgidx": str(folder / "a.idx")}


@pytest.fixture
def listed(folder):
    return {"path_imglist": str(folder / "a.lst"), "path_root": str(folder)}


def labels(batches):
    return [batch.label[0].asnumpy().astype(int).tolist() for batch in batches]


def test_a_batch_holds_the_pictures_and_is_the_callers(indexed):
    it = image.ImageIter(4, SHAPE, **indexed)
    batches = list(it)
    assert [batch.pad for batch in batches] == [0, 0, 2]
    assert labels(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    for place, n in ((0, 0), (3, 3)):
        expected = draw(8, 9, seed=n).transpose(2, 0, 1)
        npt.assert_array_equal(batches[0].data[0][place], expected)
    assert isinstance(batches[0].data[0], NDArray)
    assert batches[0].data[0].dtype == batches[0].label[0].dtype == np.float32
    assert batches[0].index is None


@pytest.mark.parametrize(
    "given",
    [
        {"path_imgrec": "a.rec"},
        {"path_imgrec": "a.rec", "path_imgidx": "a.idx"},
        {"path_imglist": "a.lst", "path_root": "."},
    ],
)
@pytest.mark.parametrize("aug_list", [None, [image.ForceResizeAug((9, 8)), lambda x: x]])
def test_the_files_are_found_after_a_change_of_folder(folder, monkeypatch, given, aug_list):
    monkeypatch.chdir(folder)
    it = image.ImageIter(5, SHAPE, aug_list=aug_list, **given)
    monkeypatch.chdir("/")
    scale = 10 if "path_imglist" in given else 1
    expected = [[scale * n for n in range(start, start + 5)] for start in (0, 5)]
    assert labels(it) == expected
    it.reset()
    assert labels(it) == expected
    it.close()


def test_a_file_that_was_replaced_between_epochs_is_named(folder, tmp_path):
    for name in ("a.rec", "b.rec"):
        (tmp_path / name).write_bytes((folder / "a.rec").read_bytes())
    it = image.ImageIter(5, SHAPE, path_imgrec=tmp_path / "a.rec")
    list(it)
    (tmp_path / "b.rec").replace(tmp_path / "a.rec")
    it.reset()
    with pytest.raises(FormatError, match=r"a\.rec was replaced since"):
        list(it)
    it.close()


def taken(it):
    return list(iter(lambda: next(it, None), None))


def test_next_ends_until_reset_where_it_padded_and_continues_where_it_did_not(indexed):
    it = image.ImageIter(4, SHAPE, **indexed)
    assert [len(taken(it)) for _ in range(3)] == [3, 0, 0]
    it.reset()
    assert len(taken(it)) == 3
    it = image.ImageIter(5, SHAPE, **indexed)
    assert [len(taken(it)) for _ in range(3)] == [2, 2, 2]


def test_a_loop_at_the_end_begins_the_next_epoch(indexed):
    random.seed(5)
    it = image.ImageIter(5, SHAPE, shuffle=True, **indexed)
    for _ in range(3):
        before, found = list(it.seq), np.ravel(labels(it)).tolist()
        assert found == [key - 100 for key in it.seq]
    assert it.seq != before


def test_discard_drops_what_is_not_a_batch(indexed):
    it = image.ImageIter(4, SHAPE, last_batch_handle="discard", **indexed)
    for _ in range(2):
        assert labels(it) == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert taken(it) == []
        it.reset()


def test_roll_over_keeps_it_for_the_next_epoch(indexed):
    it = image.ImageIter(4, SHAPE, last_batch_handle="roll_over", **indexed)
    assert labels(it) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    it.reset()
    batches = list(it)
    assert labels(batches) == [[8, 9, 0, 1], [2, 3, 4, 5], [6, 7, 8, 9]]
    assert [batch.pad for batch in batches] == [2, 0, 0]
    it.reset()
    next(it)
    it.hard_reset()
    assert labels(it) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_large_batch_is_filled_with_whole_rounds(indexed):
    for handle, rounds in (("pad", 1), ("roll_over", 2)):
        it = image.ImageIter(25, SHAPE, last_batch_handle=handle, **indexed)
        if rounds == 2:
            assert list(it) == []
            it.reset()
        batch = next(it)
        assert labels([batch]) == [(list(range(10)) * 3)[:25]]
        assert batch.pad == 15


@pytest.mark.parametrize("threads", [1, 3])
def test_a_part_and_an_order_are_those_of_pythons_random(indexed, threads):
    random.seed(8)
    it = image.ImageIter(
        2, SHAPE, shuffle=True, num_parts=3, part_index=2, preprocess_threads=threads, **indexed
    )
    assert it.num_image == 3
    found = labels(it)
    random.seed(8)
    expected = [6, 7, 8]
    random.shuffle(expected)
    assert found == [expected[:2], [expected[2], expected[0]]]


def test_a_rec_without_idx_can_be_shuffled_and_parted(rec):
    it = image.ImageIter(5, SHAPE, shuffle=True, **rec)
    assert sorted(np.ravel(labels(it)).tolist()) == list(range(10))
    it = image.ImageIter(5, SHAPE, num_parts=2, part_index=1, **rec)
    assert labels(it) == [[5, 6, 7, 8, 9]]
    assert image.ImageIter(5, SHAPE, **rec).seq is None


def test_labels_of_a_list_replace_those_of_the_rec(indexed, rec, listed):
    it = image.ImageIter(10, SHAPE, path_imglist=listed["path_imglist"], **indexed)
    assert labels(it) == [[10 * n for n in range(10)]]
    with pytest.warns(UserWarning, match="labels of a list need path_imgidx"):
        it = image.ImageIter(10, SHAPE, path_imglist=listed["path_imglist"], **rec)
    assert labels(it) == [list(range(10))]


def test_samples_in_memory_have_one_label_or_several(folder):
    made = [[1.0, "0.png"], [[2], "1.png"], [np.float32(3), "2.png"]]
    it = image.ImageIter(3, SHAPE, imglist=made, path_root=folder, dtype="int64")
    assert it.seq == ["1", "2", "3"]
    assert it.imglist["1"][0].dtype == np.int64
    assert labels(it) == [[1, 2, 3]]


def test_next_sample_and_read_image_give_bytes(indexed, listed, folder):
    label, data = image.ImageIter(4, SHAPE, **indexed).next_sample()
    assert (label, bytes(data)) == (0, encode(draw(8, 9, seed=0)))
    it = image.ImageIter(4, SHAPE, **listed)
    assert it.read_image("3.png") == (folder / "3.png").read_bytes()
    npt.assert_array_equal(it.imdecode(it.next_sample()[1]), draw(8, 9, seed=0))


def test_augmenters_of_a_generator_are_used_for_every_batch(indexed):
    it = image.ImageIter(2, SHAPE, aug_list=(each for each in [lambda x: x * 0.0]), **indexed)
    assert [batch.data[0].max() for batch in it] == [0] * 5


def test_own_augmenters_and_methods_are_used(indexed):
    class Mine(image.ImageIter):
        def imdecode(self, s):
            assert threading.current_thread() is threading.main_thread()
            return super().imdecode(s)

        def augmentation_transform(self, data):
            return super().augmentation_transform(data) + 1

    it = Mine(2, SHAPE, aug_list=[lambda pixels: pixels * 0.0], **indexed)
    npt.assert_array_equal(next(it).data[0], 1)


def test_a_broken_image_is_named_and_the_next_batch_begins_after_it(tmp_path, folder):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = str(folder / "0.png")
    made = [[0, good], [1, "bad.png"], [2, good], [3, good]]
    it = image.ImageIter(2, SHAPE, imglist=made, path_root=tmp_path)
    with pytest.raises(RuntimeError, match=rf"Broken image filename: bad\.png: {tmp_path}/bad\."):
        next(it)
    assert labels([next(it)]) == [[2, 3]]
    path = tmp_path / "bad"
    writer = recordio.MXIndexedRecordIO(f"{path}.idx", f"{path}.rec", "w")
    writer.write_idx(7, recordio.pack(recordio.IRHeader(0, 1.0, 7, 0), b"no image"))
    writer.close()
    it = image.ImageIter(1, SHAPE, path_imgrec=f"{path}.rec", path_imgidx=f"{path}.idx")
    with pytest.raises(image.BrokenImageError, match="Broken image index: 7"):
        next(it)
    it = image.ImageIter(1, SHAPE, path_imgrec=f"{path}.rec")
    with pytest.raises(image.BrokenImageError, match=r"Broken image in a \.rec read in order"):
        next(it)


def test_a_missing_file_is_an_oserror(tmp_path):
    it = image.ImageIter(1, SHAPE, imglist=[[0, "none.png"]], path_root=tmp_path)
    with pytest.raises(FileNotFoundError):
        next(it)
    with pytest.raises(FileNotFoundError):
        image.ImageIter(1, SHAPE, path_imgrec=str(tmp_path / "none.rec"))


def test_labels_of_another_length_are_a_labelerror(indexed, folder):
    it = image.ImageIter(2, SHAPE, label_width=2, **indexed)
    with pytest.raises(LabelError, match="it has 1 labels, not label_width=2"):
        next(it)
    it = image.ImageIter(1, SHAPE, imglist=[[1, 2, "0.png"]], path_root=folder)
    with pytest.raises(ValueError, match="it has 2 labels, not label_width=1"):
        next(it)


def test_images_of_another_size_are_a_valueerror(indexed):
    it = image.ImageIter(2, (3, 5, 5), aug_list=[], **indexed)
    with pytest.raises(ValueError, match=r"at byte 0, key 100: .*of \(5, 5\), .* one of \(8, 9\)"):
        next(it)
    it = image.ImageIter(2, (3, 5, 5), aug_list=[np.asarray], **indexed)
    with pytest.raises(ValueError, match=r"shape \(3, 8, 9\), not data_shape=\(3, 5, 5\)"):
        next(it)


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ({}, AssertionError, "one of path_imgrec, path_imglist and imglist"),
        ({"imglist": [], "dtype": "uint8"}, AssertionError, "dtype must be one of int32"),
        ({"imglist": [], "data_shape": (1, 8, 9)}, ValueError, "data_shape must have 3 channels"),
        ({"imglist": [], "data_shape": (3, 0, 9)}, ValueError, "sides of at least 1 pixel"),
        ({"imglist": [], "data_shape": (8, 9)}, ValueError, "data_shape must be 3 integers"),
        ({"imglist": [[0, "a.png"], []]}, FormatError, r"imglist: sample 2: .* expected, got \[\]"),
        ({"imglist": [["a.png", 1]]}, FormatError, r"sample 1: .* expected, got \['a\.png', 1\]"),
        ({"imglist": [[1, [2], "a.png"]]}, FormatError, r"sample 1: \[label, path\], \[label, ..."),
        ({"imglist": [], "label_width": 0}, ValueError, "label_width must be at least 1"),
        ({"imglist": [], "batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"imglist": [], "last_batch_handle": "keep"}, ValueError, "last_batch_handle must be one"),
        ({"imglist": [], "rand_miror": 1}, TypeError, "did you mean 'rand_mirror'"),
        ({"imglist": [], "num_parts": 2, "part_index": 2}, AssertionError, "part_index must be"),
        ({"imglist": [], "preprocess_threads": 0}, ValueError, "preprocess_threads must be"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, reason):
    with pytest.raises(error, match=reason):
        image.ImageIter(**{"batch_size": 2, "data_shape": SHAPE, **arguments})


def test_a_list_needs_a_root_and_lines(tmp_path, folder):
    it = image.ImageIter(1, SHAPE, path_imglist=folder / "a.lst")
    with pytest.raises(TypeError, match="path_root must be the folder"):
        next(it)
    (tmp_path / "bad.lst").write_text("no list\n")
    with pytest.raises(FormatError, match=r"bad\.lst: line 1"):
        image.ImageIter(1, SHAPE, path_imglist=tmp_path / "bad.lst", path_root=tmp_path)


def test_an_empty_list_is_an_empty_epoch():
    it = image.ImageIter(2, SHAPE, imglist=[], path_root=".")
    assert list(it) == []


def test_close_ends_the_threads(indexed):
    before = set(threading.enumerate())
    with image.ImageIter(4, SHAPE, preprocess_threads=2, **indexed) as it:
        next(it)
        assert set(threading.enumerate()) - before
    assert not set(threading.enumerate()) - before


def test_threads_change_nothing(indexed):
    def epoch(threads):
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        options = {"rand_crop": True, "brightness": 0.3, "pca_noise": 0.1, "inter_method": 10}
        shape = (3, 6, 6)
        it = image.ImageIter(3, shape, preprocess_threads=threads, **options, **indexed)
        return np.stack([batch.data[0] for batch in it])

    npt.assert_array_equal(epoch(1), epoch(4))


def test_nothing_warns(indexed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(image.ImageIter(4, SHAPE, rand_mirror=True, mean=True, std=True, **indexed))


OWN = [image.ForceResizeAug((9, 8)), lambda pixels: pixels]


def pack_two(folder, second):
    """A .rec of a good image with key 5 and of `second` with key 6, and where that begins."""
    path = folder / "two.rec"
    with recordio.MXIndexedRecordIO(str(folder / "two.idx"), str(path), "w") as writer:
        writer.write_idx(5, recordio.pack((0, 1.0, 5, 0), encode(draw(8, 9, seed=1))))
        place = writer.tell()
        writer.write_idx(6, second)
    return path, place


@pytest.mark.parametrize("aug_list", [None, OWN])
@pytest.mark.parametrize(
    ("second", "kind", "reason"),
    [
        (b"abc", CorruptRecordError, "image record header of 24 bytes, 3 found"),
        (recordio.pack((0, [1.0, 2.0], 6, 0), b"")[:-4], FormatError, "2 labels in 8 bytes, 4"),
        (recordio.pack((0, [1.0, 2.0], 6, 0), b"xyz"), LabelError, "2 labels, not label_width=1"),
        (recordio.pack((0, 1.0, 6, 0), b"xyz"), image.BrokenImageError, "78 79 7a"),
    ],
)
def test_an_error_names_file_and_offset_of_the_record(tmp_path, aug_list, second, kind, reason):
    path, place = pack_two(tmp_path, second)
    if kind is LabelError and aug_list:  # after its image was decoded
        second = recordio.pack((0, [1.0, 2.0], 6, 0), encode(draw(8, 9, seed=1)))
        path, place = pack_two(tmp_path, second)
    with (
        image.ImageIter(2, SHAPE, path_imgrec=path, aug_list=aug_list) as it,
        pytest.raises(kind, match=reason) as raised,
    ):
        it.next()
    assert str(path) in str(raised.value)
    assert f"byte {place}" in str(raised.value)


def test_an_error_of_an_augmenter_names_the_record(tmp_path):
    second = recordio.pack((0, 1.0, 6, 0), encode(draw(8, 9, seed=1)))
    path, _ = pack_two(tmp_path, second)

    def refuse(pixels):
        raise ValueError("too dark")

    with (
        image.ImageIter(2, SHAPE, path_imgrec=path, aug_list=[*OWN, refuse]) as it,
        pytest.raises(FormatError, match=rf"{path}: record at byte 0, key 0\): too dark"),
    ):
        it.next()

    def fail(pixels):
        raise KeyError("mine")

    with (
        image.ImageIter(2, SHAPE, path_imgrec=path, aug_list=[*OWN, fail]) as it,
        pytest.raises(KeyError, match="mine") as raised,
    ):
        it.next()
    assert f"{path}: record at byte 0" in raised.value.__notes__[0]


@pytest.mark.parametrize("made", [None, "image", np.zeros((8, 9), np.uint8)])
def test_what_augmenters_return_is_an_image(indexed, made):
    with (
        image.ImageIter(2, SHAPE, aug_list=[lambda _: made], **indexed) as it,
        pytest.raises(FormatError, match=r"key .*: augmenters must return an image of shape \(h"),
    ):
        it.next()


def test_an_augmenter_cannot_end_an_epoch(indexed):
    def stop(pixels):
        raise StopIteration

    with (
        image.ImageIter(2, SHAPE, aug_list=[stop], **indexed) as it,
        pytest.raises(RuntimeError, match=r"key .*: an augmenter raised StopIteration"),
    ):
        list(it)


def test_a_data_shape_may_be_text(indexed):
    with image.ImageIter(2, str(SHAPE), aug_list=OWN, **indexed) as it:
        assert it.next().data[0].shape == (2, *SHAPE)


def test_an_image_that_augmenters_leave_in_another_shape_is_named(tmp_path):
    second = recordio.pack((0, 1.0, 6, 0), encode(draw(20, 9, seed=1)))
    path, place = pack_two(tmp_path, second)
    reason = rf"byte {place}, key .*shape \(3, 20, 9\), not data_shape=\(3, 8, 9\)"
    with (
        image.ImageIter(2, SHAPE, path_imgrec=path, aug_list=[lambda pixels: pixels]) as it,
        pytest.raises(FormatError, match=reason),
    ):
        it.next()


@pytest.mark.parametrize("aug_list", [None, OWN])
def test_a_key_that_is_not_in_the_list_is_named(tmp_path, aug_list):
    path, place = pack_two(tmp_path, recordio.pack((0, 1.0, 6, 0), encode(draw(8, 9, seed=2))))
    (tmp_path / "a.lst").write_text("5\t1\ta.png\n")
    files = {"path_imgidx": tmp_path / "two.idx", "path_imglist": tmp_path / "a.lst"}
    with (
        image.ImageIter(2, SHAPE, path_imgrec=path, aug_list=aug_list, **files) as it,
        pytest.raises(LabelError, match=rf"{path}: record at byte {place}, key 6: .*a\.lst has no"),
    ):
        it.next()


def test_the_warning_about_labels_of_a_list_points_at_the_call(rec, listed):
    with pytest.warns(UserWarning, match="need path_imgidx") as told:
        image.ImageIter(2, SHAPE, path_imglist=listed["path_imglist"], **rec).close()
    assert told[0].filename == __file__


@pytest.mark.parametrize("aug_list", [None, OWN])
def test_a_name_that_no_file_can_have_is_an_oserror_with_the_name(tmp_path, aug_list):
    (tmp_path / "a.lst").write_bytes(b"0\t1\ta\0b.jpg\n")
    names = {"path_imglist": tmp_path / "a.lst", "path_root": tmp_path}
    with (
        image.ImageIter(1, SHAPE, aug_list=aug_list, **names) as it,
        pytest.raises(OSError, match="embedded null") as raised,
    ):
        it.next()
    assert raised.value.filename == str(tmp_path / "a\0b.jpg")
