"""Fixtures and helpers for our tests, and for writers of decoders.

Pictures are drawn with NumPy and encoded with Pillow, so a test needs no data files.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from gpuio.devices.base import Device, KernelCall
    from gpuio.errors import GpuioError
    from gpuio.pipeline.decode.base import Decoder
    from gpuio.pipeline.decode.jobs import DecodeJobs
    from gpuio.sources.base import RecordSource

Pixels = npt.NDArray[Any]


def open_device(name: str) -> Device:
    """The named device, or a skip where there is no GPU and GPUIO_REQUIRE_GPU is not set."""
    from gpuio.devices import make_device
    from gpuio.errors import BackendError

    try:
        return make_device(name, 2)
    except BackendError as reason:
        if "GPUIO_REQUIRE_GPU" in os.environ:
            raise
        pytest.skip(f"no CUDA device: {reason}")


@pytest.fixture(params=["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    """Each device in turn: a test that takes `device` is a CPU test and a GPU test."""
    return open_device(request.param)


def draw(height: int, width: int, channels: int = 3, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(height, width, channels) smooth waves with some noise: a photograph, to a codec."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        128 + 90 * np.sin(x / rng.uniform(5, 30) + y / rng.uniform(5, 30) + channel)
        for channel in range(channels)
    ]
    noise = rng.integers(-20, 21, (height, width, channels))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def encode(pixels: Pixels, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """An image file, written by Pillow.

    Args:
        pixels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        kind: Pillow's name of the format.
        mode: Pillow's name of the colour space to convert to first.
        options: Options of Pillow's `save`; `orientation` is that of EXIF, 1 to 8.
    """
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    if "orientation" in options:
        exif = Image.Exif()
        exif[0x0112] = options.pop("orientation")
        options["exif"] = exif
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def write_rec(
    path: Path,
    images: Sequence[bytes],
    *,
    labels: Sequence[Any] | None = None,
    ids: Sequence[int] | None = None,
) -> list[int]:
    """Write image records and, beside them, a .idx with their ids as keys.

    Args:
        path: The .rec.
        images: Encoded images, or any bytes.
        labels: A number or a sequence of numbers for each; 0, 1, 2, ... if None.
        ids: 0, 1, 2, ... if None.

    Returns:
        Where each record starts, and where the file ends.
    """
    from gpuio.formats.image_record import pack
    from gpuio.formats.recordio import frame

    labels = range(len(images)) if labels is None else labels
    ids = range(len(images)) if ids is None else ids
    frames = [
        frame(pack((0, label, number, 0), image))
        for label, number, image in zip(labels, ids, images, strict=True)
    ]
    path.write_bytes(b"".join(frames))
    starts = [0, *np.cumsum([len(record) for record in frames]).tolist()]
    lines = [f"{number}\t{start}\n" for number, start in zip(ids, starts[:-1], strict=True)]
    path.with_suffix(".idx").write_text("".join(lines))
    return starts


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder made of a data set.

    Attributes:
        images: The window of each image, (h, w, C); None where it is at fault.
        faults: Errors by record number.
    """

    images: list[npt.NDArray[np.uint8] | None]
    faults: dict[int, GpuioError]


def decode_all(
    decoder: Decoder, source: RecordSource, windows: Sequence[Sequence[int]] | None = None
) -> Decoded:
    """Run a decoder of the CPU device over all records, in one batch.

    Args:
        decoder: What is tested.
        source: The one it was made for.
        windows: y, x, height, width of the part wanted of each image; all of each if None.
    """
    from gpuio.devices.ring import Ring
    from gpuio.pipeline.decode.windows import decode_jobs, open_headers
    from gpuio.pipeline.read.reader import RecordReader
    from gpuio.samplers import Order

    count, ring = len(source), Ring(decoder.device.empty_host, 1)
    (records,) = RecordReader(source)(Order(count, count).batches(0), ring)
    headers = open_headers(decoder, records)
    box = np.concatenate([np.zeros_like(headers.size), headers.size], axis=1)
    if windows is not None:
        there = headers.size[:, 0] > 0
        box[there] = np.array(windows, np.int32)[there]
    jobs = decode_jobs(decoder, records, headers, box)
    faults = records.samples.faults
    images = [np.zeros((*shape, decoder.channels), np.uint8) for shape in box[:, 2:].tolist()]
    try:
        places, calls = np.arange(count), decoder.decode(jobs)
        _copy_windows(decoder.device, jobs, box, images, [*faults], places=places, calls=calls)
        while again := decoder.retry(records, jobs):
            places = np.array(again)
            _copy_windows(decoder.device, jobs, box, images, [*faults], places=places, calls=[])
    finally:
        decoder.release(headers)
    return Decoded([None if k in faults else image for k, image in enumerate(images)], faults)


def _copy_windows(
    device: Device,
    jobs: DecodeJobs,
    box: npt.NDArray[np.int32],
    images: list[npt.NDArray[np.uint8]],
    faults: list[int],
    *,
    places: npt.NDArray[np.int64],
    calls: list[KernelCall],
) -> None:
    """Decode by `calls`, and copy the windows `box` of the images at `places` into `images`."""
    from gpuio.devices.base import KernelCall as Call
    from gpuio.kernels.resample import finish
    from gpuio.kernels.steps import NORM, STEP, OutputType, StepKind

    work = device.work()
    table = np.zeros(len(places), STEP)
    table["kind"], table["norm"] = StepKind.COPY, work.upload(np.zeros(NORM, np.float32))
    table["kind"][np.isin(places, faults)] = StepKind.SKIP
    table["src"], table["src_pitch"] = jobs.origin[places], jobs.pitch[places]
    for number, place in enumerate(places.tolist()):
        if place in jobs.pixels:
            table["src"][number] = work.upload(jobs.pixels[place])
    table["src_in_scratch"], table["scratch"] = jobs.in_scratch[places], jobs.nbytes[places]
    end = box[places, :2] + box[places, 2:]
    table["src_height"], table["src_width"] = table["dst_height"], table["dst_width"] = end.T
    table["y"], table["x"], table["rows"], table["cols"] = box[places].T
    table["dst"] = [images[place].ctypes.data for place in places]
    last = Call(finish, table, (images[0].shape[2], OutputType.UINT8, 1))
    sizes = np.array([images[place].nbytes for place in places], np.int64)
    work.start([*calls, last], jobs.nbytes[places] + sizes).join()


def our_threads() -> list[str]:
    """Names of the threads of this library that are alive."""
    return [t.name for t in threading.enumerate() if t.name.startswith("gpuio")]
