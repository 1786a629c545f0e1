"""Pictures decoded by nvImageCodec into places of their own, to be looked at one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gpu_child import Row
from gpu_marks import Marks
from gpu_sides import gpu

from gpuio.devices import make_device
from gpuio.devices.lanes import Lane
from gpuio.formats.codec import decode_rgb
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.batch_split import KINDS
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.sources.recordio.source import RecordIOSource

CHAIN = list(KINDS)

Pixels = npt.NDArray[np.uint8]


class Slots:
    """Pictures, each with a place of its own in the device's memory, decoded there in one call.

    Args:
        device: Name of gpuio's device.
        images: Encoded images.
        rec: Any .rec, for messages.
        options: Options of the decoder.
    """

    def __init__(self, device: str, images: list[bytes], rec: str, **options: Any) -> None:
        self.device: Any = make_device(device, None)
        decoder_options = DecoderOptions(self.device, 3, RecordIOSource.open(rec, ""))
        self.decoder = NvImageCodecGpuDecoder(decoder_options, **options)
        self.decoder._codecs._warnings = None  # what codecs report counts, not what libjpeg prints
        self.put(images)
        sizes = [decode_rgb(image, 3).nbytes for image in images]
        self.nbytes = -(-max(sizes) // 256) * 256 + 256
        driver = self.device._driver
        self.lane = Lane(driver, 0)
        self.stream = self.lane._stream
        self.arena = driver.empty((self.nbytes * len(images),), np.uint8)
        start = np.uint64(driver.address(self.arena))
        self.bases = start + np.arange(len(images), dtype=np.uint64) * np.uint64(self.nbytes)

    def put(self, images: list[bytes]) -> None:
        """Other images: what is larger than the first ones were is not decoded."""
        self.memory = [np.frombuffer(image, np.uint8) for image in images]
        ids = np.arange(len(images))
        samples = Samples(ids, ids, np.zeros((len(ids), 1), np.float32), 0)
        address = np.array([array.ctypes.data for array in self.memory], np.uint64)
        self.records = RecordBatch(
            samples, address, np.array([len(array) for array in self.memory], np.int64), None
        )

    def decode(self, windows: npt.NDArray[np.int32] | None = None) -> npt.NDArray[np.bool_]:
        """Decode all, or a window of each; (N,) which were. The device may still be at work."""
        headers = self.decoder.open(self.records)
        box = np.concatenate([np.zeros_like(headers.size), headers.size], axis=1)
        if windows is not None:
            box[:] = windows
        box[list(headers.pixels)] = 0
        box[3 * box[:, 2:].astype(np.int64).prod(axis=1) > self.nbytes - 256] = 0
        self.box = box
        jobs = DecodeJobs(headers, box, 3)
        (call,) = self.decoder.decode(jobs)
        with self.device._driver.scope():
            call.kernel(call.table, self.bases, self.lane)
        done = self.decoder.decoded(jobs)
        self.decoder.release(headers)
        return done

    def wait(self) -> None:
        """Until the device has done its work."""
        driver = self.device._driver
        driver.synchronize(driver.record(self.stream))

    def pictures(self) -> list[Pixels]:
        """What was decoded last; nonsense where nothing was."""
        self.wait()
        memory = self.arena.get() if hasattr(self.arena, "get") else np.array(self.arena)
        starts = (self.bases - self.bases[0]).astype(np.int64).tolist()
        return [
            memory[start : start + height * width * 3].reshape(height, width, 3)
            for start, (_, _, height, width) in zip(starts, self.box.tolist(), strict=True)
        ]

    def close(self) -> None:
        self.decoder.close()

    def time(self) -> float:
        """Seconds of decoding, the host's and the device's."""
        marks = Marks(self.device)
        begin = marks.mark(self.stream)
        self.decode()
        return marks.seconds(begin, marks.mark(self.stream))


def kinds_of(settings: Row) -> dict[str, list[str]]:
    """Each kind of codec alone, and all of them: those that are there, or those of `codecs`."""
    kinds = {"cpu": ["cpu"]}
    if gpu(settings) is not None:
        there = ("hardware", "hybrid", "cpu")[not settings["engines"] :]
        kinds = {kind: [kind] for kind in there} | {"chain": CHAIN}
    return {kind: kinds[kind] for kind in settings.get("codecs", kinds) if kind in kinds}
