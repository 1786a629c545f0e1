"""What the loaders of all frameworks do alike, shown with NumPy's."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.testing as npt
import pytest
from harness import our_threads

from gpuio import ImageRecordIter
from gpuio.errors import LabelError, PipelineClosedError, StateError
from gpuio.testing import draw, encode, write_rec

COUNT = 13
SHAPE = (3, 16, 16)


@pytest.fixture
def make(rec):
    """Make a loader over the thirteen pictures; all are closed at the end."""
    made = []

    def make_(batch_size=4, label_dtype=None, **options):
        source = ImageRecordIter(
            options.pop("path_imgrec", rec), SHAPE, batch_size, shuffle=True, **options
        )
        made.append(source.numpy(label_dtype=label_dtype))
        return made[-1]

    yield make_
    for loader in made:
        loader.close()


def epoch_of(make, number, **options):
    """The labels of each batch of an epoch, from an iterator of its own."""
    loader = make(**options)
    loader.source.set_epoch(number)
    return [batch.label[0].tolist() for batch in loader.source]


def labels_of(batches):
    return [labels.tolist() for _, labels in batches]


def test_batches_are_those_of_the_iterator(make):
    batches = list(make())
    assert len(batches) == 4
    for (images, labels), expected in zip(batches, make().source, strict=True):
        npt.assert_array_equal(images, expected.data[0])
        npt.assert_array_equal(labels, expected.label[0])
        assert type(images) is type(labels) is np.ndarray


def test_a_loader_names_itself_and_its_iterator(make):
    loader = make()
    assert repr(loader) == f"<NumpyLoader of {loader.source!r}>"


def test_there_is_no_copy(make):
    loader = make()
    images, _ = next(iter(loader))
    assert np.shares_memory(images, loader.source.getdata()[0])


def test_each_loop_is_the_next_epoch(make):
    loader = make()
    for number in range(3):
        assert labels_of(loader) == epoch_of(make, number)


def test_a_loop_that_stops_after_len_batches_ends_the_epoch(make):
    loader = make()
    for number in range(3):
        taken = itertools.islice(loader, len(loader))
        assert labels_of(taken) == epoch_of(make, number)


def test_a_loop_left_early_is_followed_by_what_is_left(make):
    loader = make()
    for number in range(3):
        whole = epoch_of(make, number)
        assert labels_of(itertools.islice(loader, 2)) == whole[:2]
        assert loader.state_dict()["epoch"] == number
        assert labels_of(loader) == whole[2:]
        assert loader.state_dict()["epoch"] == number + 1


def test_reset_begins_the_next_epoch(make):
    loader = make()
    next(iter(loader))
    loader.reset()
    assert labels_of(loader) == epoch_of(make, 1)
    loader.reset()
    loader.reset()  # nothing was asked for
    assert labels_of(loader) == epoch_of(make, 2)


def test_a_loop_that_has_ended_stays_at_its_end(make):
    loader = make()
    loop = iter(loader)
    assert len(list(loop)) == 4
    next(iter(loader))
    assert next(loop, None) is None
    assert len(list(loader)) == 3


def test_leaving_a_loop_does_not_close_the_iterator(make):
    loader = make()
    for _ in loader:
        break
    assert len(list(loader)) == 3


def test_asking_for_an_iterator_changes_nothing(make):
    loader = make()
    for _ in range(3):
        iter(loader)
    assert labels_of(loader) == epoch_of(make, 0)


@pytest.mark.parametrize("taken", range(5))
def test_a_state_continues_with_the_next_batch(make, taken):
    loader = make()
    for _ in itertools.islice(loader, taken):
        pass
    state = loader.state_dict()
    other = make()
    other.load_state_dict(state)
    rest = epoch_of(make, 0)[taken:]
    assert labels_of(other) == (rest or epoch_of(make, 1))
    assert labels_of(other) == epoch_of(make, 1 if rest else 2)


def test_a_state_may_be_loaded_before_the_loader_is_made(make):
    loader = make()
    next(iter(loader))
    source = make().source
    source.load_state_dict(loader.state_dict())
    assert labels_of(source.numpy()) == epoch_of(make, 0)[1:]


def test_a_state_may_be_loaded_after_asking_for_an_iterator(make):
    loader = make()
    next(iter(loader))
    other = make()
    batches = iter(other)
    other.load_state_dict(loader.state_dict())
    assert labels_of(batches) == epoch_of(make, 0)[1:]


def test_a_wrong_state_is_refused(make):
    with pytest.raises(StateError, match="seed"):
        make(seed=1).load_state_dict(make().state_dict())


def test_set_epoch_gives_that_epoch(make):
    loader = make()
    loader.set_epoch(7)
    assert loader.epoch == 7
    assert labels_of(loader) == epoch_of(make, 7)
    loader.set_epoch(7)
    assert labels_of(loader) == epoch_of(make, 7)
    next(iter(loader))
    loader.set_epoch(8)
    assert labels_of(loader) == epoch_of(make, 8)


def test_set_epoch_keeps_what_a_state_has_left_of_that_epoch(make):
    loader = make()
    loader.set_epoch(2)
    next(iter(loader))
    other = make()
    other.load_state_dict(loader.state_dict())
    for number in range(other.epoch, 4):
        other.set_epoch(number)
        assert labels_of(other) == epoch_of(make, number)[1 if number == 2 else 0 :]


def test_epoch_is_that_of_the_next_batch(make):
    loader = make()
    seen = [loader.epoch for _ in loader]
    assert seen == [0, 0, 0, 1]
    assert loader.epoch == 1


def test_pad_and_sizes_are_reported(make):
    loader = make()
    assert (len(loader), loader.batch_size) == (4, 4)
    assert [loader.pad for _ in loader] == [0, 0, 0, 3]


def test_the_end_of_the_block_closes(make):
    with make() as loader:
        next(iter(loader))
    assert not our_threads()
    with pytest.raises(PipelineClosedError):
        list(loader)


def test_batches_that_are_held_are_not_overwritten(make):
    loader = make(prefetch_buffer=1)
    held = [images for _ in range(4) for images, _ in loader]
    expected = [batch.data[0] for number in range(4) for batch in _epoch(make, number)]
    for images, pixels in zip(held, expected, strict=True):
        npt.assert_array_equal(images, pixels)


def _epoch(make, number):
    source = make().source
    source.set_epoch(number)
    return source


def test_memory_of_dropped_batches_is_used_again(make):
    loader = make(batch_size=1)
    places = {images.ctypes.data for _ in range(4) for images, _ in loader}
    assert len(places) < 10


# Labels


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "int64"), ("float32", "float32"), (np.int32, "int32"), ("int64", "int64")],
)
def test_one_label_is_a_class(make, given, expected):
    _, labels = next(iter(make(label_dtype=given)))
    assert labels.dtype == expected


def test_several_labels_are_floats(make, tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(draw(20, 20))] * 4, labels=[[n, n + 0.5] for n in range(4)])
    loader = make(path_imgrec=path, label_width=2)
    _, labels = next(iter(loader))
    assert labels.dtype == np.float32
    assert sorted(labels.tolist()) == [[n, n + 0.5] for n in range(4)]


def test_a_label_that_is_not_whole_is_no_class(make, tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(draw(20, 20))] * 4, labels=[1, 0.5, 2, 3])
    with pytest.raises(LabelError, match=r"label 0\.5 is no int64: label_dtype='float32'"):
        list(make(path_imgrec=path))
    _, labels = next(iter(make(path_imgrec=path, label_dtype="float32")))
    assert sorted(labels.tolist()) == [0.5, 1, 2, 3]


def test_another_dtype_is_refused(make):
    with pytest.raises(ValueError, match="label_dtype must be one of float32, int32, int64"):
        make(label_dtype="uint8")
