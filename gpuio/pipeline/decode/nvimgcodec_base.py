"""What nvImageCodec's decoders share on CPU and GPU: reading headers, and choosing codecs.

The portable codec decodes pictures that are neither JPEG nor PNG, since nvImageCodec's codecs for
them are not safe; CMYK, which nvImageCodec decodes a level or two apart from OpenCV; pictures with
an EXIF orientation, which nvImageCodec leaves as they are stored; and in a forked process PNGs, as
a thread of the parent may have held locks of `opencv_ext`. A picture that nvImageCodec fails to
decode, or that libjpeg warns of, is decoded once more by itself.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import WorkerPool
from gpuio.devices.base import KernelCall
from gpuio.errors import BackendError
from gpuio.kernels import codec_calls
from gpuio.kernels.markers import JPEG_HEAD
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import Decoded, Decoder, DecoderOptions
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.decode.libjpeg_warnings import listener
from gpuio.pipeline.decode.portable import decode_places
from gpuio.pipeline.read.reader import RecordBatch, Samples

CPU_MODULES: Final = ("jpeg_turbo_ext", "opencv_ext")
"""Codec modules for JPEG and for PNG; see `gpuio.pipeline.decode`."""
_UINT8: Final = 0x0802  # of nvimgcodecSampleDataType_t
_FORMATS: Final = {
    1: (abi.FORMAT_Y, abi.GRAY),
    3: (abi.FORMAT_RGB, abi.SRGB),
    4: (abi.FORMAT_UNCHANGED, abi.SRGB),
}
"""Sample format and colour space by channels."""


class NvImageCodec(Decoder):
    """Opens images as code streams of an instance of nvImageCodec.

    Args:
        options: As for every decoder.
        instance: nvImageCodec, started.

    Raises:
        BackendError: libjpeg's warnings cannot be seen, and damage is not tolerated.
    """

    markers = False  # whether JPEGs that are not `ended` go to the portable codec

    def __init__(self, options: DecoderOptions, instance: abi.Instance) -> None:
        super().__init__(options)
        self._warnings = self._listen(instance)
        self._valid = np.zeros(len(self.source), bool)  # JPEGs that were decoded to their end
        self._pool = WorkerPool(self.device.threads, "gpuio-decode")  # starts no thread yet
        self._instance = instance
        self._info = _image_info()

    def _listen(self, instance: abi.Instance) -> npt.NDArray[np.void] | None:
        try:
            return listener(instance.library.extensions)
        except BackendError:
            if self.device.device_id is None and not self.tolerant:
                raise
            return None  # damage is tolerated, or most JPEGs go to codecs that never warn

    def open(self, records: RecordBatch) -> Headers:
        table = self._probe(records.address, records.nbytes)
        size = np.stack([table["height"], table["width"]], axis=1)
        if self.channels == 4:  # MXNet leaves RGBA as it is stored
            swapped = table["orientation"] == 2
            size[swapped] = size[swapped, ::-1]
        fallback = self._needs_fallback(table)
        size[fallback] = 0
        places = np.flatnonzero(fallback & (records.nbytes > 0)).tolist()
        portable = decode_places(self, self._pool, records, places)
        size[places] = portable.size[places]
        self.fallback_count += len(portable.pixels)
        headers = Headers(size, portable.pixels, table, portable.later)
        # If the batch is never decoded, its streams are closed when its headers are garbage: there
        # may be no time to compile that then.
        codec_calls.release.compile()
        weakref.finalize(headers, release, self._instance, table).atexit = False
        return headers

    def widen(self, box: npt.NDArray[np.int32], headers: Headers, samples: Samples) -> None:
        """Let a JPEG be decoded to its last row when it is decoded for the first time.

        libjpeg warns of missing bytes only at the end of the data. A JPEG without a warning is
        valid from then on, and only the window of it is decoded.
        """
        if self._warnings is not None and not self.tolerant:
            new = is_jpeg(headers.table) & ~self._valid[samples.ids] & (box[:, 2] > 0)
            box[new, 2] = headers.size[new, 0] - box[new, 0]

    def decoded(self, jobs: DecodeJobs) -> npt.NDArray[np.bool_]:
        table = jobs.headers.table
        return (table["rows"] > 0) & (table["status"] == abi.SUCCESS)

    def confirm(self, ids: npt.NDArray[np.int64]) -> None:
        self._valid[ids] = True

    def map(self, decode: Callable[[int], Decoded], places: Sequence[int]) -> Iterator[Decoded]:
        return self._pool.map(decode, places)

    def release(self, headers: Headers) -> None:
        release(self._instance, headers.table)

    def _needs_fallback(self, table: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """(N,) bool, images that the portable codec decodes: see the module."""
        fallback = (table["stream"] == 0) | (is_jpeg(table) & (table["whole"] == 0) & self.markers)
        if self._instance.library.is_inherited:
            fallback |= ~is_jpeg(table)
        if self.channels == 4:
            return fallback | (table["channels"] != 4)
        return fallback | (table["orientation"] != 0) | (is_jpeg(table) & (table["channels"] == 4))

    def _probe(
        self, address: npt.NDArray[np.uint64], nbytes: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.void]:
        """An IMAGE_JOB table of encoded images, with their headers and code streams."""
        table = np.zeros(len(nbytes), codec_calls.IMAGE_JOB)
        table["data"], table["nbytes"] = address, nbytes
        functions = self._instance.library.functions.ctypes.data
        args = (functions, self._instance.handle, ctypes.addressof(self._info), self.markers)
        self.device.run(KernelCall(codec_calls.probe, table, args))
        return table


def pixel_info(channels: int, *, on_host: bool) -> abi.ImageInfo:
    """An image in memory, of interleaved channels."""
    info = _image_info()
    info.sample_format, info.color_spec = _FORMATS[channels]
    info.num_planes = 1
    info.plane_info[0].num_channels = channels
    info.plane_info[0].sample_type = _UINT8
    info.buffer_kind = abi.HOST_BUFFER if on_host else abi.DEVICE_BUFFER
    return info


def _image_info() -> abi.ImageInfo:
    """An image of which nothing is known."""
    info: abi.ImageInfo = abi.ImageInfo.new(
        orientation=abi.Orientation.new(),
        plane_info=(abi.PlaneInfo * 32)(*[abi.PlaneInfo.new() for _ in range(32)]),
    )
    return info


def is_jpeg(table: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """(N,) bool, rows of an IMAGE_JOB table whose images are JPEGs."""
    jpeg: npt.NDArray[np.bool_] = table["head"] & 0xFFFFFF == JPEG_HEAD
    return jpeg


def release(instance: abi.Instance, table: npt.NDArray[np.void]) -> None:
    """Close the code streams of an IMAGE_JOB table that are still open."""
    if not table["stream"].any():
        return
    functions = instance.library.functions.ctypes.data
    codec_calls.release(len(table), 1, table.ctypes.data, functions)
