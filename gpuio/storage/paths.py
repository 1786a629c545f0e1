"""Paths and URLs as users give them: what counts as a path, checked in this one place."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

PathLike = str | os.PathLike[str]

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")


def is_url(path: object) -> bool:
    """Whether `path` names a file by URL, as in "s3://bucket/train.rec"."""
    return isinstance(path, str) and _URL.match(path) is not None


def is_blank(path: PathLike) -> bool:
    """Whether a path is empty, as that of an unset variable, which would mean this folder."""
    return not os.fspath(path).strip()


def absolute(path: str) -> str:
    """`path` from the root of the file system, so that it stays the same file after a `chdir`."""
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100  a URL is no Path


def split_paths(given: PathLike | Sequence[PathLike] | None) -> list[PathLike]:
    """One path, several joined with ";", or a list, as a list; no path for "" and None.

    A blank between two ";", or at the end, is no path.

    Raises:
        ValueError: A path of a list is empty.
    """
    if given is None:
        return []
    if isinstance(given, str | os.PathLike):
        if ";" in os.fspath(given):
            return [path for path in os.fspath(given).split(";") if path.strip()]
        return [] if is_blank(given) else [given]
    paths = [*given]
    if any(map(is_blank, paths)):
        raise ValueError(f"a path must not be empty, got {paths!r}")
    return paths


def absolute_paths(given: PathLike | Sequence[PathLike] | None) -> list[PathLike]:
    """The paths that `split_paths` gives, each from the root of the file system."""
    return [absolute(os.fspath(path)) for path in split_paths(given)]


def check_path(name: str, value: object) -> None:
    """Refuse a value that is not a single path.

    Args:
        name: The parameter, for messages.
        value: The value given for it.

    Raises:
        TypeError: `value` is neither a str nor an os.PathLike.
        ValueError: The path is empty, or has a NUL in it.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {value!r}")
    if is_blank(value) or "\0" in os.fspath(value):
        raise ValueError(f"{name} must be a path, got {value!r}")


def check_optional_path(name: str, value: object) -> None:
    """Refuse a value that is neither a single path nor "" or None: see `check_path`."""
    if value is not None and not (isinstance(value, str) and value == ""):
        check_path(name, value)


def check_paths(name: str, value: object, *, required: bool = False, blanks: bool = True) -> None:
    """Refuse a value that is neither a path, nor several joined with ";" or in a list.

    Args:
        name: The parameter, for messages.
        value: The value given for it; "" and None are no path.
        required: Refuse no path, too.
        blanks: Whether a blank may stand between two ";".

    Raises:
        ValueError: `value` is refused.
    """
    listed = isinstance(value, list | tuple)
    given: Sequence[object] = value if isinstance(value, list | tuple) else (value,)
    given = () if value is None else given
    paths = [path for path in given if isinstance(path, str | os.PathLike)]
    if len(paths) < len(given):
        raise ValueError(f"{name} must be a path, or a list of paths, got {value!r}")
    if isinstance(value, str) and value and not blanks:
        listed, paths = True, [*value.split(";")]
    if listed and any(map(is_blank, paths)):
        raise ValueError(f"{name} must have no empty path in it, got {value!r}")
    if required and not any(map(split_paths, paths)):
        raise ValueError(f"{name} must be a path, or a list of paths, got {value!r}")
