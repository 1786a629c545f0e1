"""URLs that know how their files are opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from gpuio.storage.paths import PathLike, absolute, is_url, split_paths

_LEAST_CACHE: Final = 1 << 30  # bytes


@dataclass(frozen=True, slots=True)
class Storage:
    """How files at URLs are opened.

    Attributes:
        options: Options of the filesystem, such as credentials and endpoint, as fsspec takes them.
        cache_dir: Folder for copies of what was read; "" for none.
        cache_size: Bytes that the copies may take; None for no limit.
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
        if self.cache_size < _LEAST_CACHE:
            least = f"{_LEAST_CACHE} bytes (1 GiB)"
            raise ValueError(f"cache_size must be at least {least}, got {self.cache_size}")

    def locate(self, given: PathLike | Sequence[PathLike] | None) -> list[PathLike]:
        """Paths as `split_paths` gives them, where URLs know how their files are opened."""
        return [self.locate_one(path) for path in split_paths(given)]

    def locate_one(self, path: PathLike) -> PathLike:
        """A path; a URL knows how its file is opened."""
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
