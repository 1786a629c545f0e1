"""nvImageCodec on a GPU: hardware engines, CUDA and CPU share out the images of a batch.

Kinds of codecs decode at the same time (`gpu_codecs.py`): the JPEG engines (baseline JPEG of one
scan, not 4:1:1 or 4:1:0), nvJPEG's hybrid of CPU and CUDA (JPEGs), the CPU (JPEGs and PNGs, into
pinned memory from which they are copied). All of them write into memory that we own, and work that
is queued later on the same stream finds the pixels there.

Known behaviour, and what is done about it:

* Engines of Hopper write when they are called, whatever the stream is still busy with (seen with
  nvJPEG 12.3 to 13.2). So the caller makes sure that no other work uses the memory *before* the
  call, and nvImageCodec is told not to wait for the stream.
* The first batch fixes how many images engines take at once. Hence `prepare`.
* A batch of one image hangs in 0.9 if threads share a CUDA stream. Each thread gets its own.
* If the engines fail with one picture, all pictures of that call go to the next kind. That is
  slower, and the pixels are right. Engines that fail with two batches in a row are not used again.
* Engines and nvJPEG never warn, as libjpeg does. A JPEG without the markers of a complete one was
  truncated or overwritten, and goes to the portable codec, as one does whose markers do not define
  its colours. Bytes that are missing or changed inside of pixel data may give wrong pixels without
  an error.
* Engines may skip images and report them as decoded. Canaries in the memory of each image show
  that, and the image is decoded again.
* With four channels, nvJPEG writes CMYK as three, and reports success. The portable codec gets it.

On a device whose memory is the host's (one without `device_id`), the same code runs with the CPU
codecs alone: that is how it is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import KernelCall
from gpuio.errors import BackendError
from gpuio.formats.encoding import imencode
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.batch_split import KINDS
from gpuio.pipeline.decode.canaries import Canaries, CanaryCheck
from gpuio.pipeline.decode.gpu_codecs import GpuCodecs
from gpuio.pipeline.decode.hardware import Engines, engines_of
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.decode.nvimgcodec_base import CPU_MODULES, NvImageCodec, is_jpeg
from gpuio.pipeline.decode.nvimgcodec_messages import Messages
from gpuio.pipeline.decode.nvimgcodec_native import LEGACY
from gpuio.pipeline.decode.yuv import PlaneConverter, plan_planes, plane_bytes
from gpuio.pipeline.read.reader import RecordBatch

if TYPE_CHECKING:
    from gpuio.devices.lanes import Lane

_GPU_MODULE: Final = "nvjpeg_ext"
_WARM_UP_SIZE: Final = 64  # pixels


class NvImageCodecGpuDecoder(NvImageCodec):
    """Decodes batches with nvImageCodec's codecs for the GPU.

    Args:
        options: As for every decoder. Without the engines, which `deterministic` leaves out, each
            picture always has the same codec, and the same pixels on one kind of GPU with one
            version of nvJPEG; the engines' pixels differ a little from those of other codecs.
        kinds: The `KINDS` of codecs that may be used. The portable codec decodes what they do not.
        chunk: The most images in one call of codecs of the GPU; None for all of a kind's part.
        settings: More options of nvImageCodec, `module:name=value` with blanks between them.
        output: "rgb", or "yuv" to decode JPEGs to planes, which a kernel makes pixels of. Which
            is faster has not been measured on a device.
        windowed: Decode only the part of an image that is wanted. nvImageCodec 0.9 fails with error
            8 on A100 and GB200, and crashes on H100 and B200 (its issue 55).

    Raises:
        BackendError: nvImageCodec or nvJPEG is not installed or does not start; or no codec is
            left of `kinds`.
        ValueError: `kinds` is empty, or has an unknown name in it.
    """

    name = "nvimgcodec"
    markers = True

    def __init__(
        self,
        options: DecoderOptions,
        *,
        kinds: Collection[str] = KINDS,
        chunk: int | None = None,
        settings: str = LEGACY,
        output: Literal["rgb", "yuv"] = "rgb",
        windowed: bool = False,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {kinds!r}")
        device, library = options.device, abi.load()
        engines, modules, there = _find_engines(options, library)
        kinds = there if device.device_id is None else kinds
        without = () if engines.count and not options.deterministic else ("hardware",)
        wanted = [kind for kind in there if kind in kinds and kind not in without]
        if not wanted:
            reason = "deterministic" if options.deterministic else engines.reason
            raise BackendError(f"hardware alone was asked to decode, but: {reason}")
        self._messages = Messages()
        listener = self._messages.listener
        # An instance for this decoder alone, so that its messages are about this decoder.
        super().__init__(options, abi.Instance(library, modules, listener))
        for problem in self._instance.problems:
            self._messages.add(problem)
        self.windowed = windowed
        picture = np.zeros((_WARM_UP_SIZE, _WARM_UP_SIZE, 3), np.uint8)
        self._small = np.frombuffer(imencode(".jpg", picture), np.uint8)  # for `prepare`
        self._warm = False
        self._unwritten = 0
        self._canaries = [Canaries(device) for _ in range(device.max_in_flight)]
        planar = output == "yuv" and self.channels == 3
        fancy = ":fancy_upsampling=0" not in settings
        self._converters = [PlaneConverter(device, fancy=fancy) for _ in self._canaries if planar]
        self._checks: dict[int, CanaryCheck] = {}  # by id of the headers
        self._codecs = GpuCodecs(
            options,
            self._instance,
            self._messages,
            engines,
            wanted,
            self._warnings,
            chunk=chunk,
            settings=settings,
        )

    def close(self) -> None:
        self._pool.shutdown()
        self._codecs.close()

    @property
    def engines(self) -> Engines:
        """JPEG engines in use."""
        return self._codecs.engines

    def decode(self, jobs: DecodeJobs) -> list[KernelCall]:
        table = jobs.headers.table
        table["y"], table["x"], table["rows"], table["cols"] = jobs.box.T
        table["dst"], table["pitch"] = 0, jobs.pitch
        if self._converters:
            plan_planes(table, jobs)
        return [KernelCall(partial(self._step, id(jobs.headers)), table)]

    def decoded(self, jobs: DecodeJobs) -> npt.NDArray[np.bool_]:
        """As for every decoder; waits until the device has looked for canaries."""
        decoded = super().decoded(jobs)
        check = self._checks.get(id(jobs.headers))
        if check is not None:
            decoded[check.unwritten()] = False
        return decoded

    def retry(self, records: RecordBatch, jobs: DecodeJobs) -> list[int]:
        if not jobs.retried:
            claimed = int(super().decoded(jobs).sum())
            self._unwritten += claimed - int(self.decoded(jobs).sum())
        return super().retry(records, jobs)

    def release(self, headers: Headers) -> None:
        self._checks.pop(id(headers), None)
        super().release(headers)

    def prepare(self, count: int) -> None:
        """Decode a batch of small JPEGs in each lane, with each kind of codec.

        That fixes how many images the engines take at once, and allocates most memory.
        """
        if self._warm:
            return
        self._warm = True
        sizes = np.full(count, _WARM_UP_SIZE * _WARM_UP_SIZE * self.channels, np.int64)
        works = []
        try:
            for _ in self._codecs.lanes:  # at the same time, so that each lane has one
                address = np.full(count, self._small.ctypes.data, np.uint64)
                table = self._probe(address, np.full(count, self._small.size))
                table["rows"], table["cols"] = _WARM_UP_SIZE, _WARM_UP_SIZE
                table["pitch"] = _WARM_UP_SIZE * self.channels
                works.append(
                    self.device.work().start([KernelCall(self._codecs.warm_up, table)], sizes)
                )
        finally:
            for work in works:
                work.join()

    def stats(self) -> dict[str, object]:
        """The figures of every decoder, and how many images each kind of codec has decoded.

        `engines` is the number of JPEG engines in use; if it is 0, `engines_unavailable_reason`
        says why. `hardware`, `hybrid` and `cpu` count images by kind of codec; `split` has the
        recent part of the pixels of each, and `rates` the pixels that each decodes per second.
        `engine_failures` counts batches that the engines failed to decode, `unwritten` images that
        were reported as decoded, were not written, and have been decoded again. `decoder_messages`
        holds the last few warnings and errors of nvImageCodec, in its own words.
        """
        return {
            **super().stats(),
            **self._codecs.stats(),
            "portable": self.fallback_count,
            "unwritten": self._unwritten,
        }

    def _step(
        self,
        batch: int,
        table: npt.NDArray[np.void],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """A `HostStep`, but for the number of the batch, under which its check is kept."""
        wanted = (table["rows"] > 0) & (table["stream"] != 0)
        table["status"][table["rows"] > 0] = abi.FAILED
        places, canaries = np.flatnonzero(wanted), self._canaries[lane.number]
        if not len(places):
            return
        parts = self._codecs.parts(table, places)
        table["planar"][parts.get("cpu", [])] = 0  # its planes can only be 4:4:4
        planar = table["planar"][places] != 0
        start = bases + np.where(table["planar"] != 0, table["planes"], 0).astype(np.uint64)
        nbytes = np.where(table["planar"] != 0, plane_bytes(table), table["rows"] * table["pitch"])
        canaries.write(start[places], nbytes[places], lane)
        lane.library_writes(int(bases[places[0]]))
        self._codecs.decode(table, parts, bases, lane)
        elsewhere = planar & (table["planar"][places] == 0)
        self._checks[batch] = canaries.check(places, elsewhere, lane)
        if self._converters:
            self._converters[lane.number].convert(table, bases, lane)

    def _needs_fallback(self, table: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        fallback = super()._needs_fallback(table)
        return fallback | (is_jpeg(table) & (table["channels"] == 4))


def _find_engines(
    options: DecoderOptions, library: abi.Library
) -> tuple[Engines, tuple[str, ...], tuple[str, ...]]:
    """The engines of the device, the codec modules for it, and the kinds of codecs that it has."""
    engines = engines_of(options.device, library.cuda)
    if options.device.device_id is None:
        return engines, CPU_MODULES, ("cpu",)
    return engines, (*CPU_MODULES, _GPU_MODULE), KINDS
