"""ImageRecordIter as its users see it: batches, epochs, states, errors."""

from __future__ import annotations

import gc
import json
import shutil

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuio import ImageRecordInt8Iter, ImageRecordIter, ImageRecordUInt8Iter
from gpuio.errors import DecodeError, FormatError, GpuioError, LabelError, StateError
from gpuio.formats import saved_array
from gpuio.formats.index import Index
from gpuio.testing import draw, encode, write_rec

COUNT = 13
SHAPE = (3, 16, 16)
STATES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def make(rec):
    """Make an iterator over the thirteen pictures; all are closed at the end."""
    made = []

    def make_(batch_size=4, **options):
        path, shape = options.pop("path_imgrec", rec), options.pop("data_shape", SHAPE)
        made.append(ImageRecordIter(path, shape, batch_size, **options))
        return made[-1]

    yield make_
    for it in made:
        it.close()


def centre(picture, shape=SHAPE):
    """The middle of a picture, (C, H, W) float32."""
    y, x = ((a - b) // 2 for a, b in zip(picture.shape, shape[1:], strict=False))
    window = picture[y : y + shape[1], x : x + shape[2]]
    return window.transpose(2, 0, 1).astype(np.float32)


def own(batches):
    """Labels of what is no padding."""
    return [x for b in batches for x in b.label[0][: len(b.label[0]) - b.pad].tolist()]


def pixels_by_label(batches):
    """(C, H, W) pixels by label."""
    return {
        label: image.copy()
        for batch in batches
        for label, image in zip(batch.label[0].tolist(), batch.data[0], strict=True)
    }


def same(one, other):
    assert one.keys() == other.keys()
    for label, image in one.items():
        npt.assert_array_equal(image, other[label])


# Batches


def test_batches_hold_pixels_labels_keys_and_pad(make, pictures):
    batches = list(make())
    assert [b.pad for b in batches] == [0, 0, 0, 3]
    assert [b.label[0].tolist() for b in batches] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 0, 1, 2],
    ]  # fmt: skip
    for batch in batches:
        assert batch.data[0].dtype == batch.label[0].dtype == np.float32
        assert batch.index.tolist() == [100 + n for n in batch.label[0].astype(int)]
        for image, label in zip(batch.data[0], batch.label[0].astype(int), strict=True):
            npt.assert_array_equal(image, centre(pictures[label]))


def test_the_description_fits_the_batches(make):
    it = make(data_name="x", label_name="y", dtype="float16")
    batch = next(it)
    (data,), (label,) = it.provide_data, it.provide_label
    assert data == ("x", batch.data[0].shape)
    assert (data.dtype, data.layout) == (np.float16, "NCHW")
    assert label == ("y", batch.label[0].shape)
    assert it.batch_size == 4
    assert it.num_records == COUNT


def test_several_labels_stay_in_rows(tmp_path, make):
    path = tmp_path / "a.rec"
    labels = [[n, n + 0.5, -n] for n in range(5)]
    write_rec(path, [encode(draw(20, 20))] * 5, labels=labels)
    it = make(path_imgrec=path, batch_size=5, label_width=3)
    npt.assert_array_equal(next(it).label[0], labels)
    assert it.provide_label[0].shape == (5, 3)


def test_arrays_answer_asnumpy(make):
    batch = next(make())
    for array in (batch.data[0], batch.label[0]):
        plain = array.asnumpy()
        assert type(plain) is np.ndarray
        assert np.shares_memory(plain, array)


def test_the_parts_of_a_batch_can_be_had_one_by_one(make):
    it = make()
    assert it.iter_next() is True
    npt.assert_array_equal(it.getlabel()[0], [0, 1, 2, 3])
    assert it.getdata()[0].shape == (4, *SHAPE)
    assert it.getindex().tolist() == [100, 101, 102, 103]
    assert it.getpad() == 0
    for _ in range(3):
        assert it.iter_next()
    assert it.getpad() == 3
    assert it.iter_next() is False


def test_without_a_current_batch_there_is_nothing_to_get(make):
    it = make(batch_size=13)
    for _ in range(2):  # before the first, and behind the last
        for get in (it.getdata, it.getlabel, it.getpad, it.getindex):
            with pytest.raises(RuntimeError, match="no current batch"):
                get()
        list(it)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_dtype_and_layout(make, pictures, dtype, layout):
    batch = next(make(dtype=dtype, layout=layout))
    image = centre(pictures[2])
    if layout == "NHWC":
        image = image.transpose(1, 2, 0)
    assert batch.data[0].dtype == dtype
    npt.assert_array_equal(
        batch.data[0][2], np.clip(image, *(-128, 127) if dtype == "int8" else (0, 255))
    )


