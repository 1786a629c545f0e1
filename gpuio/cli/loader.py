"""The parameters of ImageRecordIter as options of a command."""

from __future__ import annotations

import argparse
import inspect
import re
from typing import Any, Final

from gpuio.cli import arguments
from gpuio.mxnet.iterators.image_record import ImageRecordIter

PARAMETERS: Final = {
    name: parameter
    for name, parameter in inspect.signature(ImageRecordIter).parameters.items()
    if name != "path_imgrec"
}
"""All but the .rec itself."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add an option for each parameter: `--rand-crop` or `--no-rand-crop`, `--resize 256`."""
    parser.add_argument(
        "file", metavar="FILE", type=arguments.path, help="the .rec; or several, as path_imgrec"
    )
    group = parser.add_argument_group("loader", "Parameters of gpuio.ImageRecordIter.")
    texts = _texts(inspect.getdoc(ImageRecordIter) or "")
    for name, parameter in PARAMETERS.items():
        flag = f"--{name.replace('_', '-')}"
        text = texts.get(name, "").replace("%", "%%")
        if isinstance(parameter.default, bool):
            action = argparse.BooleanOptionalAction
            group.add_argument(flag, action=action, default=argparse.SUPPRESS, help=text)
        else:
            group.add_argument(flag, metavar="X", default=argparse.SUPPRESS, help=text)


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters that were given, by name: true, false, or text for the iterator to parse."""
    given = vars(args)
    return {name: given[name] for name in PARAMETERS if name in given}


def _texts(doc: str) -> dict[str, str]:
    """What the Args section of a docstring says about each parameter, on one line."""
    section = re.search(r"^Args:\n(.*?)\n\n", doc, re.DOTALL | re.MULTILINE)
    parts = re.split(r"^    (\w+): ", section[1], flags=re.MULTILINE) if section else [""]
    return {
        name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }
