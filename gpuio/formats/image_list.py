"""Image lists: .lst files, from which im2rec packs and which can give a .rec new labels.

    index TAB label [TAB label ...] TAB relative/path NEWLINE

The index is an integer and becomes the id of the record; labels are floats; lines may carry
different numbers of labels.

Source: MXNet 1.9.1, tools/im2rec.py and src/io/iter_image_recordio_2.cc.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import RawIOBase, TextIOWrapper
from itertools import islice
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.formats.image_record import EXACT, rounded_whole, rounding
from gpuio.storage.atomic import committed
from gpuio.storage.opening import open_file

_LINES: Final = 1 << 16  # lines turned into numbers at a time


@dataclass(frozen=True, slots=True, eq=False)
class ImageList:
    """The lines of a .lst.

    Attributes:
        ids: (N,) int64.
        values: (M,) float32, the labels of all lines, one line after the other.
        starts: (N + 1,) int64, line i has `values[starts[i] : starts[i + 1]]`.
        paths: N paths, relative to the root of the image tree.
    """

    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    paths: Sequence[str]

    def __post_init__(self) -> None:
        count = len(self.paths)
        if self.ids.shape != (count,) or self.starts.shape != (count + 1,):
            found = f"{len(self.ids)} ids, {len(self.starts)} starts"
            raise ValueError(f"{count} paths take as many ids and one more start, got {found}")

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ImageList:
        """The list in a .lst file; blank lines are skipped.

        Raises:
            FormatError: A line has fewer than three fields, its index is no integer, or a label is
                no number or a whole one that float32 cannot hold.
        """
        ids = [np.empty(0, np.int64)]
        values = [np.empty(0, np.float32)]
        widths = [np.zeros(1, np.int64)]
        paths: list[str] = []
        layout = _Layout("index, labels and path separated by tabs", 3, _split_at_tabs, float)
        for rows, some, labels in layout.parse(os.fspath(path)):
            ids.append(some)
            values.append(labels)
            widths.append(np.array([len(row) - 2 for row in rows], np.int64))
            paths += [row[-1].strip() for row in rows]
        starts = np.cumsum(np.concatenate(widths))
        return cls(np.concatenate(ids), np.concatenate(values), starts, paths)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .lst file as im2rec does; an older one is replaced once the new one is complete.

        A label is written with six decimals where they are enough to give the same float32.
        """
        texts = _texts(self.values)
        starts = self.starts.tolist()
        with committed(path) as (partial,), _text(partial.open()) as file:
            file.writelines(
                "\t".join((str(number), *texts[start:stop], name)) + "\n"
                for number, start, stop, name in zip(
                    self.ids.tolist(), starts[:-1], starts[1:], self.paths, strict=True
                )
            )

    def part(self, start: int, stop: int) -> ImageList:
        """Lines `start` to `stop`, without the last."""
        starts = self.starts[start : stop + 1]
        values = self.values[starts[0] : starts[-1]]
        return ImageList(self.ids[start:stop], values, starts - starts[0], self.paths[start:stop])

    @property
    def widths(self) -> npt.NDArray[np.int64]:
        """(N,) int64, how many labels each line has."""
        return np.diff(self.starts)

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """(N, W) float32; lines with fewer than W labels, the most there are, end in NaN."""
        widths = self.widths
        width = int(widths.max(initial=0))
        if (widths == width).all():
            return self.values.reshape(len(self), width)
        table = np.full((len(self), width), np.nan, np.float32)
        table[np.arange(width) < widths[:, None]] = self.values
        return table