def test_iterators_of_bytes_have_their_dtype(rec):
    for kind, dtype in ((ImageRecordUInt8Iter, np.uint8), (ImageRecordInt8Iter, np.int8)):
        with kind(rec, SHAPE, 4) as it:
            assert next(it).data[0].dtype == dtype
            assert it.provide_data[0].dtype == dtype


def test_values_are_normalized(make, pictures):
    options = {"mean_r": 120, "mean_g": 110, "mean_b": 100, "std_r": 50, "std_b": 2, "scale": 0.5}
    image = next(make(**options)).data[0][1]
    means, stds = np.array([120, 110, 100]), np.array([50, 1, 2])
    expected = (centre(pictures[1]) - means[:, None, None]) * 0.5 / stds[:, None, None]
    npt.assert_allclose(image, expected, rtol=1e-5, atol=1e-5)


# Memory


def test_a_batch_is_never_overwritten_while_anything_refers_to_it(make):
    it = make(batch_size=2, prefetch_buffer=1)
    expected = pixels_by_label(make(batch_size=2))
    kept = [next(it).data[0]]  # whole
    kept.append(next(it).data[0][1:, 2:5, ::2])  # a slice
    kept.append(np.from_dlpack(next(it).data[0]))  # another library's array
    kept.append(memoryview(next(it).data[0]))
    kept.append(next(it).data[0].asnumpy()[0, 0, 0])
    gc.collect()
    for _ in range(3):
        for batch in it:
            batch.data[0].fill(-1)  # what the consumer may do
            del batch
    npt.assert_array_equal(kept[0], [expected[0], expected[1]])
    npt.assert_array_equal(kept[1], [expected[3][2:5, ::2]])
    npt.assert_array_equal(kept[2], [expected[4], expected[5]])
    npt.assert_array_equal(np.asarray(kept[3]), [expected[6], expected[7]])
    npt.assert_array_equal(kept[4], expected[8][0, 0])


def test_memory_is_used_again_once_nothing_refers_to_it(make):
    it = make(batch_size=1, prefetch_buffer=1)
    places = set()
    for _ in range(4):
        for batch in it:
            places.add(batch.data[0].ctypes.data)
            del batch
    assert len(places) <= 6  # of 52 batches


def test_all_batches_of_an_epoch_may_be_kept(make):
    batches = list(make(batch_size=1))
    assert len({batch.data[0].ctypes.data for batch in batches}) == COUNT
    same(pixels_by_label(batches), pixels_by_label(make(batch_size=1)))


# Epochs


def test_an_exhausted_iterator_stays_at_its_end_until_reset(make):
    it = make()
    assert len(list(it)) == 4
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(it)
        assert it.iter_next() is False
    it.reset()
    assert own([next(it)]) == [0, 1, 2, 3]


def test_every_for_loop_is_an_epoch(make):
    it = make(shuffle=True)
    epochs = []
    for number in range(3):
        assert it.epoch == max(number - 1, 0)
        epochs.append(own(it))
        assert it.epoch == number
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3


def test_a_for_loop_continues_in_mid_epoch(make):
    it = make()
    assert own([next(it)]) == [0, 1, 2, 3]
    assert own(it) == list(range(4, COUNT))


def test_reset_in_mid_epoch_begins_the_next_one(make):
    it = make(shuffle=True)
    epochs = [own(it) for _ in range(2)]
    again = make(shuffle=True)
    next(again)
    again.reset()
    assert again.epoch == 1
    assert own(again) == epochs[1]


def test_reset_at_the_start_changes_nothing(make):
    it = make(shuffle=True)
    it.reset()
    it.reset()
    assert it.epoch == 0
    list(it)
    it.reset()
    it.reset()
    assert it.epoch == 1


def test_hard_reset_and_set_epoch_repeat_an_epoch(make):
    it = make(shuffle=True, rand_crop=True)
    epochs = [pixels_by_label(it) for _ in range(3)]
    it.hard_reset()
    same(pixels_by_label(it), epochs[0])
    it.set_epoch(2)
    next(it)
    it.set_epoch(2)
    same(pixels_by_label(it), epochs[2])


