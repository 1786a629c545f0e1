"""Options: fields of dataclasses that say how users give them, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields
from functools import partial
from typing import Any, ClassVar, Final, Protocol, TypeVar, cast

from gpuio.core import parameters as p

T = TypeVar("T")
Reader = Callable[[str, Any], Any]
"""Takes the name of an option and the value that a user gives; returns it in the option's type.

It raises a ValueError that names the option.
"""
Bounded = int
"""A type of option: an integer, which `parameters.bounded_integer` reads."""
Float32 = float
"""A type of option: a float, which `parameters.mxnet_float` reads."""


class Group(Protocol):
    """A dataclass of options, with the heading that the documentation has for them."""

    section: ClassVar[str]


def optional(reader: Reader) -> Reader:
    """A reader that takes None for None."""
    return lambda name, value: None if value is None else reader(name, value)


READERS: Final[Mapping[str, Reader]] = {
    "bool": p.boolean,
    "int": p.integer,
    "int | None": optional(p.integer),
    "Bounded": p.bounded_integer,
    "float": p.number,
    "Float32": p.mxnet_float,
    "Float32 | None": optional(p.float32),  # MXNet reads these to the nearest float32
    "str": p.text,
    "tuple[int, int, int]": partial(p.shape, length=3),
    "tuple[int, ...]": p.integers,
    "tuple[float, ...]": p.numbers,
}
"""The readers of options, by their types. Values of other types are taken as they are given."""


def option(default: object, description: str, *, reader: Reader | None = None) -> Any:
    """A field of a dataclass, for an option that users give by keyword.

    Args:
        default: Its default; `MISSING` for an option that must be given.
        description: What it means, in sentences, for docstrings, commands and the documentation.
        reader: Reads what users give; by default the one that `READERS` has for the type.
    """
    metadata = {"description": description, "reader": reader}
    return field(default=default, metadata=metadata)


def options(group: type) -> list[Field[Any]]:
    """The fields of a dataclass that were made by `option`."""
    return [field for field in fields(cast("Any", group)) if "description" in field.metadata]


def description(option: Field[Any]) -> str:
    """What an option means."""
    return option.metadata["description"]


def make(group: type[T], **given: Any) -> T:
    """A group of options, made of the values that a user gives.

    Args:
        group: The dataclass.
        given: Values by keyword. An option that is left out has its default; keywords that are not
            options of the group are ignored.

    Raises:
        ValueError: A value is wrong.
    """
    values = {option.name: given.get(option.name, option.default) for option in options(group)}
    return group(
        **{o.name: read(o, values[o.name]) for o in options(group) if values[o.name] is not MISSING}
    )


def read(option: Field[Any], value: Any) -> Any:
    """The value that a user gives for an option, in the option's type.

    Raises:
        ValueError: The value cannot be one of that type.
    """
    reader: Reader | None = option.metadata["reader"] or READERS.get(str(option.type))
    return value if reader is None else reader(option.name, value)
