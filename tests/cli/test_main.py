"""The command itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gpuio
from gpuio.cli import COMMANDS, main
from gpuio.testing import encode, write_rec


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
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"gpuio {gpuio.__version__}\n"


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


@pytest.mark.parametrize(
    ("arguments", "usage", "hint"),
    [
        (
            ["bench", "a.rec", "--resze", "3"],
            "gpuio bench FILE",
            "--resze; did you mean '--resize'?",
        ),
        (["bench", "a.rec", "--num-workers=4"], "gpuio bench FILE", "use --preprocess-threads: "),
        (["show", "a.rec", "--drop-last"], "gpuio show FILE", "'--last-batch drop'"),
        (["verify", "a.rec", "--frame-only"], "gpuio verify ", "did you mean '--frames-only'?"),
        (["im2rec", "a", "b", "--num-workers", "3"], "gpuio im2rec ", "'--num-thread'?"),
    ],
)
def test_an_unknown_option_gets_the_usage_of_its_command_and_a_near_one(
    capsys, arguments, usage, hint
):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"usage: {usage}")
    assert "unrecognized arguments: --" in err
    assert hint in err


def without(module, code):
    """What Python prints to standard error, and its status, where a module is not installed."""
    script = f"import sys; sys.modules[{module!r}] = None\n{code}"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    return run.stderr, run.returncode


@pytest.mark.parametrize("command", ["show", "bench"])
def test_a_missing_package_is_reported_in_one_line(rec, command):
    code = f"from gpuio.cli import main; sys.exit(main([{command!r}, {str(rec)!r}]))"
    err, status = without("numba", code)
    assert err == (
        f"gpuio: gpuio {command} needs Numba, which is not installed: pip install 'gpuio[cpu]'\n"
    )
    assert status == 2


def test_a_missing_package_does_not_make_images_damaged(tmp_path, pictures):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(pictures[0], "PNG")])
    code = f"from gpuio.cli import main; sys.exit(main(['verify', {str(path)!r}]))"
    err, status = without("PIL", code)
    assert "needs Pillow, which is not installed: pip install 'gpuio[cpu]'" in err
    assert status == 2