@pytest.mark.parametrize(
    ("options", "sizes", "pads"),
    [
        ({}, [4, 4, 4, 4], [0, 0, 0, 3]),
        ({"round_batch": False}, [4, 4, 4, 1], [0, 0, 0, 0]),
        ({"last_batch": "short"}, [4, 4, 4, 1], [0, 0, 0, 0]),
        ({"last_batch": "drop"}, [4, 4, 4], [0, 0, 0]),
        ({"last_batch": "drop", "batch_size": 14}, [], []),
        ({"batch_size": 30}, [30], [17]),
        ({"batch_size": 13}, [13], [0]),
    ],
)
def test_the_last_batch(make, options, sizes, pads):
    it = make(**options)
    assert len(it) == len(sizes)
    for _ in range(2):
        batches = list(it)
        assert [len(batch.data[0]) for batch in batches] == sizes
        assert [len(batch.label[0]) for batch in batches] == sizes
        assert [batch.pad for batch in batches] == pads


# The same pixels


RANDOM = {"rand_crop": True, "rand_mirror": True, "inter_method": 10, "resize": 21}


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 5},
        {"batch_size": 20},
        {"preprocess_threads": 1},
        {"preprocess_threads": 5},
        {"prefetch_buffer": 7},
        {"shuffle": True, "seed_aug": 3, "seed": 9},
        {"decoder": "portable"},
    ],
    ids=str,
)
def test_random_pixels_belong_to_the_record(make, options):
    expected = pixels_by_label(make(seed=3, **RANDOM))
    same(pixels_by_label(make(**{"seed": 3} | RANDOM | options)), expected)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("num_parts", [2, 3, 13])
def test_parts_give_the_same_pixels_and_share_the_epoch(make, num_parts, shuffle):
    expected = pixels_by_label(make(**RANDOM))
    parts = [
        list(make(num_parts=num_parts, part_index=part, shuffle=shuffle, **RANDOM))
        for part in range(num_parts)
    ]
    assert sorted(label for part in parts for label in own(part)) == list(range(COUNT))
    assert len({len(part) for part in parts}) == 1
    same(pixels_by_label([batch for part in parts for batch in part]), expected)


