"""What has to be installed for a report of a GPU, as pyproject.toml asks for it.

A test that skips because a package is missing proves nothing, so what is missing is named in the
report, and the report has not passed.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
RUNNERS = ("pytest>=8", "pytest-timeout>=2.3", "matplotlib>=3.8")
FRAMEWORKS = ("torch", "jax")
OPTIONAL = {"DALI": "nvidia-dali-cuda{cuda}0", "torchvision": "torchvision"}
"""What gpuio is compared with where it is there: name in the report, and distribution."""

CARRY = "to carry what is missing to a machine without network: make wheels"


def required(cuda: int) -> list[Requirement]:
    """All that the extras for a version of CUDA and for the frameworks ask for."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]

    def of(extra: str) -> Iterator[Requirement]:
        for text in extras[extra]:
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate():
                continue
            if wanted.name == "gpuio":
                for inner in wanted.extras:
                    yield from of(inner)
            else:
                yield wanted

    found = [*map(Requirement, [*project["dependencies"], *RUNNERS])]
    for extra in (f"cuda{cuda}", *FRAMEWORKS):
        found += of(extra)
    return found


def installed(name: str) -> str | None:
    """The version of a distribution, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cuda_version() -> int:
    """The major version of CUDA that the installed CuPy is for; 13 where there is none."""
    return 12 if installed("cupy-cuda12x") else 13


def missing(wanted: list[Requirement]) -> list[str]:
    """A line for each package that is not there, or there in another version."""
    found = []
    for need in wanted:
        here = installed(need.name)
        if here is None and need.name == "cuda-toolkit" and shutil.which("nvcc"):
            continue  # the system has it
        if here is None:
            found.append(f"{need} is not installed")
        elif not need.specifier.contains(here, prereleases=True):
            found.append(f"{need.name} {here} is installed, but gpuio needs {need.specifier}")
    return sorted(set(found))


def absent(cuda: int) -> list[str]:
    """What gpuio is not compared with, because it is not installed."""
    names = {name: dist.format(cuda=cuda) for name, dist in OPTIONAL.items()}
    return [f"{name} ({dist})" for name, dist in names.items() if installed(dist) is None]
