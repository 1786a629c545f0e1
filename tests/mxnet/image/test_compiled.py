"""What kernels make of a list of augmenters, beside what the augmenters themselves do."""

from __future__ import annotations

import gc
import io
import multiprocessing
import random
import threading

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio import image, recordio
from gpuio.errors import PipelineClosedError
from gpuio.mxnet.image.compiled import CompiledAugmenters
from gpuio.testing import draw, encode

SIZES = [(30, 41), (41, 30), (35, 35), (24, 52), (31, 33), (29, 29), (60, 45), (14, 40)]
SHAPE = (3, 22, 25)


class InPython(image.ImageIter):
    """Goes the other way, in the calling thread, as a class with methods of its own does."""

    def postprocess_data(self, datum):
        return super().postprocess_data(datum)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of several sizes as files, in a list, and in a .rec whose .idx is not in order."""
    folder = tmp_path_factory.mktemp("compiled")
    writer = recordio.MXIndexedRecordIO(folder / "a.idx", folder / "a.rec", "w")
    lines = []
    for n, size in enumerate(SIZES):
        encoded = encode(draw(*size, seed=n))
        (folder / f"{n}.png").write_bytes(encoded)
        writer.write_idx(50 + n, recordio.pack(recordio.IRHeader(0, float(n), 50 + n, 0), encoded))
        lines.append(f"{50 + n}\t{10 * n}\t{n}.png\n")
    writer.close()
    (folder / "a.lst").write_text("".join(lines))
    index = (folder / "a.idx").read_text().splitlines(keepends=True)
    (folder / "back.idx").write_text("".join(index[::-1]))
    return folder


@pytest.fixture
def indexed(folder):
    return {"path_imgrec": folder / "a.rec", "path_imgidx": folder / "a.idx"}


def epochs(kind, count=2, **options):
    """Pixels, labels and pads of two epochs, always from the same seeds."""
    random.seed(4)
    np.random.seed(4)  # noqa: NPY002  as LightingAug draws
    batches = []
    with kind(**{"batch_size": 3, "data_shape": SHAPE} | options) as it:
        for _ in range(count):
            batches += [(b.data[0], b.label[0].tolist(), b.pad) for b in it]
            it.reset()
        assert (it._kernels is None) == (kind is InPython)
    return np.stack([b[0] for b in batches]), [b[1:] for b in batches], random.random()


def check_both_ways(atol=0.0, **options):
    pixels, rest, after = epochs(image.ImageIter, **options)
    expected, expected_rest, expected_after = epochs(InPython, **options)
    npt.assert_allclose(pixels, expected, rtol=0, atol=atol)
    assert rest == expected_rest
    assert after == expected_after  # no more was drawn, and no less


@pytest.mark.parametrize("inter_method", [0, 1, 2, 3, 4, 9, 10])
@pytest.mark.parametrize(
    "steps",
    [
        {},
        {"resize": 26},
        {"resize": 40, "rand_crop": True, "rand_mirror": True},
        {"rand_crop": True, "rand_resize": True, "rand_mirror": True},
    ],
    ids=str,
)
def test_pixels_are_equal_and_so_are_draws(indexed, steps, inter_method):
    check_both_ways(**indexed, shuffle=True, inter_method=inter_method, **steps)


COLORS = {
    "normalize": {"mean": True, "std": True},
    "one mean": {"mean": np.array([120.0])},
    "brightness": {"brightness": 0.4},
    "contrast": {"contrast": 0.4, "std": True},
    "saturation": {"saturation": 0.4},
    "hue": {"hue": 0.4},
    "lighting": {"pca_noise": 0.2},
    "gray": {"rand_gray": 0.5},
    "all": {
        "mean": True,
        "std": True,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.4,
        "pca_noise": 0.1,
        "rand_gray": 0.3,
        "rand_crop": True,
        "rand_mirror": True,
    },
}


@pytest.mark.parametrize("name", COLORS)
def test_colours_are_equal_to_a_millionth_of_full_scale(indexed, name):
    check_both_ways(**indexed, atol=3e-4, **COLORS[name])


@pytest.mark.parametrize("handle", ["pad", "discard", "roll_over"])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 8, 11, 20])
def test_ends_of_epochs_are_equal(indexed, handle, batch_size):
    options = {"last_batch_handle": handle, "batch_size": batch_size, "rand_crop": True}
    if handle == "discard" and batch_size > len(SIZES):
        assert list(image.ImageIter(batch_size, SHAPE, last_batch_handle=handle, **indexed)) == []
    else:
        check_both_ways(**indexed, count=3, shuffle=True, **options)


def test_sources_are_equal(folder, indexed):
    root = {"path_root": folder}
    listed = [[float(n), float(-n), f"{n}.png"] for n in (3, 1, 2, 2)]
    for source in (
        {"path_imgrec": folder / "a.rec"},
        {"path_imgrec": folder / "a.rec", "path_imgidx": folder / "back.idx"},
        {**indexed, "path_imglist": folder / "a.lst"},
        {**indexed, "num_parts": 3, "part_index": 1},
        {"path_imglist": folder / "a.lst", **root},
        {"path_imglist": folder / "a.lst", "shuffle": True, **root},
        {"imglist": listed, "label_width": 2, **root},
    ):
        check_both_ways(**source)


def test_a_jfif_file_is_not_turned_and_another_jpeg_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(draw(40, 48, seed=1)).save(stream, "jpeg", exif=exif)
    jfif = stream.getvalue()
    end = 4 + int.from_bytes(jfif[4:6], "big")
    assert jfif[end : end + 2] == b"\xff\xe1"
    for name, encoded in (("exif", jfif[:2] + jfif[end:]), ("jfif", jfif)):
        (tmp_path / f"{name}.jpg").write_bytes(encoded)
    shapes = {"exif": (48, 40, 3), "jfif": (40, 48, 3)}
    for name, shape in shapes.items():
        assert image.imread(tmp_path / f"{name}.jpg").shape == shape
    made = [[0, "exif.jpg"], [1, "jfif.jpg"]]
    check_both_ways(imglist=made, path_root=tmp_path, batch_size=2, data_shape=(3, 40, 40))


def made_by_hand(ending):
    """A list; those in random order keep what they were shuffled to, so that each run needs one."""
    steps = [image.ForceResizeAug((40, 30)), image.RandomSizedCropAug((25, 22), 0.3, (0.8, 1.2))]
    if ending == "mirror":
        return [*steps, image.HorizontalFlipAug(1)]
    mixed = [image.BrightnessJitterAug(0.2), image.HueJitterAug(0.1)]
    inner = image.SequentialAug([image.HorizontalFlipAug(0.5), image.CastAug()])
    return [*steps, inner, image.RandomOrderAug(mixed)]


@pytest.mark.parametrize("ending", ["mirror", "colours"])
def test_lists_made_by_hand_run_as_kernels_where_they_can(indexed, ending):
    pixels, *_ = epochs(image.ImageIter, aug_list=made_by_hand(ending), **indexed)
    expected, *_ = epochs(InPython, aug_list=made_by_hand(ending), **indexed)
    npt.assert_allclose(pixels, expected, rtol=0, atol=3e-4)


def test_lists_that_kernels_cannot_do_are_left_to_python():
    crop, cast = image.CenterCropAug((25, 22)), image.CastAug()

    class Mine(image.CenterCropAug):
        pass

    for augs in (
        [Mine((25, 22))],
        [cast, crop],
        [image.HorizontalFlipAug(0.5), crop],
        [crop, image.CastAug("float64")],
        [crop, image.BrightnessJitterAug(0.1)],
        [image.RandomOrderAug([crop])],
        [crop, cast, image.ColorNormalizeAug(np.zeros((22, 25, 3)), None)],
        [crop, lambda pixels: pixels],
        [image.CenterCropAug((25.0, 22))],
    ):
        assert CompiledAugmenters.of(augs, SHAPE) is None
    assert CompiledAugmenters.of([crop, cast], SHAPE) is not None


def test_callables_of_others_run_in_worker_threads_and_fill_their_places(indexed):
    seen = set()

    def mine(pixels):
        seen.add(threading.current_thread())
        return pixels

    steps = image.CreateAugmenter(SHAPE)
    it = image.ImageIter(3, SHAPE, aug_list=[*steps, mine], preprocess_threads=2, **indexed)
    plain = image.ImageIter(3, SHAPE, **indexed)
    for mine_batch, batch in zip(it, plain, strict=True):
        npt.assert_array_equal(mine_batch.data[0], batch.data[0])
        assert mine_batch.label[0].tolist() == batch.label[0].tolist()
    assert threading.main_thread() not in seen
    it.close()
    plain.close()


def test_the_error_of_a_callable_reaches_the_caller(indexed):
    def fail(pixels):
        raise ZeroDivisionError("mine")

    with (
        image.ImageIter(3, SHAPE, aug_list=[fail], **indexed) as it,
        pytest.raises(ZeroDivisionError, match="mine"),
    ):
        next(it)


def test_programs_that_draw_between_batches_see_the_same_numbers_each_time(indexed):
    def run():
        random.seed(6)
        with image.ImageIter(2, SHAPE, rand_crop=True, **indexed) as it:
            return [(random.random(), float(batch.data[0].sum())) for batch in it]

    first = run()
    assert all(run() == first for _ in range(3))


def test_a_list_changed_between_batches_counts_from_then_on(indexed):
    with image.ImageIter(2, SHAPE, **indexed) as it:
        before = next(it)
        it.auglist = [*it.auglist, image.ColorNormalizeAug(None, np.array([2.0]))]
        npt.assert_array_equal(before.label[0], [0, 1])
        after = next(it)
    with image.ImageIter(2, SHAPE, **indexed) as it:
        next(it)
        expected = next(it)
    npt.assert_array_equal(after.label[0], [2, 3])
    npt.assert_allclose(after.data[0], expected.data[0] / 2)


def test_samples_taken_one_by_one_are_not_in_the_next_batch(indexed):
    with image.ImageIter(2, SHAPE, **indexed) as it:
        next(it)
        assert it.cur == 2
        assert it.next_sample()[0] == 2
        assert next(it).label[0].tolist() == [3, 4]


@pytest.mark.parametrize("kind", [image.ImageIter, InPython])
@pytest.mark.parametrize("key", [49, 999, "50"])
def test_a_key_that_no_record_has_is_an_error(indexed, kind, key):
    with kind(2, SHAPE, **indexed) as it:
        it.seq = [50, key]
        with pytest.raises(KeyError, match=str(key)):
            next(it)


@pytest.mark.parametrize("kind", [image.ImageIter, InPython])
def test_a_key_that_is_longer_than_those_of_a_list_is_an_error(folder, kind):
    with kind(2, SHAPE, imglist=[[0, "0.png"], [1, "1.png"]], path_root=folder) as it:
        it.seq = ["1", "12"]
        with pytest.raises(KeyError, match="12"):
            next(it)


def test_a_reset_in_mid_epoch_begins_again(indexed):
    with image.ImageIter(2, SHAPE, **indexed) as it:
        first = next(it).data[0]
        next(it)
        it.reset()
        npt.assert_array_equal(next(it).data[0], first)


def test_batches_stay_as_they_are(indexed):
    with image.ImageIter(2, SHAPE, brightness=0.3, **indexed) as it:
        kept = [(batch.data[0], batch.data[0].copy()) for batch in it]
    for data, copy in kept:
        npt.assert_array_equal(data, copy)


def test_threads_end_with_the_iterator(indexed):
    before = set(threading.enumerate())
    it = image.ImageIter(2, SHAPE, **indexed)
    next(it)
    assert set(threading.enumerate()) - before
    del it
    gc.collect()
    assert not set(threading.enumerate()) - before


def test_a_closed_iterator_says_so(indexed):
    it = image.ImageIter(2, SHAPE, **indexed)
    next(it)
    it.close()
    it.close()
    for ask in (it.next, it.reset, it.next_sample):
        with pytest.raises(PipelineClosedError, match="closed"):
            ask()


def _labels_in_child(it, queue):
    queue.put([batch.label[0].tolist() for batch in it])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_child_process_continues_with_threads_of_its_own(indexed):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with image.ImageIter(4, SHAPE, **indexed) as it:
        next(it)
        child = context.Process(target=_labels_in_child, args=(it, queue))
        child.start()
        assert queue.get(timeout=60) == [[4, 5, 6, 7]]
        child.join()
        assert next(it).label[0].tolist() == [4, 5, 6, 7]
