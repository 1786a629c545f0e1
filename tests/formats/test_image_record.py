"""Image records: headers and labels."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio.errors import FormatError
from gpuio.formats.image_record import IRHeader, pack, unpack

floats = st.floats(width=32, allow_nan=False)
ids = st.integers(0, 2**64 - 1)


def test_packs_as_mxnet_does():
    assert pack(IRHeader(0, 1.0, 2, 3), b"x").hex() == (
        "000000000000803f0200000000000000030000000000000078"
    )
    assert pack(IRHeader(0, [1.0, 2.0], 2, 0), b"x").hex() == (
        "0200000000000000020000000000000000000000000000000000803f0000004078"
    )


@given(label=floats, number=ids, second=ids, data=st.binary(max_size=40))
def test_a_number_comes_back_as_a_float(label, number, second, data):
    header, rest = unpack(pack((7, label, number, second), data))
    assert header == (0, label, number, second)
    assert type(header.label) is float
    assert rest == data


@given(labels=st.lists(floats, min_size=1, max_size=9), data=st.binary(max_size=40))
def test_labels_come_back_as_an_array(labels, data):
    header, rest = unpack(pack((0, labels, 1, 0), data))
    assert header.flag == len(labels)
    assert header.label.dtype == np.float32
    assert not header.label.flags.writeable
    npt.assert_array_equal(header.label, np.array(labels, np.float32))
    assert rest == data


@pytest.mark.parametrize("label", [True, np.float32(1), np.int64(1), np.uint8(1)])
def test_any_number_is_one_label(label):
    assert unpack(pack((5, label, 0, 0), b""))[0] == (0, 1.0, 0, 0)


@pytest.mark.parametrize(
    ("label", "flag"), [([], 0), (np.array(5.0), 1), (np.ones((2, 3)), 6), ((1, 2), 2)]
)
def test_anything_else_is_flattened(label, flag):
    header, rest = unpack(pack((0, label, 0, 0), b"rest"))
    assert header.flag == flag
    assert rest == b"rest"


def test_a_view_is_unpacked_without_a_copy():
    memory = bytearray(pack((0, [1, 2], 0, 0), b"image"))
    header, rest = unpack(memoryview(memory))
    memory[-5:] = b"IMAGE"
    assert rest == b"IMAGE"
    assert not header.label.flags.writeable


def test_too_short_a_header_is_also_a_struct_error():
    with pytest.raises(FormatError, match="header of 24 bytes, 3 found"):
        unpack(b"abc")
    with pytest.raises(struct.error):
        unpack(b"abc")


def test_missing_labels_are_reported():
    payload = pack((0, [1, 2, 3], 0, 0), b"")[:-1]
    with pytest.raises(FormatError, match="3 labels in 12 bytes, 11 bytes found"):
        unpack(payload)


@pytest.mark.parametrize("number", [-1, 2**64, 0.5])
def test_an_id_must_fit(number):
    with pytest.raises(struct.error):
        pack((0, 1, number, 0), b"")


def test_a_header_has_the_names_of_mxnet():
    header = IRHeader(0, 14.0, 20129312, 0)
    assert repr(header) == "HEADER(flag=0, label=14.0, id=20129312, id2=0)"
    assert pickle.loads(pickle.dumps(header)) == header
