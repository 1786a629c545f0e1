"""The parameters of ImageRecordIter as options of a command."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, Final

from gpuio.cli import arguments
from gpuio.core.options import description
from gpuio.mxnet.iterators.image_record import ImageRecordIter
from gpuio.mxnet.keywords import keywords_of

PARAMETERS: Final = {
    name: o for name, o in keywords_of(ImageRecordIter).items() if name != "path_imgrec"
}
"""All but the .rec file itself, by name."""
_METAVARS: Final = {
    "int": "INT",
    "Bounded": "INT",
    "float": "FLOAT",
    "Float32": "FLOAT",
    "PathLike": "PATH",
    "tuple[int, int, int]": "C,H,W",
    "tuple[int, ...]": "INT,...",
}
"""What stands for the value of an option, by its type; VALUE for other types."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add FILE, and an option for each parameter, as `--rand-crop`, `--resize 256`."""
    parser.add_argument(
        "file", metavar="FILE", type=arguments.path, help="the .rec; or several, as path_imgrec"
    )
    configure_parameters(parser, PARAMETERS)


def configure_parameters(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add an option for each of some parameters."""
    group = parser.add_argument_group("loader", "Parameters of gpuio.ImageRecordIter.")
    for name in names:
        option = PARAMETERS[name]
        metavar = _METAVARS.get(str(option.type).partition(" |")[0], "VALUE")
        kind: dict[str, Any] = {"metavar": metavar}
        if isinstance(option.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        text = description(option)
        if isinstance(option.default, str | int | float) and option.default != "":
            text += f" (default: {option.default})"
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, default=argparse.SUPPRESS, help=text.replace("%", "%%"), **kind)


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters that were given, by name: true, false, or text for the iterator to parse."""
    given = vars(args)
    return {name: given[name] for name in PARAMETERS if name in given}
