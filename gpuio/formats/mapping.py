"""The index of a .rec as mxnet.recordio's list and dict, in a tenth of their memory."""

from __future__ import annotations

import operator
from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableSequence, ValuesView
from functools import cached_property, partial
from typing import Any, overload

import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 16  # entries turned into Python numbers at a time


class KeyList(MutableSequence[int]):
    """A list of keys, stored as an array until it is changed."""

    __slots__ = ("_list", "_values")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: npt.NDArray[np.int64]) -> None:
        self._values = values
        self._list: list[int] | None = None

    def __len__(self) -> int:
        return len(self._values if self._list is None else self._list)

    @overload
    def __getitem__(self, position: int) -> int: ...
    @overload
    def __getitem__(self, position: slice) -> list[int]: ...
    def __getitem__(self, position: int | slice) -> int | list[int]:
        if self._list is not None:
            return self._list[position]
        found = self._values[position if isinstance(position, slice) else operator.index(position)]
        plain: int | list[int] = found.tolist()
        return plain

    def __setitem__(self, position: int | slice, value: Any) -> None:
        self._own()[position] = value

    def __delitem__(self, position: int | slice) -> None:
        del self._own()[position]

    def insert(self, index: int, value: int) -> None:
        self._own().insert(index, value)

    def __iter__(self) -> Iterator[int]:
        return numbers(self._values) if self._list is None else iter(self._list)

    def __contains__(self, key: object) -> bool:
        return bool((self._values == key).any()) if self._list is None else key in self._list

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, KeyList)):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        # Always a copy: the index must not change with it.
        return np.array(self._values if self._list is None else self._list, dtype)

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self[:5]))
        return f"[{shown}, ...] ({len(self)} keys)" if len(self) > 5 else f"[{shown}]"

    def _own(self) -> list[int]:
        if self._list is None:
            self._list = self._values.tolist()
        return self._list


class KeyOffsets(Mapping[int, int]):
    """A read-only dict from key to offset, stored as two arrays."""

    def __init__(self, keys: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> None:
        self._keys = keys
        self._offsets = offsets

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyOffsets, (self._keys, self._offsets)

    def __getitem__(self, key: Any) -> int:
        try:
            number = int(key)
        except (TypeError, ValueError, OverflowError):
            raise KeyError(key) from None
        line = self._lines[1](number) if number == key else -1
        if line < 0:
            raise KeyError(key)
        return int(self._offsets[line])

    def __len__(self) -> int:
        return self._lines[0]

    def __iter__(self) -> Iterator[int]:
        return numbers(self._unique()[0])

    def items(self) -> ItemsView[int, int]:
        return _Items(self)

    def values(self) -> ValuesView[int]:
        return _Values(self)

    def copy(self) -> dict[int, int]:
        """A dict with the same items."""
        return dict(self.items())

    def __repr__(self) -> str:
        pairs = zip(self._keys[:5].tolist(), self._offsets[:5].tolist(), strict=True)
        shown = ", ".join(f"{key}: {offset}" for key, offset in pairs)
        return f"{{{shown}, ...}} ({len(self)} keys)" if len(self._keys) > 5 else f"{{{shown}}}"

    @cached_property
    def _lines(self) -> tuple[int, Callable[[int], int]]:
        """The number of keys, and the function from a key to its last line, or -1."""
        return _finder(self._keys)

    def _unique(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Distinct keys and offsets, as in a dict: in order of first place, with last value."""
        if len(self) == len(self._keys):
            return self._keys, self._offsets
        keys, first = np.unique(self._keys, return_index=True)
        _, last = np.unique(self._keys[::-1], return_index=True)
        order = np.argsort(first)
        return keys[order], self._offsets[::-1][last][order]


def _finder(keys: npt.NDArray[np.int64]) -> tuple[int, Callable[[int], int]]:
    """The number of distinct keys, and a function from a key to its last line, or -1."""
    count = len(keys)
    if (keys[1:] > keys[:-1]).all():
        return count, partial(_search, keys)  # sorted already, as in most files
    first, last = int(keys.min()), int(keys.max())
    if last - first < 4 * count:
        # Shuffled numbers: a table takes a tenth of the time of sorting them. Of a repeated key
        # the last line stays in it.
        lines = np.arange(count, dtype=np.int32 if count < 1 << 31 else np.int64)
        table = np.full(last - first + 1, -1, lines.dtype)
        table[keys - first if first else keys] = lines
        return int(np.count_nonzero(table != -1)), partial(_look_up, table, first)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    repeated = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
    return count - repeated, partial(_search, ordered, order=order)


def _look_up(table: npt.NDArray[Any], first: int, key: int) -> int:
    return int(table[key - first]) if 0 <= key - first < len(table) else -1


def _search(
    ordered: npt.NDArray[np.int64], key: int, *, order: npt.NDArray[np.int64] | None = None
) -> int:
    if not len(ordered) or not ordered[0] <= key <= ordered[-1]:
        return -1
    place = int(np.searchsorted(ordered, key, side="right")) - 1
    if ordered[place] != key:
        return -1
    return place if order is None else int(order[place])


class _Items(ItemsView[int, int]):
    _mapping: KeyOffsets

    def __iter__(self) -> Iterator[tuple[int, int]]:
        keys, offsets = self._mapping._unique()
        return zip(numbers(keys), numbers(offsets), strict=True)


class _Values(ValuesView[int]):
    _mapping: KeyOffsets

    def __iter__(self) -> Iterator[int]:
        return numbers(self._mapping._unique()[1])


def numbers(values: npt.NDArray[np.int64]) -> Iterator[int]:
    """The numbers of an array as Python ints, without a list of all of them."""
    for start in range(0, len(values), _CHUNK):
        yield from values[start : start + _CHUNK].tolist()
