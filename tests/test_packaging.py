"""What is built from the repository works by itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import gpuio

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ("LICENSE", "README.md", "gpuio", "kernels", "pyproject.toml")

LOAD = """
import sys
from pathlib import Path
import numpy as np
import gpuio
from gpuio import recordio
assert Path(gpuio.__file__).is_relative_to(sys.argv[1]), gpuio.__file__
with recordio.MXIndexedRecordIO("few.idx", "few.rec", "w") as records:
    for key in range(4):
        image = np.full((12, 14, 3), 20 * key, np.uint8)
        header = recordio.IRHeader(0, key, key, 0)
        records.write_idx(key, recordio.pack_img(header, image, img_fmt=".png"))
with gpuio.ImageRecordIter("few.rec", (3, 8, 8), 4, path_imgidx="few.idx") as batches:
    batch = next(batches)
assert batch.data[0][:, 0, 0, 0].tolist() == [0, 20, 40, 60]
assert batch.label[0].tolist() == [0, 1, 2, 3]
"""


def run(*arguments, cwd, **environment):
    done = subprocess.run(
        arguments, cwd=cwd, env=environment or None, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """An sdist of the repository, and the wheel that is built from that."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source)
    command = ("-m", "build", "--no-isolation", "--outdir", str(folder))
    run(sys.executable, *command, cwd=source)
    return folder


@pytest.fixture(scope="module")
def names(dist):
    """What the wheel holds."""
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        return wheel.namelist()


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """A folder with the wheel in it, and an empty one far from the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", str(folder), str(next(dist.glob("*.whl"))), cwd=dist)
    return folder, tmp_path_factory.mktemp("elsewhere")


def test_only_the_package_is_at_top_level(names):
    version = gpuio.__version__
    assert {name.split("/")[0] for name in names} == {"gpuio", f"gpuio-{version}.dist-info"}


def test_every_module_is_in_the_wheel(names):
    kernels = {f"gpuio/{path.relative_to(ROOT)}" for path in (ROOT / "kernels").rglob("*.py")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "gpuio").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == kernels | modules


def test_types_and_license_are_in_the_wheel(names):
    assert "gpuio/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_has_sources_and_license(dist):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        names = {name.split("/", 1)[-1] for name in sdist.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "gpuio/__init__.py"} <= names
    assert "kernels/__init__.py" in names


def test_the_wheel_loads_images_outside_the_checkout(installed):
    folder, elsewhere = installed
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    run(sys.executable, "-c", LOAD, str(folder), cwd=elsewhere, **environment)


def test_the_installed_command_helps(installed):
    folder, elsewhere = installed
    command = folder / "bin" / "gpuio"
    out = run(sys.executable, str(command), "--help", cwd=elsewhere, PYTHONPATH=str(folder))
    assert "im2rec" in out


def test_reading_and_writing_records_needs_only_numpy(installed):
    folder, elsewhere = installed
    code = (
        "import sys; import gpuio; from gpuio import recordio; "
        "heavy = {'numba', 'PIL', 'simplejpeg', 'tqdm', 'nvidia'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    run(sys.executable, "-c", code, cwd=elsewhere, PYTHONPATH=str(folder))


@pytest.fixture(scope="module", params=["plain", "editable", "wheel"])
def environment(request, dist, tmp_path_factory):
    """Python of an environment where gpuio is installed from a checkout, and that checkout."""
    folder = tmp_path_factory.mktemp(request.param)
    source = folder / "source"
    shutil.copytree(dist / "source", source)
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    site = run(
        str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    # What gpuio needs comes from here, but not this environment's gpuio.
    (Path(site.strip()) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    what = {
        "plain": [str(source)],
        "editable": ["--editable", str(source)],
        "wheel": [str(next(dist.glob("*.whl")))],
    }[request.param]
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps")
    run(*pip, "--no-build-isolation", "--force-reinstall", *what, cwd=folder)
    return python, source


@pytest.mark.parametrize("place", ["in the checkout", "elsewhere"])
def test_it_can_be_imported_however_it_is_installed(environment, place, tmp_path):
    python, source = environment
    folder = source if place == "in the checkout" else tmp_path
    code = (
        "import gpuio, gpuio.kernels.resample; gpuio.ImageRecordIter; "
        "from pathlib import Path; folder = Path(gpuio.kernels.__file__).resolve(); "
        f"assert folder.is_relative_to({str(source.parent.resolve())!r}), folder"
    )
    run(str(python), "-c", code, cwd=folder)


def requirements(extra):
    """What an extra asks for, those of gpuio that it names included."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = list(extras["dependencies"])
    for each in extras["optional-dependencies"][extra]:
        inner = re.fullmatch(r"gpuio\[(\w+)\]", each)
        found += requirements(inner[1]) if inner else [each]
    return found


def resolved(extra, python, folder, *more):
    """What pip would install for an extra on a version of Python: versions by name.

    It is an error of pip's where there is no such set of versions.
    """
    report = folder / "report.json"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    command += ["--only-binary=:all:", "--python-version", python, "--target", str(folder)]
    command += ["--report", str(report), *requirements(extra), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No matching distribution found for numpy" in done.stderr:
        pytest.skip("pip reaches no package index")
    if done.returncode:
        raise ValueError(done.stderr)
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {item["name"]: tuple(map(int, item["version"].split(".")[:3])) for item in found}


COMPILERS = {
    "cuda13": ("nvidia-nvvm", "nvidia-nvjitlink"),
    "cuda12": ("nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12"),
}
EXTRAS = pytest.mark.parametrize("extra", COMPILERS)


@EXTRAS
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_a_gpus_packages_fit_together(extra, python, tmp_path):
    versions = resolved(extra, python, tmp_path)
    assert versions["numpy"] < (2, 5)  # has np.row_stack, which numba-cuda 0.30 needs
    assert (0, 30) <= versions["numba-cuda"] < (0, 31)
    assert versions[f"nvidia-nvimgcodec-cu{extra[-2:]}"][:2] == (0, 9)
    compiler, linker = COMPILERS[extra]
    assert versions[linker] >= versions[compiler]


@EXTRAS
def test_an_older_linker_gets_an_older_compiler_with_it(extra, tmp_path):
    """A linker does not know the code of a newer compiler."""
    compiler, linker = COMPILERS[extra]
    versions = resolved(extra, "3.12", tmp_path, f"{linker}<={extra[-2:]}.4")
    assert versions[linker][:2] >= versions[compiler][:2]
