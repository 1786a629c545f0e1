"""Sheets of images."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.observe import contact_sheet


def plain(height, width, *color):
    return np.full((height, width, len(color)), color, np.uint8)


def test_images_stand_in_rows_from_left_to_right():
    red, blue = plain(20, 20, 255, 0, 0), plain(20, 20, 0, 0, 255)
    sheet = np.asarray(contact_sheet.draw([red, red, blue], [""] * 3, columns=2, tile=20))
    colors = sheet.reshape(-1, 3)
    assert (colors == (255, 0, 0)).all(axis=1).sum() == 2 * 20 * 20
    rows, columns = np.nonzero((sheet == (0, 0, 255)).all(axis=2))
    assert rows.min() > sheet.shape[0] / 2
    assert columns.max() < sheet.shape[1] / 2


@pytest.mark.parametrize("shape", [(300, 100, 3), (100, 300, 3), (100, 300), (5, 5, 1), (9, 1, 4)])
def test_images_of_every_shape_fit_into_their_tile(shape):
    black = np.zeros(shape, np.uint8)
    if shape[2:] == (4,):
        black[..., 3] = 255
    sheet = np.asarray(contact_sheet.draw([black], [""], tile=60))
    rows, columns = np.nonzero((sheet == 0).all(axis=2))
    assert max(np.ptp(rows), np.ptp(columns)) < 60


def test_captions_are_written_and_cut_off():
    images = [plain(30, 30, 255, 255, 255)] * 2
    sheet = contact_sheet.draw(images, ["7", "x" * 500], tile=30)
    npt.assert_array_equal(sheet.size, (6 + 2 * 36, 6 + 50))
    ink = np.asarray(sheet).min(axis=2) < 128
    assert ink[36:, :40].any()
    assert not ink[:, -5:].any()


def test_a_title_stands_above_all():
    images = [plain(30, 30, 255, 255, 255)] * 2
    bare, titled = (contact_sheet.draw(images, ["", ""], tile=30, title=t) for t in ("", "x" * 99))
    assert titled.height > bare.height
    ink = np.asarray(titled).min(axis=2) < 128
    assert ink[: titled.height - bare.height + 6].any()
    assert not ink[:, -5:].any()
    assert (np.asarray(bare) == 255).all()


def test_sheets_stand_in_columns_from_top_to_bottom():
    sheets = [contact_sheet.draw([plain(9, 9, n, n, n)], [""], tile=9) for n in (0, 50, 100)]
    width, height = sheets[0].size
    whole = contact_sheet.stack(sheets, 2)
    assert whole.size == (2 * width, 2 * height)
    for sheet, place in zip(sheets, ((0, 0), (0, height), (width, 0)), strict=True):
        box = (*place, place[0] + width, place[1] + height)
        npt.assert_array_equal(np.asarray(whole.crop(box)), np.asarray(sheet))


def test_transparent_pixels_are_drawn_white():
    sheet = np.asarray(contact_sheet.draw([plain(10, 10, 0, 0, 0, 0)], [""], tile=10))
    assert (sheet == 255).all()


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="no images"):
        contact_sheet.draw([], [])
