"""The scripts that measure a GPU, tried without one: every line but those that only CUDA runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpuio.testing import draw, encode, write_rec

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("gpu", "gpu_child", "gpu_decode", "gpu_loop", "gpu_report", "gpu_sides")
BESIDE = ("machine", "records", "sides")


@pytest.fixture(scope="module")
def scripts():
    """The scripts as modules, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield {name: importlib.import_module(name) for name in MODULES}
        for name in (*MODULES, *BESIDE):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("few") / "few.rec"
    images = [encode(draw(60 + k, 80, seed=k), "JPEG", subsampling=2, quality=95) for k in range(4)]
    write_rec(path, images)
    return path


@pytest.fixture
def settings(few):
    return {
        "device": "simulated",
        "rec": str(few),
        "shape": (3, 5, 6),
        "size": (61.5, 80),
        "resize": 9,
        "batch_size": 2,
        "threads": 1,
        "check": 4,
        "images": 4,
        "batches": [2],
        "fewer_threads": [1],
        "seconds": 0.01,
        "count": 1,
        "rounds": 2,
        "copied": 4096,
        "matmul": 16,
        "turns": 2,
        "engines": 0,
        "options": {},
    }


def rows(module, name, settings):
    """What a measurement says; it must be JSON."""
    return json.loads(json.dumps(list(module.MEASUREMENTS[name](settings))))


def test_every_kind_decodes_at_some_rate(scripts, settings):
    found = rows(scripts["gpu_decode"], "rates", settings | {"batch_size": 4, "batches": [4]})
    assert [row["what"] for row in found] == ["", "", "pageable"]
    for row in found:
        assert row["images_per_second"] > 0
        assert row["cpu"] > 0
        assert row["failed"] == row["portable"] == 0


def test_decoders_together(scripts, settings):
    found = rows(scripts["gpu_decode"], "decoders", settings)
    assert [row["decoders"] for row in found] == [1, 2]


def test_hardware_says_why_there_is_none(scripts, settings):
    (row,) = rows(scripts["gpu_decode"], "hardware", settings)
    assert (row["engines"], row["engines_unavailable_reason"]) == (0, "the device is the CPU")


def test_share_counts_who_decoded(scripts, settings):
    for row in rows(scripts["gpu_decode"], "share", settings):
        assert row["decoded"] == row["cpu"] == 2


def test_order_is_kept_where_there_is_only_one(scripts, settings):
    for row in rows(scripts["gpu_decode"], "order", settings):
        assert row["in_order"] == row["turns"] == 2


def test_damage_is_reported(scripts, settings):
    found = rows(scripts["gpu_decode"], "damage", settings)
    by_name = {row["damage"]: row for row in found}
    assert not by_name["cut off"]["decoded"]
    assert by_name["noise inside"]["apart"] == 0  # the same library decoded both
    for row in found:
        assert row["others_lost"] == row["others_changed"] == 0
        assert row["afterwards"]


def test_differences_are_those_of_colours_that_are_not_smoothed(scripts, settings):
    smooth, rough = rows(scripts["gpu_decode"], "difference", settings)
    assert smooth["mean"] == smooth["max"] == 0 < smooth["values"]
    assert rough["mean"] > 0


def test_windows_are_those_of_the_whole(scripts, settings):
    started, found = rows(scripts["gpu_decode"], "regions", settings)
    assert started["started"]
    assert found["decoded"] == found["of"] == 2
    assert found["max"] == 0 < found["values"]


def test_the_slow_kernel_compiles(scripts):
    from numba import cuda, types

    signature = types.void(types.uint64, types.int64, types.uint64)
    text, _ = cuda.compile_ptx(scripts["gpu_decode"].read_late, signature, cc=(9, 0))
    loop = text.index("bra")
    assert "ld.global.u8" not in text[:loop], "what is read first is not read late"


def test_kernels_and_their_bytes(scripts, settings):
    (row,) = rows(scripts["gpu_loop"], "kernels", settings)
    assert row["launches"] == 1
    assert row["batch_us"].keys() == {"finish"}
    height = 61.5 / 9  # pixels of the source for one of the output
    assert row["least_bytes"] == int(2 * 3 * 5 * 6 * (height**2 + 2))
    assert row["of_copy_bandwidth"] >= 0


def test_the_first_batch(scripts, settings):
    (row,) = rows(scripts["gpu_loop"], "first", settings)
    assert row["first_batch"] >= row["batch"] > 0


