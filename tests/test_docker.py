"""The images, as far as they can be tried without building them.

The Dockerfile is read: what it takes is there, and what it promises is said. The scripts in it are
run: with commands that only note what they were asked for, and once for real, into a virtual
environment, where pip must not fetch anything.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
TARGETS = {"cpu", "cuda13", "test", "bench"}
WITH_GPU = TARGETS - {"cpu"}
SCRIPTS = sorted(DOCKER.glob("install-*.sh"))


def stages():
    """The instructions of each stage, as (word, rest), by the stage's name; first is its FROM."""
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines() if line[:1] != "#"]
    found = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.split(maxsplit=1)
            if word == "FROM":
                name = rest.split(" AS ")[1]
                found[name] = []
            found[name].append((word, rest))
    return found


STAGES = stages()


def whole(name):
    """The instructions of a stage and of those that it is built on."""
    origin = STAGES[name][0][1].split()[0]
    return (whole(origin) if origin in STAGES else []) + STAGES[name]


def test_there_is_an_image_for_each_use():
    assert set(STAGES) >= TARGETS


def test_base_images_have_a_version():
    for instructions in STAGES.values():
        origin = instructions[0][1].split()[0]
        assert origin in STAGES or re.fullmatch(r"[\w/]+:\d+\.\d+\.\d+[\w.-]*", origin), origin


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_images_do_not_run_as_root(name):
    users = [rest for word, rest in whole(name) if word == "USER"]
    assert users, name
    assert users[-1] == "1000:1000"


@pytest.mark.parametrize("name", sorted(WITH_GPU))
def test_images_for_gpus_ask_for_the_video_library(name):
    settings = dict(
        pair.split("=", 1)
        for word, rest in whole(name)
        if word == "ENV"
        for pair in shlex.split(rest)
    )
    assert set(settings["NVIDIA_DRIVER_CAPABILITIES"].split(",")) == {"compute", "utility", "video"}


def test_files_that_images_copy_exist():
    for instructions in STAGES.values():
        for word, rest in instructions:
            if word == "COPY":
                paths = [p for p in rest.split() if not p.startswith("--")]
                for path in paths[:-1]:
                    assert (ROOT / path).exists(), path


def test_commands_are_lists():
    for instructions in STAGES.values():
        for word, rest in instructions:
            if word in ("CMD", "ENTRYPOINT"):
                assert all(isinstance(part, str) for part in json.loads(rest))


def test_files_that_commands_name_are_there():
    (command,) = [rest for word, rest in STAGES["bench"] if word == "CMD"]
    assert (ROOT / json.loads(command)[1]).exists()


def test_every_script_is_used_and_can_be_run():
    text = (DOCKER / "Dockerfile").read_text()
    assert set(re.findall(r"/docker/(install-\w+\.sh)", text)) == {path.name for path in SCRIPTS}
    for path in SCRIPTS:
        assert os.access(path, os.X_OK), path


def test_extras_of_images_are_those_of_the_package():
    section = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
    there = set(re.findall(r"^(\w+) = ", section.split("\n[")[0], re.MULTILINE))
    text = (DOCKER / "Dockerfile").read_text()
    named = re.findall(r"install-gpuio\.sh /opt/gpuio ([\w,]+) ", text)
    assert len(named) == 3
    for extras in named:
        assert set(extras.split(",")) <= there


def test_nothing_large_or_private_is_sent_to_be_built():
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().split()
    assert {".git", ".venv", "build"} <= set(ignored)


def test_services_are_built_from_these_images():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    counts = {}
    for name, service in services.items():
        build = service["build"]
        assert (DOCKER / build["context"] / build["dockerfile"]).samefile(DOCKER / "Dockerfile")
        assert build["target"] in TARGETS
        assert service["volumes"] == ["${DATA:-..}:/data"]
        if build["target"] in WITH_GPU:
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
            counts[name] = device["count"]
        else:
            assert "deploy" not in service
    assert counts == {"gpu": 1, "train": "all", "report": 1}
    script = services["train"]["entrypoint"][2]
    assert (ROOT / Path(script).relative_to("/source")).exists()


def run(script, *arguments, **environment):
    return subprocess.run(
        [str(DOCKER / script), *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def command(path, text):
    """A command that notes in `path`.log how it was called, and then does what `text` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$@" >> "{path}.log"\n{text}\n')
    path.chmod(0o755)
    return path


def calls(path):
    log = Path(f"{path}.log")
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def python(tmp_path):
    """An interpreter whose environments are there already, with a pip that fetches nothing."""
    venv = tmp_path / "venv" / "bin"
    command(venv / "pip", 'exit "${PIP_STATUS:-0}"')
    command(venv / "python", "")
    return command(tmp_path / "python", "")


def test_gpuio_is_installed_with_extras_from_a_wheel(tmp_path, python):
    venv = tmp_path / "venv"
    done = run("install-gpuio.sh", venv, "cuda13,dali", "/some/a.whl", PYTHON=str(python))
    assert done.returncode == 0, done.stderr
    assert calls(python) == [f"-m venv {venv}"]
    assert calls(venv / "bin" / "pip") == ["install /some/a.whl[cuda13,dali]"]
    assert len(calls(venv / "bin" / "python")) == 1  # gpuio is imported


def test_gpuio_is_installed_from_its_checkout(tmp_path, python):
    done = run("install-gpuio.sh", tmp_path / "venv", "cpu", PYTHON=str(python))
    assert done.returncode == 0, done.stderr
    assert calls(tmp_path / "venv" / "bin" / "pip") == [f"install {ROOT}[cpu]"]


def test_a_failure_of_pip_is_one_of_the_script(tmp_path, python):
    given = {"PYTHON": str(python), "PIP_STATUS": "3"}
    assert run("install-gpuio.sh", tmp_path / "venv", "cpu", **given).returncode == 3
    assert calls(tmp_path / "venv" / "bin" / "python") == []
    assert run("install-peers.sh", tmp_path / "venv", **given).returncode == 3


def test_a_script_asks_for_arguments_that_are_missing(python):
    done = run("install-gpuio.sh", PYTHON=str(python))
    assert done.returncode != 0
    assert "say in which folder" in done.stderr


def test_peers_have_versions(tmp_path, python):
    assert run("install-peers.sh", tmp_path / "venv").returncode == 0
    (call,) = calls(tmp_path / "venv" / "bin" / "pip")
    word, *packages = call.split()
    assert word == "install"
    assert all(re.fullmatch(r"\w+==[\d.]+", package) for package in packages)


def test_tools_are_those_of_the_system(tmp_path):
    apt = command(tmp_path / "apt-get", "")
    done = run("install-tools.sh", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert calls(apt) == ["update", "install --yes --no-install-recommends git make"]


@pytest.mark.slow
def test_gpuio_is_installed_for_real(tmp_path):
    """Into a new environment, without what it depends on: nothing is fetched."""
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("gpuio", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    wheel += ["--quiet", "--wheel-dir", str(tmp_path), "."]
    subprocess.run(wheel, cwd=source, check=True)
    (built,) = tmp_path.glob("gpuio-*.whl")
    given = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PYTHON": sys.executable}
    done = run("install-gpuio.sh", tmp_path / "venv", "cuda13", built, **given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("gpuio ")
    assert (tmp_path / "venv" / "bin" / "gpuio").exists()