def load_labels(
    path: str | os.PathLike[str], label_width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Ids, (N,) int64, and labels, (N, label_width) float32, for relabelling a .rec.

    Any white space separates fields; text after the labels is ignored. An id may be repeated with
    the same labels. Different labels for one id, and a label that is not a number, are errors;
    MXNet takes the last of several lines, and reads the words of a file name as labels of 0.

    Raises:
        FormatError: A line ends before its labels do, one of them is no number or a whole one that
            float32 cannot hold, or an id has different labels on two lines.
    """
    if label_width < 1:
        raise ValueError(f"label_width must be at least 1, got {label_width}")
    path = os.fspath(path)
    columns = [np.empty(0, np.int64)]
    tables = [np.empty((0, label_width), np.float32)]

    def split(line: str) -> list[str]:
        return [*line.split(maxsplit=label_width + 1)[: label_width + 1], ""]

    layout = _Layout(f"index and {label_width} labels", label_width + 2, split, _number)
    for _, some, values in layout.parse(path):
        columns.append(some)
        tables.append(values.reshape(-1, label_width))
    ids, labels = np.concatenate(columns), np.concatenate(tables)
    keep = check_repeated(path, ids, labels, "labels")
    return ids[keep], labels[keep]


def first_lines(
    ids: npt.NDArray[np.int64], rows: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], tuple[int, int] | None]:
    """The first line of each id, ascending; and two lines of one id whose rows differ, or None.

    Args:
        ids: (N,) int64 ids.
        rows: (N,) or (N, W) values of the lines; NaN equals NaN.
    """
    different, first = np.unique(ids, return_index=True)
    if len(first) == len(ids):
        return np.arange(len(ids)), None
    before = first[np.searchsorted(different, ids)]
    same = rows == rows[before]
    if rows.dtype.kind == "f":
        same |= np.isnan(rows) & np.isnan(rows[before])
    wrong = np.flatnonzero(~same.reshape(len(ids), -1).all(axis=1))
    clash = (int(before[wrong[0]]), int(wrong[0])) if len(wrong) else None
    return np.sort(first), clash


def check_repeated(
    path: str, ids: npt.NDArray[np.int64], rows: npt.NDArray[Any], what: str
) -> npt.NDArray[np.int64]:
    """The first line of each id, ascending.

    Args:
        path: The .lst.
        ids: (N,) int64, the id of each line that is not blank.
        rows: (N,) or (N, W) values of these lines.
        what: A name for the values, such as "labels".

    Raises:
        FormatError: An id has different values on two lines.
    """
    keep, clash = first_lines(ids, rows)
    if clash is None:
        return keep
    places = [i for lines in _batches(path) for i, _ in lines]
    first, second = (places[line] for line in clash)
    raise FormatError(
        f"{path}: lines {first} and {second}: both have id {ids[clash[0]]}, with different {what}; "
        "give each line an id of its own"
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the lines of a list are read.

    Attributes:
        expected: What a line has, for messages.
        least: Fields that a line has at least.
        split: The fields of a line: the index, the labels, and one more.
        number: The label that a text stands for.
    """

    expected: str
    least: int
    split: Callable[[str], list[str]]
    number: Callable[[str], float]

    def parse(
        self, path: str
    ) -> Iterator[tuple[list[list[str]], npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Fields, (n,) ids and the labels of all lines, many lines at a time.

        Raises:
            FormatError: A line has not the fields that are expected.
        """
        for lines in _batches(path):
            rows = [self.split(line) for _, line in lines]
            try:
                # A comprehension for each column takes half the time of one loop over lines.
                ids = np.array([int(row[0]) for row in rows], np.int64)
                labels = _labels([x for row in rows for x in row[1:-1]], self.number)
            except (ValueError, OverflowError):
                raise self._bad_line(path, lines) from None
            if min(map(len, rows)) < self.least:
                raise self._bad_line(path, lines)
            yield rows, ids, labels

    def _bad_line(self, path: str, lines: list[tuple[int, str]]) -> FormatError:
        """The error for the first of `lines` that cannot be read."""
        number, fault = next((i, fault) for i, line in lines if (fault := self._fault(line)))
        return FormatError(f"{path}: line {number}: {fault}")

    def _fault(self, line: str) -> str | None:
        """What is wrong with a line."""
        index, *labels = self.split(line)[:-1] or [""]
        if len(labels) + 2 < self.least:
            return f"{self.expected} expected, found {_shown(line)}"
        try:
            np.int64(int(index))
        except (ValueError, OverflowError):
            return f"index must be a 64-bit integer, found {_shown(index)}"
        for place, label in enumerate(labels, 1):
            try:
                number = _exact(label, self.number(label))
            except (ValueError, OverflowError):  # the hexadecimal number 0x1p99999
                return f"label {place} of {len(labels)} must be a number, found {_shown(label)}"
            if rounded_whole(number) is not None:
                return rounding(number[0])
        return None


def _split_at_tabs(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _text(file: IO[bytes] | RawIOBase) -> TextIOWrapper:
    # Names of files are bytes: those that are not UTF-8 are kept unchanged.
    return TextIOWrapper(file, newline="\n", encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]


def _batches(path: str) -> Iterator[list[tuple[int, str]]]:
    """The lines that are not blank, each with its number, many at a time."""
    with _text(open_file(path)) as file:
        lines = ((i, line) for i, line in enumerate(file, 1) if not line.isspace())
        while batch := list(islice(lines, _LINES)):
            yield batch


def _float32(values: list[float]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # to infinity, as a C cast does
        return np.array(values, np.float64).astype(np.float32)


def _labels(texts: list[str], parse: Callable[[str], float]) -> npt.NDArray[np.float32]:
    """Labels as they are stored.

    Raises:
        ValueError: A label is not a number, or a whole one that float32 cannot hold.
    """
    values = [parse(text) for text in texts]
    for place in np.flatnonzero(np.abs(np.array(values)) > EXACT).tolist():
        if rounded_whole(_exact(texts[place], values[place])) is not None:
            raise ValueError
    return _float32(values)


def _exact(text: str, value: float) -> npt.NDArray[Any]:
    """(1,) the integer in `text`, which float64 may not hold; `value` if it is not an integer."""
    with suppress(ValueError):
        return np.array([int(text)], object)
    return np.array([value])


def _number(text: str) -> float:
    """A float as C's strtod reads it: decimal or hexadecimal."""
    with suppress(ValueError):
        return float(text)
    return float.fromhex(text)


def _texts(values: npt.NDArray[np.float32]) -> list[str]:
    """Each label as text that reads back as the same float32."""
    texts = [f"{x:f}" for x in values.tolist()]
    same = _float32([float(text) for text in texts]) == values
    for i in np.flatnonzero(~same).tolist():
        texts[i] = str(values[i])
    return texts


def _shown(text: str) -> str:
    return ascii(text.strip()[:80])
