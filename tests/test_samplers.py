"""Which records each batch holds: nothing lost, nothing twice, whatever the parts and sizes."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio.errors import StateError
from gpuio.samplers import Order, permutation

LAST = ["pad", "short", "drop"]


@st.composite
def settings_of_orders(draw):
    """Everything that parts have in common."""
    count = draw(st.integers(1, 80))
    return {
        "count": count,
        "batch_size": draw(st.integers(1, 20)),
        "shuffle": draw(st.booleans()),
        "seed": draw(st.integers(-(2**63), 2**64 - 1)),
        "num_parts": draw(st.integers(1, min(count, 7))),
        "last_batch": draw(st.sampled_from(LAST)),
    }


def parts(options, **changes):
    """One order for each part."""
    options = options | changes
    return [Order(**options, part_index=part) for part in range(options["num_parts"])]


def own(selections):
    """Records that are no padding, in order."""
    kept = [s.ids[: len(s.ids) - s.pad] for s in selections]
    return np.concatenate([np.empty(0, np.int64), *kept]).tolist()


@given(count=st.integers(1, 3000), seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 2**70))
def test_a_permutation_holds_every_record_once(count, seed, epoch):
    got = permutation(np.arange(count), count, seed=seed, epoch=epoch)
    assert got.dtype == np.int64
    npt.assert_array_equal(np.sort(got), np.arange(count))


@given(count=st.integers(1, 10**12), seed=st.integers(0, 2**64), data=st.data())
def test_any_place_of_a_permutation_can_be_had_by_itself(count, seed, data):
    places = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=20)), np.int64)
    together = permutation(places, count, seed=seed, epoch=3)
    assert ((together >= 0) & (together < count)).all()
    assert len(np.unique(together)) == len(np.unique(places))
    for place, record in zip(places, together, strict=True):
        assert permutation(np.array([place]), count, seed=seed, epoch=3) == record


def test_permutations_differ_between_seeds_and_epochs():
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2**32, 0), (0, 2**32), (-1, 0), (2**63, 0)]
    orders = {tuple(permutation(np.arange(64), 64, seed=s, epoch=e).tolist()) for s, e in pairs}
    assert len(orders) == len(pairs)


def test_every_record_comes_to_every_place_equally_often():
    count, epochs = 11, 4000
    table = np.zeros((count, count))
    for epoch in range(epochs):
        table[np.arange(count), permutation(np.arange(count), count, seed=5, epoch=epoch)] += 1
    expected = epochs / count
    chi_square = ((table - expected) ** 2 / expected).sum()
    # (11 - 1)**2 degrees of freedom: mean 100, deviation 14.
    assert 50 < chi_square < 160


def test_every_permutation_of_four_records_comes_equally_often():
    epochs = 6000
    orders = [tuple(permutation(np.arange(4), 4, seed=1, epoch=e).tolist()) for e in range(epochs)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    chi_square = ((counts - epochs / 24) ** 2 / (epochs / 24)).sum()
    assert chi_square < 56  # 23 degrees of freedom: exceeded once in 7000 trials


@given(options=settings_of_orders(), epoch=st.integers(0, 9))
def test_parts_share_an_epoch_without_loss_or_repeat(options, epoch):
    options["last_batch"] = "pad"
    epochs = [list(order.batches(epoch)) for order in parts(options)]
    records = [record for selections in epochs for record in own(selections)]
    assert sorted(records) == list(range(options["count"]))
    for selections in epochs:
        assert all(len(s.ids) == options["batch_size"] for s in selections)


@given(options=settings_of_orders())
def test_every_part_has_as_many_batches_as_it_says(options):
    for order in parts(options):
        assert len(list(order.batches(0))) == order.length()
        for done in range(0, options["count"], options["batch_size"]):
            assert len(list(order.batches(0, 0, done))) == order.length(0, done)
    assert len({order.length() for order in parts(options)}) == 1


@given(options=settings_of_orders())
def test_padding_repeats_the_records_of_the_part_in_order(options):
    options["last_batch"] = "pad"
    for order in parts(options):
        selections = list(order.batches(2))
        mine = own(selections)
        everything = np.concatenate([s.ids for s in selections])
        npt.assert_array_equal(everything, np.resize(mine, len(everything)))
        assert sum(s.pad for s in selections) == len(everything) - len(mine)


@given(options=settings_of_orders())
def test_short_and_drop_are_padding_cut_off(options):
    def batches(last_batch):
        orders = parts(options, last_batch=last_batch)
        return [list(order.batches(1)) for order in orders]

    share = -(-options["count"] // options["num_parts"])
    for full, short, drop in zip(batches("pad"), batches("short"), batches("drop"), strict=True):
        size = options["batch_size"]
        assert len(drop) == share // size
        for a, b in zip(drop, full[: len(drop)], strict=True):
            npt.assert_array_equal(a.ids, b.ids)
        assert sum(len(s.ids) for s in short) == share
        npt.assert_array_equal(
            np.concatenate([s.ids for s in short]), np.concatenate([s.ids for s in full])[:share]
        )
        # Parts of unequal share: one record of the smaller part comes twice.
        assert sum(s.pad for s in short) == share - len(own(full))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 1024, 1025, 4000])
def test_an_epoch_is_the_same_in_batches_of_any_size(batch_size, shuffle):
    whole = permutation(np.arange(2500), 2500, seed=5, epoch=2) if shuffle else np.arange(2500)
    order = Order(2500, batch_size, shuffle, seed=5)
    batches = list(order.batches(2))
    assert [len(batch.ids) for batch in batches] == [batch_size] * order.length()
    assert [batch.pad for batch in batches] == [0] * (len(batches) - 1) + [-2500 % batch_size]
    ids = np.concatenate([batch.ids for batch in batches])
    npt.assert_array_equal(ids, np.resize(whole, len(ids)))


def test_without_shuffling_parts_are_neighbouring_ranges():
    orders = [Order(10, 2, num_parts=3, part_index=part) for part in range(3)]
    assert [own(order.batches(0)) for order in orders] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert [own(order.batches(7)) for order in orders] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_with_shuffling_parts_take_turns_in_one_permutation():
    order = permutation(np.arange(10), 10, seed=4, epoch=1)
    for part in range(3):
        mine = Order(10, 2, shuffle=True, seed=4, num_parts=3, part_index=part)
        assert own(mine.batches(1)) == order[part::3].tolist()


@given(options=settings_of_orders(), data=st.data())
def test_an_epoch_continues_where_it_stopped(options, data):
    for order in parts(options):
        whole = list(order.batches(3))
        split = data.draw(st.integers(0, len(whole)))
        rest = list(order.batches(3, 0, split * options["batch_size"]))
        assert len(rest) == len(whole) - split
        for a, b in zip(whole[split:], rest, strict=True):
            npt.assert_array_equal(a.ids, b.ids)
            assert a.pad == b.pad


@given(options=settings_of_orders(), data=st.data())
def test_an_epoch_continues_with_other_batch_sizes_and_parts(options, data):
    """Each record comes once, however often sizes and parts change on the way."""
    options |= {"shuffle": True, "last_batch": "pad"}
    seen, start, done, before = [], 0, 0, options["num_parts"]
    for _ in range(data.draw(st.integers(0, 3))):
        left = options["count"] - start
        if left < 1:
            break
        orders = parts(options)
        start, done = orders[0].resume(start, done, before)
        before = options["num_parts"]
        batches = [list(order.batches(1, start, done)) for order in orders]
        take = data.draw(st.integers(0, len(batches[0])))
        seen += [record for selections in batches for record in own(selections[:take])]
        done += take * options["batch_size"]
        share = -(-(options["count"] - start) // options["num_parts"])
        if done >= share:
            start, done = options["count"], 0
            break
        options["batch_size"] = data.draw(st.integers(1, 9))
        options["num_parts"] = data.draw(st.integers(1, min(options["count"], 7)))
    if start < options["count"]:
        orders = parts(options)
        start, done = orders[0].resume(start, done, before)
        if start < options["count"]:
            seen += [r for order in orders for r in own(order.batches(1, start, done))]
    assert sorted(seen) == list(range(options["count"]))


@given(options=settings_of_orders(), data=st.data())
def test_a_contiguous_epoch_continues_with_another_batch_size(options, data):
    options |= {"shuffle": False, "last_batch": "pad"}
    other = data.draw(st.integers(1, 9))
    for order, changed in zip(parts(options), parts(options, batch_size=other), strict=True):
        whole = list(order.batches(0))
        split = data.draw(st.integers(0, len(whole)))
        start, done = changed.resume(0, split * options["batch_size"], options["num_parts"])
        assert own(whole[:split]) + own(changed.batches(0, start, done)) == own(whole)


def test_one_contiguous_reader_can_be_followed_by_several():
    first = own(list(Order(20, 3).batches(0))[:2])
    orders = [Order(20, 4, num_parts=3, part_index=part) for part in range(3)]
    rest = [r for order in orders for r in own(order.batches(0, *order.resume(0, 6, 1)))]
    assert first + rest == list(range(20))


def test_half_read_ranges_cannot_be_shared_anew():
    with pytest.raises(StateError, match=r"with 3 parts only, got num_parts=2"):
        Order(20, 4, num_parts=2).resume(0, 4, 3)


def test_several_contiguous_readers_can_change_between_epochs():
    assert Order(20, 4, num_parts=2).resume(0, 0, 3) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_parts": 0}, "num_parts must be at least 1, got 0"),
        ({"num_parts": 2, "part_index": 2}, r"part_index must be in \[0, num_parts\), got 2 of 2"),
        ({"part_index": -1}, r"part_index must be in \[0, num_parts\), got -1 of 1"),
        ({"num_parts": 6}, "5 records cannot be shared by num_parts=6"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Order(**{"count": 5, "batch_size": 2} | changes)


def test_a_billion_records_begin_at_once():
    order = Order(10**9, 64, shuffle=True, seed=1, num_parts=8, part_index=7)
    ids = next(order.batches(0)).ids
    assert len(np.unique(ids)) == 64
    assert ids.max() < 10**9
