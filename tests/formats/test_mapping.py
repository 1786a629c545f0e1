"""The list and the dict of mxnet.recordio, made of arrays."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio.formats.mapping import KeyList, KeyOffsets

narrow = st.lists(st.integers(-5, 30), max_size=20)
wide = st.lists(st.sampled_from([-(2**63), -7, 0, 1, 2**40, 2**63 - 1]), max_size=20)
in_order = narrow.map(set).map(sorted)


@given(keys=narrow | wide | in_order)
def test_offsets_by_key_are_those_of_a_dict(keys):
    offsets = [4 * i for i in range(len(keys))]
    index = KeyOffsets(np.array(keys, np.int64), np.array(offsets, np.int64))
    expected = dict(zip(keys, offsets, strict=True))
    assert index == expected
    assert list(index) == list(expected)
    assert list(index.items()) == list(expected.items())
    assert list(index.values()) == list(expected.values())
    assert len(index) == len(expected)
    asked = [*range(-8, 32), 2**40, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1]
    assert [index.get(key) for key in asked] == [expected.get(key) for key in asked]
    assert pickle.loads(pickle.dumps(index)) == expected


@given(keys=narrow, data=st.data())
def test_keys_are_those_of_a_list(keys, data):
    index = KeyList(np.array(keys, np.int64))
    assert index == keys
    assert list(reversed(index)) == keys[::-1]
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, max(len(keys) - 1, 0)))
        change = data.draw(st.sampled_from(["insert", "delete", "set", "reverse"]))
        if change == "insert" or not keys:
            keys.insert(place, 99)
            index.insert(place, 99)
        elif change == "delete":
            del keys[place], index[place]
        elif change == "set":
            keys[place] = index[place] = 77
        else:
            keys.reverse()
            index.reverse()
        assert index == keys
        assert np.array(index).tolist() == keys
    assert (3 in index, 99 in index) == (3 in keys, 99 in keys)


def test_long_ones_are_shown_in_part():
    keys = np.arange(100)
    assert repr(KeyList(keys)) == "[0, 1, 2, 3, 4, ...] (100 keys)"
    shown = "{0: 0, 1: 8, 2: 16, 3: 24, 4: 32, ...} (100 keys)"
    assert repr(KeyOffsets(keys, 8 * keys)) == shown


def test_a_dict_of_arrays_cannot_be_changed():
    with pytest.raises(TypeError):
        KeyOffsets(np.arange(2), np.arange(2))[0] = 1


def test_the_array_of_keys_is_a_copy():
    keys = np.arange(3)
    np.asarray(KeyList(keys))[0] = 9
    assert keys[0] == 0
