"""Sources by the names of their files: those of gpuio, and those that users register."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpuio.errors import FormatError
from gpuio.sources.base import RecordSource
from gpuio.storage.paths import PathLike, absolute, is_url, split_paths
from gpuio.storage.shards import find_files


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The files that a source is opened for, and how.

    Attributes:
        paths: The files, from the root of the file system, or URLs.
        index: The .idx files, as `path_imgidx` has them.
        on_error: "raise" refuses a file that is damaged; with any other policy the records that
            are not whole are left out, and `RecordSource.losses` tells of them.
    """

    paths: tuple[str, ...]
    index: tuple[PathLike, ...] = ()
    on_error: str = "raise"


SourceOpener = Callable[[SourceOptions], RecordSource]
"""Opens a source: a class derived from `RecordSource`, or a function."""
_Kind = tuple[str | Callable[[str], bool], SourceOpener]


def register_source(match: str | Callable[[str], bool], opener: SourceOpener) -> None:
    """Let `path_imgrec` of the iterators over .rec files be files of another kind.

        class ZipSource(gpuio.RecordSource):
            def __init__(self, options): ...
            def __len__(self): ...
            def read(self, record): ...  # gpuio.EncodedImage(image, labels, id)
            def where(self, record): ...
            def fingerprint(self): ...

        gpuio.register_source(".zip", ZipSource)
        loader = gpuio.ImageRecordIter("pictures.zip", (3, 224, 224), 256)

    Args:
        match: The suffix of the files, such as ".zip"; or a function that tells by a path whether
            it is such a file or folder. What was registered last is asked first.
        opener: Opens the source of the files that are asked for.

    Raises:
        ValueError: `match` is empty, or `opener` is neither a class nor a function.
    """
    if match == "" or not callable(opener):
        raise ValueError(
            "match must be the suffix of files or a function, and opener a class derived from "
            f"RecordSource or a function, got {match!r} and {opener!r}"
        )
    _openers.insert(0, (match, opener))


def open_source(
    path_imgrec: PathLike | Sequence[PathLike],
    path_imgidx: PathLike | Sequence[PathLike] = "",
    *,
    on_error: str = "raise",
) -> RecordSource:
    """The source that is registered for some files; RecordIO files where none is.

    Args:
        path_imgrec: A file; several joined with ";" or in a list; a pattern, or a folder.
        path_imgidx: The .idx of each .rec, or one for all.
        on_error: See `SourceOptions`.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: A file is not what it should be, or holds no record.
        TypeError: The opener returns no source, or one whose keys are of another type.
        ValueError: The files are of several kinds, or `path_imgidx` is given for no .rec.
    """
    names = [os.fspath(name) for name in split_paths(path_imgrec)]
    index = tuple(split_paths(path_imgidx))
    kinds = {_kind(name) for name in names}
    if len(kinds) > 1:
        raise ValueError(f"path_imgrec must name files of one kind, got {names!r}")
    match, opener = kinds.pop() if kinds else _RECORDIO
    if opener is not _open_recordio:
        if index:
            raise ValueError(f"path_imgidx must not be given for {names[0]}: it is no .rec")
        found = find_files(path_imgrec, match) if isinstance(match, str) else names
        names = [absolute(name) for name in found]
    source = opener(SourceOptions(tuple(names), index, on_error))
    _check(source, names)
    return source


def _check(source: RecordSource, names: Sequence[str]) -> None:
    """Refuse what an opener has made of the files `names`, unless it is a source with records."""
    named = "; ".join(names)
    if not isinstance(source, RecordSource):
        raise TypeError(f"{named}: opened as {type(source).__name__}, which is no RecordSource")
    count, keys = len(source), source.keys
    if not count:
        raise FormatError(f"{named}: no record in it")
    if keys is not None:
        found = np.asarray(keys)
        if found is not keys or found.shape != (count,) or found.dtype != np.int64:
            raise TypeError(
                f"{named}: keys must be an int64 array of shape ({count},), got "
                f"{type(keys).__name__} of {found.dtype} and shape {found.shape}"
            )


def _kind(name: str) -> _Kind:
    """The first registration that takes a path."""
    for match, opener in _openers:
        if name.endswith(match) if isinstance(match, str) else match(name):
            return match, opener
    return _RECORDIO


def _open_recordio(options: SourceOptions) -> RecordSource:
    from gpuio.sources.recordio.source import RecordIOSource

    return RecordIOSource.open(list(options.paths), options.index, on_error=options.on_error)


def _is_image_folder(path: str) -> bool:
    """Whether there is a folder without any .rec in it."""
    if is_url(path) or not os.path.isdir(path):  # noqa: PTH112
        return False
    with os.scandir(path) as entries:
        return not any(entry.name.endswith(".rec") for entry in entries)


def _open_folder(options: SourceOptions) -> RecordSource:
    from gpuio.sources.folder import FolderSource

    if len(options.paths) > 1:
        raise ValueError(f"path_imgrec must name one folder of images, got {options.paths!r}")
    return FolderSource.open(options.paths[0])


_RECORDIO: Final[_Kind] = (".rec", _open_recordio)
_openers: list[_Kind] = [(_is_image_folder, _open_folder)]
