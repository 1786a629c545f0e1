"""Signatures: calls with unknown keywords suggest known ones, and keywords passed on are shown."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from gpuio.core.suggestions import suggestion

P = ParamSpec("P")
R = TypeVar("R")


def suggest(function: Callable[P, R]) -> Callable[P, R]:
    """Let a call with an unknown keyword raise a TypeError that suggests a known one."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        unknown = [name for name in kwargs if name not in signature.parameters]
        if unknown:
            owner = function.__qualname__.removesuffix(".__init__")
            known = [name for name in signature.parameters if name != "self"]
            hints = [f"{name!r}{suggestion(name, known)}" for name in unknown]
            raise TypeError("\n".join(f"{owner} has no parameter {hint}" for hint in hints))
        return function(*args, **kwargs)

    return checked


def with_keywords_of(maker: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Show the parameters of `maker`, but its first one, in the place of `**options`."""
    options = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(inspect.signature(maker).parameters.values())[1:]
    ]

    def shown(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [q for q in signature.parameters.values() if q.kind is not q.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=own + options)  # type: ignore[attr-defined]
        return function

    return shown