def test_epochs_and_seeds_differ(make):
    it = make(**RANDOM)
    epochs = [pixels_by_label(it), pixels_by_label(it), pixels_by_label(make(seed=1, **RANDOM))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        equal = [np.array_equal(epochs[one][n], epochs[other][n]) for n in range(COUNT)]
        assert sum(equal) <= 3
    assert own(make(shuffle=True, seed=1)) != own(make(shuffle=True, seed=2))


def test_shuffling_needs_no_index(make, rec):
    without, with_index = (
        make(shuffle=True),
        make(shuffle=True, path_imgidx=rec.with_suffix(".idx")),
    )
    labels = own(without)
    assert sorted(labels) == list(range(COUNT))
    assert labels != sorted(labels)
    assert own(with_index) == labels


def test_several_files_are_one_data_set(tmp_path, make):
    for part, count in enumerate((3, 4)):
        labels = range(10 * part, 10 * part + count)
        write_rec(tmp_path / f"{part}.rec", [encode(draw(20, 20))] * count, labels=labels)
    assert own(make(path_imgrec=tmp_path)) == [0, 1, 2, 10, 11, 12, 13]
    assert own(make(path_imgrec=f"{tmp_path}/1.rec;{tmp_path}/0.rec")) == [10, 11, 12, 13, 0, 1, 2]


def test_labels_can_come_from_a_list(tmp_path, make):
    lst = tmp_path / "a.lst"
    lst.write_text("".join(f"{100 + n}\t{n * n}\tx.jpg\n" for n in reversed(range(COUNT))))
    assert own(make(path_imglist=lst)) == [n * n for n in range(COUNT)]
    lst.write_text("".join(f"{100 + n}\t{n * n}\tx.jpg\n" for n in range(COUNT) if n != 6))
    with pytest.raises(LabelError, match="path_imglist has no line for its id 106"):
        own(make(path_imglist=lst))


# States


@given(data=st.data())
@STATES
def test_a_state_continues_with_the_very_next_batch(rec, data):
    shuffle = data.draw(st.booleans())
    options = {"shuffle": shuffle, "rand_crop": True, "batch_size": data.draw(st.integers(1, 6))}
    with (
        ImageRecordIter(rec, SHAPE, **options) as it,
        ImageRecordIter(rec, SHAPE, **options) as it2,
    ):
        it.set_epoch(data.draw(st.integers(0, 2)))
        for _ in range(data.draw(st.integers(0, len(it)))):
            next(it)
        it2.load_state_dict(json.loads(json.dumps(it.state_dict())))
        expected = next(it, None)
        if expected is None:
            it.reset()
            expected = next(it)
        got = next(it2)
        npt.assert_array_equal(got.data[0], expected.data[0])
        npt.assert_array_equal(got.label[0], expected.label[0])
        assert (got.pad, it2.epoch) == (expected.pad, it.epoch)
        same(pixels_by_label(it2), pixels_by_label(it))


@given(data=st.data())
@STATES
def test_each_record_comes_once_although_batch_size_and_parts_change(rec, data):
    seen, state = [], None
    for _ in range(data.draw(st.integers(1, 3))):
        parts, size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
        its = [
            ImageRecordIter(rec, SHAPE, size, shuffle=True, num_parts=parts, part_index=part)
            for part in range(parts)
        ]
        if state is not None:
            for it in its:
                it.load_state_dict(state)
        epoch = its[0].epoch
        for _ in range(data.draw(st.integers(0, 3))):
            batches = [next(it, None) for it in its]
            if None in batches:
                assert batches == [None] * parts
                break
            seen += [(epoch, label) for batch in batches for label in own([batch])]
        states = [it.state_dict() for it in its]
        assert all(other == states[0] for other in states), "the state is that of all parts"
        state = states[0]
        for it in its:
            it.close()
    with ImageRecordIter(rec, SHAPE, 3, shuffle=True) as it:
        it.load_state_dict(state)
        epoch = it.epoch
        seen += [(epoch, label) for label in own(it)]
    for number in range(epoch + 1):
        assert sorted(label for e, label in seen if e == number) == list(range(COUNT))


def test_a_state_is_a_few_plain_numbers(make):
    it = make(shuffle=True)
    next(it)
    state = it.state_dict()
    assert all(type(value) in (int, bool) for value in state.values())
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 300


def test_loading_a_state_drops_what_was_read_ahead(make):
    it = make()
    start = it.state_dict()
    next(it)
    it.load_state_dict(start)
    assert own(it) == list(range(COUNT))


def test_a_loaded_state_is_what_is_saved_next(make):
    it = make(shuffle=True)
    next(it)
    next(it)
    state = it.state_dict()
    other = make(shuffle=True)
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_the_state_at_an_end_is_the_start_of_the_next_epoch(make):
    it = make()
    list(it)
    state = it.state_dict()
    other = make()
    other.load_state_dict(state)
    assert other.epoch == 1
    assert own(other) == list(range(COUNT))


@pytest.mark.parametrize("last_batch", ["pad", "short", "drop"])
def test_the_state_after_the_last_batch_is_the_start_of_the_next_epoch(make, last_batch):
    it = make(last_batch=last_batch)
    for _ in range(len(it)):
        next(it)
    state = it.state_dict()
    assert (state["epoch"], state["done"]) == (1, 0)
    with pytest.raises(StopIteration):
        next(it)
    assert it.state_dict() == state


def test_a_state_with_too_little_left_for_a_batch_means_the_next_epoch(make):
    it = make(batch_size=6)
    next(it)
    next(it)
    other = make(last_batch="drop")
    other.load_state_dict(it.state_dict())
    assert own(other) == list(range(12))
    assert other.epoch == 1


def test_an_iterator_has_begun_once_something_was_asked_of_it(make):
    it = make()
    assert not it.begun
    next(it)
    assert it.begun
    it.load_state_dict(it.state_dict())
    assert not it.begun
    list(it)
    assert it.begun
    it.set_epoch(3)
    assert not it.begun


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "state has seed=0, this iterator 1"),
        ({"shuffle": False}, "state has shuffle=True, this iterator False"),
    ],
)
def test_a_state_of_another_order_is_refused(make, changes, message):
    state = make(shuffle=True).state_dict()
    with pytest.raises(StateError, match=message):
        make(**{"shuffle": True} | changes).load_state_dict(state)


def test_a_state_of_another_data_set_is_refused(tmp_path, make):
    path = tmp_path / "a.rec"
    for count, name in ((12, "records"), (COUNT, "dataset")):
        write_rec(path, [encode(draw(20, 20))] * count)
        with pytest.raises(StateError, match=f"state has {name}="):
            make().load_state_dict(make(path_imgrec=path).state_dict())


