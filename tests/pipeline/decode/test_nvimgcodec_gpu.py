"""The decoder for GPUs: all of its batch path on the CPU, and on a GPU what only that can show."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from decoding import decode_all
from harness import open_device

from gpuio.devices import make_device
from gpuio.devices.cpu import CpuDevice
from gpuio.devices.lanes import Lane
from gpuio.devices.ring import Ring
from gpuio.devices.simulated import OrderError
from gpuio.errors import BackendError, DecodeError
from gpuio.formats.codec import imdecode
from gpuio.pipeline.decode import (
    hardware,
    make_decoder,
    nvimgcodec_abi,
    nvimgcodec_gpu,
    nvimgcodec_native,
)
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.batch_split import KINDS
from gpuio.pipeline.decode.hardware import Engines
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder
from gpuio.pipeline.decode.windows import decode_jobs, open_headers
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Order
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.testing import draw, encode, write_rec

SMOOTH = draw(101, 133, seed=3)
GRAY = draw(40, 52, 1, seed=2)
RGBA = draw(40, 52, 4, seed=1)

PICTURES = {
    "jpeg 4:4:4": encode(SMOOTH, "JPEG", subsampling=0),
    "jpeg 4:2:2": encode(SMOOTH, "JPEG", subsampling=1),
    "jpeg 4:2:0": encode(SMOOTH, "JPEG", subsampling=2),
    "jpeg 4:1:1": encode(SMOOTH, "JPEG", subsampling="4:1:1"),
    "jpeg of one pixel": encode(draw(1, 1), "JPEG"),
    "jpeg with restarts": encode(SMOOTH, "JPEG", restart_marker_rows=1),
    "jpeg progressive": encode(SMOOTH, "JPEG", progressive=True),
    "jpeg gray": encode(GRAY, "JPEG"),
    "jpeg rgb": encode(SMOOTH, "JPEG", keep_rgb=True),
    "jpeg cmyk": encode(SMOOTH, "JPEG", mode="CMYK"),
    "jpeg turned": encode(SMOOTH, "JPEG", orientation=6),
    "jpeg with bytes behind it": encode(SMOOTH, "JPEG") + bytes(3000),
    "png": encode(SMOOTH),
    "png gray": encode(GRAY),
    "png rgba": encode(RGBA),
    "png turned": encode(SMOOTH, "PNG", orientation=8),
    "bmp": encode(SMOOTH, "BMP"),
    "tiff": encode(SMOOTH, "TIFF"),
    "webp": encode(SMOOTH, "WEBP", quality=80),
    "ppm": encode(SMOOTH, "PPM"),
}
BROKEN = {
    "empty": b"",
    "text": b"this is no image",
    "noise": np.random.default_rng(6).bytes(3000),
    "noise that starts like a jpeg": PICTURES["jpeg 4:2:0"][:30]
    + np.random.default_rng(8).bytes(3000),
    "jpeg cut in its head": PICTURES["jpeg 4:2:0"][:200],
    "jpeg cut in the middle": PICTURES["jpeg 4:2:0"][: len(PICTURES["jpeg 4:2:0"]) // 2],
    "jpeg cut, but with an end": PICTURES["jpeg 4:2:0"][: len(PICTURES["jpeg 4:2:0"]) // 2]
    + b"\xff\xd9",
    "png cut": PICTURES["png"][: len(PICTURES["png"]) // 2],
    "webp cut": PICTURES["webp"][: len(PICTURES["webp"]) // 2],
}


@dataclass(frozen=True)
class Memory:
    """Where items are decoded to: on a GPU, or in the memory of the simulated one."""

    device: object

    def empty(self, nbytes):
        driver = self.device._driver
        with self.device.scope():
            array = driver.empty((max(nbytes, 1),), np.uint8)
            stream = driver.new_stream()
            driver.fill(driver.address(array), 0xAA, nbytes, stream)
            driver.synchronize(driver.record(stream))
        return array

    def address(self, array):
        return self.device.address(array)

    def to_host(self, array):
        if isinstance(array, np.ndarray):
            return array
        with self.device.scope():
            return array.get()


def run_step(device, call, bases):
    """Run the `HostStep` of a call in the calling thread, until the device is done."""
    lane = Lane(device._driver, 0)
    with device.scope():
        call.kernel(call.table, bases, lane)
        lane.synchronize()


def run(decoder, dataset, windows=None):
    """Images and faults, as `decode_all`, through `HostStep` itself.

    Where `windows` is given, images are those parts.
    """
    memory = Memory(decoder.device)
    count, ring = len(dataset), Ring(decoder.device.empty_host, 1)
    (records,) = RecordReader(dataset)(Order(count, count).batches(0), ring)
    headers = open_headers(decoder, records)
    box = np.concatenate([np.zeros_like(headers.size), headers.size], axis=1)
    if windows is not None:
        there = headers.size[:, 0] > 0
        box[there] = np.array(windows, np.int32)[there]
    jobs = decode_jobs(decoder, records, headers, box)
    items = [memory.empty(int(nbytes)) for nbytes in jobs.nbytes]
    try:
        (call,) = decoder.decode(jobs)
        bases = np.array([memory.address(item) for item in items], np.uint64)
        run_step(decoder.device, call, bases)
        while decoder.retry(records, jobs):
            pass
    finally:
        decoder.release(headers)
    faults = records.samples.faults
    images = []
    for place in range(count):
        y, x, height, width = box[place].tolist()
        if place in faults:
            images.append(None)
            continue
        pitch = int(jobs.pitch[place])
        if jobs.in_scratch[place]:
            pixels, start = memory.to_host(items[place]), int(jobs.origin[place])
        else:
            pixels, start = jobs.pixels[place], 0
        start = (start + y * pitch + x * decoder.channels) % 2**64
        rows = [start + row * pitch for row in range(height)]
        line = width * decoder.channels
        image = np.stack([pixels[row : row + line] for row in rows])
        images.append(image.reshape(height, width, decoder.channels))
    return images, faults


@pytest.fixture
def dataset(tmp_path):
    """A function from encoded images to a data set of them."""

    def made(images: Sequence[bytes], name: str = "a") -> RecordIOSource:
        path = Path(tmp_path / f"{name}.rec")
        write_rec(path, images)
        return RecordIOSource.open(path)

    return made


@pytest.fixture
def opened():
    """A function that makes decoders, which are closed at the end."""
    made = []

    def make(dataset, channels=3, device=None, *, told=None, **options):
        device = device or open_device("simulated")
        told = DecoderOptions(device, channels, dataset, **(told or {}))
        made.append(NvImageCodecGpuDecoder(told, **options))
        return made[-1]

    yield make
    for decoder in made:
        decoder.close()


def by_item(dataset, channels=3, windows=None):
    """As `run`, by the decoder for the CPU."""
    decoder = make_decoder("nvimgcodec", DecoderOptions(CpuDevice(2), channels, dataset))
    try:
        found = decode_all(decoder, dataset, windows)
    finally:
        decoder.close()
    return found.images, found.faults


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_batches_are_decoded_as_by_the_cpu_decoder(dataset, opened, channels):
    data = dataset(list(PICTURES.values()))
    images, faults = run(opened(data, channels), data)
    expected, expected_faults = by_item(data, channels)
    assert sorted(faults) == sorted(expected_faults)
    for name, got, image in zip(PICTURES, images, expected, strict=True):
        npt.assert_array_equal(got, image, name)


def test_pixels_are_those_of_opencv(dataset, opened):
    cv2 = pytest.importorskip("cv2")
    data = dataset(list(PICTURES.values()))
    images, faults = run(opened(data), data)
    assert not faults
    for name, got in zip(PICTURES, images, strict=True):
        encoded = np.frombuffer(PICTURES[name], np.uint8)
        npt.assert_array_equal(got, cv2.imdecode(encoded, 1)[..., ::-1], name)


@pytest.mark.parametrize("chunk", [1, 3, 20, 100, None])
def test_chunks_change_nothing(dataset, with_engines, chunk):
    data = dataset(list(PICTURES.values()))
    images, faults = run(with_engines(data, chunk=chunk), data)
    assert not faults
    for got, image in zip(images, by_item(data)[0], strict=True):
        npt.assert_array_equal(got, image)


def test_whole_images_are_decoded_for_windows(dataset, opened):
    """No version is known whose GPU decoder can be trusted with windows."""
    data = dataset([PICTURES["jpeg 4:2:0"]] * 3)
    windows = [(10, 20, 30, 40), (0, 0, 101, 133), (100, 132, 1, 1)]
    decoder = opened(data)
    assert not decoder.windowed
    images, _ = run(decoder, data, windows)
    whole = imdecode(PICTURES["jpeg 4:2:0"], order="RGB")
    for got, (y, x, height, width) in zip(images, windows, strict=True):
        npt.assert_array_equal(got, whole[y : y + height, x : x + width])
    assert decoder.stats()["decoded_in_part"] == 0


def test_windows_are_decoded_where_that_is_wanted(dataset, opened):
    pictures = [PICTURES[f"jpeg {kind}"] for kind in ("4:4:4", "4:2:0", "progressive")]
    data = dataset([*pictures, PICTURES["png"], PICTURES["png gray"]])
    windows = [(10, 20, 30, 40), (0, 0, 101, 133), (100, 132, 1, 1), (3, 5, 7, 9), (0, 8, 9, 39)]
    decoder = opened(data, windowed=True, chunk=2)
    images, faults = run(decoder, data, windows)
    assert not faults
    for got, image in zip(images, by_item(data, windows=windows)[0], strict=True):
        npt.assert_array_equal(got, image)
    assert decoder.stats()["decoded_in_part"] == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_a_broken_image_is_a_fault_and_harms_no_other(dataset, opened, channels):
    good = PICTURES["jpeg 4:2:0"]
    data = dataset([image for broken in BROKEN.values() for image in (good, broken)] + [good])
    images, faults = run(opened(data, channels), data)
    expected, expected_faults = by_item(data, channels)
    assert sorted(faults) == sorted(expected_faults)
    assert len(faults) == len(BROKEN)
    for fault in faults.values():
        assert isinstance(fault, DecodeError)
        assert "a.rec: record " in str(fault)
    for got in images[::2]:
        npt.assert_array_equal(got, expected[0])


def test_a_jpeg_without_its_end_is_left_to_the_portable_codec(dataset, opened):
    whole = PICTURES["jpeg 4:2:0"]
    decoder = opened(data := dataset([whole, whole[:-2], whole[: len(whole) // 2]]))
    images, faults = run(decoder, data)
    assert list(faults) == [2]
    npt.assert_array_equal(images[1], images[0])
    assert decoder.stats()["portable"] == 1
    assert decoder.stats()["cpu"] == 1


def test_a_jpeg_that_libjpeg_warns_of_is_left_to_the_portable_codec(dataset, opened):
    """nvImageCodec's threads do not tell which image a warning is about: all are looked at."""
    whole = PICTURES["jpeg 4:2:0"]
    middle = len(whole) // 2
    lost = whole[:middle] + whole[middle + 100 :]
    images, faults = run(opened(data := dataset([whole, lost, PICTURES["png"]])), data)
    assert list(faults) == [1]
    npt.assert_array_equal(images[0], imdecode(whole, order="RGB"))
    images, faults = run(opened(data, told={"tolerant": True}), data)
    assert not faults
    npt.assert_array_equal(images[1], imdecode(lost, order="RGB", tolerant=True))


