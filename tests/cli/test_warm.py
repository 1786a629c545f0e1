"""gpuio warm."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gpuio.cli import main, warm
from gpuio.kernels import code_cache

PLAN = ["--data-shape", "3,16,16", "--resize", "20", "--rand-crop"]


@pytest.fixture
def made(monkeypatch):
    """The options of the batches that are made, which are not made."""
    plans = []
    monkeypatch.setattr(warm, "_make_batch", lambda rec, options: plans.append(options))
    return plans


def test_a_later_process_finds_all_that_its_plan_needs(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "gpuio", "warm", *PLAN]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (folder,) = tmp_path.iterdir()
    assert first.stdout.splitlines()[-1] == f"kept in {folder}"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {"jpeg.decode.decode.o", "resample.finish.o", "bilinear.resize_to_planes.o"} <= {*before}
    subprocess.run(command, env=environment, capture_output=True, check=True)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_plan_is_that_of_the_options(made):
    assert main(["warm", *PLAN]) == 0
    assert made == [{"data_shape": "3,16,16", "resize": "20", "rand_crop": True}]


def test_without_options_the_usual_plans_are_compiled(made, capsys):
    assert main(["warm"]) == 0
    assert made == [*warm._USUAL.values()]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [*warm._USUAL]


def test_files_are_no_part_of_a_plan(made, capsys):
    with pytest.raises(SystemExit):
        main(["warm", "--path-imgidx", "a.idx"])
    assert "unrecognized arguments: --path-imgidx" in capsys.readouterr().err


def test_where_nothing_can_be_written_it_says_what_to_do(monkeypatch, made, capsys):
    monkeypatch.setattr(code_cache, "writable_folder", lambda: None)
    assert main(["warm"]) == 2
    assert "set NUMBA_CACHE_DIR to one" in capsys.readouterr().err
    assert made == []