def test_a_state_without_one_of_its_entries_is_refused(make):
    for state in ({}, {"epoch": 1}, {**make().state_dict(), "version": 99}):
        with pytest.raises(StateError, match="version"):
            make().load_state_dict(state)
    state = make().state_dict()
    for name in state:
        with pytest.raises(StateError, match=name):
            make().load_state_dict({k: v for k, v in state.items() if k != name})


def test_half_read_ranges_go_on_with_as_many_parts_only(make):
    it = make(num_parts=3, batch_size=2)
    next(it)
    with pytest.raises(StateError, match="3 parts only, got num_parts=2"):
        make(num_parts=2).load_state_dict(it.state_dict())


# Mean images


def test_a_mean_image_is_made_saved_and_used(tmp_path, make, pictures):
    path = tmp_path / "mean.bin"
    it = make(mean_img=path, scale=2)
    mean = np.mean([centre(picture) for picture in pictures], axis=0)
    (saved,) = saved_array.load(path).values()
    npt.assert_allclose(saved, mean, rtol=1e-6)
    npt.assert_array_equal(next(it).data[0][3], (centre(pictures[3]) - saved) * 2)


def test_a_mean_image_is_read_and_taken_before_mirroring(tmp_path, make, pictures):
    path = tmp_path / "mean.bin"
    mean = np.random.default_rng(0).uniform(0, 200, SHAPE).astype(np.float32)
    saved_array.save(path, {"any name": mean})
    before = path.read_bytes()
    batch = next(make(mean_img=path, mirror=True, mean_r=50))
    npt.assert_array_equal(batch.data[0][1], (centre(pictures[1]) - mean)[..., ::-1])
    rounded = np.trunc(mean + 0.5)
    batch = next(make(mean_img=path, dtype="int8"))
    npt.assert_array_equal(batch.data[0][1], np.clip(centre(pictures[1]) - rounded, -128, 127))
    assert path.read_bytes() == before


def test_a_mean_image_of_another_shape_is_refused(tmp_path, make):
    path = tmp_path / "mean.bin"
    saved_array.save(path, {"mean_img": np.zeros((3, 8, 8), np.float32)})
    with pytest.raises(
        ValueError, match=r"mean_img must be of shape \(3, 16, 16\), got \(3, 8, 8\)"
    ):
        make(mean_img=path)


def test_a_mean_image_of_impossible_values_is_named(tmp_path, make):
    path = tmp_path / "mean.bin"
    saved_array.save(path, {"mean_img": np.full((3, 16, 16), 3e38, np.float32)})
    with pytest.raises(FormatError, match=r"mean\.bin: mean, std, scale.* allow values of up to"):
        make(mean_img=path, scale=9)


# Images that could not be read or decoded


@pytest.fixture
def holes(tmp_path):
    """Ten pictures of one colour each; 2, 3 and 9 are no images."""
    path = tmp_path / "holes.rec"
    images = [encode(np.full((16, 16, 3), n, np.uint8), "BMP") for n in range(10)]
    images[2], images[3], images[9] = b"no image", b"", images[9][:80]
    write_rec(path, images, ids=range(50, 60))
    return path


def colours(batch):
    """The colour of every picture, and that it is its label."""
    found = batch.data[0][:, 0, 0, 0].tolist()
    assert (batch.data[0] == batch.data[0][:, :1, :1, :1]).all()
    return found


def test_an_error_names_file_record_offset_key_and_reason(make, holes):
    it = make(path_imgrec=holes, batch_size=5)
    with pytest.raises(
        DecodeError,
        match=r"holes\.rec: record 2 at byte \d+, key 52: no known image format starts with 6e 6f",
    ):
        next(it)


def test_skip_fills_up_with_repeats_of_good_ones(make, holes):
    it = make(path_imgrec=holes, batch_size=5, on_error="skip")
    batches = list(it)
    assert [colours(batch) for batch in batches] == [[0, 1, 4, 0, 1], [5, 6, 7, 8, 5]]
    assert [batch.label[0].tolist() for batch in batches] == [[0, 1, 4, 0, 1], [5, 6, 7, 8, 5]]
    assert [batch.index.tolist() for batch in batches] == [
        [50, 51, 54, 50, 51],
        [55, 56, 57, 58, 55],
    ]
    assert [batch.pad for batch in batches] == [2, 1]


