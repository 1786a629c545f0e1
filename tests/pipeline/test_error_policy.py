"""What becomes of samples that could not be read or decoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio.errors import DecodeError
from gpuio.pipeline.error_policy import FaultLog, apply_error_policy
from gpuio.pipeline.read.reader import Samples


def samples(count, bad, pad=0):
    faults = {place: DecodeError(f"sample {place}") for place in bad}
    numbers = np.arange(count)
    return Samples(numbers, numbers, np.zeros((count, 1), np.float32), pad, faults)


@st.composite
def batches(draw):
    count = draw(st.integers(1, 12))
    bad = draw(st.sets(st.integers(0, count - 1)))
    return count, bad, draw(st.integers(0, count))


@pytest.mark.parametrize("policy", ["raise", "skip", "replace", "zero"])
def test_without_faults_every_sample_has_its_place(policy):
    places, pad = apply_error_policy(samples(5, [], pad=2), policy)
    assert (places.tolist(), pad) == ([0, 1, 2, 3, 4], 2)


def test_raise_raises_the_first_fault():
    with pytest.raises(DecodeError, match="sample 1") as caught:
        apply_error_policy(samples(5, [3, 1]), "raise")
    assert caught.value.__notes__ == ["on_error='skip' continues without such images"]


@pytest.mark.parametrize(
    ("bad", "pad", "expected"),
    [
        ([1], 0, ([0, 2, 3, 4, 0], 1)),
        ([0, 1, 4], 0, ([2, 3, 2, 3, 2], 3)),
        ([1], 2, ([0, 2, 0, 2, 0], 3)),  # the last two were filling already
        ([4], 2, ([0, 1, 2, 0, 1], 2)),  # only a filling one is bad
        ([0, 1, 2], 2, ([3, 4, 3, 4, 3], 5)),
    ],
)
def test_skip_moves_good_ones_up_and_fills_with_them(bad, pad, expected):
    places, new_pad = apply_error_policy(samples(5, bad, pad), "skip")
    assert (places.tolist(), new_pad) == expected


@pytest.mark.parametrize(
    ("bad", "expected"),
    [([1], [0, 2, 2, 3, 4]), ([1, 2], [0, 3, 3, 3, 4]), ([3, 4], [0, 1, 2, 0, 0])],
)
def test_replace_takes_the_next_good_one(bad, expected):
    places, pad = apply_error_policy(samples(5, bad, 1), "replace")
    assert (places.tolist(), pad) == (expected, 1)


def test_zero_leaves_the_place():
    places, pad = apply_error_policy(samples(4, [0, 3], 1), "zero")
    assert (places.tolist(), pad) == ([-1, 1, 2, -1], 1)


@given(batch=batches(), policy=st.sampled_from(["skip", "replace"]))
def test_good_samples_are_kept_and_bad_ones_never_used(batch, policy):
    count, bad, pad = batch
    if len(bad) == count:
        with pytest.raises(DecodeError) as caught:
            apply_error_policy(samples(*batch), policy)
        assert caught.value.__notes__ == [
            f"none of the {count} samples of this batch could be read and decoded"
        ]
        return
    places, new_pad = apply_error_policy(samples(*batch), policy)
    assert len(places) == count
    assert not {*places.tolist()} & bad
    own = [n for n in range(count - pad) if n not in bad]
    assert {*own} <= {*places.tolist()}
    if policy == "skip":
        assert places[: count - new_pad].tolist() == own


def test_a_log_counts_all_and_keeps_a_hundred():
    log = FaultLog()
    for start in range(0, 240, 60):
        log.add([DecodeError(str(n)) for n in range(start, start + 60)])
    assert log.count == 240
    assert [str(error) for error in log.first] == [str(n) for n in range(100)]