SOUND_MARKERS = {name: picture for name, picture in PICTURES.items() if name.startswith("jpeg")} | {
    "fill bytes": b"\xff\xd8" + b"\xff" * 5 + PICTURES["jpeg gray"][3:],
    "much behind its end": PICTURES["jpeg gray"] + bytes(5000),
}


def odd_markers():
    whole, restarts = PICTURES["jpeg 4:2:0"], PICTURES["jpeg with restarts"]
    middle = len(whole) // 2
    second = restarts.index(b"\xff\xd1")
    return {
        "no end": whole[:-2],
        "cut": whole[:middle],
        "written over": whole[:middle] + b"\xff" * 64 + b"\x01" + whole[middle + 65 :],
        "a restart is missing": restarts[:second] + restarts[second + 2 :],
        "stray bytes in its head": whole[:2] + b"stray" + whole[2:],
        "a segment that goes too far": whole[:4] + b"\xff\xff" + whole[6:],
        "nothing": b"\xff\xd8\xff\xd9",
    }


def test_markers_tell_a_whole_jpeg(dataset, opened):
    for pictures, ended in ((SOUND_MARKERS, 1), (odd_markers(), 0)):
        decoder = opened(data := dataset(list(pictures.values())))
        ring = Ring(decoder.device.empty_host, 1)
        (records,) = RecordReader(data)(Order(len(data), len(data)).batches(0), ring)
        images = decoder.open(records)
        found = dict(zip(pictures, images.table["whole"].tolist(), strict=True))
        assert found == dict.fromkeys(pictures, ended)
        decoder.release(images)


