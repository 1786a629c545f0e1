"""The keywords of MXNet's iterators over .rec files, collected from the groups that hold them.

`ImageRecordIter` and `ImageDetRecordIter` read their arguments by these groups. Their docstrings,
the options of `gpuio bench` and `gpuio show` and the page of parameters are made from them.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Final, Protocol, TypeVar

from gpuio.core import parameters as p
from gpuio.core.options import Group, description, make, option, options
from gpuio.mxnet import det_keywords as det
from gpuio.mxnet import image_keywords as image
from gpuio.pipeline.config import (
    LoaderConfig,
    OutputConfig,
    RuntimeConfig,
    SourceConfig,
)
from gpuio.samplers import SamplingConfig

C = TypeVar("C", bound="TakesKeywords")
IMAGE: Final = "ImageRecordIter"
DET: Final = "ImageDetRecordIter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """Keywords of MXNet's scripts that do nothing here."""

    section: ClassVar[str] = "Accepted without effect"
    shuffle_chunk_size: object = option(0, "Without effect: all records are shuffled.")
    shuffle_chunk_seed: object = option(0, "Without effect: see `seed`.")
    ctx: object = option("gpu", "Without effect: see `device`.")
    device_id: object = option(0, "Without effect: see `device`.")
    verbose: object = option(True, "Without effect.")


_LOADING: Final = (SamplingConfig, OutputConfig, RuntimeConfig)
GROUPS: Final[Mapping[str, tuple[type[Group], ...]]] = {
    IMAGE: (
        SourceConfig, image.ImageLabels, image.MaskOptions, *_LOADING,
        image.ImageGeometry, image.ImageColor, image.ImageNormalization, Ignored,
    ),
    DET: (
        SourceConfig, det.DetLabels, *_LOADING,
        det.DetGeometry, det.DetColor, det.DetNormalization, Ignored,
    ),
}  # fmt: skip
"""The groups that hold the keywords of each iterator."""


@functools.cache
def options_of(iterator: str) -> Mapping[str, Field[Any]]:
    """The fields that are keywords of an iterator, by name.

    Args:
        iterator: `IMAGE` or `DET`.
    """
    return {option.name: option for group in GROUPS[iterator] for option in options(group)}


def loader_config(given: Mapping[str, Any]) -> LoaderConfig:
    """The options that are not about labels and augmentation, of an iterator's arguments."""
    return LoaderConfig(
        make(SourceConfig, **given),
        make(SamplingConfig, **given),
        make(OutputConfig, **given),
        make(RuntimeConfig, **given),
    )


class TakesKeywords(Protocol):
    """An iterator that is made of keywords, with the type that its batches have by default."""

    default_dtype: ClassVar[str]

    def _open(self, given: Mapping[str, Any]) -> None: ...


def takes_keywords(iterator: str) -> Callable[[type[C]], type[C]]:
    """Make a class check its arguments against its signature, and document them by the groups.

    The class declares its signature in an `__init__` without statements. The arguments of a call
    go to the method `_open` by keyword, as they were given.

    Args:
        iterator: `IMAGE` or `DET`.
    """

    def decorate(cls: type[C]) -> type[C]:
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
        cls.__init__ = p.suggest(reading)  # type: ignore[method-assign]
        if cls.__doc__ is not None:
            before, mark, after = cls.__doc__.partition("    Attributes:")
            cls.__doc__ = f"{before}    Args:\n{_described(iterator)}\n\n{mark}{after}"
        return cls

    return decorate


def _described(iterator: str) -> str:
    """The lines of a docstring that describe the arguments."""
    fill = textwrap.TextWrapper(100, initial_indent=" " * 8, subsequent_indent=" " * 12).fill
    return "\n".join(fill(f"{o.name}: {description(o)}") for o in options_of(iterator).values())
