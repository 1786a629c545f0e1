"""The files of a data set: names, patterns, folders, and sets of numbered shards.

    train-00000-of-00128.rec, train-00001-of-00128.rec, ... train-00127-of-00128.rec

A shard that is missing is an error here, before anything is read. No other module looks up which
files there are, and how large they are.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from gpuio.errors import FormatError
from gpuio.storage.location import Location
from gpuio.storage.paths import PathLike, is_url, split_paths

_SHARD: Final = re.compile(r"(.*)-(\d{5,})-of-(\d{5,})(\.\w+)", re.DOTALL)
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")
_SHOWN: Final = 5  # names in a message


def shard_name(prefix: PathLike, number: int, count: int) -> str:
    """The name of one shard of `count`, without suffix: `prefix`-00003-of-00128."""
    return f"{os.fspath(prefix)}-{number:05d}-of-{count:05d}"


def find_files(given: PathLike | Sequence[PathLike], suffix: str) -> list[str]:
    """The files that names stand for, in that order; those of a folder or pattern sorted by name.

    Args:
        given: A file; several joined with ";", or in a list or tuple; braces, `{00000..00127}` or
            `{train,extra}`, for all the names that they spell; a glob pattern; a folder, for all
            files in it that are not hidden. A file whose own name looks like a pattern is itself.
        suffix: The suffix of the files to take from a folder.

    Raises:
        FileNotFoundError: A file is missing, or a shard from among those of a pattern or folder.
        ValueError: A path of a list is empty.
        FormatError: A pattern or folder has shards of several sets of one name.
    """
    found: list[str] = []
    missing: list[str] = []
    for name in split_paths(given):
        for spelled in _spelled(os.fspath(name)):
            some = _matches(spelled, suffix)
            found += some
            if not some:
                missing.append(spelled)
    if missing or not found:
        raise FileNotFoundError(_missing(missing, len(missing) + len(found), suffix))
    return found


def expand_braces(name: str) -> list[str]:
    """All names that `name` spells, as shells do it: `{a,b}` is each, `{08..10}` counts."""
    for match in _BRACES.finditer(name):
        if words := _choices(match[1]):
            tails = expand_braces(name[match.end() :])
            return [name[: match.start()] + word + tail for word in words for tail in tails]
    return [name]


def beside(path: str, suffix: str) -> str:
    """The name of a file beside another one: that of `path`, with another suffix."""
    name = os.path.splitext(path)[0] + suffix  # noqa: PTH122  a Path would spoil a URL
    return path.at(name) if isinstance(path, Location) else name


def exist(paths: Sequence[str]) -> bool:
    """Whether there are all these files or, on disk, folders; stores are asked about all at once.

    Raises:
        RemoteError: A store cannot be reached, or denies access.
    """
    if not all(Path(path).exists() for path in paths if not is_url(path)):
        return False
    try:
        sizes_of([path for path in paths if is_url(path)])
    except FileNotFoundError:
        return False
    return True


def sizes_of(paths: Sequence[str]) -> list[int]:
    """Bytes in each file; stores are asked about all of them at once.

    Raises:
        FileNotFoundError: A file is missing.
        RemoteError: A store cannot be reached, or denies access.
    """
    urls = [Location.of(path) for path in paths if is_url(path)]
    far: dict[str, int] = {}
    if urls:
        from gpuio.storage.remote.files import sizes

        far.update(zip(urls, sizes(urls), strict=True))
    return [far[path] if is_url(path) else Path(path).stat().st_size for path in paths]


def _spelled(name: str) -> list[str]:
    """The names that braces spell; a file on disk may have braces in its own name."""
    if isinstance(name, Location):
        return [name.at(spelled) for spelled in expand_braces(name)]
    return [name] if not is_url(name) and Path(name).exists() else expand_braces(name)


def _matches(name: str, suffix: str) -> list[str]:
    """The files that one name stands for, none if there is none."""
    if is_url(name):
        from gpuio.storage.remote.files import find

        urls: list[str] = [*find(Location.of(name), suffix)]
        _check_sets(urls, name, "*")
        return urls
    path = Path(name)
    if path.is_dir():
        files = (child for child in path.iterdir() if not child.name.startswith("."))
        found = sorted(str(child) for child in files if child.suffix == suffix)
        _check_sets(found, name, "*")
        return found
    if path.exists():
        return [name]
    found = sorted(glob.glob(name))  # noqa: PTH207  the pattern may be absolute
    _check_sets(found, name, name)
    return found


def _check_sets(found: Iterable[str], name: str, pattern: str) -> None:
    """Check that the files `found` hold all shards of each set that match `pattern`."""
    sets: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for path in found:
        if match := _SHARD.fullmatch(path):
            stem, number, count, suffix = match.groups()
            sets[stem, suffix][count].add(int(number))
    for (stem, suffix), counts in sets.items():
        if len(counts) > 1:
            several = " and ".join(f"{stem}-*-of-{count}{suffix}" for count in sorted(counts))
            raise FormatError(f"{name}: there is more than one set of shards: {several}; name one")
        ((count, numbers),) = counts.items()
        absent = sorted(set(range(int(count))) - numbers)
        missing = [f"{stem}-{n:0{len(count)}d}-of-{count}{suffix}" for n in absent]
        missing = [path for path in missing if fnmatch.fnmatchcase(path, pattern)]
        if missing:
            total = len(numbers) + len(missing)
            raise FileNotFoundError(f"{name}: {_missing(missing, total, suffix)}")


def _missing(missing: list[str], total: int, suffix: str) -> str:
    if not total:
        return f"no {suffix} file is named"
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    shown = ", ".join(missing[:_SHOWN]) + more
    if total == 1:
        if Path(missing[0]).is_dir():
            return f"{shown}: no {suffix} file in this folder"
        return f"{shown}: no such file, and no {suffix} file matches it"
    return f"{shown}: no such file; {len(missing)} of {total} {suffix} files are missing"


def _choices(text: str) -> list[str]:
    """The words that a pair of braces around `text` stands for; none if it is a part of a name."""
    if bounds := _RANGE.fullmatch(text):
        first, last = int(bounds[1]), int(bounds[2])
        padded = any(len(bound) > 1 and bound[0] == "0" for bound in bounds.groups())
        width = max(map(len, bounds.groups())) if padded else 1
        step = 1 if first <= last else -1
        return [f"{number:0{width}d}" for number in range(first, last + step, step)]
    return text.split(",") if "," in text else []
