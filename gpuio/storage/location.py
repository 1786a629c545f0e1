"""Paths that are URLs: what tells them from files on disk, and what they carry to be opened."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

PathLike = str | os.PathLike[str]

LEAST_CACHE: Final = 1 << 30  # bytes

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")


def is_url(path: object) -> bool:
    """Whether `path` names a file by URL, as in "s3://bucket/train.rec"."""
    return isinstance(path, str) and _URL.match(path) is not None


def absolute(path: str) -> str:
    """`path` from the root of the file system, so that it stays the same file after a `chdir`."""
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100  a URL is no Path


def check_path(name: str, value: object) -> None:
    """Refuse a value that is not a single path.

    Args:
        name: The parameter, for messages.
        value: What is given for it.

    Raises:
        TypeError: `value` is neither a str nor an os.PathLike.
        ValueError: The path is empty, which would mean the current folder.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {value!r}")
    if not os.fspath(value).strip():
        raise ValueError(f"{name} must be a path, got {value!r}")


def several(given: PathLike | Sequence[PathLike] | None) -> list[PathLike]:
    """The paths that are given: one, several joined with ";", or a list; none for "" and None.

    Nothing between two ";", or at the end, is no path: it would mean the current folder.

    Raises:
        ValueError: A path of a list is empty.
    """
    if given is None:
        return []
    if isinstance(given, Location):
        return [given]
    if isinstance(given, str | os.PathLike):
        return [path for path in os.fspath(given).split(";") if path.strip()]
    paths = [*given]
    if not all(os.fspath(path).strip() for path in paths):
        raise ValueError(f"a path must not be empty, got {paths!r}")
    return paths


def absolute_all(given: PathLike | Sequence[PathLike] | None) -> PathLike | list[PathLike]:
    """Paths as iterators take them, each from the root of the file system.

    Args:
        given: A path; several joined with ";" or in a list.
    """
    if isinstance(given, Location):
        return given
    paths: list[PathLike] = [absolute(os.fspath(path)) for path in several(given)]
    return paths


@dataclass(frozen=True, slots=True)
class Storage:
    """How files at URLs are opened.

    Attributes:
        options: Options of the filesystem: credentials, endpoint and so on, as fsspec takes them.
        cache_dir: Folder for copies of what was read; "" for none.
        cache_size: Bytes that may lie there; None for any number.
        seen: Size and version of each file when it was opened first: it must stay the same.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: PathLike = ""
    cache_size: int | None = None
    seen: dict[str, tuple[int, str]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.options, Mapping):
            found = type(self.options).__name__
            raise ValueError(f"storage_options must be a dict, got {found}")  # noqa: TRY004  a wrong value, as for all parameters
        if is_url(self.cache_dir):
            raise ValueError(f"cache_dir must be a folder on disk, got {self.cache_dir}")
        if self.cache_dir:
            object.__setattr__(self, "cache_dir", absolute(os.fspath(self.cache_dir)))
        if self.cache_size is None:
            return
        if not self.cache_dir:
            raise ValueError("cache_size needs a cache_dir")
        if self.cache_size < LEAST_CACHE:
            least = f"{LEAST_CACHE} bytes (1 GiB)"
            raise ValueError(f"cache_size must be at least {least}, got {self.cache_size}")

    def locate(self, given: PathLike | Sequence[PathLike] | None) -> PathLike | list[PathLike]:
        """Paths as iterators take them, where URLs know how they are opened.

        Args:
            given: A path; several joined with ";" or in a list; none for "" and None.
        """
        paths = [self.locate_one(path) for path in several(given)]
        return paths[0] if len(paths) == 1 else paths

    def locate_one(self, path: PathLike) -> PathLike:
        """A path; one that is a URL knows how its file is opened."""
        return Location(path, self) if isinstance(path, str) and is_url(path) else path


class Location(str):
    """A URL that knows how its file is opened; elsewhere it is a str like others.

    Attributes:
        storage: How the file is opened.
    """

    __slots__ = ("storage",)

    storage: Storage

    def __new__(cls, url: str, storage: Storage | None = None) -> Self:
        location = super().__new__(cls, url)
        location.storage = storage or Storage()
        return location

    @classmethod
    def of(cls, path: str) -> Location:
        """`path` itself, or a plain URL that is opened without any options."""
        return path if isinstance(path, Location) else cls(path)

    def at(self, url: str) -> Location:
        """Another URL that is opened in the same way."""
        return Location(url, self.storage)
