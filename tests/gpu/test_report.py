"""The report of a GPU, tried on the simulated device: one command, one JSON, one page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SIZES = {
    "records": 4,
    "images": 4,
    "batch-size": 2,
    "batches": 2,
    "edge": 5,
    "resize": 9,
    "rounds": 1,
    "turn": 0.01,
    "count": 1,
    "copied": 4096,
    "matmul": 16,
    "kinds": "bilinear",
}

RESULT = """<testsuites><testsuite>
<testcase classname="a" name="good"><properties><property name="mean" value="0.25"/></properties>
</testcase>
<testcase classname="a" name="bad"><failure message="it is wrong">more</failure></testcase>
<testcase classname="a" name="broken"><error message="no fixture"/></testcase>
<testcase classname="a" name="none"><skipped message="no CUDA device: none"/></testcase>
<testcase classname="a" name="jax"><skipped message="could not import 'jax'"/></testcase>
<testcase classname="a" name="dali"><skipped message="could not import 'nvidia.dali'"/></testcase>
</testsuite></testsuites>"""


def test_a_result_is_read_with_figures_and_reasons(scripts, tmp_path):
    (tmp_path / "found.xml").write_text(RESULT)
    assert scripts["gpu_tests"].read(tmp_path / "found.xml") == {
        "passed": 1,
        "failed": 2,
        "skipped": 3,
        "wanting": 2,
        "failures": ["a::bad: it is wrong", "a::broken: no fixture"],
        "skips": {
            "no CUDA device: none": 1,
            "could not import 'jax'": 1,
            "could not import 'nvidia.dali'": 1,
        },
        "figures": {"mean": 0.25},
    }


def test_a_skip_for_want_of_a_gpu_or_a_package_is_no_pass(scripts):
    tests, passed = scripts["gpu_tests"], scripts["gpu_report"].passed
    good = {"status": 0, "failures": [], "skips": {"could not import 'nvidia.dali'": 1}}
    report = {"missing": [], "warm_up": {}, "tests": {"a": good}}
    assert passed(report)
    for reason in ("no CUDA device: none", "could not import 'jax'"):
        bad = good | {"skips": {reason: 1}}
        assert not tests.passed(bad)
        assert tests.failures(bad) == [f"skipped: {reason}"]
    assert not tests.passed(good | {"status": 1})
    assert not passed(report | {"tests": {}})
    assert not passed(report | {"missing": ["jax is not installed"]})
    assert not passed(report | {"warm_up": {"failures": ["bilinear: SIGSEGV"]}})


def test_failures_that_are_alike_are_told_once(scripts):
    lines = [f"test_{k}: no driver" for k in range(9)] + ["test_x: other", "ended by SIGSEGV"]
    found = scripts["gpu_tests"].failures({"failures": lines})
    assert found == ["9 tests: no driver", "test_x: other", "ended by SIGSEGV"]


def test_peers_that_are_not_installed_are_no_failures(scripts):
    parts = {
        "DALI": {
            "rows": [],
            "error": "Traceback\nModuleNotFoundError: No module named 'nvidia.dali'",
        },
        "large": {
            "missing": {
                "torchvision": "ModuleNotFoundError: No module named 'torchvision'",
                "gpuio": "SIGSEGV: ",
            },
            "disagree": ["DALI, plain upsampling"],
        },
    }
    assert scripts["gpu"].failures({"parts": parts, "left_out": ["sizes"]}) == [
        "large, gpuio: SIGSEGV: ",
        "large: DALI, plain upsampling has other images than gpuio",
        "no time was left for: sizes",
    ]


def test_without_the_device_nothing_else_is_tried(scripts, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cuda:99", "--out", str(out)]
    assert scripts["gpu_report"].main(arguments) == 1
    report = json.loads(out.read_text())
    assert report["tests"] == {}
    assert "benchmark" not in report
    assert any("cuda:99" in line for line in report["failures"])
    assert "NOT PASSED" in capsys.readouterr().out


def test_a_crash_is_told_with_the_test_that_it_was_in(scripts):
    output = "tests/gpu/a.py::test_good[x y] PASSED [ 50%]\ntests/gpu/a.py::test_bad[1] "
    found = scripts["gpu_tests"].ended(-11, output)
    assert found["failures"] == ["ended by SIGSEGV in tests/gpu/a.py::test_bad[1]"]
    assert scripts["gpu_tests"].ended(3, "")["failures"] == ["ended by status 3"]


@pytest.mark.slow
def test_a_suite_that_crashes_leaves_the_others(scripts, tmp_path):
    tests = scripts["gpu_tests"]
    files = {
        "good": "pass",
        "crash": "import os; os.kill(os.getpid(), 11)",
        "hang": "while 1: pass",
    }
    suites = []
    for name, body in files.items():
        path = tmp_path / f"test_{name}.py"
        path.write_text(f"def test_{name}(): {body}\n")
        limit = 5 if name == "hang" else 280
        arguments = (str(path), "-p", "no:cacheprovider")
        suites.append(tests.Suite(name, arguments, limit, alone=name == "good"))
    found = {suite.name: row for suite, row in tests.run_all(suites, 1e12)}
    assert [*found][-1] == "good"  # it was alone
    assert tests.passed(found["good"])
    assert found["crash"]["failures"][0].startswith("ended by SIGSEGV")
    assert not tests.passed(found["hang"])


@pytest.mark.slow
def test_files_with_tests_of_a_gpu_are_all_in_the_report(scripts):
    pytest.importorskip("torch")  # one of them is skipped as a whole without it
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "gpu", "tests"]
    done = subprocess.run(
        [*command, "--ignore=tests/gpu"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    files = {line.split("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert files == {*scripts["gpu_tests"].MARKED}


@pytest.mark.slow
def test_tests_of_a_gpu_need_no_package_that_only_other_tests_need(scripts):
    code = (
        "import sys, pytest\n"
        "class Hidden:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name in ('hypothesis', 'scipy', 'moto', 'h5py', 'cv2'):\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Hidden)\n"
        "sys.exit(pytest.main(sys.argv[1:]))\n"
    )
    files = [*scripts["gpu_tests"].MARKED, "tests/gpu"]
    command = [sys.executable, "-c", code, "-q", "--collect-only", "-p", "no:hypothesispytest"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout


def test_targets_are_all_there_whether_measured_or_not(scripts):
    module = scripts["gpu_targets"]
    rates = {
        "gpuio": [100, 90],
        "bare nvImageCodec": [100, 100],
        "DALI, fancy upsampling": [50, 45],
        "DALI, plain upsampling": [200, 200],
    }
    parts = {
        "large": {"images_per_second": rates, "median": {"gpuio": 100}, "batch_size": 10},
        "kernels, large": {
            "rows": [
                {"kind": "cubic", "kernel_us": 9e9, "of_copy_bandwidth": 1.0},
                {"kind": "bilinear", "kernel_us": 2000, "of_copy_bandwidth": 0.4},
            ]
        },
        "overlap": {"rows": [{"longer": 0.01}]},
        "first batch, cold": {"rows": [{"first_batch": 30.0}]},
        "first batch, warm": {"rows": [], "error": "SIGSEGV"},
    }
    found = {row["name"]: (row["value"], row["met"]) for row in module.targets(parts)}
    measured = {name: row for name, row in found.items() if row[0] is not None}
    assert measured == {
        "large: gpuio / bare nvImageCodec": (0.95, True),
        "large: gpuio / DALI, fancy upsampling": (2.0, True),
        "large: gpuio / DALI, plain upsampling": (0.475, None),
        "large: kernels, of a batch's time": (0.02, True),
        "large: kernels, of the copy bandwidth": (0.4, False),
        "training step, longer by": (0.01, True),
        "first batch, cold cache, seconds": (30.0, False),
    }
    assert found["first batch, warm cache, seconds"] == (None, None)
    assert found["small: gpuio / DALI, fancy upsampling"] == (None, None)


def test_the_comparison_takes_the_best_settings_that_were_found(scripts, few, tmp_path):
    gpu, compare = scripts["gpu"], scripts["gpu_compare"]
    bench = scripts["gpu_bench"].Bench(gpu.parse([]), tmp_path)
    bench.found = {
        "shares": {
            "rows": [
                {"way": "legacy", "fancy": True, "share": share, "decoders": 2}
                | {"images_per_second": rate}
                for share, rate in [(0.5, 10), (0.7, 30), (0.9, 20)]
            ]
        },
        "pinned": {
            "rows": [
                {"share": share, "images_per_second": rate} for share, rate in [(0.6, 9), (0.8, 7)]
            ]
        },
        "DALI": {
            "rows": [
                {"fancy": fancy, "share": share, "images_per_second": share if fancy else 1 - share}
                for fancy in (True, False)
                for share in (0.3, 0.8)
            ]
        },
    }
    options = {side.name: side.options for side in bench.sides("large")}
    assert options[compare.BARE] == {"way": "legacy", "share": 0.7, "decoders": 2}
    assert options[compare.PINNED] == {"engine_share": 0.6}
    assert options[compare.SMOOTH] == {"jpeg_fancy_upsampling": True, "hw_decoder_load": 0.8}
    assert options[compare.PLAIN] == {"jpeg_fancy_upsampling": False, "hw_decoder_load": 0.3}


def test_a_report_is_named_after_its_gpu_and_day(scripts):
    report = {
        "machine": {"gpu_name": "NVIDIA H200 (SXM)"},
        "device": "cuda:0",
        "date": "2026-12-01",
    }
    assert scripts["gpu_report"].where(report).name == "gpu-nvidia-h200-sxm-2026-12-01.json"


@pytest.mark.slow
def test_the_report_is_one_command(few, tmp_path):
    """Every part of the benchmark, small, and one suite of the tests, as this one is among them."""
    for name in ("torch", "jax"):  # required: the report does not pass without them
        pytest.importorskip(name)
    out = tmp_path / "report.json"
    command = [sys.executable, str(BENCHMARKS / "gpu_report.py"), "--device", "simulated"]
    command += ["--suites", "soak", "--out", str(out), "--rec", str(few), "--"]
    for name, value in SIZES.items():
        command += [f"--{name}", str(value)]
    command += ["--shares", "0.5", "1", "--loads", "0.65", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["passed"]
    assert report["tests"]["soak"]["passed"] == 2
    assert "3 epochs of 4 images" in report["tests"]["soak"]["figures"]
    assert report["warm_up"]["failures"] == []
    parts = report["benchmark"]["parts"]
    wanted = [
        "hardware",
        "paths",
        "shares",
        "pinned",
        "large",
        "kernels, large",
        "small",
        "difference",
    ]
    for name in wanted:
        assert not parts[name].get("error"), parts[name]
        assert parts[name].get("rows") or parts[name]["median"], name
    assert parts["large"]["checks"]["gpuio"]["shape"] == [2, 3, 5, 5]
    assert report["benchmark"]["left_out"] == []
    last = parts["large"]["last"]["gpuio"]
    assert (last["split"].keys(), last["unwritten"]) == ({"cpu"}, 0)
    measured = {row["name"] for row in report["benchmark"]["targets"] if row["value"] is not None}
    assert {"large: gpuio / bare nvImageCodec", "large: kernels, of a batch's time"} <= measured
    pytest.importorskip("matplotlib")
    page = out.with_suffix(".png")
    assert page.stat().st_size > 50_000
    again = tmp_path / "again.png"
    redraw = [sys.executable, str(BENCHMARKS / "gpu_page.py"), str(out), str(again)]
    subprocess.run(redraw, check=True, cwd=tmp_path)
    assert again.read_bytes() == page.read_bytes()
