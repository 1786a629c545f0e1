"""The scripts that measure a GPU, tried without one: every line but those that only CUDA runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gpuio.devices.driver import Driver
from gpuio.formats.codec import decode_rgb
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.testing import draw, encode

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def rows(module, name, settings):
    """What a measurement says; it must be JSON."""
    measurements = module.MEASUREMENTS if hasattr(module, "MEASUREMENTS") else vars(module)
    return json.loads(json.dumps(list(measurements[name](settings))))


def test_scripts_ask_a_driver_only_for_what_every_driver_has():
    named = {*Driver.__annotations__, *vars(Driver)}
    asked = {
        (path.name, name)
        for path in BENCHMARKS.glob("gpu*.py")
        for name in re.findall(r"\bdriver\.(\w+)", path.read_text())
    }
    assert asked
    assert not {(script, name) for script, name in asked if name not in named}


def test_every_path_decodes_at_some_rate(scripts, settings):
    found = rows(scripts["gpu_decode"], "paths", settings)
    kinds = [(row["way"], row.get("decoders"), row["fancy"]) for row in found]
    assert kinds == [
        ("default", 1, True),
        ("default", 1, False),
        ("default", 2, True),
        ("its Python module", None, True),
        ("gpuio's decoder", None, True),
        ("gpuio's decoder, planes", None, True),
        ("gpuio, cpu", None, True),
    ]
    for row in found:
        assert row["images_per_second"] > 0
        assert row["cores"] > 0
        assert row["failed"] == row.get("portable", 0) == 0


def test_every_way_is_tried_where_there_are_engines(scripts, settings):
    found = rows(scripts["gpu_decode"], "paths", settings | {"engines": 7})
    assert {"default", "legacy", "single"} < {row["way"] for row in found}


def test_the_way_and_smooth_colours_are_told_to_nvimagecodec(scripts, settings, monkeypatch):
    told, real = [], abi.Instance.decoder

    def decoder(instance, execution, options=""):
        told.append(options)
        return real(instance, execution, options)

    monkeypatch.setattr(abi.Instance, "decoder", decoder)
    options = {"way": "legacy", "fancy": False, "settings": "a:b=1"}
    scripts["gpu_bare"].Bare(settings | {"options": options}).close()
    way = "nvjpeg_hw_decoder:force_legacy_batch=1"
    assert {*told} == {f":fancy_upsampling=0 :num_cuda_streams=1 {way} a:b=1"}


def test_shares_are_swept_with_one_decoder_and_with_two(scripts, settings):
    found = rows(scripts["gpu_decode"], "shares", settings | {"way": "legacy", "decoders": [1, 2]})
    assert [(r["decoders"], r["share"]) for r in found] == [(1, 0.5), (1, 1.0), (2, 0.5), (2, 1.0)]
    assert all(row["images_per_second"] > 0 for row in found)


def test_gpuio_is_swept_with_its_share_of_the_engines_pinned(scripts, settings):
    found = list(scripts["gpu_sides"].pinned(settings))
    assert [row["share"] for row in found] == [0.5, 1.0]
    assert all(row["images_per_second"] > 0 for row in found)


def test_other_batches_threads_and_memory(scripts, settings):
    found = rows(scripts["gpu_decode"], "sizes", settings | {"engines": 7})
    assert [row["what"] for row in found] == [
        "batches of 2",
        "1 CPU threads",
        "pageable memory",
        "preallocated",
        "GPU Huffman",
    ]


def test_hardware_says_why_there_is_none(scripts, settings):
    (row,) = rows(scripts["gpu_decode"], "hardware", settings)
    assert (row["engines"], row["engines_unavailable_reason"]) == (0, "the device is the CPU")


def test_share_counts_who_decoded(scripts, settings):
    for row in rows(scripts["gpu_order"], "share", settings):
        assert row["decoded"] == row["cpu"] == 2


def test_order_is_kept_where_there_is_only_one(scripts, settings):
    for row in rows(scripts["gpu_order"], "order", settings):
        assert row["in_order"] == row["turns"] == 2


def test_damage_is_reported(scripts, settings):
    found = rows(scripts["gpu_probe"], "damage", settings | {"codecs": ["cpu"]})
    assert not any(row["decoded"] for row in found)  # libjpeg warns of each
    for row in found:
        assert row["others_lost"] == row["others_changed"] == 0
        assert row["afterwards"]


def test_pixels_of_damage_are_compared_with_what_libjpeg_turbo_makes_of_it(scripts, settings):
    probe = scripts["gpu_probe"]
    image = probe.damaged(encode(draw(90, 120, seed=1), "JPEG"))["noise inside"]
    made_up = decode_rgb(image, 3, tolerant=True)
    assert probe._apart(image, made_up) == 0
    assert probe._apart(image, made_up ^ 1) == 1
    assert probe._apart(b"no JPEG", made_up) is None


def test_differences_are_those_of_colours_that_are_not_smoothed(scripts, settings):
    smooth, rough = rows(scripts["gpu_probe"], "difference", settings | {"codecs": ["cpu"]})
    assert smooth["mean"] == smooth["max"] == 0 < smooth["values"]
    assert rough["mean"] > 0


def test_windows_are_those_of_the_whole(scripts, settings):
    started, found = rows(scripts["gpu_probe"], "regions", settings | {"codecs": ["cpu"]})
    assert started["started"]
    assert found["decoded"] == found["of"] == 2
    assert found["max"] == 0 < found["values"]


def test_the_slow_kernel_compiles(scripts):
    from numba import cuda, types

    signature = types.void(types.uint64, types.int64, types.uint64)
    text, _ = cuda.compile_ptx(scripts["gpu_order"].read_late, signature, cc=(9, 0))
    loop = text.index("bra")
    assert "ld.global.u8" not in text[:loop], "what is read first is not read late"


@pytest.mark.parametrize("kind", ["bilinear", "crop"])
def test_kernels_and_their_bytes(scripts, settings, kind):
    (row,) = rows(scripts["gpu_kernels"], "kernels", settings | {"kinds": [kind]})
    assert (row["kind"], row["launches"]) == (kind, len(row["each_us"]))
    scale = 61.5 / 9 if kind == "bilinear" else 1  # pixels of the source for one of the output
    assert row["least_bytes"] == int(2 * 3 * 5 * 6 * (scale**2 + 2))
    assert row["kernel_us"] > 0


def test_a_kernels_time_is_that_of_many_launches_between_two_marks(scripts, monkeypatch):
    """A launch takes the host longer than some kernels take the device."""
    module = scripts["gpu_kernels"]
    seen = []

    class Tape:
        """A device that notes what it is told; a mark is how many launches came before it."""

        _driver = property(lambda self: self)

        def launch(self, *told):
            seen.append(told)

        def scope(self):
            return pytest.MonkeyPatch.context()

    class Marks:
        def __init__(self, device):
            pass

        def mark(self, stream):
            assert stream == "stream"
            return len(seen)

        def seconds(self, begin, end):
            return end - begin

    monkeypatch.setattr(module, "Marks", Marks)
    launches = [module.Launch(name, (name, "grid", "args", "stream")) for name in "ab"]
    seconds, _ = module.repeat(Tape(), launches, 10)
    assert seconds == 2  # launches for each of the ten batches, and nothing else between the marks
    assert len(seen) == 2 + 20


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


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("gpu_bare", "Bare"),
        ("gpu_bare", "Stage"),
        ("gpu_sides", "Binding"),
        ("gpu_sides", "Gpuio"),
        ("gpu_peers", "Dali"),
        ("gpu_peers", "Torchvision"),
    ],
)
def test_sides_deliver(scripts, settings, script, name):
    for side, package in {"Dali": "nvidia.dali", "Torchvision": "torchvision"}.items():
        if name == side:
            pytest.importorskip(package)
    side = getattr(scripts[script], name)(settings)
    side.check(2)
    result = side.time(2)
    assert result["images"] >= 2
    assert result["seconds"] > 0
    assert result.get("failed", 0) == 0


@pytest.mark.parametrize(("name", "at_once"), [("Bare", 1), ("Bare", 2), ("Stage", 2)])
def test_batches_are_decoded_at_the_same_time(scripts, settings, monkeypatch, name, at_once):
    side = getattr(scripts["gpu_bare"], name)(settings | {"options": {"decoders": at_once}})
    under_way, most, start, finish = [], [], side.start, side.finish

    def started(headers):
        under_way.append(headers)
        most.append(len(under_way))
        return start(headers)

    def finished(work, jobs):
        under_way.remove(jobs.headers)
        finish(work, jobs)

    monkeypatch.setattr(side, "start", started)
    monkeypatch.setattr(side, "finish", finished)
    before = side.decoder.stats().get("cpu", 0)
    result = side.time(8)
    side.close()
    assert (result["images"], result["failed"], max(most)) == (8, 0, at_once)
    if name == "Stage":
        assert result["stats"]["cpu"] - before == 8


def test_drawn_pictures_are_a_mixture_in_every_batch(scripts):
    data = scripts["gpu_data"]
    kinds = data.subsamplings(200)
    for start in range(0, 200, 100):
        part = kinds[start : start + 100]
        assert abs(part.count("444") - 74) <= 1
        assert abs(part.count("420") - 21) <= 1
        assert {"422", "Gray"} <= {*part}
    found = data.mixture([data.drawn(k, kind) for k, kind in enumerate(data.MIX)])
    assert found == dict.fromkeys(sorted(data.MIX), 0.25)


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
