"""Pages of the documentation that are made while it is built: from the code, or from other files.

MkDocs calls `on_files`, a hook named in mkdocs.yml. Each page is a function that returns Markdown, so that
tests can call it without MkDocs.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import posixpath
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of this file to those in docs/."""
    from mkdocs.structure.files import File

    for page, make in pages().items():
        files.append(File.generated(config, page, content=make()))
    return files


def pages() -> dict[str, Callable[[], str]]:
    """The function that makes each page, by the name of the page."""
    made: dict[str, Callable[[], str]] = {
        "reference/parameters.md": parameters,
        "reference/commands.md": commands,
        "reference/examples.md": examples,
    }
    for source, page in INCLUDED.items():
        made[page] = lambda source=source: included(source)  # type: ignore[misc]
    return made


def included(source: str) -> str:
    """A file of the repository, with links that hold in the documentation.

    A link to a file that is no page becomes the name of the file.
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
    """The parameters of ImageRecordIter."""
    from gpuio import ImageRecordIter
    from gpuio.cli.loader import _texts

    texts = _texts(inspect.getdoc(ImageRecordIter) or "")
    lines = [
        "# Parameters of ImageRecordIter",
        "",
        "| name | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, parameter in inspect.signature(ImageRecordIter).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        default = "required" if required else f"`{parameter.default!r}`"
        lines.append(_row(f"`{name}`", default, texts.get(name, "")))
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Each command with its arguments, from its parser."""
    from gpuio.cli import COMMANDS

    parts = [
        "# Commands",
        "`gpuio COMMAND --help` shows the same text. `python -m gpuio` is the same program.",
        _table(("command", "what it does"), [(f"[`gpuio {n}`](#{n})", t) for n, t in COMMANDS.items()]),
    ]
    for name, summary in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"gpuio {name}")
        import_module(f"gpuio.cli.{name}").configure(parser)
        parts += [f"## {name}", f"{summary.capitalize()}.", *_command(parser)]
    return "\n\n".join(parts) + "\n"


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ")).strip()
    yield f"```text\n{usage}\n```"
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.dest != "help"]
        if group.title == "loader":
            yield (
                "**Loader options.** Each of the [parameters of ImageRecordIter](parameters.md) is an "
                "option: `--resize 256`, `--rand-crop`, `--no-round-batch`."
            )
        elif actions:
            rows = [(_flags(action), _help(action, parser)) for action in actions]
            yield _table(("argument" if group.title == "positional arguments" else "option", ""), rows)
    if parser.epilog and parser.formatter_class is argparse.RawDescriptionHelpFormatter:
        yield f"```text\n{parser.epilog.strip()}\n```"
    elif parser.epilog:
        yield parser.epilog


def _flags(action: argparse.Action) -> str:
    value = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
    if not action.option_strings:
        return f"`{value}`"
    if action.nargs == 0:
        return ", ".join(f"`{flag}`" for flag in action.option_strings)
    return ", ".join(f"`{flag} {value}`" for flag in action.option_strings).replace("|", "\\|")


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


def examples() -> str:
    """The scripts in examples/, each with the beginning of its docstring."""
    rows = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        rows.append((f"`examples/{path.name}`", " ".join(doc.partition("\n\n")[0].split())))
    return (
        "# Examples\n\nComplete scripts in the folder `examples/` of the repository. The docstring of "
        f"each says what to install and how to run it.\n\n{_table(('script', 'what it shows'), rows)}\n"
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join([_row(*head), _row(*("---" for _ in head)), *(_row(*row) for row in rows)])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