def test_replace_takes_the_next_good_one(make, holes):
    batches = list(make(path_imgrec=holes, batch_size=5, on_error="replace"))
    assert [colours(batch) for batch in batches] == [[0, 1, 4, 4, 4], [5, 6, 7, 8, 5]]
    assert [batch.label[0].tolist() for batch in batches] == [[0, 1, 4, 4, 4], [5, 6, 7, 8, 5]]
    assert [batch.pad for batch in batches] == [0, 0]


def test_zero_keeps_the_place_and_the_label(make, holes):
    options = {"mean_r": 7, "mean_g": 7, "mean_b": 7}
    batches = list(make(path_imgrec=holes, batch_size=5, on_error="zero", **options))
    expected = [[-7, -6, 0, 0, -3], [-2, -1, 0, 1, 0]]
    assert [colours(batch) for batch in batches] == expected
    assert [batch.label[0].tolist() for batch in batches] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize("policy", ["skip", "replace", "zero"])
def test_faults_are_counted_and_the_first_kept(make, holes, policy):
    it = make(path_imgrec=holes, batch_size=5, on_error=policy)
    list(it)
    assert it.faults.count == 3
    assert [str(fault).split(", key ")[1][:2] for fault in it.faults.first] == ["52", "53", "59"]
    list(it)
    assert it.faults.count == it.stats()["faults"] == 6


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_a_batch_without_any_good_image_is_an_error(make, holes, policy):
    it = make(path_imgrec=holes, batch_size=2, on_error=policy)
    assert colours(next(it)) == [0, 1]
    with pytest.raises(DecodeError, match="key 52") as caught:
        next(it)
    assert "none of the 2 samples of this batch could be read and decoded" in caught.value.__notes__


def test_a_batch_without_any_good_image_may_be_zeros(make, holes):
    it = make(path_imgrec=holes, batch_size=2, on_error="zero", mean_r=5, prefetch_buffer=1)
    for _ in range(3):
        for number, batch in enumerate(it):
            if number == 1:
                assert not batch.data[0].any()
                assert batch.label[0].tolist() == [2, 3]
            batch.data[0].fill(9)  # must not be there when the memory is used again
            del batch


@pytest.mark.parametrize("policy", ["skip", "replace", "zero"])
def test_a_damaged_record_is_treated_as_a_bad_image(make, rec, tmp_path, policy):
    path, index = tmp_path / "a.rec", Index.scan(rec)
    data = bytearray(rec.read_bytes())
    data[int(index.offsets[5])] ^= 1
    path.write_bytes(data)
    index.save(path.with_suffix(".idx"))
    it = make(path_imgrec=path, on_error=policy)
    batches = list(it)
    assert it.faults.count == 1
    assert "magic is 0xced7230b" in str(it.faults.first[0])
    expected = {"skip": [4, 6, 7, 4], "replace": [4, 6, 6, 7], "zero": [4, 0, 6, 7]}[policy]
    assert batches[1].label[0].tolist() == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("policy", ["skip", "replace", "zero"])
def test_of_a_file_that_was_cut_off_the_rest_is_read(make, rec, tmp_path, policy, indexed):
    path, index = tmp_path / "a.rec", Index.scan(rec)
    path.write_bytes(rec.read_bytes()[: int(index.offsets[9]) + 100])
    if indexed:
        index.save(path.with_suffix(".idx"))
    it = make(path_imgrec=path, on_error=policy)
    assert it.faults.count == (4 if indexed else 1)
    assert "a.rec" in str(it.faults.first[0])
    assert own(it) == own(it) == [*range(9)]
    assert it.faults.count == (4 if indexed else 1)
    with pytest.raises(FormatError, match=r"9 of 13 records are whole|record at byte"):
        make(path_imgrec=path)


def test_masks_of_a_file_that_was_cut_off_are_not_shifted(make, rec, tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(rec.read_bytes()[:-100])
    for images, masks in ((path, rec), (rec, path)):
        with pytest.raises(FormatError, match=r"a\.rec: record at byte"):
            make(path_imgrec=images, masks=masks, on_error="skip")


def test_the_files_are_found_after_a_change_of_folder(make, rec, tmp_path, monkeypatch):
    monkeypatch.chdir(rec.parent)
    it = make(path_imgrec=rec.name)
    monkeypatch.chdir(tmp_path)
    assert own(it) == [*range(COUNT)]
    monkeypatch.chdir("/")
    assert own(it) == [*range(COUNT)]


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_file_that_was_replaced_between_epochs_is_named(make, rec, tmp_path, policy):
    path = tmp_path / "a.rec"
    path.write_bytes(rec.read_bytes())
    it = make(path_imgrec=path, on_error=policy)
    assert own(it) == [*range(COUNT)]
    (tmp_path / "b.rec").write_bytes(rec.read_bytes())
    (tmp_path / "b.rec").replace(path)
    with pytest.raises(FormatError, match=r"a\.rec was replaced since it was opened first"):
        list(it)


@pytest.mark.parametrize("policy", ["skip", "replace", "zero"])
def test_another_number_of_labels_is_treated_as_a_bad_image(make, tmp_path, policy):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(draw(20, 20))] * 4, labels=[[1, 2], 3, [4, 5], [6, 7]])
    it = make(path_imgrec=path, label_width=2, on_error=policy)
    assert len(list(it)) == 1
    assert it.faults.count == 1
    assert isinstance(it.faults.first[0], LabelError)


