"""Wheels for a machine without network: cut into loads here, joined and installed there."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def wheels():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("wheels")
        del sys.modules["wheels"]


def make_wheel(folder, name, nbytes):
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"size = {nbytes}\n#" + "x" * nbytes)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def loads(wheels, tmp_path):
    """Loads of 4,000 bytes with two small wheels, and one that is cut into pieces."""
    fresh, folder = tmp_path / "fresh", tmp_path / "loads"
    for name, nbytes in {"small": 100, "other": 200, "large": 9000}.items():
        make_wheel(fresh, name, nbytes)
    wheels.lay(fresh, folder, 4000)
    return folder


def test_no_load_is_larger_than_it_may_be(loads):
    sizes = [sum(f.stat().st_size for f in load.iterdir()) for load in loads.iterdir()]
    assert len(sizes) == 3
    assert max(sizes) <= 4000
    assert len([*loads.rglob("large*.whl.*of3")]) == 3


def test_more_wheels_come_into_loads_behind_those_that_are_there(wheels, loads, tmp_path):
    make_wheel(tmp_path / "more", "late", 50)
    wheels.lay(tmp_path / "more", loads, 4000)
    assert [path.parent.name for path in loads.rglob("late*")] == ["4"]


def test_pieces_become_the_wheel_that_they_were(wheels, loads, tmp_path):
    joined = {path.name: path for path in wheels.join(loads, tmp_path / "joined")}
    assert len(joined) == 3
    name = "large-1.0-py3-none-any.whl"
    assert joined[name].read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_a_wheel_of_which_pieces_are_missing_is_said_and_left_out(wheels, loads, tmp_path, capsys):
    next(loads.rglob("*.2of3")).unlink()
    assert len(wheels.join(loads, tmp_path / "joined")) == 2
    assert "large-1.0-py3-none-any.whl is left out: no piece 2 of 3" in capsys.readouterr().out


def test_versions_are_those_that_pyproject_allows(wheels):
    numpy, codec, unknown, pinned = wheels.bounds(
        ["numpy", "nvidia-nvimgcodec-cu13", "unknown", "gast<=0.7.0"]
    )
    assert numpy == "numpy<2.5,>=1.26"
    assert codec == "nvidia-nvimgcodec-cu13>=0.9,<0.10"
    assert (unknown, pinned) == ("unknown", "gast<=0.7.0")


@pytest.mark.slow
def test_what_is_installed_is_found_beside_gpuio(wheels, loads, tmp_path, monkeypatch):
    pytest.importorskip("pip")
    site = tmp_path / "site"
    wheels.install(loads, site)
    code = (
        "import large, small, gpuio.kernels.steps\n"
        "print(large.size, gpuio.__file__, gpuio.kernels.__file__)"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    paths = [str(site / "gpuio" / part / "__init__.py") for part in ("", "kernels")]
    assert done.stdout.split() == ["9000", *paths]
    monkeypatch.setattr(wheels, "join", None)  # what is there is not put there again
    wheels.install(loads, site)
