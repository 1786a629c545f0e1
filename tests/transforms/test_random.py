"""Random numbers: those of the published generator, and the same ones in any company."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio.transforms.random import Draw, Draws, named, philox4x32

IDS = np.arange(20_000)
DRAW = pytest.mark.parametrize("draw", list(Draw), ids=lambda draw: draw.name)


# The known answers that come with the authors' library (Random123, kat_vectors).
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        (
            [0, 0, 0, 0],
            [0, 0],
            [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        ),
        (
            [0xFFFFFFFF] * 4,
            [0xFFFFFFFF] * 2,
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_gives_the_published_answers(counter, key, answer):
    got = philox4x32(np.array([counter], np.uint64), np.array(key, np.uint64))
    npt.assert_array_equal(got, [answer])


@given(data=st.data())
def test_a_record_gets_its_numbers_in_any_company_and_order(data):
    ids = np.array(data.draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=30)))
    draw = data.draw(st.sampled_from(list(Draw)))
    together = Draws(ids, seed=7, epoch=2).words(draw)
    alone = [Draws(ids[k : k + 1], seed=7, epoch=2).words(draw)[0] for k in range(len(ids))]
    npt.assert_array_equal(together, alone)


def test_one_draw_changes_nothing_for_another():
    first, second = Draws(IDS, seed=1, epoch=0), Draws(IDS, seed=1, epoch=0)
    second.words(Draw.CROP_Y)
    second.words(Draw.CROP_INTERPOLATION)
    npt.assert_array_equal(first.words(Draw.MIRROR), second.words(Draw.MIRROR))


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 2, "epoch": 0},
        {"seed": 1, "epoch": 1},
        {"seed": 1 + 2**32, "epoch": 0},
        {"seed": 1 - 2**63, "epoch": 0},
    ],
    ids=str,
)
def test_seeds_and_epochs_give_other_numbers(other):
    words = Draws(IDS, seed=1, epoch=0).words(Draw.MIRROR)
    assert (words != Draws(IDS, **other).words(Draw.MIRROR)).mean() > 0.99


def test_records_beyond_32_bits_get_numbers_of_their_own():
    words = Draws(np.array([5, 5 + 2**32, 5 + 2**40]), seed=1, epoch=0).words(Draw.MIRROR)
    assert len(np.unique(words)) == 3


def test_purposes_have_numbers_of_their_own():
    draws = Draws(IDS, seed=1, epoch=0)
    words = np.stack([draws.words(draw) for draw in Draw])
    correlation = np.corrcoef(words.astype(np.float64)) - np.eye(len(words))
    assert np.abs(correlation).max() < 0.04  # 5.6 deviations of 20 000 pairs


@DRAW
def test_uniforms_fill_their_range_and_stay_inside(draw):
    values = Draws(IDS, seed=3, epoch=1).uniform(draw, -2, 5)
    assert values.dtype == np.float32
    assert values.min() >= -2
    assert values.max() < 5
    counts, _ = np.histogram(values, 20, (-2, 5))
    assert np.abs(counts - 1000).max() < 160  # 5 deviations


@DRAW
def test_integers_take_both_ends_and_all_between_equally_often(draw):
    values = Draws(IDS, seed=3, epoch=1).integers(draw, -2, 7)
    counts = np.bincount(values + 2, minlength=10)
    assert len(counts) == 10
    assert np.abs(counts - 2000).max() < 220  # 5 deviations


def test_each_record_may_have_an_end_of_its_own():
    high = IDS % 5
    values = Draws(IDS, seed=3, epoch=1).integers(Draw.CROP_Y, 0, high)
    assert (values >= 0).all()
    assert (values <= high).all()
    assert not values[high == 0].any()
    assert {*values[high == 4].tolist()} == {0, 1, 2, 3, 4}


def test_a_coin_is_fair():
    coin = Draws(IDS, seed=3, epoch=1).coin(Draw.MIRROR)
    assert coin.dtype == np.bool_
    assert abs(coin.mean() - 0.5) < 0.018  # 5 deviations


def test_places_of_purposes_never_change():
    names = ["MIRROR", "CROP_Y", "CROP_X", "RESIZE_INTERPOLATION", "CROP_INTERPOLATION"]
    assert [Draw[name] for name in names] == [0, 1, 2, 3, 4]
    assert len({int(draw) for draw in Draw}) == len(Draw)


def test_named_draws_and_those_of_repeated_ops_are_numbers_of_their_own():
    draws = Draws(np.arange(4000), seed=1, epoch=2)
    first, second = named("a purpose"), named("another")
    lines = [draws.uniform(place) for place in (first, second, Draw.MIRROR)]
    lines += [draws.again(repeat).uniform(first) for repeat in (1, 2, 63)]
    assert np.abs(np.corrcoef(lines) - np.eye(len(lines))).max() < 0.06
    assert min(first, second) > 4 * max(Draw)
    npt.assert_array_equal(draws.again(0).uniform(first), lines[0])
