"""Paths that are given as parameters, checked."""

from __future__ import annotations

import os
from typing import Any

from gpuio.storage.location import check_path, several


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
