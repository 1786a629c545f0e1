"""The parameters of ImageRecordIter as options of a command."""

from __future__ import annotations

import argparse
from typing import Any, Final

from gpuio.cli import arguments
from gpuio.mxnet.keywords import IMAGE, keywords_of

PARAMETERS: Final = [row for row in keywords_of(IMAGE).values() if row.name != "path_imgrec"]
"""All but the .rec file itself."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add an option for each parameter: `--rand-crop` or `--no-rand-crop`, `--resize 256`."""
    parser.add_argument(
        "file", metavar="FILE", type=arguments.path, help="the .rec; or several, as path_imgrec"
    )
    group = parser.add_argument_group("loader", "Parameters of gpuio.ImageRecordIter.")
    for row in PARAMETERS:
        kind: dict[str, Any] = {"metavar": "X"}
        if isinstance(row.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        flag, text = f"--{row.name.replace('_', '-')}", row.help.replace("%", "%%")
        group.add_argument(flag, default=argparse.SUPPRESS, help=text, **kind)


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters that were given, by name: true, false, or text for the iterator to parse."""
    given = vars(args)
    return {row.name: given[row.name] for row in PARAMETERS if row.name in given}
