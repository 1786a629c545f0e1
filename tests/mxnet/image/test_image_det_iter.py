from __future__ import annotations

import random

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio import image
from gpuio.errors import LabelError
from gpuio.testing import draw

SHAPE = (3, 20, 24)
ONE = [2, 5, 1, 0.1, 0.2, 0.5, 0.6]
TWO = [*ONE, 0, 0.25, 0.25, 0.75, 0.75]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for n in range(3):
        Image.fromarray(draw(20, 24, seed=n)).save(folder / f"{n}.png")
    return folder


def make(folder, *labels, batch_size=2, **options):
    made = [[label, f"{n % 3}.png"] for n, label in enumerate(labels)]
    return image.ImageDetIter(batch_size, SHAPE, imglist=made, path_root=folder, **options)


def test_rows_without_an_object_are_minus_one(folder):
    it = make(folder, ONE, TWO)
    assert it.label_shape == (2, 5)
    assert it.provide_label == [("label", (2, 2, 5))]
    batch = next(it)
    label = batch.label[0].asnumpy()
    npt.assert_allclose(label[0], [ONE[2:], [-1] * 5])
    npt.assert_allclose(label[1].ravel(), TWO[2:])
    npt.assert_array_equal(batch.data[0][1], draw(20, 24, seed=1).transpose(2, 0, 1))


def test_headers_and_flat_objects_are_left_out(folder):
    label = [4, 6, 9, 9, 1, 0.1, 0.2, 0.5, 0.6, 7, 2, 0.5, 0.5, 0.5, 0.9, 8]
    it = make(folder, label)
    assert it.label_shape == (1, 6)
    npt.assert_allclose(next(it).label[0][0], [[1, 0.1, 0.2, 0.5, 0.6, 7]])


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ([2, 5, 1, 0.1, 0.2, 0.5], "label must have 7 values or more, got 6"),
        ([*ONE, 3], "label must be a header and whole objects"),
        ([2, 4, *ONE[2:]], "label must be a header and whole objects"),
        ([2, 5, 1, 0.5, 0.2, 0.5, 0.6], "sample without an object of positive size"),
        ([np.nan, *ONE[1:]], "values with nan of header and 5 of an object"),
        ([2, np.inf, *ONE[2:]], "values with 2 of header and inf of an object"),
        ([2, 5, 1, 0.1, 0.2, np.inf, 0.6], "finite numbers, object 0 is 1, 0.1, 0.2, inf, 0.6"),
    ],
)
def test_a_sample_without_objects_is_an_error_at_once(folder, label, reason):
    with pytest.raises(RuntimeError, match=reason):
        make(folder, ONE, label)
    with pytest.raises(LabelError):
        make(folder, ONE, label)


def test_objects_of_different_widths_are_an_error(folder):
    with pytest.raises(
        image.InvalidLabelError,
        match=r"key 2 of .* got 6 here and 5 in .*key 1 of",
    ):
        make(folder, ONE, [2, 6, *ONE[2:], 0])


def test_samples_that_lose_their_objects_are_left_out(folder):
    class Drop(image.DetAugmenter):
        def __call__(self, src, label):
            return src, label[label[:, 0] > 0]

    none = [2, 5, 0, 0.1, 0.2, 0.5, 0.6]
    it = make(folder, ONE, none, TWO, batch_size=1, aug_list=[Drop()])
    assert len(list(it)) == 2
    it = make(folder, none, batch_size=4, aug_list=[Drop()])
    assert list(it) == []


def test_reshape_makes_room_for_more_objects_alone(folder):
    it = make(folder, ONE, TWO)
    it.reshape(label_shape=(4, 5))
    assert next(it).label[0].shape == (2, 4, 5)
    for shape, reason in (
        ((1, 5), "label_shape must have 4 objects or more, got 1"),
        ((4, 6), "label_shape must have objects of 5, got 6"),
        ((4,), "label_shape must have 2 sides"),
    ):
        with pytest.raises(ValueError, match=reason):
            it.reshape(label_shape=shape)
    it.reshape(data_shape=(3, 5, 5))
    assert it.provide_data == [("data", (2, 3, 5, 5))]
    it.reset()
    it.auglist = image.CreateDetAugmenter((3, 5, 5))
    assert next(it).data[0].shape == (2, 3, 5, 5)


def test_sync_label_shape_grows_the_smaller(folder):
    small, large = make(folder, ONE), make(folder, TWO)
    assert small.sync_label_shape(large, verbose=True) is large
    assert small.label_shape == large.label_shape == (2, 5)
    with pytest.raises(AssertionError, match="it must be an ImageDetIter, got int"):
        small.sync_label_shape(3)
    with pytest.raises(AssertionError, match="objects have different widths"):
        small.sync_label_shape(make(folder, [2, 6, *ONE[2:], 0]))


def test_it_shuffles_three_times_when_made(folder):
    random.seed(4)
    it = make(folder, ONE, TWO, ONE, TWO, shuffle=True)
    random.seed(4)
    expected = ["1", "2", "3", "4"]
    for _ in range(3):
        random.shuffle(expected)
    assert it.seq == expected


def test_draw_next_gives_bgr_pictures_with_boxes(folder):
    it = make(folder, ONE, TWO)
    pictures = list(it.draw_next(color=(255, 0, 0), thickness=1, id2labels={1: "cat"}))
    assert [picture.shape for picture in pictures] == [(20, 24, 3)] * 2
    assert pictures[0].dtype == np.uint8
    npt.assert_array_equal(pictures[0][4, 2], (0, 0, 255))
    npt.assert_array_equal(pictures[0][0], draw(20, 24, seed=0)[0, :, ::-1])


def test_draw_next_undoes_the_normalization(folder):
    it = make(folder, ONE, mean=True, std=True)
    drawn = next(it.draw_next(mean=True, std=True))
    npt.assert_allclose(drawn[0], draw(20, 24, seed=0)[0, :, ::-1], atol=1)


def test_draw_next_warns_that_it_opens_no_window(folder):
    with pytest.warns(UserWarning, match="draw_next opens no window"):
        next(make(folder, ONE).draw_next(waitKey=1))