# Parameters


def test_an_unknown_keyword_suggests_the_nearest(rec):
    with pytest.raises(
        TypeError,
        match=r"ImageRecordIter has no parameter 'rand_miror'; did you mean 'rand_mirror'\?",
    ):
        ImageRecordIter(rec, SHAPE, 4, rand_miror=True)
    with pytest.raises(TypeError, match=r"has no parameter 'xyzzy'$"):
        ImageRecordIter(rec, SHAPE, 4, xyzzy=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0), ("batch_size", "four"), ("batch_size", 2.5),
        ("data_shape", (3, 16)), ("data_shape", (2, 16, 16)), ("data_shape", (3, 0, 16)),
        ("data_shape", (3.0, 16, 16)), ("data_shape", "three"), ("data_shape", 16),
        ("label_width", 0), ("num_parts", 0), ("num_parts", 14), ("part_index", 1),
        ("part_index", -1), ("shuffle", "yes"), ("shuffle", 2), ("seed", "x"), ("seed_aug", 1.5),
        ("round_batch", None), ("last_batch", "keep"), ("preprocess_threads", 0),
        ("prefetch_buffer", 0), ("dtype", "float64"), ("dtype", "no dtype"), ("layout", "HWC"),
        ("device", "tpu"), ("decoder", "fast"), ("on_error", "ignore"), ("resize", 0),
        ("resize", -2), ("inter_method", 5), ("rand_crop", "maybe"), ("mirror", 3),
        ("rand_mirror", None), ("mean_r", "x"), ("mean_a", float("nan")), ("std_g", 0),
        ("std_b", None), ("scale", float("inf")), ("rotate", "x"), ("max_rotate_angle", -1),
        ("fill_value", 256), ("fill_value", -1), ("pca_noise", "x"), ("brightness", None),
        ("rotate_list", "1,x"), ("aug_seq", "mine"), ("max_random_contrast", -1),
    ],
)  # fmt: skip
def test_a_bad_value_is_a_valueerror_that_names_it(rec, name, value):
    options = {"data_shape": SHAPE, "batch_size": 4, name: value}
    with pytest.raises(ValueError, match=name):
        ImageRecordIter(rec, **options)


def test_values_may_be_the_texts_of_scripts(make):
    it = make(
        batch_size="5", data_shape="(3, 16, 16)", shuffle="True", rand_mirror="0", seed="3",
        resize="20", scale="0.5", preprocess_threads="2",
    )  # fmt: skip
    assert next(it).data[0].shape == (5, 3, 16, 16)


def test_parameters_without_effect_are_accepted(make):
    options = {"ctx": "cpu", "device_id": 1, "verbose": False, "shuffle_chunk_size": 4}
    same(pixels_by_label(make(**options)), pixels_by_label(make()))


def test_missing_and_wrong_files_are_named(tmp_path, rec):
    with pytest.raises(FileNotFoundError, match=r"no\.rec"):
        ImageRecordIter(tmp_path / "no.rec", SHAPE, 4)
    (tmp_path / "text.rec").write_text("this is no data set")
    with pytest.raises(FormatError, match=r"text\.rec: record at byte 0: magic is"):
        ImageRecordIter(tmp_path / "text.rec", SHAPE, 4)
    (tmp_path / "no.idx").write_text("0\t4\n")
    with pytest.raises(FormatError, match=r"no\.idx is not the index of"):
        ImageRecordIter(rec, SHAPE, 4, path_imgidx=tmp_path / "no.idx")


