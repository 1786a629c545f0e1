"""A place in the epochs of an iterator, and how it is saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from gpuio.core import parameters as p
from gpuio.errors import StateError
from gpuio.samplers import Order

_VERSION: Final = 2
_MOST_COUNT: Final = 2**63 - 1


class Position(NamedTuple):
    """A place in the epochs of an `Order`.

    Attributes:
        epoch: Number of the epoch, from 0.
        start: Records of all parts that were read before the state was loaded.
        done: Records that this part has read since.
    """

    epoch: int = 0
    start: int = 0
    done: int = 0

    def after(self, records: int) -> Position:
        """The place once this part has read so many more records."""
        return self._replace(done=self.done + records)


def save(position: Position, order: Order, fingerprint: int) -> dict[str, object]:
    """The state of an iterator: a few integers and the fingerprint of its data set."""
    if not order.length(position.start, position.done):
        position = Position(position.epoch + 1)
    identity = _identity(order, fingerprint)
    return {**identity, **position._asdict(), "num_parts": order.num_parts}


def load(state: Mapping[str, object], order: Order, fingerprint: int) -> Position:
    """The place that a state names, for a batch size and a number of parts of one's own.

    Raises:
        StateError: The state is of another data set, seed or order; or was saved in mid-epoch
            without shuffling by another number of parts; or `save` did not make it.
    """
    identity = _identity(order, fingerprint)
    given: object = state  # it may come from any file
    counts: dict[str, int] = {}
    for name in (*identity, *Position._fields, "num_parts"):
        if not isinstance(given, Mapping) or name not in given:
            raise StateError(f"state has no {name!r}: it was not made by state_dict()")
        if name not in identity:
            counts[name] = _count(name, given[name])
        elif given[name] != identity[name]:
            raise StateError(f"state has {name}={given[name]!r}, this iterator {identity[name]!r}")
    start, done = order.resume(counts["start"], counts["done"], counts["num_parts"])
    if not order.length(start, done):
        return Position(counts["epoch"] + 1)
    return Position(counts["epoch"], start, done)


def _identity(order: Order, fingerprint: int) -> dict[str, object]:
    """What must be equal in a state and in the iterator that loads it."""
    return {
        "version": _VERSION,
        "seed": order.seed,
        "shuffle": order.shuffle,
        "records": order.count,
        "dataset": fingerprint,
    }


def _count(name: str, value: object) -> int:
    """A value as an integer that `save` can have written.

    Raises:
        StateError: It is no whole number, or one that is too small or too large.
    """
    try:
        return p.integer(name, value, least=1 if name == "num_parts" else 0, most=_MOST_COUNT)
    except ValueError as error:
        raise StateError(f"state is damaged: {error}") from None
