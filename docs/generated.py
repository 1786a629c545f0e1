"""Pages of the documentation that are made while it is built: from the code, or from other files.

MkDocs calls `on_files`, a hook named in mkdocs.yml. Each page is made by a function that returns
Markdown, so that tests can call it without MkDocs.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT: Final = Path(__file__).parents[1]
INCLUDED: Final = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the repository that are pages, too, and the names of these pages."""

_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")
_PARAMETERS: Final = """\
# Parameters

Names, meanings and defaults are MXNet's, unless [Coming from MXNet](../coming-from/mxnet.md) lists
a difference. `data_shape` and `batch_size` may also be the second and third positional argument.
Values may be text, as in MXNet's scripts: `"(3, 224, 224)"`, `"True"`. `ImageRecordUInt8Iter` and
`ImageRecordInt8Iter` are `ImageRecordIter` with another default of `dtype`. The parameters of the
other iterators are described in [gpuio.io](api/io.md)."""
_COMMANDS: Final = """\
# Commands

`gpuio COMMAND --help` shows the same text. `python -m gpuio` is the same program."""
_LOADER_OPTIONS: Final = """\
Each of the [parameters of ImageRecordIter](parameters.md#imagerecorditer) is an option, too:
`--resize 256`, `--rand-crop`, `--no-round-batch`."""
_EXAMPLES: Final = """\
# Examples

Complete scripts in the folder `examples/` of the repository. The docstring of each says what to
install and how to run it."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of this file to those in docs/."""
    from mkdocs.structure.files import File

    for page, make in pages().items():
        files.append(File.generated(config, page, content=make()))
    return files


def pages() -> dict[str, Callable[[], str]]:
    """The function that makes each page, by the name of the page."""
    return {
        "reference/parameters.md": parameters,
        "reference/commands.md": commands,
        "reference/examples.md": examples,
        **{page: partial(included, source) for source, page in INCLUDED.items()},
    }


def included(source: str) -> str:
    """A file of the repository, with links that hold in the documentation.

    A link to a file that is not a page becomes the name of the file.
    """

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path.startswith("docs/"):
            return f"[{text}]({path.removeprefix('docs/')}{anchor})"
        if path in INCLUDED:
            return f"[{text}]({INCLUDED[path]}{anchor})"
        return f"{text} (`{path}`)"

    return _LINK.sub(link, (ROOT / source).read_text())


def parameters() -> str:
    """The parameters of the iterators over .rec files, from the table of keywords."""
    from gpuio import ImageDetRecordIter, ImageRecordIter
    from gpuio.core.options import description, options

    parts = [_PARAMETERS]
    for iterator in (ImageRecordIter, ImageDetRecordIter):
        parts.append(f"## {iterator.__name__}")
        signature = inspect.signature(iterator).parameters
        for section, some in itertools.groupby(iterator.groups, key=attrgetter("section")):
            anchor = f"{iterator.__name__}-{section}".lower().replace(" ", "-")
            cells = [
                (
                    f"`{o.name}`",
                    _type_text(get_type_hints(group)[o.name]),
                    _default(signature[o.name]),
                    description(o),
                )
                for group in some
                for o in options(group)
            ]
            parts.append(f"### {section} {{ #{anchor} }}")
            parts.append(_table(("name", "type", "default", "meaning"), cells))
    return "\n\n".join(parts) + "\n"


def _default(parameter: inspect.Parameter) -> str:
    required = parameter.default is inspect.Parameter.empty
    return "required" if required else f"`{parameter.default!r}`"


def _type_text(hint: Any) -> str:
    """A type as the documentation shows it: "int", "str or None", "'pad' or 'short'"."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, parts))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_type_text, parts)).replace("NoneType", "None")
    return str(hint) if get_origin(hint) is tuple else getattr(hint, "__name__", str(hint))


def commands() -> str:
    """Each command with its arguments, from its parser."""
    from gpuio.cli import COMMANDS

    rows = [(f"[`gpuio {name}`](#{name})", summary) for name, summary in COMMANDS.items()]
    parts = [_COMMANDS, _table(("command", "what it does"), rows)]
    for name, summary in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"gpuio {name}")
        import_module(f"gpuio.cli.{name}").configure(parser)
        parts += [f"## {name}", f"{summary.capitalize()}.", *_command(parser)]
    return "\n\n".join(parts) + "\n"


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield f"```text\n{usage}\n```"
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if group.title == "loader":
            yield _LOADER_OPTIONS
        elif actions:
            title = (group.title or "").replace("positional ", "")
            rows = [(flags(action), _help(action, parser)) for action in actions]
            yield _table((title, "meaning"), rows)
    if parser.epilog and parser.formatter_class is argparse.RawDescriptionHelpFormatter:
        yield f"```text\n{parser.epilog.strip()}\n```"
    elif parser.epilog:
        yield parser.epilog


def flags(action: argparse.Action) -> str:
    """An argument of a command as its table shows it: `--count N`."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    value = str(action.metavar or choices or action.dest.upper())
    names = action.option_strings
    if not names:
        return f"`{value}`"
    return ", ".join(f"`{name}`" if action.nargs == 0 else f"`{name} {value}`" for name in names)


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


def examples() -> str:
    """The scripts in examples/, each with the first paragraph of its docstring."""
    rows = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        rows.append((f"`examples/{path.name}`", " ".join(doc.partition("\n\n")[0].split())))
    return f"{_EXAMPLES}\n\n{_table(('script', 'what it shows'), rows)}\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(_row(cells) for cells in (head, ("---",) * len(head), *rows))


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