def test_the_error_about_a_detection_set_names_its_iterator(tmp_path, pictures):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(pictures[0])], labels=[[2, 5, 7, 0.1, 0.1, 0.5, 0.5]])
    with (
        ImageRecordIter(path, (3, 8, 8), 1) as batches,
        pytest.raises(LabelError, match=r"it has 7 labels, not .*; .*ImageDetRecordIter"),
    ):
        next(batches)


@pytest.mark.parametrize("label_width", [1, 2])
def test_the_header_of_a_face_set_names_itself(tmp_path, pictures, label_width):
    path = tmp_path / "a.rec"
    write_rec(path, [b"", encode(pictures[0])], labels=[[2, 4], [1] * label_width])
    with (
        ImageRecordIter(path, (3, 8, 8), 2, label_width=label_width) as batches,
        pytest.raises(GpuioError, match=r"record 0 at byte 0, .*header of an InsightFace set"),
    ):
        next(batches)


@pytest.mark.parametrize("name", ["epoch", "start", "done", "num_parts"])
@pytest.mark.parametrize("value", ["x", None, -1, 1.5, [1], 10**30])
def test_a_damaged_state_is_a_state_error(rec, name, value):
    with ImageRecordIter(rec, (3, 16, 16), 4) as batches:
        state = batches.state_dict() | {name: value}
        with pytest.raises(StateError, match=f"state is damaged: {name} must be"):
            batches.load_state_dict(state)


@pytest.mark.parametrize("state", [None, [], 3, "x"])
def test_data_that_is_no_state_is_a_state_error(rec, state):
    with (
        ImageRecordIter(rec, (3, 16, 16), 4) as batches,
        pytest.raises(StateError, match=r"it was not made by state_dict\(\)"),
    ):
        batches.load_state_dict(state)


@pytest.mark.parametrize(
    ("keywords", "kind", "reason"),
    [
        ({"path_imgrec": None}, ValueError, "path_imgrec must be a path, or a list of paths"),
        ({"path_imgrec": ""}, ValueError, "path_imgrec must be a path, or a list of paths, got ''"),
        ({"path_imgrec": ["a.rec", ""]}, ValueError, "path_imgrec must have no empty path in it"),
        ({"path_imgidx": ["a.idx", ""]}, ValueError, "path_imgidx must have no empty path in it"),
        ({"masks": "a.rec;"}, ValueError, "masks must have no empty path in it"),
    ],
)
def test_no_path_is_not_the_current_folder(rec, monkeypatch, keywords, kind, reason):
    monkeypatch.chdir(rec.parent)
    with pytest.raises(kind, match=reason):
        ImageRecordIter(
            **{"path_imgrec": rec.name, **keywords}, data_shape=(3, 16, 16), batch_size=4
        )


@pytest.mark.parametrize("path_imgidx", [None, "", "thirteen.idx;"])
def test_a_joined_path_may_end_with_its_separator(rec, tmp_path, monkeypatch, path_imgidx):
    monkeypatch.chdir(tmp_path)
    shutil.copy(rec, "thirteen.rec")
    Index.scan("thirteen.rec").save("thirteen.idx")
    with ImageRecordIter("thirteen.rec;", (3, 16, 16), 4, path_imgidx=path_imgidx) as batches:
        assert batches.num_records == 13


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "augmentation has no 'record'"),
        ({"record": []}, r"'record' must be a list of record numbers, got \[\]"),
        ({"record": 3}, "'record' must be a list of record numbers, got 3"),
        ({"record": [0.5]}, r"'record' must be a list of record numbers, got \[0\.5\]"),
        ({"record": ["0"]}, "'record' must be a list of record numbers"),
        ({"record": [13]}, r"records must be in \[0, 13\), got \[13\]"),
        ({"record": [-1]}, r"records must be in \[0, 13\), got \[-1\]"),
        ({"record": [0, 1], "mirror": [True]}, r"have 2 of 'mirror', .* of shape \(1,\)"),
        ({"record": [0, 1], "mirror": True}, r"have 2 of 'mirror', .* of shape \(\)"),
    ],
)
def test_a_table_that_names_no_images_is_refused(rec, table, message):
    with (
        ImageRecordIter(rec, (3, 8, 8), 2, rand_mirror=True) as it,
        pytest.raises(ValueError, match=message),
    ):
        it.replay(table)


def test_records_of_a_table_may_be_floats(rec):
    with ImageRecordIter(rec, (3, 8, 8), 2) as it:
        assert it.replay({"record": np.array([2.0, 0.0])}).label[0].tolist() == [2, 0]
