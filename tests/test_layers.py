"""The packages' layers: imports point one way, and no files import each other in a circle.

Every import statement in gpuio/ and kernels/ is read, also those inside functions; those under
`if TYPE_CHECKING` are not, as they do nothing when a program runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    {"errors"},
    {"core"},
    {"storage"},
    {"formats"},
    {"kernels"},
    {"devices"},
    {"transforms", "samplers", "sources"},
    {"pipeline"},
    {"interop"},
    {"loader", "mxnet"},
    {"pack", "observe"},
    {"cli"},
)
"""Packages and files of gpuio/, lowest first: one imports its own package and lower layers."""

DOORS = {
    "",  # gpuio itself
    "__main__",
    "base",
    "context",
    "image",
    "io",
    "nd",
    "ndarray",
    "recordio",
    "testing",
    "torch",
}
"""Files at the top that hand names on, or that users import: nothing below the CLI uses them."""

PACK_USES = {"errors", "core", "storage", "formats", "kernels", "pack"}
"""What pack/ may use: packing files needs neither devices nor a pipeline."""


def modules() -> dict[str, Path]:
    """File of each module, by its name within gpuio."""
    found = {}
    for folder, prefix in ((ROOT / "gpuio", ""), (ROOT / "kernels", "kernels")):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            named = [prefix, *parts] if prefix else list(parts)
            found[".".join(part for part in named if part != "__init__")] = path
    return found


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports in a piece of code that are run, not those for type checkers."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    parts: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        parts = node.orelse
    for part in parts:
        yield from statements(part)


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of gpuio that a file imports, by their names within gpuio."""
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert not node.level, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, inside = name.partition(".")
            if package == "gpuio":
                yield inside if inside in known else inside.rpartition(".")[0]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """The modules that each module imports."""
    known = modules()
    return {name: set(imports(path, known)) - {name} for name, path in known.items()}


def package(module: str) -> str:
    return module.partition(".")[0]


def test_every_package_has_a_layer(graph):
    layered = set().union(*LAYERS)
    assert {package(module) for module in graph} - DOORS <= layered
    assert not layered & DOORS


def test_imports_point_down(graph):
    height = {name: place for place, layer in enumerate(LAYERS) for name in layer}
    upward = {
        (module, other)
        for module, used in graph.items()
        for other in used
        if package(module) not in DOORS
        and package(module) != package(other)
        and (
            package(module) != "cli"
            if package(other) in DOORS
            else height[package(other)] >= height[package(module)]
        )
    }
    assert upward == set()


def test_packing_needs_no_pipeline(graph):
    used = {package(other) for name in graph if package(name) == "pack" for other in graph[name]}
    assert used <= PACK_USES


def test_no_files_import_each_other_in_a_circle(graph):
    assert circles(graph) == []


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules that reach each other, by Tarjan's algorithm."""
    place: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        place[module] = lowest[module] = len(place)
        stack.append(module)
        for other in graph[module]:
            if other not in place:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == place[module]:
            members = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(members) > 1:
                found.append(sorted(members))

    for module in graph:
        if module not in place:
            visit(module)
    return found


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(graph) == [["a", "b", "c"]]


def test_imports_for_types_alone_do_not_count():
    source = """
if TYPE_CHECKING:
    import gpuio.a
else:
    import gpuio.b
def f():
    import gpuio.c
"""
    assert [node.names[0].name for node in statements(ast.parse(source))] == ["gpuio.b", "gpuio.c"]
