"""Types of arguments of commands."""

from __future__ import annotations

from argparse import ArgumentTypeError


def path(text: str) -> str:
    """A path; one that is empty, as of an unset variable, would mean the current folder."""
    if not text.strip():
        raise ArgumentTypeError(f"must be a path, got {text!r}")
    return text
