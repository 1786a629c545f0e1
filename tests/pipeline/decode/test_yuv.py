"""JPEGs decoded to planes: pixels are libjpeg-turbo's, and what has no planes goes another way."""

from __future__ import annotations

import ctypes
from functools import partial

import numpy as np
import numpy.testing as npt
import pytest
import simplejpeg

import gpuio
from gpuio.kernels.codec_calls import IMAGE_JOB
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode import nvimgcodec_gpu, nvimgcodec_native, registry
from gpuio.pipeline.decode.hardware import Engines
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.decode.nvimgcodec_base import CPU_MODULES
from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder
from gpuio.pipeline.decode.yuv import plan_planes, plane_bytes
from gpuio.testing import draw, encode, write_rec

JPEG = 0xFFD8FF
KINDS = "hardware", "cpu"
SIZE = (37, 41)
PICTURES = {
    "4:4:4": encode(draw(*SIZE, seed=1), "JPEG", subsampling=0),
    "4:4:4 of odd size": encode(draw(33, 35, seed=2), "JPEG", subsampling=0),
    "4:2:0": encode(draw(*SIZE, seed=3), "JPEG", subsampling=2),
    "gray": encode(draw(*SIZE, 1, seed=4), "JPEG"),
    "rgb": encode(draw(*SIZE, seed=5), "JPEG", keep_rgb=True),
    "png": encode(draw(*SIZE, seed=6)),
}


def rows(**fields):
    table = np.zeros(1, IMAGE_JOB)
    given = {"head": JPEG, "color": abi.SYCC, "channels": 3, "height": 37, "width": 41, **fields}
    for name, value in given.items():
        table[name] = value
    table["rows"], table["cols"] = fields.get("rows", table["height"]), table["width"]
    box = np.zeros((1, 4), np.int32)
    box[0, 2:] = table["rows"][0], table["cols"][0]
    return table, DecodeJobs(Headers(box[:, 2:], {}), box, 3)


@pytest.mark.parametrize(
    ("sampling", "chroma"), [(0, (37, 41)), (2, (37, 21)), (3, (19, 21)), (4, (19, 41))]
)
def test_planes_lie_behind_the_pixels(sampling, chroma):
    table, jobs = rows(sampling=sampling)
    before = jobs.nbytes.copy()
    plan_planes(table, jobs)
    assert table["planar"][0] == 1
    assert (table["chroma_rows"][0], table["chroma_cols"][0]) == chroma
    assert table["planes"][0] == before[0] >= 3 * 37 * 41
    assert jobs.nbytes[0] - before[0] >= plane_bytes(table)[0] == 37 * 41 + 2 * np.prod(chroma)


@pytest.mark.parametrize(
    "fields",
    [
        {"head": 0x474E5089},
        {"color": abi.SRGB},
        {"color": abi.GRAY, "channels": 1, "sampling": 7},
        {"channels": 4},
        {"sampling": 5},
        {"rows": 20},
        {"rows": 0},
    ],
    ids=str,
)
def test_what_has_no_planes_is_decoded_to_pixels(fields):
    table, jobs = rows(**fields)
    before = jobs.nbytes.copy()
    plan_planes(table, jobs)
    assert table["planar"][0] == 0
    assert jobs.nbytes[0] == before[0]


@pytest.fixture
def rec(tmp_path):
    write_rec(tmp_path / "some.rec", PICTURES.values())
    return tmp_path / "some.rec"


@pytest.fixture
def planar(monkeypatch):
    """A decoder that is registered as "planar", whose engines are played by codecs for the CPU."""
    played = dict.fromkeys(nvimgcodec_native.BACKENDS, (abi.CPU_ONLY_BACKEND,))
    monkeypatch.setattr(nvimgcodec_native, "BACKENDS", played)
    found = Engines(7), CPU_MODULES, KINDS
    monkeypatch.setattr(nvimgcodec_gpu, "_find_engines", lambda options, library: found)
    make = partial(NvImageCodecGpuDecoder, output="yuv")
    monkeypatch.setitem(registry._factories, "planar", make)
    return "planar"


def load(rec, decoder, device="simulated", **options):
    given = {"dtype": "uint8", "engine_share": 1.0, "decode_threads": 0, **options}
    with gpuio.ImageRecordIter(
        rec, (3, 20, 20), len(PICTURES), decoder=decoder, device=device, **given
    ) as batches:
        return batches.next().data[0].asnumpy(), batches.stats()


def test_the_batch_is_that_of_the_cpu(rec, planar):
    """Codecs for the CPU make planes of 4:4:4 alone; others go to the next kind as pixels."""
    images, stats = load(rec, planar)
    npt.assert_array_equal(images, load(rec, "auto", "cpu")[0])
    assert (stats["hardware"], stats["cpu"]) == (4, 2)
    assert stats["unwritten"] == 0


def test_planes_that_were_not_written_are_found(rec, planar, monkeypatch):
    decode = nvimgcodec_native.NativeDecoder.decode

    def lie(self, table, places, bases, stream):
        if self.kind == "hardware":
            table["status"][places] = abi.SUCCESS
        else:
            decode(self, table, places, bases, stream)

    monkeypatch.setattr(nvimgcodec_native.NativeDecoder, "decode", lie)
    images, stats = load(rec, planar)
    npt.assert_array_equal(images, load(rec, "auto", "cpu")[0])
    assert stats["unwritten"] == stats["portable"] == 5


def test_planes_of_smaller_chroma_are_enlarged_as_by_libjpeg_turbo(tmp_path, planar, monkeypatch):
    """What an engine would write is written by hand: chroma of one level, and any luma."""
    luma = draw(*SIZE, 1, seed=8)
    gray = encode(luma, "JPEG")
    stored = simplejpeg.decode_jpeg(gray, "GRAY")[..., 0]
    color = encode(np.repeat(luma, 3, axis=2), "JPEG", subsampling=2)
    write_rec(tmp_path / "one.rec", [color] * len(PICTURES))
    written = []

    def write(self, table, places, bases, stream):
        for row, base in zip(table[places], bases[places], strict=True):
            if not row["planar"]:
                continue  # the warm-up
            planes = np.concatenate([stored.reshape(-1), np.full(2 * 19 * 21, 128, np.uint8)])
            ctypes.memmove(int(base) + int(row["planes"]), planes.tobytes(), planes.size)
            written.append(planes.size)
        table["status"][places] = abi.SUCCESS

    monkeypatch.setattr(nvimgcodec_native.NativeDecoder, "decode", write)
    images, stats = load(tmp_path / "one.rec", planar)
    assert stats["unwritten"] == 0
    assert len(written) >= len(PICTURES)
    y, x = (SIZE[0] - 20) // 2, (SIZE[1] - 20) // 2
    for image in images:
        for channel in image:
            npt.assert_array_equal(channel, stored[y : y + 20, x : x + 20])
