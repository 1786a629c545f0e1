"""The index of a .rec: where each record starts.

A .idx is text, one line a record in the order of writing: key TAB offset NEWLINE. Keys are mostly
the image numbers, in any order; offsets are bytes into the .rec.

Ten million lines are read in under a second with NumPy alone: eight digits are one 64-bit word,
and three multiplications turn it into a number, for all lines of a block at once.

Source: MXNet 1.9.1, python/mxnet/recordio.py; parsing eight digits in a word: Johnny Lee, "Fast
numeric string to int" (2016).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.formats.recordio import Damage, scan, verify
from gpuio.storage.atomic import committed
from gpuio.storage.opening import open_file
from gpuio.storage.paths import is_url

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


Int64s = npt.NDArray[np.int64]

LARGEST_KEY: Final = 2**63 - 1

_BLOCK: Final = 256 << 10  # bytes of text at a time: the tables made from it stay in the cache
_PAD: Final = 8  # spare bytes before a block, so that the word ending at any byte can be read
_LINES: Final = 1 << 16  # lines written at a time
_MAX_DIGITS: Final = 18  # any number of so many digits fits an int64
_NEWLINE: Final = ord("\n")
_TAB_NEWLINE: Final = int.from_bytes(b"\t\n", "little")
# By number of digits, the upper bytes of a word: those that belong to a token ending with it.
_MASKS: Final = np.array([(1 << 64) - (1 << (64 - 8 * n)) for n in range(9)], np.uint64)
_FOLDS: Final = [
    (np.uint64(10), np.uint64(8), np.uint64(0x00FF00FF00FF00FF)),
    (np.uint64(100), np.uint64(16), np.uint64(0x0000FFFF0000FFFF)),
    (np.uint64(10000), np.uint64(32), np.uint64(0x00000000FFFFFFFF)),
]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Keys and offsets of the records of a .rec.

    Attributes:
        keys: (N,) int64, in the order of the .idx.
        offsets: (N,) int64, where each record starts, in bytes.
    """

    keys: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.keys.shape != self.offsets.shape or self.keys.ndim != 1:
            found = f"{self.keys.shape} and {self.offsets.shape}"
            raise ValueError(f"keys and offsets must be (N,) arrays of one length, got {found}")

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Index:
        """The index in a .idx file.

        Spaces for the tab, CRLF, blank lines and a missing last newline are accepted.

        Raises:
            FormatError: A line is not two integers.
        """
        with open_file(path) as file:
            return cls(*_parse(file, os.fspath(path)))

    @classmethod
    def scan(cls, path: str | os.PathLike[str]) -> Index:
        """The index of a .rec, found by a scan; keys are 0 to N - 1.

        Raises:
            CorruptRecordError: The .rec is damaged.
        """
        _warn_of_scan(path)
        offsets = scan(path)
        return cls(np.arange(len(offsets)), offsets)

    @classmethod
    def scan_whole(cls, path: str | os.PathLike[str]) -> tuple[Index, list[Damage]]:
        """The index of the readable records of a .rec, found by a scan; and its damage."""
        _warn_of_scan(path)
        offsets, damages = verify(path)
        return cls(np.arange(len(offsets)), offsets), damages

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .idx file; an older one is replaced once the new one is complete."""
        with committed(path) as (partial,), partial.open() as file:
            self.write(file)

    def write(self, file: SupportsWrite[bytes]) -> None:
        """Write the content of a .idx file."""
        rows = np.stack((self.keys, self.offsets), axis=1)
        for start in range(0, len(rows), _LINES):
            block = rows[start : start + _LINES]
            file.write(b"%d\t%d\n" * len(block) % tuple(block.ravel().tolist()))

    def sorted(self) -> Index:
        """The same records in the order in which they lie in the .rec."""
        if (self.offsets[1:] >= self.offsets[:-1]).all():
            return self
        order = np.argsort(self.offsets, kind="stable")
        return Index(self.keys[order], self.offsets[order])


def _warn_of_scan(path: str | os.PathLike[str]) -> None:
    if is_url(path):
        warnings.warn(
            f"{path}: without its .idx all of it is read to find the records; write one with "
            "`gpuio rec2idx` and give it as path_imgidx",
            stacklevel=3,
        )


def _parse(file: BufferedReader, path: str) -> tuple[Int64s, Int64s]:
    # Counting first takes a tenth of the time, and spares a second copy of the arrays.
    bound = sum(int(np.count_nonzero(block[_PAD:] == _NEWLINE)) for block in _blocks(file))
    file.seek(0)
    keys, offsets = np.empty(bound, np.int64), np.empty(bound, np.int64)
    count = line = 0
    for block in _blocks(file):
        pairs = _parse_tidy(block)
        if pairs is None:
            pairs = _parse_untidy(block[_PAD:].tobytes(), path, line)
        stop = count + len(pairs[0])
        keys[count:stop], offsets[count:stop] = pairs
        count = stop
        line += int(np.count_nonzero(block[_PAD:] == _NEWLINE))
    return keys[:count], offsets[:count]


def _blocks(file: BufferedReader) -> Iterator[npt.NDArray[np.uint8]]:
    """A file in blocks of whole lines, each valid until the next and after _PAD idle bytes."""
    buffer = bytearray(_PAD + 2 * _BLOCK)
    view, array = memoryview(buffer), np.frombuffer(buffer, np.uint8)
    stop = _PAD
    while got := file.readinto(view[stop : stop + _BLOCK]):
        stop += got
        end = buffer.rfind(b"\n", _PAD, stop) + 1
        if not end:
            if stop < _PAD + _BLOCK:
                continue
            end = stop  # no index has such a long line, so the parser will raise
        yield array[:end]
        rest = stop - end
        view[_PAD : _PAD + rest] = view[end:stop]
        stop = _PAD + rest
    if stop > _PAD:
        buffer[stop] = _NEWLINE
        yield array[: stop + 1]


def _parse_tidy(block: npt.NDArray[np.uint8]) -> tuple[Int64s, Int64s] | None:
    """Keys and offsets of a block that is digits TAB digits NEWLINE throughout, else None."""
    text = block[_PAD:]
    stops = np.flatnonzero(text < ord("0"))
    if not len(stops) or len(stops) % 2 or (text[stops].view("<u2") != _TAB_NEWLINE).any():
        return None
    lengths = stops - 1
    lengths[0] = stops[0]
    lengths[1:] -= stops[:-1]
    if lengths.min() < 1 or lengths.max() > _MAX_DIGITS:
        return None
    # The eight bytes before any place, as a word.
    words = np.ndarray(len(text), "<u8", block.data, offset=_PAD - 8, strides=(1,))
    keys = _parse_numbers(words, stops[0::2], lengths[0::2])
    offsets = _parse_numbers(words, stops[1::2], lengths[1::2])
    return None if keys is None or offsets is None else (keys, offsets)


def _parse_numbers(words: npt.NDArray[np.uint64], stops: Int64s, lengths: Int64s) -> Int64s | None:
    """(N,) int64, the decimal numbers that end before `stops`; None if there is a non-digit.

    Args:
        words: The eight bytes before each byte of the text.
        stops: (N,) int64, where each number ends in the text.
        lengths: (N,) int64, digits of each number, 1 to 18.
    """
    total = np.zeros(len(stops), np.uint64)
    for done in range(0, int(lengths.max()), 8):
        # Where a number has no more digits the mask is empty, and the place may be any.
        found = words[np.maximum(stops - done, 0)] if done else words[stops]
        value = _parse_words(found, _MASKS.take(lengths - done, mode="clip"))
        if value is None:
            return None
        value *= np.uint64(10**done)
        total += value
    return total.view(np.int64)


def _parse_words(
    words: npt.NDArray[np.uint64], masks: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64] | None:
    """(N,) uint64, the values of eight digits each; None if a byte under the mask is no digit."""
    words ^= np.uint64(0x3030303030303030)
    words &= masks
    carries = words + np.uint64(0x0606060606060606)
    carries |= words
    if np.bitwise_or.reduce(carries) & np.uint64(0xF0F0F0F0F0F0F0F0):
        return None
    # The first digit is the lowest byte: pairs, then fours, then all eight.
    for factor, shift, mask in _FOLDS:
        np.right_shift(words, shift, out=carries)
        words *= factor
        words += carries
        words &= mask
    return words


def _parse_untidy(text: bytes, path: str, line: int) -> tuple[Int64s, Int64s]:
    """Keys and offsets in whole lines that need a closer look; `line` counts those before them."""
    tidied = bytes(_PAD) + text.replace(b"\r\n", b"\n").replace(b" ", b"\t")
    pairs = _parse_tidy(np.frombuffer(tidied, np.uint8))
    if pairs is not None:
        return pairs
    rows = []
    for number, content in enumerate(text.split(b"\n"), line + 1):
        fields = content.split()
        if not fields:
            continue
        try:
            key, offset = map(int, fields)
            np.int64(key), np.int64(offset)
        except (ValueError, OverflowError):
            found = content[:80].decode(errors="backslashreplace")
            reason = f"two integers of 64 bits expected, found {found!r}"
            advice = "make a new index of the .rec with `gpuio rec2idx`"
            raise FormatError(f"{path}: line {number}: {reason}; {advice}") from None
        rows.append((key, offset))
    table = np.array(rows, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
