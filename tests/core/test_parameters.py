"""Parameters as scripts give them."""

from __future__ import annotations

import numpy as np
import pytest

import gpuio
from gpuio.core import parameters as p


@pytest.mark.parametrize("value", [True, 1, "True", "true", "TRUE", "1", np.True_])
def test_true_has_many_forms(value):
    assert p.boolean("x", value) is True


@pytest.mark.parametrize("value", [False, 0, "False", "false", "0", np.False_])
def test_false_has_many_forms(value):
    assert p.boolean("x", value) is False


@pytest.mark.parametrize("value", [2, -1, "yes", "", None, 1.0, 0.0, [], "2"])
def test_values_that_are_neither_true_nor_false_are_refused(value):
    with pytest.raises(ValueError, match="x must be True or False, got"):
        p.boolean("x", value)


@pytest.mark.parametrize("value", [7, "7", " 7 ", np.int32(7), np.uint8(7)])
def test_integers(value):
    got = p.integer("x", value)
    assert got == 7
    assert type(got) is int


@pytest.mark.parametrize("value", [7.0, "7.0", "", None, "seven", [7], np.float32(7)])
def test_values_that_are_no_integer_are_refused(value):
    with pytest.raises(ValueError, match="x must be an integer, got"):
        p.integer("x", value)


def test_integers_may_have_a_least_value():
    assert p.integer("x", 3, least=3) == 3
    with pytest.raises(ValueError, match="x must be at least 3, got 2"):
        p.integer("x", 2, least=3)


@pytest.mark.parametrize("value", [0.5, "0.5", "5e-1", np.float32(0.5)])
def test_numbers(value):
    got = p.number("x", value)
    assert got == 0.5
    assert type(got) is float


def test_values_that_are_no_number_are_refused():
    for value in (None, "half", [], "1,5"):
        with pytest.raises(ValueError, match="x must be a number, got"):
            p.number("x", value)
    for value in (float("nan"), "inf", -float("inf"), 1e39):
        with pytest.raises(ValueError, match="x must be finite in float32, got"):
            p.number("x", value)


@pytest.mark.parametrize("value", [(3, 4), [3, 4], "(3, 4)", "[3,4]", "3, 4", (np.int64(3), "4")])
def test_shapes(value):
    assert p.shape("x", value, 2) == (3, 4)


@pytest.mark.parametrize("value", [(3,), (3, 4, 5), 3, None, "3", "x, y", "(3", "34", {3, 4}])
def test_values_that_are_no_shape_are_refused(value):
    with pytest.raises(ValueError, match="x must be 2 integers, got"):
        p.shape("x", value, 2)


def test_shapes_hold_integers():
    with pytest.raises(ValueError, match=r"x must be an integer, got 4\.0"):
        p.shape("x", (3, 4.0), 2)


@pytest.mark.parametrize("value", [(3, 2), [3, 2], "(3, 2)", "3,2", np.array([3, 2])])
def test_lengths_of_axes(value):
    assert p.sides("x", value) == (3, 2)


@pytest.mark.parametrize("value", [3, "3", np.int64(3), "(3,)"])
def test_one_number_is_the_length_of_one_axis(value):
    assert p.sides("x", value) == (3,)


@pytest.mark.parametrize("value", [0, (), (3, 0), (3, -1), "x", 1.5, None, "(3", 1 << 63])
def test_values_that_are_no_lengths_are_refused(value):
    with pytest.raises(ValueError, match="x must be"):
        p.sides("x", value)


@pytest.mark.parametrize("value", ["1,2", "1, 2,", (1, 2), [1, "2"], np.array([1, 2])])
def test_lists_of_integers(value):
    assert p.integers("x", value) == (1, 2)


def test_lists_of_integers_may_be_empty():
    assert p.integers("x", "") == p.integers("x", None) == p.integers("x", ()) == ()


@pytest.mark.parametrize("value", [7, "1;2", (1, 2.5), np.array(1), np.array([1.0])])
def test_values_that_are_no_list_of_integers_are_refused(value):
    with pytest.raises(ValueError, match="x must be a"):
        p.integers("x", value)


@pytest.mark.parametrize("value", ["uint8", np.uint8, np.dtype("uint8"), "u1"])
def test_dtypes(value):
    assert p.dtype_name("x", value, ("float32", "uint8")) == "uint8"


def test_no_dtype_is_float32():
    assert p.dtype_name("x", None, ("float32",)) == "float32"


@pytest.mark.parametrize("value", ["float64", "nonsense", int])
def test_other_dtypes_are_refused(value):
    with pytest.raises(ValueError, match="x must be one of float32, uint8, got"):
        p.dtype_name("x", value, ("float32", "uint8"))


def test_a_choice_is_one_of_a_few():
    p.choice("x", "a", ("a", "b"))
    with pytest.raises(ValueError, match="x must be one of a, b, got 'c'"):
        p.choice("x", "c", ("a", "b"))


class FakeTorch:
    """What PyTorch's dtypes and devices look like from outside."""

    __module__ = "torch"

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (FakeTorch("torch.float16"), "float16"),
        (FakeTorch("torch.bfloat16"), "bfloat16"),
        ("torch.uint8", "uint8"),
        (type("Scalar", (), {"dtype": np.dtype("float16")}), "float16"),  # as those of jax.numpy
    ],
)
def test_dtypes_of_frameworks(value, name):
    assert p.dtype_name("x", value, ("float16", "bfloat16", "uint8")) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, None),
        ("cuda:1", "cuda:1"),
        (FakeTorch("cuda:1"), "cuda:1"),
        (FakeTorch("cuda"), "cuda"),
        (FakeTorch("cpu:0"), "cpu"),
        (gpuio.gpu(2), "cuda:2"),
        (gpuio.cpu(), "cpu"),
    ],
)
def test_devices(value, name):
    assert p.device_name("x", value) == name


def test_values_that_are_no_device_are_refused():
    with pytest.raises(ValueError, match=r"x must be 'cpu', 'cuda', 'cuda:N' or a torch\.device"):
        p.device_name("x", 0)


@pytest.mark.parametrize(
    ("text", "bits"), [("1.514", 0x3FC1CAC0), ("0.25", 0x3E800000), ("-2.5", 0xC0200000)]
)
def test_a_float_is_read_as_mxnet_reads_it(text, bits):
    """Whole and decimal part apart: 1.514 comes out one bit away from the nearest float32."""
    assert np.float32(p.mxnet_float("v", text)).view(np.uint32) == bits


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, (0.5,)), ([1, 2.5], (1, 2.5)), ("(0.1, 3)", (0.1, 3)), ("2", (2,)),
        (np.array([1, 2]), (1, 2)), (np.array(0.5), (0.5,)), ((), ()),
    ],
)  # fmt: skip
def test_numbers_may_be_one_or_several_or_text(value, expected):
    assert p.numbers("scales", value) == expected


@pytest.mark.parametrize("value", ["a", "(1, 'b')", [None], None, ""])
def test_values_that_are_no_numbers_are_an_error(value):
    with pytest.raises(ValueError, match="scales must be"):
        p.numbers("scales", value)


def test_a_mapping_may_be_text():
    given = {"anon": True}
    assert p.mapping("storage_options", given) is given
    assert p.mapping("storage_options", "{'anon': True}") == given


def test_the_error_about_a_text_that_is_no_mapping_does_not_show_it():
    with pytest.raises(ValueError, match="storage_options must be a dict") as error:
        p.mapping("storage_options", "key=secret")
    assert "secret" not in str(error.value)
