"""The gallery of augmentations."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

import numpy as np
import numpy.testing as npt
import pytest

from gpuio import ImageRecordIter
from gpuio.mxnet.image_keywords import ImageColor, ImageGeometry
from gpuio.observe import contact_sheet, gallery
from gpuio.testing import draw, encode, write_rec

# Keywords that are no augmentations, or limits of others.
_OTHERS = {
    "aug_seq", "resize", "inter_method", "fill_value", "max_img_size", "min_img_size",
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "photos.rec"
    write_rec(path, [encode(draw(190 + 9 * n, 240 - 7 * n, seed=n)) for n in range(6)])
    return partial(ImageRecordIter, path)


@pytest.fixture
def drawn(photos, monkeypatch):
    """What a sheet of given options is made of: titles, and images and captions by title."""

    def rows(options, count=4):
        found = {}

        def note(images, captions, *, title, **rest):
            found[title] = np.stack(images), captions
            return contact_sheet_draw(images, captions, title=title, **rest)

        contact_sheet_draw = contact_sheet.draw
        monkeypatch.setattr(gallery.contact_sheet, "draw", note)
        sheet = gallery.draw(photos, options, count)
        monkeypatch.undo()
        return found, sheet

    return rows


def test_every_augmentation_has_a_row():
    shown = {name for row in gallery.AUGMENTATIONS for name in row.example}
    assert (
        shown
        == {field.name for group in (ImageGeometry, ImageColor) for field in fields(group)}
        - _OTHERS
    )


def test_without_options_all_are_drawn_each_of_which_does_something(drawn):
    rows, sheet = drawn({})
    titles = list(rows)
    assert (titles[0], titles[-1]) == ("original", "all together")
    assert len(rows) == len(gallery.AUGMENTATIONS) + 2
    original = rows["original"][0]
    assert original.shape == (4, gallery.SIDE, gallery.SIDE, 3)
    for title in titles[1:]:
        assert (rows[title][0] != original).any(axis=(1, 2, 3)).any(), title
    assert sheet.width > 2 * 4 * gallery.SIDE


def test_captions_show_the_drawn_values(drawn):
    rows, _ = drawn({"seed": 1})
    images, captions = rows["rand_mirror=True"]
    original = rows["original"][0]
    assert {*captions} == {"", "mirrored"}
    for image, plain, caption in zip(images, original, captions, strict=True):
        npt.assert_array_equal(image, plain[:, ::-1] if caption else plain)
    assert all(caption.startswith("angle ") for caption in rows["max_rotate_angle=45"][1])


def test_options_are_shown_each_alone_and_together_as_they_draw_then(drawn):
    options = {"rand_mirror": True, "brightness": "0.4", "resize": 200,
               "data_shape": (3, 120, 100), "mean_r": 99, "dtype": "uint8"}  # fmt: skip
    rows, _ = drawn(options)
    assert list(rows) == ["original", "rand_mirror=True", "brightness=0.4", "all together"]
    plain, mirrored = rows["original"][0], rows["rand_mirror=True"][0]
    assert plain.shape == (4, 120, 100, 3)
    assert (mirrored != plain).any()
    flipped = [caption == "mirrored" for caption in rows["rand_mirror=True"][1]]
    bright, together = rows["brightness=0.4"][0], rows["all together"][0]
    for alone, both, flip in zip(bright, together, flipped, strict=True):
        npt.assert_array_equal(both, alone[:, ::-1] if flip else alone)


def test_a_keyword_that_needs_another_has_a_row_of_its_own(drawn):
    rows, _ = drawn({"max_random_scale": 1.5})
    assert list(rows) == ["original", "max_random_scale=1.5", "all together"]
    npt.assert_array_equal(rows["max_random_scale=1.5"][0], rows["all together"][0])


def test_the_aspect_ratio_goes_with_the_crop_that_uses_it(drawn):
    rows, _ = drawn({"random_resized_crop": True, "min_random_area": 0.2, "max_aspect_ratio": 0.3})
    assert len(rows) == 3
    assert "random_resized_crop=True, min_random_area=0.2, max_aspect_ratio=0.3" in rows
