"""The keywords of MXNet's iterators over .rec files, collected from the groups that hold them.

`ImageRecordIter` and `ImageDetRecordIter` read their arguments by these groups. Their docstrings,
the options of `gpuio bench` and `gpuio show` and the page of parameters are made from them.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass
from types import UnionType
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from gpuio.core import parameters as p
from gpuio.core.options import Group, description, option, options, read
from gpuio.mxnet import det_keywords as det
from gpuio.mxnet import image_keywords as image
from gpuio.pipeline.config import (
    LoaderConfig,
    OutputConfig,
    RuntimeConfig,
    SamplingConfig,
    SourceConfig,
)

T = TypeVar("T")
C = TypeVar("C", bound="TakesValues")
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


class Parameter(NamedTuple):
    """A row of the documentation's table of parameters."""

    section: str
    name: str
    type: str
    default: str
    help: str
    iterators: tuple[str, ...]


@functools.cache
def options_of(iterator: str) -> Mapping[str, Field[Any]]:
    """The fields that are keywords of an iterator, by name.

    Args:
        iterator: `IMAGE` or `DET`.
    """
    return {option.name: option for group in GROUPS[iterator] for option in options(group)}


def parameter_table() -> list[Parameter]:
    """All keywords of both iterators, by section.

    A keyword with another default or meaning in each iterator has two rows.
    """
    found: dict[Parameter, tuple[str, ...]] = {}
    for iterator, groups in GROUPS.items():
        for group in groups:
            types = {name: _type_text(hint) for name, hint in get_type_hints(group).items()}
            for o in options(group):
                default = "required" if o.default is MISSING else repr(o.default)
                row = Parameter(group.section, o.name, types[o.name], default, description(o), ())
                found[row] = (*found.get(row, ()), iterator)
    rows = [row._replace(iterators=iterators) for row, iterators in found.items()]
    sections = list(dict.fromkeys(row.section for row in rows))
    return sorted(rows, key=lambda row: sections.index(row.section))


def _type_text(hint: Any) -> str:
    """A type as the documentation shows it: "int", "str or None", "'pad' or 'short'"."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, parts))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_type_text, parts)).replace("NoneType", "None")
    return str(hint) if get_origin(hint) is tuple else getattr(hint, "__name__", str(hint))


class Values(dict[str, Any]):
    """The arguments of an iterator by keyword, each in its type."""

    @classmethod
    def read(cls, iterator: str, arguments: Mapping[str, Any]) -> Self:
        """The arguments of a call in their types, and the defaults of those left out.

        Args:
            iterator: `IMAGE` or `DET`.
            arguments: By keyword, as the user gave them.

        Raises:
            ValueError: A value is not of the keyword's type.
        """
        keywords = options_of(iterator)
        given = {name: o.default for name, o in keywords.items() if o.default is not MISSING}
        given.update(arguments)
        return cls((name, read(keywords[name], value)) for name, value in given.items())

    def group(self, group: type[T]) -> T:
        """A group of options, made of the values of its keywords."""
        return group(**{field.name: self[field.name] for field in options(group)})

    def config(self) -> LoaderConfig:
        """The options that are not about labels and augmentation."""
        return LoaderConfig(
            self.group(SourceConfig),
            self.group(SamplingConfig),
            self.group(OutputConfig),
            self.group(RuntimeConfig),
        )


class TakesValues(Protocol):
    """An iterator that is made of `Values`, with the type that its batches have by default."""

    default_dtype: ClassVar[str]

    def _open(self, values: Values) -> None: ...


def takes_keywords(iterator: str) -> Callable[[type[C]], type[C]]:
    """Make a class read its arguments by the groups of an iterator, and document them.

    The class declares its signature in an `__init__` without statements. A call is checked against
    this signature, its arguments are read, and the `Values` go to the method `_open`.

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
            self._open(Values.read(iterator, given))

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
