"""Options: fields that say how users give them."""

from __future__ import annotations

from dataclasses import MISSING, dataclass

import pytest

from gpuio.core.options import description, option, options, read


@dataclass(frozen=True, kw_only=True)
class Group:
    size: int = option(MISSING, "The size.")
    flip: bool = option(False, "Whether to flip.")
    name: str = option("a", "The name.", reader=lambda name, value: f"{name} {value}")
    given: object = option(None, "Anything.")
    derived: int = 3


def test_options_are_the_fields_that_users_give():
    assert [o.name for o in options(Group)] == ["size", "flip", "name", "given"]
    assert description(options(Group)[1]) == "Whether to flip."


def test_defaults_are_those_of_the_dataclass():
    assert Group(size=1) == Group(size=1, flip=False, name="a", given=None)
    with pytest.raises(TypeError, match="size"):
        Group()


def test_values_are_read_by_the_type_or_by_the_reader():
    size, flip, name, given = options(Group)
    assert read(size, "7") == 7
    assert read(flip, "true") is True
    assert read(name, "b") == "name b"
    assert read(given, "7") == "7"
    with pytest.raises(ValueError, match=r"size must be an integer, got 7\.5"):
        read(size, 7.5)
