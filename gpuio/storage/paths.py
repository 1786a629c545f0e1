"""Paths that are given as parameters, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gpuio.core import parameters as p
from gpuio.storage.location import Storage, check_path, several


def check_optional(name: str, value: Any) -> None:
    """Refuse what is no single path; "" and None are none."""
    if value is not None and not (isinstance(value, str) and value == ""):
        check_path(name, value)


def check_several(name: str, value: Any, *, needed: bool = False) -> None:
    """Refuse what is neither a path, nor several joined with ";" or in a list.

    Args:
        name: Of the parameter.
        value: What is given for it; "" and None are none.
        needed: Refuse none, too.
    """
    listed = isinstance(value, list | tuple)
    some = value if listed else () if value is None else (value,)
    if not all(isinstance(path, str | os.PathLike) for path in some):
        raise ValueError(f"{name} must be a path, or a list of paths, got {value!r}")
    if listed and not all(os.fspath(path).strip() for path in some):
        raise ValueError(f"{name} must have no empty path in it, got {value!r}")
    if needed and not several(value):
        raise ValueError(f"{name} must be a path, or a list of paths, got {value!r}")


def storage_of(given: Mapping[str, Any]) -> Storage:
    """How files at URLs are opened: `storage_options`, `cache_dir` and `cache_size`."""
    options, size = given["storage_options"], given["cache_size"]
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"storage_options must be a dictionary, got {options!r}")
    size = None if size is None else p.integer("cache_size", size)
    return Storage(options or {}, given["cache_dir"], size)
