"""Wheels for a GPU machine without network: fetched here, carried in loads, put in place there.

    python benchmarks/wheels.py collect .whl             # here; .whl/1, .whl/2, ... are the loads
    python benchmarks/wheels.py collect .whl --dali
    python benchmarks/wheels.py install .whl build/site  # there, for PYTHONPATH

A load is a folder of at most 50 MB, for machines that take no more at a time; larger wheels are
cut into pieces. `install` takes the loads that have arrived, joins the pieces, and puts a tree of
links to this checkout beside the packages: gpuio is not built there, and nothing of the machine's
own Python is changed. Only the standard library and pip are needed.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEGABYTE = 1_000_000
PACKAGES = (
    "nvidia-nvimgcodec-cu13",
    "nvidia-nvjpeg",
    "numpy",
    "simplejpeg",
    "numba",
    "numba-cuda",
    "cuda-core",
    "cuda-pathfinder",
    "llvmlite",
    "pytest-timeout",
)
"""What machines with PyTorch, JAX and CuPy lack, or have in another version."""

DALI = (
    "nvidia-dali-cuda130",
    "nvidia-nvjpeg2k-cu13",
    "nvidia-nvtiff-cu13",
    "astunparse<=1.6.3",
    "gast<=0.7.0",
    "libcst>=1.8,<1.9",
    "makefun",
    "nvtx",
    "optree",
    "six<=1.17",
)
"""DALI 2.4 and what it asks for, but for libnvcomp, which decoding does not take."""

GLIBC = (34, 31, 28, 27, 26, 24, 17, 12, 5)
PLATFORMS = (*(f"manylinux_2_{n}" for n in GLIBC), "manylinux2014", "manylinux2010", "manylinux1")
_PIECE = re.compile(r"(?P<wheel>.+\.whl)\.(?P<number>\d+)of(?P<count>\d+)")


def bounds(names: Sequence[str]) -> list[str]:
    """The names, with the versions that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    found = []
    for name in names:
        pattern = re.compile(rf"{re.escape(name)}(\[[^]]*\])?(?P<versions>[<>=!~][^;]*)?(;.*)?$")
        matches = [pattern.match(line) for line in lines]
        versions = {m["versions"].strip() for m in matches if m is not None and m["versions"]}
        found.append(name + ",".join(sorted(versions)))
    return found


def collect(folder: Path, groups: list[list[str]], python: str, load: int) -> None:
    """Download wheels, and lay them into numbered folders.

    Args:
        folder: For the loads; what is in it is replaced.
        groups: Requirements; the first loads are those of the first group.
        python: Version of Python there.
        load: The most bytes of one load.
    """
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:"]
    command += [f"--python-version={python}", "--implementation=cp"]
    command += [f"--platform={platform}_x86_64" for platform in PLATFORMS]
    for wanted in groups:
        with tempfile.TemporaryDirectory() as fresh:
            subprocess.run([*command, f"--dest={fresh}", *wanted], check=True)
            lay(Path(fresh), folder, load)


def lay(fresh: Path, folder: Path, load: int) -> None:
    """Put wheels into loads behind those that are there, the large ones in pieces."""
    before = len([*folder.glob("[0-9]*")])
    pieces: list[tuple[str, bytes]] = []
    for wheel in sorted(fresh.glob("*.whl")):
        data = wheel.read_bytes()
        count = -(-len(data) // load)
        cuts = [data[k * load : (k + 1) * load] for k in range(count)]
        pieces += [
            (wheel.name if count == 1 else f"{wheel.name}.{k + 1}of{count}", cut)
            for k, cut in enumerate(cuts)
        ]
    used: list[int] = []
    for name, piece in sorted(pieces, key=lambda piece: -len(piece[1])):
        fits = (k for k, size in enumerate(used) if size + len(piece) <= load)
        number = next(fits, len(used))
        if number == len(used):
            used.append(0)
        used[number] += len(piece)
        path = folder / str(before + number + 1) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(piece)
    for number, size in enumerate(used, before + 1):
        print(f"{folder / str(number)}: {size / MEGABYTE:.1f} MB")


def join(folder: Path, into: Path) -> list[Path]:
    """The wheels of all loads; those of which pieces are missing are said, and left out."""
    into.mkdir(parents=True, exist_ok=True)
    wheels = sorted(folder.rglob("*.whl"))
    cut: dict[str, dict[int, Path]] = {}
    counts: dict[str, int] = {}
    for path in folder.rglob("*.whl.*of*"):
        match = _PIECE.fullmatch(path.name)
        if match is not None:
            cut.setdefault(match["wheel"], {})[int(match["number"])] = path
            counts[match["wheel"]] = int(match["count"])
    for name, parts in sorted(cut.items()):
        lacking = [k for k in range(1, counts[name] + 1) if k not in parts]
        if lacking:
            print(f"{name} is left out: no piece {', '.join(map(str, lacking))} of {counts[name]}")
            continue
        with (into / name).open("wb") as file:
            for _, part in sorted(parts.items()):
                file.write(part.read_bytes())
        wheels.append(into / name)
    return wheels


def install(folder: Path, site: Path) -> None:
    """Put the wheels, and links to gpuio, into a folder for PYTHONPATH."""
    site = site.resolve()
    state = "\n".join(f"{p.name} {p.stat().st_size}" for p in sorted(folder.rglob("*.whl*")))
    stamp = site / "wheels.txt"
    if stamp.exists() and stamp.read_text() == state:
        link(site)
        return
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    wheels = join(folder, site / "joined")
    if wheels:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--disable-pip-version-check", "--no-compile", f"--target={site}", "--upgrade"]
        subprocess.run([*command, *map(str, wheels)], check=True)
    shutil.rmtree(site / "joined")
    # .pth files, as the one by which numba-cuda takes the place of numba.cuda, count in folders of
    # packages only, and PYTHONPATH names none.
    (site / "sitecustomize.py").write_text(f"import site\n\nsite.addsitedir({str(site)!r})\n")
    link(site)
    stamp.write_text(state)


def link(site: Path) -> None:
    """A package gpuio of links to this checkout, where kernels/ is gpuio.kernels."""
    package = site / "gpuio"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for path in (ROOT / "gpuio").iterdir():
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    (package / "kernels").symlink_to(ROOT / "kernels")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("collect", help="download wheels into loads")
    command.add_argument("folder", type=Path)
    command.add_argument("names", nargs="*", default=[*PACKAGES], help="packages (default: usual)")
    command.add_argument("--dali", action="store_true", help="and DALI, some 250 MB")
    command.add_argument("--python", default="3.12", help="version there (default: 3.12)")
    command.add_argument("--load", type=float, default=50, help="MB of a load (default: 50)")
    command = commands.add_parser("install", help="put wheels and gpuio where Python finds them")
    command.add_argument("folder", type=Path)
    command.add_argument("site", type=Path)
    args = parser.parse_args(arguments)
    if args.command == "install":
        install(args.folder, args.site)
        return
    groups = [bounds(names) for names in (args.names, DALI if args.dali else ()) if names]
    collect(args.folder, groups, args.python, int(args.load * MEGABYTE))


if __name__ == "__main__":
    main()
