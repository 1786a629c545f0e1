"""The CPU's part of decoding for a GPU: into pinned memory, and from there to the device.

`_on_stub` runs in a child that has a stub of the CUDA driver.
"""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.testing as npt
import pytest
import stub_cuda

from gpuio.devices import make_device
from gpuio.devices.gpu import GpuDevice
from gpuio.devices.lanes import Lane
from gpuio.devices.simulated import OrderError, SimulatedDriver
from gpuio.errors import BackendError
from gpuio.formats.codec import imdecode
from gpuio.kernels import codec_calls
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.cpu_codecs import CpuCodecs, StagedDecoder
from gpuio.pipeline.decode.libjpeg_warnings import listener
from gpuio.pipeline.decode.nvimgcodec import cpu_instance
from gpuio.pipeline.decode.nvimgcodec_base import release
from gpuio.testing import draw, encode

THREADS = 3
WHOLE = encode(draw(90, 120, seed=9), "JPEG")
DAMAGED = WHOLE[: len(WHOLE) // 2] + WHOLE[len(WHOLE) // 2 + 100 :]
PICTURES = [encode(draw(20 + 7 * n, 31, seed=n), "JPEG" if n % 2 else "PNG") for n in range(7)]


class Bench:
    """A decoder in a lane of a device, and images in the device's memory."""

    def __init__(self, pictures, device):
        driver = device._driver
        self.lane = Lane(driver, 0)
        self.instance = cpu_instance()
        warnings = listener(self.instance.library.extensions)
        codecs = CpuCodecs(self.instance, 3, THREADS, warnings)
        self.decoder = StagedDecoder(device, codecs)
        self.files = [np.frombuffer(picture, np.uint8) for picture in pictures]
        with_headers = self.table()
        release(self.instance, with_headers)
        heights, widths = with_headers["height"].tolist(), with_headers["width"].tolist()
        self.shapes = [(*size, 3) for size in zip(heights, widths, strict=True)]
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.kept = [driver.empty((size,), np.uint8) for size in sizes]
        self.bases = np.array([driver.address(item) for item in self.kept], np.uint64)
        self.items = [
            np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(base))
            for size, base in zip(sizes, self.bases.tolist(), strict=True)
        ]

    def table(self):
        table = np.zeros(len(self.files), codec_calls.IMAGE_JOB)
        table["data"] = [file.ctypes.data for file in self.files]
        table["nbytes"] = [file.size for file in self.files]
        info = abi.ImageInfo.new()
        functions = self.instance.library.functions.ctypes.data
        args = (functions, self.instance.handle, ctypes.addressof(info), False)
        codec_calls.probe(len(table), 1, table.ctypes.data, *args)
        table["rows"], table["cols"] = table["height"], table["width"]
        table["pitch"], table["status"] = 3 * table["width"], abi.FAILED
        return table

    def decode(self, places=None):
        table = self.table()
        places = np.arange(len(table)) if places is None else np.array(places)
        try:
            self.decoder.decode(table, places, self.bases, self.lane)
        finally:
            release(self.instance, table)
        return table["status"].tolist()

    def images(self):
        self.lane.synchronize()
        return [item.reshape(shape) for item, shape in zip(self.items, self.shapes, strict=True)]


@pytest.fixture
def bench():
    """A function from encoded images to a `Bench`."""
    made = []

    def make(pictures):
        made.append(Bench(pictures, GpuDevice(SimulatedDriver(), THREADS)))
        return made[-1]

    yield make
    for each in made:
        each.decoder.close()


def test_pixels_are_on_the_device_after_the_lanes_work(bench):
    made = bench(PICTURES)
    assert made.decode() == [abi.SUCCESS] * len(PICTURES)
    for got, picture in zip(made.images(), PICTURES, strict=True):
        npt.assert_array_equal(got, imdecode(picture, order="RGB"))


def _on_stub():
    from stub_cuda import calls

    device = make_device("cuda:1", THREADS)
    with device.scope():
        made = Bench(PICTURES, device)
        before = len(calls.calls())
        decoded = made.decode()
        images = [image.tolist() for image in made.images()]
        made.decoder.close()
    return [decoded, images, calls.calls()[before:].count("cuMemcpyAsync")]


def test_a_cuda_device_gets_them_by_one_copy_for_each_image():
    decoded, images, copies = stub_cuda.run(_on_stub)
    assert decoded == [abi.SUCCESS] * len(PICTURES)
    assert copies == len(PICTURES)
    for got, picture in zip(images, PICTURES, strict=True):
        npt.assert_array_equal(got, imdecode(picture, order="RGB"))


def test_only_the_places_that_are_asked_for_are_written(bench):
    made = bench(PICTURES)
    for item in made.items:
        item[:] = 0xAA
    assert made.decode([4, 1]) == [
        abi.SUCCESS if place in (1, 4) else abi.FAILED for place in range(len(PICTURES))
    ]
    for place, (got, picture) in enumerate(zip(made.images(), PICTURES, strict=True)):
        if place in (1, 4):
            npt.assert_array_equal(got, imdecode(picture, order="RGB"))
        else:
            assert (got == 0xAA).all()


def test_an_image_that_libjpeg_warns_of_is_not_decoded_and_all_others_are(bench):
    made = bench([WHOLE, DAMAGED, WHOLE])
    made.items[1][:] = 0xAA
    assert made.decode() == [abi.SUCCESS, abi.FAILED, abi.SUCCESS]
    first, damaged, last = made.images()
    npt.assert_array_equal(first, last)
    assert (damaged == 0xAA).all()


def test_pinned_memory_that_is_still_being_copied_is_not_written(bench):
    """The simulated device fails where the lane's work is not waited for."""
    made = bench(PICTURES)
    made.decode()
    with pytest.raises(OrderError, match="the host writes pinned memory that stream"):
        made.decode()
    made.lane.synchronize()
    assert made.decode() == [abi.SUCCESS] * len(PICTURES)


def test_decoders_are_destroyed_when_one_of_them_cannot_be_made(monkeypatch):
    instance, made = cpu_instance(), []
    decoder, destroyed = instance.decoder, []

    def limited(execution, options=""):
        if len(made) == 2:
            raise BackendError("nvImageCodec: no decoder for the CPU, status 5")
        made.append(decoder(execution, options))
        return made[-1]

    monkeypatch.setattr(instance, "decoder", limited)
    monkeypatch.setattr(instance, "destroy", destroyed.extend)
    with pytest.raises(BackendError, match="status 5"):
        CpuCodecs(instance, 3, THREADS, None)
    assert destroyed == made
    monkeypatch.undo()
    instance.destroy(made)
