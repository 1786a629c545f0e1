"""README.md says what is true."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import gpuio
from gpuio import ImageRecordIter
from gpuio.cli import COMMANDS
from gpuio.testing import draw, encode, write_rec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = BLOCK.findall(README)
SCALING = BLOCK.findall((ROOT / "docs" / "scaling-out.md").read_text())
OPTIONAL = ("torch", "jax", "accelerate")


@pytest.fixture(scope="module")
def documented():
    """The default of every parameter in the README's table, by name."""
    section = README.split("## Parameters of ImageRecordIter")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))


def test_the_table_has_every_parameter_with_its_default(documented):
    parameters = inspect.signature(ImageRecordIter).parameters
    assert documented.keys() == parameters.keys()
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty:
            assert documented[name] == "required"
        else:
            assert eval(documented[name].strip("`")) == parameter.default, name


def test_every_parameter_has_a_neighbour_in_other_libraries():
    section = README.split("## Coming from DALI or torchvision")[1].split("\n## ")[0]
    first = "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
    named = re.findall(r"`(\w+)`", first)
    assert sorted(named) == sorted(inspect.signature(ImageRecordIter).parameters)


def test_every_iterator_and_example_is_shown():
    for name in gpuio.io.__all__:
        assert f"`{name}`" in README or name.endswith("_v1"), name
    shown = set(re.findall(r"^\| `examples/(\w+\.py)` \|", README, re.MULTILINE))
    assert shown == {path.name for path in (ROOT / "examples").glob("*.py")}


def test_every_command_is_shown():
    assert set(re.findall(r"^    gpuio (\w+)", README, re.MULTILINE)) == set(COMMANDS)


def test_links_inside_the_repository_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_extras_are_those_of_the_package():
    section = README.split("## Install")[1].split("\n## ")[0]
    first = "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", first)) == _extras()


def _extras():
    text = (ROOT / "pyproject.toml").read_text()
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    return set(re.findall(r"^(\w+) = ", section, re.MULTILINE))


@pytest.fixture(scope="module")
def scope(tmp_path_factory):
    """A folder with .rec files, and the names that one block leaves to the next."""
    folder = tmp_path_factory.mktemp("readme")
    pictures = [draw(240, 256 + 8 * n, seed=n) for n in range(5)]
    images = [encode(picture, "JPEG") for picture in pictures]
    for name in ("train", "train-00000-of-00002", "train-00001-of-00002"):
        write_rec(folder / f"{name}.rec", images)
    boxes = [[1, 0.2, 0.3, 0.6, 0.9] * count for count in range(1, 6)]
    write_rec(folder / "boxes.rec", images, labels=boxes)
    write_rec(folder / "masks.rec", [encode(picture[:, :, :1]) for picture in pictures])
    return folder, {"gpuio": gpuio, "np": np}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_blocks_run_one_after_the_other(number, scope, monkeypatch):
    folder, names = scope
    monkeypatch.chdir(folder)
    for module in OPTIONAL:
        asked = re.search(rf"^(import|from) {module}\b", BLOCKS[number], re.MULTILINE)
        if asked and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    exec(compile(BLOCKS[number], f"README.md block {number}", "exec"), names)


def test_there_are_blocks():
    assert len(BLOCKS) >= 5
    assert len(SCALING) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("block", SCALING, ids=range(len(SCALING)))
def test_python_blocks_about_scaling_out_run(block, scope, monkeypatch):
    if ".torch()" in block:
        pytest.importorskip("torch")
    monkeypatch.chdir(scope[0])
    exec(compile(block, "a block of scaling-out.md", "exec"), {})


def test_scripts_are_listed_where_they_are_explained():
    places = {"benchmarks": "benchmarks/README.md", "tests/compat": "CONTRIBUTING.md"}
    for folder, text in places.items():
        listed = (ROOT / text).read_text()
        for path in (ROOT / folder).glob("*.py"):
            assert f"`{path.name}`" in listed or f"## {path.name}" in listed, path.name


def test_the_map_of_the_rooms_names_every_module():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in (ROOT / "gpuio").glob("*.py"):
        assert f"{path.name}`" in text or path.name == "__main__.py", path.name
    for path in (ROOT / "gpuio").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"`gpuio/{path.name}/`" in text, path.name
