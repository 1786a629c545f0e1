"""Which samples an epoch holds, in chunks and one by one."""

from __future__ import annotations

import itertools
import random

import pytest

from gpuio.mxnet.image.sequence import SampleSequence, part_of


def keys_of(sequence):
    return list(iter(lambda: next_or_none(sequence), None))


def next_or_none(sequence):
    try:
        return sequence.next_key()
    except StopIteration:
        return None


def test_keys_come_in_order_and_begin_again_unless_the_rest_is_discarded():
    for handle, again in (("pad", [5, 6, 7]), ("roll_over", [5, 6, 7]), ("discard", [])):
        sequence = SampleSequence([5, 6, 7], 2, handle)
        assert keys_of(sequence) == [5, 6, 7]
        assert keys_of(sequence) == again
        sequence.rewind()
        assert keys_of(sequence) == [5, 6, 7]


def test_nothing_comes_after_the_end_until_it_is_rewound():
    sequence = SampleSequence([5, 6, 7], 2, "pad")
    sequence.next_key()
    assert (sequence.left, sequence.last_key) == (2, 5)
    sequence.end()
    assert sequence.left == 0
    assert keys_of(sequence) == []
    assert sequence.cur == 1
    sequence.rewind()
    assert sequence.left == 3


def test_the_order_is_that_of_pythons_random():
    sequence, expected = SampleSequence(list(range(9)), 2, "pad"), list(range(9))
    random.seed(3)
    sequence.shuffle()
    random.seed(3)
    random.shuffle(expected)
    assert sequence.keys == expected


@pytest.mark.parametrize("handle", ["pad", "discard", "roll_over"])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 9])
def test_chunks_fill_batches_and_end_with_the_epoch(handle, batch_size):
    sequence = SampleSequence(list(range(7)), batch_size, handle)
    places = list(itertools.chain(*sequence.chunks(0, kept=False)))
    assert places[:7] == list(range(7))
    full = len(places) % batch_size == 0
    assert full if handle == "pad" else places == list(range(7))


def test_a_batch_that_was_kept_is_filled_up_first():
    sequence = SampleSequence(list(range(7)), 4, "roll_over")
    assert list(sequence.chunks(3, kept=True)) == [[0], [1, 2, 3, 4], [5, 6]]


def test_parts_are_equal_and_leave_the_rest_out():
    assert [part_of([1, 2, 3, 4, 5, 6, 7], 3, index) for index in range(3)] == [
        [1, 2],
        [3, 4],
        [5, 6],
    ]
    assert part_of([1, 2], 1, 0) == [1, 2]
    for index in (3, -1):
        with pytest.raises(AssertionError, match=f"part_index must be from 0 to 2, got {index}"):
            part_of([1, 2], 3, index)
