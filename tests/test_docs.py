"""What the documentation says holds: its code runs, its commands parse, its names and files exist.

Fences of `python` are run: those of a page one after the other, in a folder with small data. The
line before a fence may name what it needs, packages or a GPU, as `<!-- needs: torch, gpu -->`; or
say why it is only compiled, as `<!-- not run: it opens a bucket -->`.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

import gpuio
from gpuio import recordio
from gpuio.cli import COMMANDS
from gpuio.testing import draw, encode, write_rec

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
BLOCK = re.compile(
    r"(?:^<!-- (needs|not run): (.*?) -->\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE
)
CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """Code in a fence, and what the line before it says."""

    language: str
    code: str
    line: int
    marker: str
    reason: str


def blocks(page, *languages):
    text = page.read_text()
    return [
        Block(language, code, text[: found.start(4)].count("\n") + 1, marker or "", reason or "")
        for found in BLOCK.finditer(text)
        for marker, reason, language, code in [found.groups()]
        if language in languages
    ]


def named(page):
    return str(page.relative_to(ROOT))


PYTHON = [(page, block) for page in PAGES for block in blocks(page, "python")]
COMMAND_LINES = [
    (named(page), line.partition("  #")[0].strip())
    for page in PAGES
    for block in blocks(page, "bash")
    for line in block.code.replace("\\\n", " ").splitlines()
]


def generated():
    """The module that makes pages while the site is built."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- Python


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with what the pages read: images, boxes, masks, faces, a tree of files."""
    folder = tmp_path_factory.mktemp("docs")
    pictures = [draw(240, 256 + 8 * n, seed=n) for n in range(5)]
    images = [encode(picture, "JPEG") for picture in pictures]
    for name in ("train", "train-00000-of-00002", "train-00001-of-00002"):
        write_rec(folder / f"{name}.rec", images)
    boxes = [[1, 0.2, 0.3, 0.6, 0.9] * count for count in range(1, 6)]
    write_rec(folder / "boxes.rec", images, labels=boxes)
    write_rec(folder / "masks.rec", [encode(picture[:, :, :1]) for picture in pictures])
    with recordio.MXIndexedRecordIO(
        str(folder / "detection.idx"), str(folder / "detection.rec"), "w"
    ) as records:
        for key, image in enumerate(images):
            header = recordio.IRHeader(0, [2, 5, *boxes[key]], key, 0)
            records.write_idx(key, recordio.pack(header, image))
    for number, picture in enumerate(pictures):
        path = folder / "images" / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    faces = [sys.executable, ROOT / "examples" / "faces.py", folder / "faces"]
    subprocess.run([*faces, "--persons", "3", "--images", "4"], check=True, capture_output=True)
    return folder


class Page:
    """The blocks of a page, which share a folder and names."""

    def __init__(self, path, folder):
        self.path, self.folder, self.names = path, folder, {}
        self.waiting = blocks(path, "python")

    def run(self, wanted):
        """Run the blocks up to `wanted`, but for those that cannot run here."""
        while wanted in self.waiting:
            block = self.waiting.pop(0)
            if not missing(block):
                place = f"{named(self.path)}, line {block.line}"
                code = compile("\n" * block.line + block.code, place, "exec")
                exec(code, self.names)


def missing(block):
    """Why a block cannot run here; empty where it can."""
    if block.marker == "not run":
        return block.reason
    needs = [need.strip() for need in block.reason.split(",")] if block.reason else []
    if "gpu" in needs and not gpuio.context.num_gpus():
        return "needs a GPU"
    absent = [name for name in needs if name != "gpu" and importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} is not installed" if absent else ""


@pytest.fixture(scope="module")
def opened():
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "block"), PYTHON, ids=[f"{named(path)}:{block.line}" for path, block in PYTHON]
)
def test_python_runs(path, block, data, opened, tmp_path_factory, monkeypatch):
    if reason := missing(block):
        compile(block.code, named(path), "exec")
        pytest.skip(reason)
    if path not in opened:
        folder = tmp_path_factory.mktemp(path.stem) / "data"
        shutil.copytree(data, folder)
        opened[path] = Page(path, folder)
    page = opened[path]
    monkeypatch.chdir(page.folder)
    page.run(block)


def test_there_is_python_on_the_pages():
    assert len(PYTHON) >= 5


# ---- commands


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES)
def test_a_command_line_is_one_that_its_parser_takes(page, line):
    words = shlex.split(line)
    if words[:1] != ["gpuio"]:
        for script in [word for word in words if word.endswith((".py", ".yaml"))]:
            assert (ROOT / script).exists() or script == "train.py", script
        return
    if words[1] == "COMMAND" or words[1:] == ["--help"]:
        return
    parser = argparse.ArgumentParser(prog=f"gpuio {words[1]}", exit_on_error=False)
    import_module(f"gpuio.cli.{words[1]}").configure(parser)
    parser.parse_args(words[2:])


# ---- names, files, links


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_names_of_gpuio_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for code in CODE.findall(text):
        if found := re.match(r"gpuio(\.\w+)+", code):
            assert exists(found[0]), code


def exists(name):
    """Whether a dotted name can be imported, or is an attribute of what can."""
    if importlib.util.find_spec("torch") is None and name.startswith("gpuio.torch"):
        return True
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_of_the_repository_exist(page):
    for code in CODE.findall(page.read_text()):
        if re.fullmatch(r"(gpuio|kernels|tests|examples|benchmarks|docker|docs)/[a-z_./-]*", code):
            assert (ROOT / code).exists(), code


@pytest.mark.parametrize("page", PAGES[:3], ids=named)
def test_links_of_files_outside_the_site_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", page.read_text()):
        made = target.startswith("docs/") and target.removeprefix("docs/") in generated().pages()
        assert made or (page.parent / target).exists(), target


# ---- pages that are made from the code, or go with it


def test_every_parameter_is_on_its_page_with_its_default():
    text = generated().parameters()
    for iterator in (gpuio.ImageRecordIter, gpuio.ImageDetRecordIter):
        section = text.split(f"\n## {iterator.__name__}\n")[1].partition("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \|.*?\| `?(.*?)`? \|", section, re.MULTILINE))
        signature = inspect.signature(iterator).parameters
        assert rows.keys() == signature.keys()
        for name, parameter in signature.items():
            required = parameter.default is inspect.Parameter.empty
            expected = "required" if required else repr(parameter.default)
            assert rows[name] == expected, name
    assert "| `layout` | 'NCHW' or 'NHWC' | `'NCHW'` |" in text
    assert "| `last_batch` | 'pad' or 'short' or 'drop' or None | `None` |" in text


def test_every_command_and_each_of_its_options_is_on_its_page():
    text = generated().commands()
    for name in COMMANDS:
        section = text.split(f"\n## {name}\n")[1].partition("\n## ")[0]
        parser = argparse.ArgumentParser()
        import_module(f"gpuio.cli.{name}").configure(parser)
        for group in parser._action_groups:
            if group.title != "loader":
                for action in group._group_actions:
                    assert action.dest == "help" or generated().flags(action) in section


def test_every_example_is_on_its_page():
    for path in (ROOT / "examples").glob("*.py"):
        assert f"| `examples/{path.name}` | " in generated().examples()


def test_every_public_name_is_in_the_reference():
    shown = set(re.findall(r"^::: ([\w.]+)", "".join(p.read_text() for p in PAGES), re.MULTILINE))
    leaves = {name.rpartition(".")[2] for name in shown}
    for module in ("gpuio", "gpuio.io", "gpuio.recordio", "gpuio.image", "gpuio.nd", "gpuio.torch"):
        if module == "gpuio.torch" and importlib.util.find_spec("torch") is None:
            continue
        for name in import_module(module).__all__:
            found = getattr(import_module(module), name)
            old = name.endswith("_v1")
            assert (
                inspect.ismodule(found)
                or found.__module__ == "gpuio.errors"
                or old
                or (name in leaves)
            ), f"{module}.{name}"


def test_the_extras_are_those_of_the_package():
    section = (DOCS / "getting-started.md").read_text().split("\n## Install")[1].split("\n## ")[0]
    first = "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"`(\w+)`", first)) == set(project["optional-dependencies"])


def test_scripts_are_listed_where_they_are_explained():
    places = {"benchmarks": "benchmarks/README.md", "tests/compat": "CONTRIBUTING.md"}
    for folder, text in places.items():
        listed = (ROOT / text).read_text()
        for path in (ROOT / folder).glob("*.py"):
            assert f"`{path.name}`" in listed or f"## {path.name}" in listed, path.name


def test_the_map_of_the_code_names_every_package():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in (ROOT / "gpuio").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"`gpuio/{path.name}/`" in text, path.name


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r'(?:src|href)="(https?://[^"]*)"', page.read_text())
        assert not fetched, f"{page.name} points at {fetched}"
