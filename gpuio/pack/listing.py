"""Lists of the images under a folder, equal to those of MXNet's im2rec byte for byte.

Source: MXNet 1.9.1, tools/im2rec.py.
"""

from __future__ import annotations

import errno
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from gpuio.formats.image_list import ImageList
from gpuio.storage.location import Location
from gpuio.storage.paths import is_url

EXTENSIONS: Final = (".jpeg", ".jpg", ".png")

_SEED: Final = 100


@dataclass(frozen=True, slots=True)
class Found:
    """The images of a tree.

    Attributes:
        paths: Relative to the root, in the order of their numbers.
        labels: One for each path.
        folders: The folder of each label, relative to the root; empty if not recursive.
    """

    paths: list[str]
    labels: list[int]
    folders: list[str]


def find_images(
    root: str | os.PathLike[str], *, recursive: bool = False, extensions: Iterable[str] = EXTENSIONS
) -> Found:
    """The images under `root`, sorted by name, files before folders.

    Args:
        root: A folder.
        recursive: Also search subfolders, following links, and label images by folder: each folder
            that directly holds images gets the next number. Without it all labels are 0.
        extensions: Extensions of image files, matched without regard to case.

    Raises:
        OSError: A folder cannot be read.
        ValueError: The name of a file cannot stand in a list.
    """
    wanted = {ext.lower() if ext.startswith(".") else f".{ext.lower()}" for ext in extensions}
    separators = set("\t\n\r")
    paths: list[str] = []
    labels: list[int] = []
    folders: list[str] = []
    root = os.fspath(root)
    for folder, names in _walk(root, "", ()) if recursive else _flat(root):
        images = [name for name in names if os.path.splitext(name)[1].lower() in wanted]  # noqa: PTH122
        if images:
            paths += [os.path.join(folder, name) for name in images]  # noqa: PTH118
            labels += [len(folders)] * len(images)
            folders.append(folder or ".")
    for path in paths:
        if path != path.strip() or not separators.isdisjoint(path):
            reason = "a list cannot hold tabs, line ends or outer spaces in a name; rename the file"
            raise ValueError(f"{root}: {path!r}: {reason}")
    return Found(paths, labels, folders if recursive else [])


def make_lists(
    prefix: str | os.PathLike[str],
    found: Found,
    *,
    shuffle: bool = True,
    chunks: int = 1,
    train_ratio: float = 1.0,
    test_ratio: float = 0.0,
) -> dict[str, int]:
    """Write `prefix`.lst, or its parts, and return the names with their numbers of images.

    Args:
        prefix: Path of the lists without `.lst`.
        found: The images, numbered from 0 in their order. Shuffling keeps the numbers.
        shuffle: Shuffle the lines; the same images always come in the same order.
        chunks: Number of lists, `prefix`_0.lst and so on; the last ones may be empty.
        train_ratio: Share of each chunk for training, in [0, 1]. Below 1, a chunk becomes the lists
            _train, _test and _val.
        test_ratio: Share for testing, in [0, 1]. The rest is for validation. If both ratios add up
            to 1, images that are left over by rounding down are in no list.
    """
    if chunks < 1:
        raise ValueError(f"chunks must be at least 1, got {chunks}")
    for name, ratio in (("train_ratio", train_ratio), ("test_ratio", test_ratio)):
        if not 0 <= ratio <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {ratio}")
    order = list(range(len(found.paths)))
    if shuffle:
        random.Random(_SEED).shuffle(order)
    size = -(-len(order) // chunks)
    train, test = int(size * train_ratio), int(size * test_ratio)
    counts = {}
    for number in range(chunks):
        chunk = order[number * size : (number + 1) * size]
        stem = os.fspath(prefix) + (f"_{number}" if chunks > 1 else "")
        if train_ratio == 1.0:
            parts = {".lst": chunk}
        else:
            parts = {"_train.lst": chunk[test : test + train]}
            if test_ratio > 0:
                parts["_test.lst"] = chunk[:test]
            if train_ratio + test_ratio < 1.0:
                parts["_val.lst"] = chunk[test + train :]
        for suffix, ids in parts.items():
            _image_list(found, ids).save(stem + suffix)
            counts[stem + suffix] = len(ids)
    return counts


def find_lists(prefix: str | os.PathLike[str]) -> list[str]:
    """The lists that belong to `prefix`, sorted.

    For a folder with lists, these are all lists in it; otherwise the lists that `make_lists` would
    write. (MXNet's im2rec takes every name that starts with `prefix`: `data` packs `database.lst`.)
    """
    if is_url(prefix):
        return _find_lists_at(os.fspath(prefix))
    prefix = Path(prefix)
    if prefix.is_dir():
        inside = sorted(str(path) for path in prefix.glob("*.lst") if path.is_file())
        if inside:
            return inside
    if prefix.suffix == ".lst" and prefix.is_file():
        return [str(prefix)]
    if not prefix.parent.is_dir():
        return []
    files = (path for path in prefix.parent.iterdir() if path.is_file())
    return sorted(str(path) for path in files if _belongs(path.name, prefix.name))


def _find_lists_at(prefix: str) -> list[str]:
    """`find_lists` for a URL, where the name of a folder ends with a slash."""
    from gpuio.storage.remote.files import find

    folder, _, name = prefix.rpartition("/")
    found = [str(url) for url in find(Location(f"{folder}/"), ".lst")]
    if not name:
        return found
    return [url for url in found if url == prefix or _belongs(url.rpartition("/")[2], name)]


def _belongs(name: str, prefix: str) -> bool:
    """Whether `make_lists` with `prefix` writes lists of that name."""
    return bool(re.fullmatch(rf"{re.escape(prefix)}(_\d+)?(_train|_val|_test)?\.lst", name))


def _image_list(found: Found, ids: list[int]) -> ImageList:
    labels = np.array(found.labels, np.float32)[ids] if ids else np.empty(0, np.float32)
    paths = [found.paths[i] for i in ids]
    return ImageList(np.array(ids, np.int64), labels, np.arange(len(ids) + 1), paths)


def _flat(root: str) -> Iterator[tuple[str, list[str]]]:
    """The folder itself, as "", with the names of its files."""
    with os.scandir(root) as entries:
        yield "", sorted(entry.name for entry in entries if _is(entry.is_file))


def _is(kind: Callable[[], bool]) -> bool:
    """Call `kind`; a link that leads to itself counts as neither file nor folder."""
    try:
        return kind()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _walk(
    root: str, folder: str, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, list[str]]]:
    """`folder` and those in it, relative to `root`, with the names of their files.

    Parents come first. Links back to one of those `above`, by device and inode, are not followed.
    """
    place = os.path.join(root, folder)  # noqa: PTH118  a Path takes ten times as long
    status = os.stat(place)  # noqa: PTH116
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    files, folders = [], []
    with os.scandir(place) as entries:
        for entry in entries:
            if _is(entry.is_dir):
                folders.append(entry.name)
            elif _is(entry.is_file):
                files.append(entry.name)
    yield folder, sorted(files)
    for name in sorted(folders):
        yield from _walk(root, os.path.join(folder, name), (*above, here))  # noqa: PTH118