def test_a_decoder_says_what_it_decoded(dataset, opened):
    spoilt = bytearray(PICTURES["png"])
    spoilt[len(spoilt) // 2] ^= 0xFF
    data = dataset([PICTURES["png"], bytes(spoilt), PICTURES["jpeg gray"], PICTURES["jpeg turned"]])
    decoder = opened(data)
    records = RecordReader(data)
    ring = Ring(decoder.device.empty_host, 1)
    (batch,) = records(Order(4, 4).batches(0), ring)
    images = decoder.open(batch)
    box = np.zeros((4, 4), np.int32)
    box[:3, 2:] = images.size[:3]
    jobs = DecodeJobs(images, box, 3)
    (call,) = decoder.decode(jobs)
    memory = Memory(decoder.device)
    items = [memory.empty(50_000) for _ in range(4)]
    run_step(decoder.device, call, np.array([memory.address(item) for item in items], np.uint64))
    assert call.table["status"].tolist()[::2] == [nvimgcodec_abi.SUCCESS] * 2
    assert decoder.decoded(jobs).tolist() == [True, False, True, False]
    assert not call.table["stream"][:3].any(), "code streams are still open"
    decoder.release(images)
    assert not call.table["stream"].any()


def test_images_are_counted_by_the_codec_that_decoded_them(dataset, opened):
    data = dataset([PICTURES["jpeg 4:2:0"], PICTURES["png"], PICTURES["tiff"], b"", b"text"])
    decoder = opened(data)
    for times in (1, 2):
        run(decoder, data)
        stats = decoder.stats()
        assert stats["cpu"] == 2 * times
        assert stats["portable"] == times
        assert (stats["hardware"], stats["hybrid"], stats["engines"]) == (0, 0, 0)
        assert stats["engines_unavailable_reason"] == "the device is the CPU"


def skip(native, skipped, part):
    """Let a native decoder report images as decoded of which it writes only a part."""
    decode = native.decode

    def claim(table, places, bases, stream):
        decode(table, np.setdiff1d(places, skipped), bases, stream)
        for place in set(skipped) & set(places.tolist()):
            row = table[place]
            nbytes = int(row["rows"] * row["pitch"] * part)
            ctypes.memset(int(bases[place]), 0, nbytes)
            row["status"] = nvimgcodec_abi.SUCCESS

    native.decode = claim


@pytest.mark.parametrize("part", [0, 0.5, 0.9])
def test_images_that_are_claimed_but_not_written_are_decoded_again_and_counted(
    dataset, opened, part
):
    small = "jpeg 4:2:2" if part else "jpeg of one pixel"
    names = ["jpeg 4:2:0", "jpeg gray", small, "png", "jpeg 4:4:4"]
    data = dataset([PICTURES[name] for name in names])
    decoder = opened(data)
    for lane in decoder._codecs.lanes:
        skip(lane[0], [1, 2, 3], part)
    images, faults = run(decoder, data)
    assert not faults
    for name, got in zip(names, images, strict=True):
        npt.assert_array_equal(got, imdecode(PICTURES[name], order="RGB"), name)
    stats = decoder.stats()
    assert (stats["unwritten"], stats["portable"]) == (3, 3)


@pytest.fixture
def with_engines(dataset, opened, monkeypatch):
    """A function that makes decoders with engines, which are played by codecs for the CPU."""
    monkeypatch.setattr(
        nvimgcodec_native, "BACKENDS", {"hardware": (nvimgcodec_abi.CPU_ONLY_BACKEND,)}
    )
    found = Engines(7), nvimgcodec_gpu.CPU_MODULES, ("hardware", "cpu")
    monkeypatch.setattr(nvimgcodec_gpu, "_find_engines", lambda options, library: found)
    return lambda data, **options: opened(data, told={"engine_share": 1.0}, **options)


def break_engines(decoder, status, broken):
    """Let engines report a status for all images while `broken` holds something."""
    for lane in decoder._codecs.lanes:
        engines, decode = lane[0], lane[0].decode
        assert engines.kind == "hardware"

        def fail(table, places, bases, stream, decode=decode):
            if not broken:
                decode(table, places, bases, stream)
            else:
                broken.pop()
                table["status"][places] = status

        engines.decode = fail


def jpegs(count):
    return [encode(draw(30, 40, seed=n), "JPEG", subsampling=n % 3) for n in range(count)]


def test_a_batch_that_engines_fail_with_is_decoded_without_them(dataset, with_engines):
    data = dataset(jpegs(6))
    decoder = with_engines(data)
    break_engines(decoder, nvimgcodec_abi.FAILED, [1])
    for decoded in 0, 6:
        images, faults = run(decoder, data)
        assert not faults
        stats = decoder.stats()
        assert (stats["engine_failures"], stats["hardware"], stats["cpu"]) == (1, decoded, 6)
        for got, image in zip(images, by_item(data)[0], strict=True):
            npt.assert_array_equal(got, image)


def test_engines_that_fail_twice_in_a_row_are_given_up_with_a_warning(dataset, with_engines):
    data = dataset(jpegs(6))
    decoder = with_engines(data)
    decoder._messages.add("nvjpegDecodeBatchedEx: status 8")
    break_engines(decoder, nvimgcodec_abi.FAILED, [1, 1])
    run(decoder, data)
    with pytest.warns(UserWarning, match=r"without the GPU's JPEG engines: .* status 8"):
        run(decoder, data)
    for _ in range(2):
        run(decoder, data)
    stats = decoder.stats()
    assert (stats["engines"], stats["engine_failures"], stats["hardware"]) == (0, 2, 0)
    assert "nvjpegDecodeBatchedEx: status 8" in stats["engines_unavailable_reason"]
    assert stats["cpu"] == 24


def test_engines_that_do_not_start_are_done_without_and_the_reason_is_told(
    dataset, with_engines, monkeypatch
):
    data, made = dataset(jpegs(3)), nvimgcodec_abi.Instance.decoder
    left = [0]

    def fail(self, execution, options=""):
        left[0] += 1
        if left[0] == 1:
            raise BackendError("nvImageCodec: no decoder for GPU 0, status 5")
        return made(self, execution, options)

    monkeypatch.setattr(nvimgcodec_abi.Instance, "decoder", fail)
    with pytest.warns(UserWarning, match="without the GPU's JPEG engines: .* status 5"):
        decoder = with_engines(data)
    _, faults = run(decoder, data)
    stats = decoder.stats()
    assert not faults
    assert (stats["engines"], stats["hardware"], stats["cpu"]) == (0, 0, 3)
    assert "status 5" in stats["engines_unavailable_reason"]


def test_images_that_engines_do_not_take_are_no_failure(dataset, with_engines):
    """Progressive JPEGs, for example: 0x21 says that their sampling is not supported."""
    data = dataset(jpegs(6))
    decoder = with_engines(data)
    break_engines(decoder, 0x21, [1, 1, 1])
    for _ in range(4):
        run(decoder, data)
    stats = decoder.stats()
    assert (stats["engine_failures"], stats["cpu"], stats["hardware"]) == (0, 18, 6)


def test_damaged_images_are_no_failure_of_engines(dataset, with_engines):
    whole = PICTURES["jpeg 4:2:0"]
    middle = len(whole) // 2
    data = dataset([whole[:middle] + whole[middle + 100 :]])
    decoder = with_engines(data)
    break_engines(decoder, nvimgcodec_abi.FAILED, [1, 1, 1])
    for _ in range(3):
        _, faults = run(decoder, data)
        assert list(faults) == [0]
    assert decoder.stats()["engine_failures"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on POSIX alone")
def test_a_forked_process_leaves_decoders_to_the_one_that_made_them(dataset, opened, monkeypatch):
    decoder, destroyed = opened(dataset(jpegs(2)), told={"decode_threads": 2}), []
    monkeypatch.setattr(
        nvimgcodec_abi.Instance, "destroy", lambda self, decoders: destroyed.extend(decoders)
    )
    child = os.fork()
    if child == 0:
        decoder.close()
        os._exit(len(destroyed))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    decoder.close()
    assert len(destroyed) == 2  # one for each lane


def test_what_no_codec_of_the_gpu_decodes_is_decoded_by_several_threads(dataset, opened):
    data = dataset(jpegs(8))
    decoder = opened(data)
    for (native,) in decoder._codecs.lanes:
        native.decode = lambda table, places, bases, stream: None
    both, decode = threading.Barrier(2), decoder.decode_image

    def meet(encoded):
        both.wait(60)
        return decode(encoded)

    decoder.decode_image = meet
    images, faults = run(decoder, data)
    assert not faults
    for got, image in zip(images, by_item(data)[0], strict=True):
        npt.assert_array_equal(got, image)
    assert decoder.stats()["portable"] == 8


def test_what_nvimagecodec_says_of_damage_is_in_the_stats(dataset, opened):
    whole = PICTURES["jpeg 4:2:0"]
    data = dataset([whole[:300] + b"\xff\xc4\x00\x04\xff\xff" + whole[300:]])
    decoder = opened(data)
    run(decoder, data)
    run(decoder, data)
    assert decoder.stats()["decoder_messages"] == ["Invalid marker"]


def test_a_codec_module_that_does_not_start_is_in_the_stats(dataset, opened, monkeypatch):
    made = nvimgcodec_abi.Instance.__init__

    def start(self, *args):
        made(self, *args)
        self.problems.append("libnvjpeg_ext.so does not start, status 4")

    monkeypatch.setattr(nvimgcodec_abi.Instance, "__init__", start)
    decoder = opened(dataset([PICTURES["png"]]))
    assert "libnvjpeg_ext.so does not start, status 4" in decoder.stats()["decoder_messages"]


def test_engines_never_write_before_the_canaries_are_there(dataset, opened, monkeypatch):
    """The host waits for them: else an engine's pixels would be overwritten, as on Hopper."""
    data = dataset([PICTURES["jpeg 4:2:0"]] * 2)
    decoder = opened(data)
    monkeypatch.setattr(Lane, "synchronize", lambda self, event=None: None)
    with pytest.raises(OrderError, match=r"the host writes device memory that stream \d+ has yet"):
        run(decoder, data)


def test_cmyk_with_four_channels_is_left_to_the_portable_codec(dataset, opened):
    """nvJPEG writes pixels of three bytes there, and reports success; the CPU refuses them."""
    decoder = opened(data := dataset([PICTURES["jpeg cmyk"], PICTURES["png rgba"]]), channels=4)
    _, faults = run(decoder, data)
    assert list(faults) == list(by_item(data, 4)[1]) == [0]
    assert str(faults[0]).endswith("image has 3 channels, not 4")
    assert decoder.stats()["cpu"] == 1


def test_decoders_count_each_for_itself(dataset, opened):
    data = dataset([PICTURES["jpeg 4:2:0"]] * 5)
    first, second = opened(data), opened(data)
    run(first, data)
    assert (first.stats()["cpu"], second.stats()["cpu"]) == (5, 0)


def test_pinned_memory_is_not_written_while_copies_before_a_failed_one_are_under_way(
    dataset, opened, monkeypatch
):
    """The simulated device fails where it is."""
    data = dataset(jpegs(4))
    decoder, copy, left = opened(data), Lane.copy, [1, 1]

    def copy_two(self, *args):
        if not left:
            raise BackendError("the third copy fails")
        left.pop()
        copy(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Lane, "copy", copy_two)
        with pytest.raises(BackendError, match="the third copy fails"):
            run(decoder, data)
    _images, faults = run(decoder, data)
    assert not faults


def test_a_batch_of_nothing_to_decode_is_no_call(dataset, opened):
    data = dataset([b"", PICTURES["tiff"]])
    images, faults = run(opened(data), data)
    assert list(faults) == [0]
    npt.assert_array_equal(images[1], SMOOTH)


def test_one_image_does_not_hang(dataset, opened):
    data = dataset([PICTURES["jpeg 4:2:0"]])
    decoder = opened(data, device=make_device("simulated", 8))
    for _ in range(3):
        images, _ = run(decoder, data)
        assert images[0].shape == SMOOTH.shape


def test_warming_up_is_not_counted(dataset, opened):
    data = dataset([PICTURES["jpeg 4:2:0"]] * 5)
    decoder = opened(data)
    decoder.prepare(64)
    decoder.device.rest()
    assert decoder.stats()["cpu"] == 0
    _images, faults = run(decoder, data)
    assert not faults
    assert decoder.stats()["cpu"] == 5


def test_a_batch_that_nobody_decodes_gives_its_streams_back(dataset, opened):
    data = dataset([PICTURES["jpeg 4:2:0"]] * 5)
    decoder = opened(data)
    records = RecordReader(data)
    (batch,) = records(Order(5, 5).batches(0), Ring(decoder.device.empty_host, 1))
    images = decoder.open(batch)
    table = images.table
    assert table["stream"].all()
    del images
    gc.collect()
    assert not table["stream"].any()


def _resident():
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_level(dataset, opened):
    data = dataset([*PICTURES.values(), *BROKEN.values()])
    decoder = opened(data)
    seen = []
    for number in range(200):
        run(decoder, data)
        if number % 40 == 39:
            seen.append(_resident())
    assert seen[-1] - seen[1] < 4 << 20, seen


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_closed_decoders_leave_nothing(dataset):
    data = dataset([PICTURES["jpeg 4:2:0"], b"text"])
    seen = []
    for number in range(100):
        decoder = NvImageCodecGpuDecoder(DecoderOptions(open_device("simulated"), 3, data))
        run(decoder, data)
        decoder.close()
        decoder.close()
        if number % 20 == 19:
            gc.collect()
            seen.append(_resident())
    assert seen[-1] - seen[1] < 4 << 20, seen


def test_others_run_while_a_batch_is_decoded(dataset, opened):
    """The call holds no GIL: else a thread would stand still for as long as it takes."""
    data = dataset([encode(draw(600, 800), "JPEG")] * 24)
    decoder = opened(data, device=make_device("simulated", 1))
    run(decoder, data)
    gaps, stop = [], threading.Event()

    def spin():
        last = time.perf_counter()
        while not stop.is_set():
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=spin)
    began = time.perf_counter()
    thread.start()
    (native,) = decoder._codecs.lanes[0]
    decode = native.decode
    took = []

    def timed(*given):
        start = time.perf_counter()
        decode(*given)
        took.append((start, time.perf_counter()))

    native.decode = timed
    try:
        run(decoder, data)
    finally:
        stop.set()
        thread.join()
        del native.decode
    (start, end), ticks = took[0], began + np.cumsum(gaps)
    inside = (ticks > start) & (ticks < end)
    assert inside.sum() > 100, f"{inside.sum()} steps of the other thread in {end - start:.3f} s"


def test_an_interpreter_may_end_with_a_decoder_open(tmp_path):
    write_rec(tmp_path / "a.rec", [PICTURES["jpeg 4:2:0"]])
    script = (
        "from gpuio.devices import make_device\n"
        "from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder\n"
        "from gpuio.sources.recordio.source import RecordIOSource\n"
        f"dataset = RecordIOSource.open({str(tmp_path / 'a.rec')!r})\n"
        "from gpuio.pipeline.decode.base import DecoderOptions\n"
        "device = make_device('simulated', 2)\n"
        "decoder = NvImageCodecGpuDecoder(DecoderOptions(device, 3, dataset))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_unknown_kinds_are_named(dataset):
    data = dataset([PICTURES["png"]])
    for kinds in (("cpu", "fast"), ()):
        with pytest.raises(ValueError, match="kinds must be some of hardware, hybrid, cpu"):
            NvImageCodecGpuDecoder(DecoderOptions(CpuDevice(1), 3, data), kinds=kinds)


def test_the_hardware_alone_is_refused_where_it_may_not_be_used(dataset, monkeypatch):
    class Gpu(CpuDevice):
        device_id = 0

    monkeypatch.setattr(hardware, "load_nvjpeg", lambda cuda: None)
    monkeypatch.setattr(hardware, "_capability", lambda device_id: (7, 5))
    data = dataset([PICTURES["png"]])
    for engines, deterministic, reason in (
        (Engines(7), True, "deterministic"),
        (Engines(0, "none in this slice"), False, "none in this slice"),
    ):
        monkeypatch.setattr(hardware, "find_engines", lambda nvjpeg, found=engines: found)
        with pytest.raises(BackendError, match=reason):
            NvImageCodecGpuDecoder(
                DecoderOptions(Gpu(1), 3, data, deterministic), kinds=("hardware",)
            )


def test_without_nvjpeg_there_is_no_decoder_for_a_gpu(dataset, monkeypatch):
    class Gpu(CpuDevice):
        device_id = 0

    monkeypatch.setattr(hardware, "_NAMES", {})
    monkeypatch.setattr(hardware, "_FOLDERS", {})
    library = dataclasses.replace(nvimgcodec_abi.load(), cuda=99)
    monkeypatch.setattr(nvimgcodec_abi, "load", lambda: library)
    with pytest.raises(BackendError, match=r"nvJPEG cannot be loaded .*gpuio\[cuda99\]"):
        NvImageCodecGpuDecoder(DecoderOptions(Gpu(1), 3, dataset([PICTURES["png"]])))


# From here on: what only a GPU can show. Pictures are compared with those of libjpeg-turbo, as
# other decoders round differently.


@pytest.fixture
def gpu():
    return open_device("cuda:0")


@pytest.fixture(params=[("hardware",), ("hybrid",), ("cpu",), KINDS], ids="+".join)
def on_gpu(request, gpu, opened):
    """A function that makes decoders of one kind of codec, or of all."""

    def make(dataset, channels=3, **options):
        decoder = opened(dataset, channels, gpu, kinds=KINDS)
        if request.param == ("hardware",) and not decoder.engines.count:
            pytest.skip(f"no JPEG engine: {decoder.engines.reason}")
        return opened(dataset, channels, gpu, kinds=request.param, **options)

    return make


def assert_alike(got, expected, name=""):
    """The same picture, up to rounding."""
    assert got.shape == expected.shape, name
    apart = np.abs(got.astype(np.int16) - expected)
    assert apart.mean() < 0.5, f"{name}: {apart.mean():.3f} levels apart on average"
    assert (apart > 8).mean() < 0.001, f"{name}: {(apart > 8).sum()} of {apart.size} differ by 9"


def photographs(count, seed=0):
    """Baseline JPEGs of several sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(33, 400, (count, 2)).tolist()
    return [
        encode(draw(height, width, seed=seed + n), "JPEG", subsampling=n % 3, quality=95)
        for n, (height, width) in enumerate(sizes)
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gpu_pictures_are_those_of_the_cpu(dataset, on_gpu, channels):
    images = [*PICTURES.values(), *photographs(32)]
    data = dataset(images)
    found, faults = run(on_gpu(data, channels), data)
    expected, expected_faults = by_item(data, channels)
    assert sorted(faults) == sorted(expected_faults)
    for place, (got, image) in enumerate(zip(found, expected, strict=True)):
        if image is not None:
            assert_alike(got, image, [*PICTURES, *map(str, range(32))][place])


@pytest.mark.gpu
def test_gpu_each_codec_gets_its_pictures(dataset, gpu, opened):
    data = dataset([*photographs(32), *PICTURES.values()])
    decoder = opened(data, device=gpu)
    _, faults = run(decoder, data)
    assert not faults
    stats = decoder.stats()
    first = "hardware" if stats["engines"] else "hybrid"
    assert stats[first] >= 32
    assert stats["hybrid"] >= 2, "4:1:1 and progressive"
    assert stats["cpu"] >= 4, "PNG, BMP, WebP, PPM"
    assert stats["portable"] == 4, "CMYK, TIFF and what is turned"
    decoded = sum(stats[kind] for kind in (*KINDS, "portable"))
    assert decoded == len(data)


@pytest.mark.gpu
def test_gpu_engines_take_the_share_of_the_warm_up(dataset, gpu, opened):
    count = 64
    data = dataset(photographs(count))
    decoder = opened(data, device=gpu, told={"engine_share": 1.0})
    if not decoder.engines.count:
        pytest.skip(f"no JPEG engine: {decoder.engines.reason}")
    with gpu.scope():
        decoder.prepare(count)
    gpu.rest()
    run(decoder, dataset(photographs(3), "three"))  # a small batch in between changes nothing
    for times in (1, 2):
        run(decoder, data)
        assert decoder.stats()["hardware"] == 3 + times * count


@pytest.mark.gpu
@pytest.mark.timeout(120)
def test_gpu_damage_harms_no_other_picture(dataset, on_gpu):
    good = photographs(1, seed=5)[0]
    data = dataset([image for broken in BROKEN.values() for image in (good, broken)] + [good])
    decoder = on_gpu(data)
    expected, _ = by_item(data)
    for _ in range(3):  # it is fit for use afterwards
        images, faults = run(decoder, data)
        assert {1, 3, 5, 9, 11} <= set(faults), "what no decoder can read"
        for got in images[::2]:
            assert_alike(got, expected[0])


@pytest.mark.gpu
@pytest.mark.timeout(120)
def test_gpu_survives_random_damage(dataset, on_gpu):
    rng = np.random.default_rng(9)
    good, damaged = photographs(16, seed=40), []
    for image in photographs(48, seed=80):
        spoilt = np.frombuffer(image, np.uint8).copy()
        at = rng.integers(0, len(spoilt) - 2, rng.integers(1, 30))
        spoilt[at] = rng.integers(0, 256, len(at))
        damaged.append(spoilt.tobytes())
    data, only_good = dataset(good + damaged), dataset(good, "good")
    decoder = on_gpu(data)
    images, faults = run(decoder, data)
    assert not {*range(16)} & set(faults)
    after, _ = run(decoder, only_good)
    for got, again, expected in zip(images, after, by_item(only_good)[0], strict=False):
        assert_alike(got, expected)
        assert_alike(again, expected)


@pytest.mark.gpu
def test_gpu_deterministic_pictures_do_not_depend_on_the_batch(dataset, gpu, opened):
    images = photographs(48, seed=3)
    data = dataset(images)
    decoder = opened(data, device=gpu, told={"deterministic": True})
    first, _ = run(decoder, data)
    again, _ = run(opened(data, device=gpu, told={"deterministic": True}, chunk=5), data)
    turned = dataset(images[::-1], "turned")
    last, _ = run(opened(turned, device=gpu, told={"deterministic": True}), turned)
    for one, two, three in zip(first, again, last[::-1], strict=True):
        npt.assert_array_equal(one, two)
        npt.assert_array_equal(one, three)
    assert decoder.stats()["hardware"] == 0


@pytest.mark.gpu
@pytest.mark.slow
def test_gpu_work_that_follows_on_the_stream_finds_the_pictures(dataset, on_gpu):
    """Decode into the same memory again and again; each time a copy follows, after slow work.

    The host waits for the copy before the memory is written again, and for nothing else: that
    is what the device promises, as engines of Hopper do not keep to the stream.
    """
    import cupy

    count, rounds = 16, 60
    sets = [dataset(photographs(count, seed=1000 * n), f"set{n}") for n in range(3)]
    expected = [by_item(data)[0] for data in sets]
    decoder = on_gpu(sets[0])
    memory, device = Memory(decoder.device), decoder.device
    lane = Lane(device._driver, 0)
    stream = lane._stream
    slots = [memory.empty(400 * 400 * 3 + 64) for _ in range(count)]
    bases = np.array([memory.address(slot) for slot in slots], np.uint64)
    with device.scope(), stream:
        slow = cupy.ones((2048, 2048), np.float32)
        cupy.sin(slow)
        stream.synchronize()
    kept = []
    for number in range(rounds):
        data = sets[number % 3]
        records = RecordReader(data)
        ring = Ring(device.empty_host, 1)
        (batch,) = records(Order(count, count).batches(0), ring)
        opened_images = decoder.open(batch)
        box = np.zeros((count, 4), np.int32)
        box[:, 2:] = opened_images.size
        jobs = DecodeJobs(opened_images, box, 3)
        (call,) = decoder.decode(jobs)
        with device.scope(), stream:
            call.kernel(call.table, bases, lane)
            assert decoder.decoded(jobs).all()
            for _ in range(100):
                cupy.sin(slow)
            copies = [slot.copy() for slot in slots]
        stream.synchronize()
        decoder.release(opened_images)
        kept.append((number % 3, opened_images.size, copies))
    for which, size, copies in kept:
        for copy, (height, width), image in zip(
            copies, size.tolist(), expected[which], strict=True
        ):
            pixels = memory.to_host(copy)[: height * width * 3]
            assert_alike(pixels.reshape(height, width, 3), image)


@pytest.mark.gpu
@pytest.mark.slow
def test_gpu_memory_stays_level(dataset, gpu, opened):
    import cupy

    data = dataset([*photographs(32), *PICTURES.values(), *BROKEN.values()])
    decoder = opened(data, device=gpu)
    seen = []
    for number in range(200):
        run(decoder, data)
        if number % 50 == 49:
            with gpu.scope():
                cupy.get_default_memory_pool().free_all_blocks()
                seen.append(cupy.cuda.runtime.memGetInfo()[0])
    assert seen[0] - seen[-1] < 32 << 20, seen


@pytest.mark.gpu
@pytest.mark.slow
def test_gpu_closed_decoders_leave_nothing(dataset, gpu):
    import cupy

    data, seen = dataset(photographs(8)), []
    for number in range(12):
        decoder = NvImageCodecGpuDecoder(DecoderOptions(gpu, 3, data))
        run(decoder, data)
        decoder.close()
        del decoder
        gc.collect()
        if number % 4 == 3:
            with gpu.scope():
                cupy.get_default_memory_pool().free_all_blocks()
                seen.append(cupy.cuda.runtime.memGetInfo()[0])
    assert seen[0] - seen[-1] < 64 << 20, seen


ARITHMETIC = PICTURES["jpeg gray"].replace(b"\xff\xc0", b"\xff\xc9")


@pytest.mark.parametrize(
    ("picture", "taken"),
    [
        *((picture, True) for name, picture in PICTURES.items() if name.startswith("jpeg")),
        (PICTURES["png"], True),
        (b"\xff\xd8" + b"\xff" * 5 + PICTURES["jpeg gray"][3:], True),
        (PICTURES["jpeg gray"][:2] + b"\xff\xfe\0\x08gpuio!" + PICTURES["jpeg gray"][2:], True),
        (ARITHMETIC, False),
        (PICTURES["jpeg gray"].replace(b"\xff\xc0", b"\xff\xc3"), False),
        (PICTURES["jpeg gray"][:20] + b"stray" + PICTURES["jpeg gray"][20:], False),
        (PICTURES["jpeg gray"][:40], False),
        (b"\xff\xd8\xff\xe0\xff\xff", False),
        (PICTURES["png"][:30], False),
        *((PICTURES[name], False) for name in ("bmp", "tiff", "webp", "ppm")),
    ],
)
def test_nvimagecodec_gets_plain_jpegs_and_pngs_alone(dataset, opened, picture, taken):
    decoder = opened(data := dataset([picture, PICTURES["png"]]))
    ring = Ring(decoder.device.empty_host, 1)
    (records,) = RecordReader(data)(Order(2, 2).batches(0), ring)
    images = decoder.open(records)
    assert bool(images.table["stream"][0]) == taken
    decoder.release(images)
