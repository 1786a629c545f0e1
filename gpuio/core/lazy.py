"""Names that are imported when they are used, and the error for names that do not exist."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from gpuio.core.extras import explained


def load(module: str, name: str, homes: Mapping[str, str]) -> Any:
    """The attribute `name` of `module`, imported from where it is defined.

    Args:
        module: Name of the module.
        name: Name of the attribute.
        homes: By attribute, where it is defined, as "module" or as "module:attribute".

    Raises:
        AttributeError: There is no such attribute.
        MissingPackageError: A package that it needs is not installed.
    """
    if name not in homes:
        raise missing(module, name)
    home, _, attribute = homes[name].partition(":")
    with explained(f"{module}.{name}"):
        found = import_module(home)
    return getattr(found, attribute) if attribute else found


def missing(module: str, name: str) -> AttributeError:
    """The error for a name that `module` does not have, which MXNet may have had."""
    return AttributeError(
        f"module {module!r} has no attribute {name!r}: gpuio is the data side of MXNet (io, "
        "recordio, image, nd.array), without its networks, symbols and operators",
        name=name,
    )
