"""A decoder by itself: all images of a data set, without augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Device, KernelCall
from gpuio.devices.ring import Ring
from gpuio.errors import GpuioError
from gpuio.kernels.resample import finish
from gpuio.kernels.steps import NORM, STEP, OutputType, StepKind
from gpuio.pipeline.decode.base import Decoder
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.windows import decode_jobs, open_headers
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Order
from gpuio.sources.base import RecordSource


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder made of a data set.

    Attributes:
        images: The window of each image, (h, w, C); None where it is at fault.
        faults: Errors by record number.
    """

    images: list[np.ndarray | None]
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
    last = KernelCall(finish, table, (images[0].shape[2], OutputType.UINT8, 1))
    sizes = np.array([images[place].nbytes for place in places], np.int64)
    work.start([*calls, last], jobs.nbytes[places] + sizes).join()
