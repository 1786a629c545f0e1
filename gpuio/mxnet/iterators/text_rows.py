"""Text files with a sample in every line: finding the lines, and reading some of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.storage.byte_source import LocalBytes
from gpuio.storage.identity import FileIdentity
from gpuio.storage.paths import PathLike, check_paths, is_url, split_paths
from gpuio.storage.plain_file import open_plain

Ids: TypeAlias = npt.NDArray[np.int64]
T = TypeVar("T")
_Paths: TypeAlias = PathLike | Sequence[PathLike]

_BLOCK: Final = 1 << 24  # bytes looked through at a time
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"  # of UTF-8
_NEWLINE, _HASH = b"\n#"
_BLANKS: Final = tuple(b" \t\r")
EMPTY: Final = re.compile(rb"^[ \t\r]*+\n", re.MULTILINE)


class TextFile(NamedTuple):
    """A file of rows.

    Attributes:
        path: The file.
        identity: Its identity when its rows were found.
        starts: (count + 1,) int64, where its rows begin and the last one ends, in bytes.
        first: The number of its first row.
    """

    path: Path
    identity: FileIdentity
    starts: Ids
    first: int


@dataclass(frozen=True, slots=True, eq=False)
class TextRows:
    """Lines of one or more files, numbered from 0 without those that are empty or blank.

    Attributes:
        files: The files.
        count: The number of rows in all of them.
        gaps: Whether lines between the rows were skipped.
    """

    files: tuple[TextFile, ...]
    count: int
    gaps: bool

    def __len__(self) -> int:
        return self.count

    def __str__(self) -> str:
        return "; ".join(str(file.path) for file in self.files)

    @classmethod
    def open(cls, given: _Paths, *, comments: bool = False) -> TextRows:
        """Find the files, and the rows in them by one pass.

        Args:
            given: A file, several joined with ";" or in a list, or a folder, of which all files
                are taken, sorted by name.
            comments: Skip lines that begin with "#", also after blanks.

        Raises:
            FileNotFoundError: There is no such file.
            FormatError: There is no row.
            ValueError: A file is a URL.
        """
        files, count, gaps = [], 0, False
        for path in map(Path.absolute, _files(given)):
            identity = FileIdentity.of(str(path))
            starts, skipped = _starts(path, comments)
            files.append(TextFile(path, identity, starts, count))
            count, gaps = count + len(starts) - 1, gaps or skipped
        rows = cls(tuple(files), count, gaps)
        if not count:
            raise FormatError(f"{rows}: no row in it")
        return rows

    def read(self, ids: Ids) -> bytes:
        """The rows `ids`, in that order, each with the end of its line; also comments between.

        Raises:
            FormatError: A file was replaced or written to since it was opened.
        """
        runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
        text = b"".join(self._run(int(run[0]), int(run[-1]) + 1) for run in runs)
        return EMPTY.sub(b"", text) if self.gaps else text

    def parse(self, parser: Callable[[bytes, int], T], ids: Ids) -> T:
        """What a parser makes of the rows `ids`.

        Args:
            parser: Takes the text of rows and their number; raises a ValueError that says what is
                wrong with a row that it gets alone.
            ids: (N,) numbers of rows.

        Raises:
            FormatError: The parser refuses a row, or a file has changed.
        """
        text = self.read(ids)
        try:
            return parser(text, len(ids))
        except ValueError as error:
            if len(ids) == 1:
                raise FormatError(f"{self.where(int(ids[0]))}: {error}") from None
            for row in ids:
                self.parse(parser, np.array([row]))
            raise FormatError(f"{self}: {error}") from error

    def _run(self, begin: int, end: int) -> bytes:
        """Rows `begin` to `end`, with the skipped lines between them."""
        parts = []
        for path, identity, starts, first in self.files:
            low, high = max(begin - first, 0), min(end - first, len(starts) - 1)
            if low < high:
                with LocalBytes(path) as file:
                    nbytes = int(starts[high] - starts[low])
                    text = file.pread(nbytes, int(starts[low]))
                    if len(text) == nbytes:
                        file.check_identity(identity)
                if len(text) < nbytes:
                    place = f"{path}: {nbytes} bytes expected at byte {starts[low]}"
                    reason = "the file became shorter since it was opened"
                    raise FormatError(f"{place}, found {len(text)}: {reason}")
                parts.append(text if text.endswith(b"\n") else text + b"\n")
        return b"".join(parts)

    def where(self, row: int) -> str:
        """The file of a row and the number of the row in it, for messages."""
        file = [file for file in self.files if file.first <= row][-1]
        return f"{file.path}: row {row - file.first}"


def _files(given: _Paths) -> list[Path]:
    found = []
    for name in split_paths(given):
        path = Path(name)
        if is_url(name):
            raise ValueError(f"{name}: rows are read from files on disk, not from URLs")
        if path.is_dir():
            children = sorted(
                child for child in path.iterdir() if child.is_file() and child.name[0] != "."
            )
            if not children:
                raise FileNotFoundError(f"{path}: no file in this folder")
            found += children
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file")
    return found


def _starts(path: Path, comments: bool) -> tuple[Ids, bool]:
    """Where the rows of a file begin, and where it ends, in bytes; whether lines are skipped."""
    with os.fdopen(open_plain(path, follow=True), "rb") as file:
        bounds, heads = _lines(file)
        starts, lengths = bounds[:-1], np.diff(bounds)
        skipped = (heads == _NEWLINE) | (lengths == 0)
        for line in np.flatnonzero(np.isin(heads, _BLANKS)):
            file.seek(starts[line])
            text = file.read(lengths[line]).strip()
            skipped[line] = not text or (comments and text.startswith(b"#"))
    if comments:
        skipped |= heads == _HASH
    return np.append(starts[~skipped], bounds[-1]), bool(skipped.any())


def _lines(file: BinaryIO) -> tuple[Ids, npt.NDArray[np.uint8]]:
    """(N + 1,) int64, where the lines of a file begin, and it ends; (N,) uint8, their first bytes.

    The byte order mark of UTF-8 is not part of the first line.
    """
    bounds, heads = [np.zeros(1, np.int64)], [np.zeros(0, np.uint8)]
    size, begins = 0, True  # bytes read; whether a line begins after them
    while block := file.read(_BLOCK):
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == _NEWLINE) + 1
        if not size and block.startswith(_BYTE_ORDER_MARK):
            bounds[0][:] = len(_BYTE_ORDER_MARK)
            heads.append(data[min(len(_BYTE_ORDER_MARK), len(data) - 1) :][:1])
        elif begins:
            heads.append(data[:1])
        bounds.append(ends + size)
        heads.append(data[ends[ends < len(data)]])
        size, begins = size + len(data), data[-1] == _NEWLINE
    if not begins:
        bounds.append(np.array([size]))
    return np.concatenate(bounds), np.concatenate(heads)


def open_rows(
    data: tuple[str, _Paths], label: tuple[str, _Paths | None], *, comments: bool = False
) -> tuple[TextRows, TextRows | None]:
    """The rows of data files, and of label files if there are any.

    Args:
        data: The name of the parameter, and the files as `TextRows.open` takes them.
        label: The same; "", None and MXNet's word for no file, "NULL", are no files.
        comments: Skip lines that begin with "#".

    Raises:
        FileNotFoundError: A file is missing.
        FormatError: There are no rows, or not as many of labels as of data.
    """
    files, label_files = data[1], label[1]
    check_paths(*data, required=True)
    if label_files is None or label_files in ("", "NULL"):
        return TextRows.open(files, comments=comments), None
    check_paths(*label, required=True)
    rows = TextRows.open(files, comments=comments)
    labels = TextRows.open(label_files, comments=comments)
    if len(labels) != len(rows):
        raise FormatError(
            f"{labels}: {len(labels)} rows of labels for {len(rows)} of data in {rows}"
        )
    return rows, labels
