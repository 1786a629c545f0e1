"""The tree of errors, and that they survive a way through another process."""

from __future__ import annotations

import pickle

import pytest

from gpuio import errors

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, Exception) and not issubclass(value, Warning)
]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_is_a_gpuioerror_and_is_in_the_picture(kind):
    assert issubclass(kind, errors.GpuioError)
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", ["FormatError", "CorruptRecordError", "LabelError", "StateError"])
def test_errors_about_values_are_valueerrors_too(kind):
    assert issubclass(getattr(errors, kind), ValueError)


def test_a_corrupt_record_tells_where_and_why():
    error = errors.CorruptRecordError("magic is 0", path="a.rec", offset=4096)
    assert str(error) == "a.rec: record at byte 4096: magic is 0"
    assert (error.path, error.offset, error.reason) == ("a.rec", 4096, "magic is 0")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_errors_can_be_pickled(kind):
    if kind is errors.CorruptRecordError:
        error = kind("magic is 0", path="a.rec", offset=4096)
    else:
        error = kind("what happened")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
