"""Batches are shared out between the kinds of codecs of a GPU, which then decode at once."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

import gpuio
from gpuio.errors import DecodeError
from gpuio.kernels.codec_calls import IMAGE_JOB
from gpuio.kernels.markers import JPEG_HEAD, PNG_HEAD
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode import nvimgcodec_gpu, nvimgcodec_native
from gpuio.pipeline.decode.batch_split import KINDS, BatchSplit, takes
from gpuio.pipeline.decode.hardware import Engines
from gpuio.pipeline.decode.nvimgcodec_base import CPU_MODULES
from gpuio.testing import draw, encode, write_rec

THREADS = {"hybrid": 4, "cpu": 4}
COUNT, SIZE = 48, 16
PICTURES = [
    encode(draw(24 + number, 40, seed=number), "JPEG", progressive=number % 4 == 0)
    for number in range(COUNT - 4)
] + [encode(draw(30, 40, seed=number)) for number in range(4)]


def table():
    """A baseline JPEG, a progressive one, and a PNG."""
    rows = np.zeros(3, IMAGE_JOB)
    rows["head"] = JPEG_HEAD, JPEG_HEAD, PNG_HEAD
    rows["frame"] = 0, 2, 0
    rows["height"] = rows["width"] = 10
    return rows


def test_each_kind_takes_what_it_may_decode():
    found = {kind: takes(kind, table()).tolist() for kind in KINDS}
    assert found == {
        "hardware": [True, False, False],
        "hybrid": [True, True, False],
        "cpu": [True, True, True],
    }


@pytest.mark.parametrize("engines", [True, False])
def test_without_measuring_the_first_kind_that_takes_an_image_gets_it(engines):
    split = BatchSplit(KINDS, 7, THREADS, measured=False)
    for _ in range(3):
        parts = split.parts(table(), np.arange(3), engines=engines)
        found = {kind: places.tolist() for kind, places in parts.items()}
        assert found == (
            {"hardware": [0], "hybrid": [1], "cpu": [2]}
            if engines
            else {"hybrid": [0, 1], "cpu": [2]}
        )
        split.report("hybrid", np.ones(1), 0.0, 1e9)


def test_engines_that_may_not_be_used_get_nothing():
    split = BatchSplit(KINDS, 7, THREADS, engine_share=1.0)
    assert "hardware" in split.parts(table(), np.arange(3))
    assert "hardware" not in split.parts(table(), np.arange(3), engines=False)


def test_places_are_those_of_the_batch():
    parts = BatchSplit(KINDS, 7, THREADS, engine_share=1.0).parts(table(), np.array([0, 2]))
    assert {kind: places.tolist() for kind, places in parts.items()} == {
        "hardware": [0],
        "cpu": [2],
    }


@pytest.fixture
def rec(tmp_path):
    write_rec(tmp_path / "some.rec", PICTURES)
    return tmp_path / "some.rec"


@pytest.fixture
def all_kinds(monkeypatch):
    """Codecs of the CPU play all kinds, on the simulated device."""
    played = dict.fromkeys(nvimgcodec_native.BACKENDS, (abi.CPU_ONLY_BACKEND,))
    monkeypatch.setattr(nvimgcodec_native, "BACKENDS", played)
    found = Engines(7), CPU_MODULES, KINDS
    monkeypatch.setattr(nvimgcodec_gpu, "_find_engines", lambda options, library: found)


def epoch(rec, device, epochs=1, **options):
    given = {"device": device, "dtype": "uint8", "shuffle": True, "seed": 3, **options}
    with gpuio.ImageRecordIter(rec, (3, 20, 20), SIZE, **given) as batches:
        for _ in range(epochs):
            images = [batch.data[0].asnumpy() for batch in batches]
            batches.reset()
        return np.concatenate(images), batches.stats()


def test_all_kinds_decode_at_once_and_the_batch_is_the_cpus(rec, all_kinds):
    images, stats = epoch(rec, "simulated", epochs=3)
    expected, _ = epoch(rec, "cpu", epochs=3)
    npt.assert_array_equal(images, expected)
    counts = [stats[kind] for kind in KINDS]
    assert sum(counts) == 3 * COUNT
    assert min(counts) > 0
    assert sum(stats["split"].values()) == pytest.approx(1)
    assert all(rate > 0 for rate in stats["rates"].values())


def test_deterministic_decoding_goes_by_the_picture_alone(rec, all_kinds):
    _, stats = epoch(rec, "simulated", deterministic=True)
    assert [stats[kind] for kind in KINDS] == [0, COUNT - 4, 4]
    assert sum(stats["split"].values()) == pytest.approx(1)


BASELINE = sum(number % 4 != 0 for number in range(COUNT - 4))


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({"engine_share": 1.0, "decode_threads": 0}, [BASELINE, COUNT - 4 - BASELINE, 4]),
        ({"engine_share": 0.0, "decode_threads": 0}, [0, COUNT - 4, 4]),
    ],
)
def test_options_pin_who_decodes(rec, all_kinds, options, counts):
    images, stats = epoch(rec, "simulated", **options)
    assert [stats[kind] for kind in KINDS] == counts
    npt.assert_array_equal(images, epoch(rec, "cpu", **options)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine_share": 1.5}, r"engine_share must be in \[0, 1\], got 1.5"),
        ({"engine_share": float("nan")}, "engine_share must be finite in float32, got nan"),
        ({"engine_share": 0.5, "deterministic": True}, "engine_share must be 0 or None then, got"),
        ({"engine_share": "most"}, "engine_share must be a number, got 'most'"),
        ({"decode_threads": -1}, "decode_threads must be at least 0, got -1"),
        ({"decode_threads": 5000}, "decode_threads must be at most 1024, got 5000"),
    ],
)
def test_options_that_cannot_be_are_errors(rec, options, message):
    with pytest.raises(ValueError, match=message):
        gpuio.ImageRecordIter(rec, (3, 20, 20), SIZE, **options)


def test_what_the_engines_fail_with_goes_to_the_kinds_behind_them(rec, all_kinds, monkeypatch):
    decode = nvimgcodec_native.NativeDecoder.decode

    def fail(self, table, places, bases, stream):
        decode(self, table, places, bases, stream)
        if self.kind == "hardware":
            table["status"][places] = abi.FAILED

    monkeypatch.setattr(nvimgcodec_native.NativeDecoder, "decode", fail)
    with pytest.warns(UserWarning, match="without the GPU's JPEG engines: they failed with 2"):
        images, stats = epoch(rec, "simulated")
    npt.assert_array_equal(images, epoch(rec, "cpu")[0])
    assert stats["hardware"] == 0
    assert stats["hybrid"] + stats["cpu"] == COUNT
    assert stats["engine_failures"] in (2, 3)  # a third may have been in flight


def test_a_jpeg_that_libjpeg_warns_of_goes_to_no_codec_that_never_warns(
    tmp_path, all_kinds, monkeypatch
):
    whole = encode(draw(90, 120, seed=1), "JPEG")
    middle = len(whole) // 2
    write_rec(tmp_path / "some.rec", [PICTURES[2], whole[:middle] + whole[middle + 100 :]])
    monkeypatch.setattr(BatchSplit, "parts", lambda self, table, places, **_: {"cpu": places})
    with pytest.raises(DecodeError, match=r"some\.rec"):
        epoch(tmp_path / "some.rec", "simulated")
    _, stats = epoch(tmp_path / "some.rec", "simulated", on_error="zero")
    assert stats["cpu"] == stats["faults"] == SIZE // 2  # the batch is filled up with both
    assert stats["hybrid"] == 0


def test_an_error_of_one_kind_ends_the_epoch_once_all_have_ended(rec, all_kinds, monkeypatch):
    decode = nvimgcodec_native.NativeDecoder.decode

    def fail(self, table, places, bases, stream):
        decode(self, table, places, bases, stream)
        if self.kind == "hybrid":
            raise RuntimeError("out of luck")

    monkeypatch.setattr(nvimgcodec_native.NativeDecoder, "decode", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        epoch(rec, "simulated")