@pytest.mark.slow
def test_a_step_with_the_loader_beside_one_without(scripts, settings, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(scripts["gpu_loop"], "REST", 0.05)
    (row,) = rows(scripts["gpu_loop"], "overlap", settings)
    assert row["products"] >= 1
    assert len(row["rounds"]) == 2


@pytest.mark.parametrize("name", ["Stage", "Binding", "Gpuio", "Dali"])
def test_sides_deliver(scripts, settings, name):
    if name == "Dali":
        pytest.importorskip("nvidia.dali")
    side = getattr(scripts["gpu_sides"], name)(settings)
    side.check(2)
    result = side.time(2)
    assert result["images"] >= 2
    assert result["seconds"] > 0
    assert result.get("failed", 0) == 0


def child(scripts, path, code):
    path.write_text(code)
    return scripts["gpu_child"].collect(str(path), "name", {}, 5)


def test_a_crash_leaves_what_was_said_before(scripts, tmp_path):
    code = "import os\nprint('{\"a\": 1}', flush=True)\nos.kill(os.getpid(), 11)\n"
    found = child(scripts, tmp_path / "crash.py", code)
    assert found["rows"] == [{"a": 1}]
    assert found["error"].startswith("SIGSEGV")


def test_a_hang_is_ended(scripts, tmp_path):
    (tmp_path / "hang.py").write_text("import time\nprint('{}', flush=True)\ntime.sleep(99)\n")
    found = scripts["gpu_child"].collect(str(tmp_path / "hang.py"), "name", {}, 1)
    assert found["rows"] == [{}]
    assert "no answer within" in found["error"]


def test_an_error_is_reported_with_its_message(scripts, tmp_path):
    found = child(scripts, tmp_path / "error.py", "import not_there\n")
    assert found["rows"] == []
    assert found["error"].endswith("No module named 'not_there'")


@pytest.mark.slow
def test_the_whole_benchmark_goes_on_without_what_is_missing(scripts, few, tmp_path, monkeypatch):
    gpu = scripts["gpu"]
    sides = [gpu.SideOf("gpuio", "Gpuio"), gpu.SideOf("not there", "Nothing")]
    monkeypatch.setattr(gpu, "sides", lambda: sides)
    arguments = ["--device", "simulated", "--rec", str(few), "--only", "large;hardware"]
    sizes = {"records": 4, "images": 4, "batch-size": 2, "edge": 5, "resize": 9, "rounds": 1}
    for name, value in {**sizes, "turn": 0.01, "seconds": 60}.items():
        arguments += [f"--{name}", str(value)]
    saved = []
    report = gpu.run(gpu.parse(arguments), saved.append)
    assert len(saved) == 2
    large = report["parts"]["large"]
    assert list(large["median"]) == ["gpuio"]
    assert large["missing"] == {"not there": "KeyError: 'Nothing'"}
    assert large["checks"]["gpuio"]["shape"] == [2, 3, 5, 5]
    assert report["parts"]["hardware"]["rows"][0]["engines"] == 0
    pytest.importorskip("matplotlib")
    gpu.plot(report, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 1000


def test_targets_are_taken_from_the_parts(scripts):
    gpu = scripts["gpu"]
    rates = {"gpuio": [100, 90], "nvImageCodec": [100, 100], "DALI": [50, 45]}
    parts = {
        "large": {"ratios": gpu.ratios(rates), "median": {"gpuio": 100}, "batch_size": 10},
        "kernels, large": {"rows": [{"kernel_us": 2000, "of_copy_bandwidth": 0.4}]},
        "overlap": {"rows": [{"longer": 0.01}]},
        "first batch, warm": {"rows": [], "error": "SIGSEGV"},
    }
    found = {row["name"]: (row["value"], row["met"]) for row in gpu.targets(parts)}
    assert found == {
        "large: gpuio / bare decoding": (0.95, True),
        "large: gpuio / DALI": (2.0, True),
        "large: kernels, of the copy bandwidth": (0.4, False),
        "large: kernels, of a batch's time": (0.02, True),
        "training step, longer by": (0.01, True),
    }


RESULT = """<testsuites><testsuite>
<testcase classname="a" name="good"><properties><property name="mean" value="0.25"/></properties>
</testcase>
<testcase classname="a" name="bad"><failure message="it is wrong">more</failure></testcase>
<testcase classname="a" name="broken"><error message="no fixture"/></testcase>
<testcase classname="a" name="none"><skipped message="no CUDA device: none"/></testcase>
<testcase classname="a" name="other"><skipped message="no DALI"/></testcase>
</testsuite></testsuites>"""


def test_a_result_is_read_with_figures_and_reasons(scripts, tmp_path):
    (tmp_path / "found.xml").write_text(RESULT)
    assert scripts["gpu_report"].read(tmp_path / "found.xml") == {
        "passed": 1,
        "failed": 2,
        "skipped": 2,
        "skipped_for_want_of_a_gpu": 1,
        "failures": ["a::bad: it is wrong", "a::broken: no fixture"],
        "skips": {"no CUDA device: none": 1, "no DALI": 1},
        "figures": {"mean": 0.25},
    }


def test_a_skip_for_want_of_a_gpu_is_no_pass(scripts):
    passed = scripts["gpu_report"].passed
    good = {"status": 0, "skipped_for_want_of_a_gpu": 0}
    assert passed({"tests": {"a": good}})
    assert not passed({"tests": {"a": good, "b": good | {"skipped_for_want_of_a_gpu": 1}}})
    assert not passed({"tests": {"a": good | {"status": 1}}})
    assert not passed({"tests": {}})


def test_a_report_is_named_after_its_gpu(scripts):
    report = {"machine": {"gpu_name": "NVIDIA H200 (SXM)"}, "device": "cuda:0"}
    assert scripts["gpu_report"].where(report).name == "gpu-nvidia-h200-sxm.json"


@pytest.mark.slow
def test_the_report_is_one_command(tmp_path):
    out = tmp_path / "report.json"
    command = [sys.executable, str(BENCHMARKS / "gpu_report.py"), "--device", "simulated"]
    command += ["--parts", "soak", "--no-benchmark", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["passed"]
    assert report["tests"]["soak"]["passed"] == 2
    assert "3 epochs of 4 images" in report["tests"]["soak"]["figures"]
