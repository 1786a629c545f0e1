"""nvImageCodec on a GPU: hardware engines, CUDA and CPU, a whole batch in one call of each.

Pictures are offered to kinds of codecs in turn, until one decodes them: the JPEG engines (baseline
JPEG of one scan, not 4:1:1 or 4:1:0), nvJPEG's hybrid of CPU and CUDA (other JPEGs), the CPU (other
formats; the pixels are copied over). All of them write into memory that we own, and work that is
queued later on the same stream finds the pixels there. Each lane of the device has its own decoder
of each kind: two batches are decoded at once.

Known behaviour, and what is done about it:

* Engines of Hopper write when they are called, whatever the stream is still busy with (seen with
  nvJPEG 12.3 to 13.2). So the caller makes sure that no other work uses the memory *before* the
  call, and nvImageCodec is told not to wait for the stream.
* The first batch fixes how many images engines take at once. Hence `prepare`.
* A batch of one image hangs in 0.9 if threads share a CUDA stream. Each thread gets its own.
* If the engines fail with one picture, all pictures of that call go to the next kind. That is
  slower, and the pixels are right. Engines that fail with two batches in a row are not used again.
* Engines and nvJPEG never warn, as libjpeg does. A JPEG without the markers of a complete one goes
  to the portable codec: it was truncated or overwritten. Bytes that are missing or changed inside
  of pixel data may give wrong pixels without an error.
* Engines may skip images and report them as decoded. Canaries in the memory of each image show
  that, and the image is decoded again.
* With four channels, nvJPEG writes CMYK as three, and reports success. The portable codec gets it.

On a device whose memory is the host's (one without `device_id`), the same code runs with the CPU
codecs alone: that is how it is tested without a GPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import KernelCall
from gpuio.errors import BackendError
from gpuio.formats.encoding import imencode
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.batch_split import BatchSplit, pixels_of, takes
from gpuio.pipeline.decode.canaries import Canaries, CanaryCheck
from gpuio.pipeline.decode.codec_memory import open_codec_memory
from gpuio.pipeline.decode.engine_health import EngineHealth
from gpuio.pipeline.decode.hardware import Engines, engines_of, warn_without_engines
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.decode.nvimgcodec_base import (
    CPU_MODULES,
    NvImageCodec,
    is_jpeg,
    pixel_info,
    release,
)
from gpuio.pipeline.decode.nvimgcodec_messages import Messages
from gpuio.pipeline.decode.nvimgcodec_native import KINDS, LEGACY, MAX_THREADS, NativeDecoder
from gpuio.pipeline.decode.yuv import PlaneConverter, plan_planes, plane_bytes
from gpuio.pipeline.read.reader import RecordBatch

if TYPE_CHECKING:
    from gpuio.devices.lanes import Lane

_GPU_MODULE: Final = "nvjpeg_ext"
_WARM_UP_SIZE: Final = 64  # pixels
_ENGINE_THREADS: Final = 2  # they read headers


class NvImageCodecGpuDecoder(NvImageCodec):
    """Decodes batches with nvImageCodec's codecs for the GPU.

    Args:
        options: As for every decoder. Without the engines, which `deterministic` leaves out, each
            picture always has the same codec, and the same pixels on one kind of GPU with one
            version of nvJPEG; the engines' pixels differ a little from those of other codecs.
        kinds: The `KINDS` of codecs that may be used. The portable codec decodes what they do not.
        chunk: The most images in one call of nvImageCodec; None for whole batches.
        settings: More options of nvImageCodec, `module:name=value` with blanks between them.
        output: "rgb", or "yuv" to decode JPEGs to planes, which a kernel makes pixels of. What is
            quicker, no device has shown yet.
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
        kinds: Collection[str] = tuple(KINDS),
        chunk: int | None = None,
        settings: str = LEGACY,
        output: Literal["rgb", "yuv"] = "rgb",
        windowed: bool = False,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {kinds!r}")
        device, library = options.device, abi.load()
        self.engines, modules, there = _find_engines(options, library)
        kinds = there if device.device_id is None else kinds
        without = () if self.engines.count and not options.deterministic else ("hardware",)
        wanted = [kind for kind in there if kind in kinds and kind not in without]
        if not wanted:
            reason = "deterministic" if options.deterministic else self.engines.reason
            raise BackendError(f"hardware alone was asked to decode, but: {reason}")
        self._messages = Messages()
        listener = self._messages.listener
        # An instance for this decoder alone, so that its messages are about this decoder.
        super().__init__(options, abi.Instance(library, modules, listener))
        for problem in self._instance.problems:
            self._messages.add(problem)
        self.windowed = windowed
        self._chunk, self._settings = chunk, settings
        self._threads = _threads(options)
        self._split = BatchSplit(
            wanted,
            self.engines.count,
            self._threads["cpu"],
            engine_share=options.engine_share,
            measured=not options.deterministic,
        )
        picture = np.zeros((_WARM_UP_SIZE, _WARM_UP_SIZE, 3), np.uint8)
        self._small = np.frombuffer(imencode(".jpg", picture), np.uint8)  # for `prepare`
        self._warm = False
        self._lock = threading.Lock()  # of all figures: lanes write them
        self._health = EngineHealth()
        self._decoded = dict.fromkeys(KINDS, 0)
        self._unwritten = 0
        self._canaries = [Canaries(device) for _ in range(device.max_in_flight)]
        planar = output == "yuv" and self.channels == 3
        self._converters = [PlaneConverter(device) for _ in self._canaries] if planar else []
        self._checks: dict[int, CanaryCheck] = {}  # by id of the headers
        ordinal = device.device_id
        self._memory = None if ordinal is None else open_codec_memory(ordinal)
        with device.scope():
            self._lanes = self._natives(wanted)

    def close(self) -> None:
        self._pool.shutdown()
        for lane in self._lanes:
            for native in lane:
                native.close()
        if self._memory is not None:
            self._memory.close()

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
            with self._lock:
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
            for _ in self._lanes:  # at the same time, so that each lane has one
                address = np.full(count, self._small.ctypes.data, np.uint64)
                table = self._probe(address, np.full(count, self._small.size))
                table["rows"], table["cols"] = _WARM_UP_SIZE, _WARM_UP_SIZE
                table["pitch"] = _WARM_UP_SIZE * self.channels
                works.append(self.device.work().start([KernelCall(self._warm_up, table)], sizes))
        finally:
            for work in works:
                work.join()

    def stats(self) -> dict[str, object]:
        """The figures of every decoder, and how many images each kind of codec has decoded.

        `engines` is the number of JPEG engines in use; if it is 0, `engines_unavailable_reason`
        says why. `hardware`, `hybrid` and `cpu` count images by kind of codec; `split` has the part
        of the pixels that each had of late, and `rates` the pixels that each decodes in a second.
        `engine_failures` counts batches that the engines failed to decode, `unwritten` images that
        were reported as decoded, were not written, and have been decoded again. `decoder_messages`
        holds the last few warnings and errors of nvImageCodec, in its own words.
        """
        with self._lock:
            failed = self._health.reason
            return {
                **super().stats(),
                "engines": 0 if failed else self.engines.count,
                "engines_unavailable_reason": failed or self.engines.reason,
                **self._decoded,
                **self._split.stats(),
                "portable": self.fallback_count,
                "unwritten": self._unwritten,
                "engine_failures": self._health.failures,
                "decoder_messages": self._messages.recent(),
            }

    def _warm_up(
        self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], lane: Lane
    ) -> None:
        """A `HostStep` of images that nobody wants."""
        places = np.flatnonzero(table["stream"])
        try:
            for native in self._lanes[lane.number]:
                native.decode(table, places, bases, lane.handle)
        finally:
            release(self._instance, table)

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
        engines = self.engines.count > 0 and not self._health.reason
        parts = self._split.parts(table, places, engines=engines)
        table["planar"][parts.get("cpu", [])] = 0  # it knows 4:4:4 alone
        planar = table["planar"][places] != 0
        start = bases + np.where(table["planar"] != 0, table["planes"], 0).astype(np.uint64)
        nbytes = np.where(table["planar"] != 0, plane_bytes(table), table["rows"] * table["pitch"])
        canaries.write(start[places], nbytes[places], lane)
        lane.library_writes(int(bases[places[0]]))
        self._decode_kinds(table, parts, bases, lane)
        elsewhere = planar & (table["planar"][places] == 0)
        self._checks[batch] = canaries.check(places, elsewhere, lane)
        if self._converters:
            self._converters[lane.number].convert(table, bases, lane)

    def _decode_kinds(
        self,
        table: npt.NDArray[np.void],
        parts: Mapping[str, npt.NDArray[np.int64]],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """Let all kinds of codecs decode at once; what one fails with goes to those behind it."""
        natives = self._lanes[lane.number]
        try:
            self._decode_parts(
                [(n, parts[n.kind]) for n in natives if n.kind in parts], table, bases, lane
            )
            taken = np.zeros(len(table), bool)  # by the engines
            taken[parts.get("hardware", [])] = True
            taken &= np.isin(table["status"], abi.TAKEN)
            decoded = taken & (table["status"] == abi.SUCCESS)
            had = np.zeros(len(table), bool)  # by a kind in front
            for native in natives:
                left = had & (table["status"] != abi.SUCCESS) & takes(native.kind, table)
                if left.any():
                    table["planar"][left] = 0  # pixels are what all of them know
                    self._decode_parts([(native, np.flatnonzero(left))], table, bases, lane)
                had[parts.get(native.kind, [])] = True
        finally:
            release(self._instance, table)
        if taken.any():
            rescued = taken & ~decoded & (table["status"] == abi.SUCCESS)
            self._note_engines(decoded=bool(decoded.any()), rescued=bool(rescued.any()))

    def _decode_parts(
        self,
        parts: Sequence[tuple[NativeDecoder, npt.NDArray[np.int64]]],
        table: npt.NDArray[np.void],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """Decode the images at some places with each kind of codec, all at the same time."""
        calls = [partial(self._decode_part, *part, table, bases) for part in parts]
        if len(calls) == 1:
            calls[0](lane)
        elif calls:
            lane.together(calls)

    def _decode_part(
        self,
        native: NativeDecoder,
        places: npt.NDArray[np.int64],
        table: npt.NDArray[np.void],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """Decode images with one kind of codec, count them, and measure how fast it is."""
        before, begin = self._warning_count, time.perf_counter()
        native.decode(table, places, bases, lane.handle)
        if native.kind == "cpu" and self._warning_count != before:
            # It is not known of which image: all are tried again.
            table["status"][places[is_jpeg(table)[places]]] = abi.FAILED
        lane.synchronize()  # the device is done only now
        done = table[places[table["status"][places] == abi.SUCCESS]]
        if len(done):  # a failure says nothing of the rate; others judge it
            pixels = float(pixels_of(done).sum())
            self._split.report(native.kind, pixels, begin, time.perf_counter())
        with self._lock:
            self._decoded[native.kind] += len(done)

    def _note_engines(self, *, decoded: bool, rescued: bool) -> None:
        """Take down how the engines did with a batch; warn when they are given up."""
        with self._lock:
            given_up = self._health.note(
                decoded=decoded, rescued=rescued, words=self._messages.recent()
            )
        if given_up:
            warn_without_engines(self._health.reason)

    def _needs_fallback(self, table: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        fallback = super()._needs_fallback(table)
        return fallback | (is_jpeg(table) & (table["channels"] == 4))

    def _natives(self, kinds: list[str]) -> list[list[NativeDecoder]]:
        """For each lane, a decoder of each kind; engines that do not start are done without.

        Raises:
            BackendError: nvImageCodec has no decoder of a kind.
        """
        try:
            lanes = range(self.device.max_in_flight)
            return [[self._native(kind) for kind in kinds] for _ in lanes]
        except BackendError as error:
            if kinds[0] != "hardware" or len(kinds) == 1:
                raise
            self.engines = Engines(0, str(error))
        warn_without_engines(self.engines.reason)
        return self._natives(kinds[1:])

    def _native(self, kind: str) -> NativeDecoder:
        """A decoder of a kind.

        Raises:
            BackendError: nvImageCodec has none; the message has its own words.
        """
        on_host = self.device.device_id is None
        try:
            return NativeDecoder(
                self._instance,
                kind,
                self.device.device_id,
                pixel_info(self.channels, on_host=on_host),
                threads=self._threads[kind],
                settings=self._settings,
                chunk=self._chunk,
                memory=self._memory,
            )
        except BackendError as error:
            words = "; ".join(self._messages.recent())
            raise BackendError(f"{error} ({words})" if words else str(error)) from error


def _threads(options: DecoderOptions) -> dict[str, int]:
    """CPU threads of a decoder of each kind, of which each lane has one."""
    device, beside = options.device, options.decode_threads
    usual = max(1, min(device.threads, MAX_THREADS) // device.max_in_flight)
    cpu = usual if beside is None else -(-beside // device.max_in_flight)
    return {"hardware": min(device.threads, _ENGINE_THREADS), "hybrid": usual, "cpu": cpu}


def _find_engines(
    options: DecoderOptions, library: abi.Library
) -> tuple[Engines, tuple[str, ...], tuple[str, ...]]:
    """The engines of the device, the codec modules for it, and the kinds of codecs that it has."""
    engines = engines_of(options.device, library.cuda)
    if options.device.device_id is None:
        return engines, CPU_MODULES, ("cpu",)
    return engines, (*CPU_MODULES, _GPU_MODULE), tuple(KINDS)
