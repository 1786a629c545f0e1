"""Places in the epochs of an order: what is saved is what is loaded."""

from __future__ import annotations

import pytest

from gpuio.errors import StateError
from gpuio.pipeline.position import Position, load, save
from gpuio.samplers import Order


def order(**options):
    return Order(**{"count": 20, "batch_size": 4, "shuffle": True, "seed": 3} | options)


def test_a_saved_place_is_loaded():
    place = Position(epoch=2, start=4, done=8)
    state = save(place, order(), fingerprint=5)
    assert load(state, order(), fingerprint=5) == place
    assert load(state, order(batch_size=8), fingerprint=5) == place


def test_the_end_of_an_epoch_is_the_start_of_the_next():
    assert load(save(Position(1, 0, 20), order(), 5), order(), 5) == Position(2)


def test_records_of_all_parts_count_where_their_number_changes():
    half = order(num_parts=2, part_index=1)
    state = save(Position(0, 0, 4), half, 5)
    assert load(state, half, 5) == Position(0, 0, 4)
    assert load(state, order(), 5) == Position(0, 8, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "state has seed=4, this iterator 3"),
        ({"dataset": 6}, "state has dataset=6, this iterator 5"),
        ({"epoch": -1}, "state is damaged: epoch must be at least 0, got -1"),
        ({"num_parts": "x"}, "state is damaged: num_parts must be an integer, got 'x'"),
    ],
)
def test_a_state_of_something_else_is_refused(change, message):
    state = save(Position(1, 0, 4), order(), 5) | change
    with pytest.raises(StateError, match=message):
        load(state, order(), 5)


@pytest.mark.parametrize("state", [{}, None, [1, 2]])
def test_a_dict_that_is_no_state_is_refused(state):
    with pytest.raises(StateError, match="state has no 'version': it was not made by state_dict"):
        load(state, order(), 5)
