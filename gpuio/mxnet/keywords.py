"""The keywords of MXNet's iterators over .rec files, from the groups of options that hold them.

`ImageRecordIter` and `ImageDetRecordIter` name their groups. Their docstrings, the options of
`gpuio bench` and `gpuio show` and the page of parameters are made from these.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from gpuio.core.options import Group, description, make, option, options
from gpuio.core.signatures import suggest
from gpuio.pipeline.config import (
    LoaderConfig,
    OutputConfig,
    RuntimeConfig,
    SourceConfig,
)
from gpuio.samplers import SamplingConfig

C = TypeVar("C", bound="TakesKeywords")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """Keywords of MXNet's scripts that do nothing here."""

    section: ClassVar[str] = "Accepted without effect"
    shuffle_chunk_size: object = option(0, "Without effect: all records are shuffled.")
    shuffle_chunk_seed: object = option(0, "Without effect: see `seed`.")
    ctx: object = option("gpu", "Without effect: see `device`.")
    device_id: object = option(0, "Without effect: see `device`.")
    verbose: object = option(True, "Without effect.")


def loader_config(given: Mapping[str, Any]) -> LoaderConfig:
    """The options that are not about labels and augmentation, of an iterator's arguments."""
    return LoaderConfig(
        make(SourceConfig, **given),
        make(SamplingConfig, **given),
        make(OutputConfig, **given),
        make(RuntimeConfig, **given),
    )


class TakesKeywords(Protocol):
    """An iterator that is made of keywords.

    Attributes:
        groups: The groups of options that hold the keywords, in the order of the documentation.
        default_dtype: The type of its batches if none is given.
    """

    groups: ClassVar[tuple[type[Group], ...]]
    default_dtype: ClassVar[str]

    def _open(self, given: Mapping[str, Any]) -> None: ...


def keywords_of(iterator: type[TakesKeywords]) -> dict[str, Field[Any]]:
    """The options that are keywords of an iterator, by name."""
    return {option.name: option for group in iterator.groups for option in options(group)}


def takes_keywords(*groups: type[Group]) -> Callable[[type[C]], type[C]]:
    """Make a class check its arguments against its signature, and document them by groups.

    The class declares its signature in an `__init__` without statements. The arguments of a call
    go to the method `_open` by keyword, as they were given.
    """

    def decorate(cls: type[C]) -> type[C]:
        cls.groups = groups
        declared: Callable[..., None] = cls.__init__
        signature = inspect.signature(declared)

        def init(self: C, *args: Any, **kwargs: Any) -> None:
            declared(self, *args, **kwargs)  # raises Python's own TypeError for a wrong call
            given = signature.bind(self, *args, **kwargs).arguments
            del given["self"]
            if given.get("dtype") is None:
                given["dtype"] = self.default_dtype
            self._open(given)

        reading: Callable[..., None] = functools.update_wrapper(init, declared)
        cls.__init__ = suggest(reading)  # type: ignore[method-assign]
        if cls.__doc__ is not None:
            fill = textwrap.TextWrapper(
                100, initial_indent=" " * 8, subsequent_indent=" " * 12
            ).fill
            lines = [fill(f"{o.name}: {description(o)}") for o in keywords_of(cls).values()]
            before, mark, after = cls.__doc__.partition("    Attributes:")
            cls.__doc__ = "\n".join([f"{before}    Args:", *lines, "", f"{mark}{after}"])
        return cls

    return decorate
