"""The command itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gpuio.cli import COMMANDS, main


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out and summary in out for name, summary in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: gpuio {name} ")


@pytest.mark.parametrize("name", ["im2rec", "rec2idx", "info", "verify"])
def test_help_explains_the_status_that_scripts_go_by(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "Exit status: 0" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["--nonsense"]])
def test_a_wrong_call_is_status_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gpuio ")


def test_help_loads_nothing_heavy():
    code = """
import sys
from gpuio.cli import main
try:
    main(["--help"])
except SystemExit:
    print(*sorted({"numpy", "numba", "PIL", "tqdm"} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr.strip()


def test_python_m_gpuio_is_the_command():
    done = subprocess.run([sys.executable, "-m", "gpuio", "info", "nowhere.rec"], check=False)
    assert done.returncode == 2
