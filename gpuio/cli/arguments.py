"""Types of arguments of commands."""

from __future__ import annotations

from argparse import ArgumentTypeError

from gpuio.storage.paths import is_blank


def path(text: str) -> str:
    """A path.

    Raises:
        ArgumentTypeError: The path is blank.
    """
    if is_blank(text):
        raise ArgumentTypeError(f"must be a path, got {text!r}")
    return text
