"""nvImageCodec on a GPU: hardware engines, CUDA and CPU, a whole batch in one call.

nvImageCodec gives each picture to the first codec of a chain that takes it, and to the next one if
that fails: the JPEG engines (baseline JPEG of one scan, not 4:1:1 or 4:1:0), nvJPEG's hybrid of
CPU and CUDA (other JPEGs), the CPU (other formats; it copies the pixels over). All of them write
into memory that we own, and what follows is in order with the stream they are given.

What is known of it, and how it is met:

* Engines of Hopper write when they are called, whatever the stream is still busy with (seen with
  nvJPEG 12.3 to 13.2). So the caller sees to it that nobody uses the memory any more *before* the
  call, and we do not let nvImageCodec wait for the stream either.
* The share of the hardware is fixed by the first batch. Hence `warm_up`.
* A batch of one image hangs in 0.9 where threads share a CUDA stream. Each thread gets its own.
* One picture that the engines refuse sends all those of its call to the next codec: slower, and
  the same for the user.
* Engines and nvJPEG do not say what they warn of, as libjpeg does. A JPEG whose markers are not
  those of a whole one goes to the portable codec: it was cut off, or written over. Bytes that are
  lost or changed inside of pixel data may give wrong pixels without an error.
* A decoder may be used by one thread at a time. There is a lock.

Where the device's memory is the host's (a device without `device_id`), all is the same with the
CPU codecs alone: that is how it is tested without a GPU.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Collection
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import available_cores
from gpuio.devices.base import KernelCall
from gpuio.errors import BackendError
from gpuio.formats.encoding import imencode
from gpuio.kernels import codec_calls
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode import versions
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.hardware import Engines, find_engines, load_nvjpeg, warn_if_hidden
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.nvimgcodec_base import CPU_MODULES, FORMATS, NvImageCodec, is_jpeg

KINDS: Final = {
    "hardware": abi.HARDWARE_BACKEND,
    "gpu": abi.GPU_ONLY_BACKEND,
    "hybrid": abi.HYBRID_BACKEND,
    "cpu": abi.CPU_ONLY_BACKEND,
}
"""Kinds of codecs, in the order in which they are tried."""

_GPU_MODULE = "nvjpeg_ext"
_WARM_UP_SIZE = 64  # pixels


class NvImageCodecGpuDecoder(NvImageCodec):
    """Decodes batches with nvImageCodec's codecs for the GPU.

    Args:
        options: As for every decoder. Without the engines, which `deterministic` leaves out, each
            picture always has the same codec, and the same pixels on one kind of GPU with one
            version of nvJPEG; the engines' pixels differ a little from those of other codecs.
        kinds: Those of `KINDS` that may be used. What none of them decodes, the portable codec
            does.
        share: Of a batch that the engines may get, 0 to 1.
        chunk: Most images in one call of nvImageCodec; whole batches if None.
        settings: More of nvImageCodec's, as it takes them: `module:name=value`, with a blank
            between two.
        windowed: Decode only the part of an image that is wanted. By default as
            `versions.gpu_windows` says for this nvImageCodec.

    Raises:
        BackendError: nvImageCodec or nvJPEG is not installed, or does not start; or nothing is
            left to decode with.
        ValueError: There is no kind of that name.
    """

    name = "nvimgcodec"
    markers = True

    def __init__(
        self,
        options: DecoderOptions,
        *,
        kinds: Collection[str] = tuple(KINDS),
        share: float = 1.0,
        chunk: int | None = None,
        settings: str = "",
        windowed: bool | None = None,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {kinds!r}")
        device, library = options.device, abi.load()
        modules: tuple[str, ...] = CPU_MODULES
        if device.device_id is None:
            self.engines, kinds = Engines(0, 0, "the device is the CPU"), ("cpu",)
        else:
            nvjpeg, modules = load_nvjpeg(library.cuda), (*CPU_MODULES, _GPU_MODULE)
            with device.scope():
                self.engines = find_engines(nvjpeg)
            warn_if_hidden(self.engines, _capability(device.device_id))
        without = ("hardware",) if options.deterministic or not self.engines.count else ()
        wanted = [kind for kind in KINDS if kind in kinds and kind not in without]
        if not wanted:
            reason = "deterministic" if options.deterministic else self.engines.reason
            raise BackendError(f"hardware alone was asked to decode, but: {reason}")
        self._notes = np.zeros(2, np.uint64)
        # An instance for this decoder alone: what it tells is about this one's images.
        listener = codec_calls.note().address, self._notes
        instance = abi.Instance(library, modules, listener)
        super().__init__(options, instance)
        self.windowed = versions.gpu_windows(library.version) if windowed is None else windowed
        self._chunk = chunk
        picture = np.zeros((_WARM_UP_SIZE, _WARM_UP_SIZE, 3), np.uint8)
        self._small = np.frombuffer(imencode(".jpg", picture), np.uint8)  # for `warm_up`
        self._warm = False
        self._lock = threading.Lock()
        self._decoded = np.zeros(codec_calls.DECODED_BY, np.int64)
        with device.scope():
            self._decoder = self._new_decoder(wanted, share, settings)
        self._finalizer = weakref.finalize(self, instance.destroy, [self._decoder])

    def close(self) -> None:
        self._pool.shutdown()
        self._finalizer()

    def decode(self, jobs: DecodeJobs) -> list[KernelCall]:
        table = jobs.headers.table
        table["y"], table["x"], table["rows"], table["cols"] = jobs.box.T
        table["dst"], table["pitch"] = 0, jobs.pitch
        return [KernelCall(self._step, table)]

    def prepare(self, count: int) -> None:
        if not self._warm:
            self._warm = True

            def step(
                table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], stream: int
            ) -> None:
                self.warm_up(count, bases, stream)

            sizes = np.full(count, self.warm_up_nbytes, np.int64)
            link = KernelCall(step, np.zeros(count, codec_calls.IMAGE_JOB))
            self.device.work().start([link], sizes).join()

    def warm_up(self, batch_size: int, bases: npt.NDArray[np.uint64], stream: int) -> None:
        """Decode a batch of small JPEGs, so that nvImageCodec gets ready for batches of that size.

        To be called once, before the first batch; the share of the engines follows from it.

        Args:
            batch_size: Images in a full batch.
            bases: (batch_size,) addresses of `warm_up_nbytes` bytes each, which may all be the
                same.
            stream: As for a `HostStep`.
        """
        address = np.full(batch_size, self._small.ctypes.data, np.uint64)
        table = self._probe(address, np.full(batch_size, self._small.size))
        table["rows"], table["cols"] = _WARM_UP_SIZE, _WARM_UP_SIZE
        table["pitch"] = _WARM_UP_SIZE * self.channels
        self._run(table, bases, stream)

    @property
    def warm_up_nbytes(self) -> int:
        """Bytes that each image of `warm_up` takes."""
        return _WARM_UP_SIZE * _WARM_UP_SIZE * self.channels

    def stats(self) -> dict[str, Any]:
        """As of every decoder; and how many images were decoded by what.

        `engines` counts the JPEG engines in use; where there is none, `engines_unavailable_reason`
        says why.
        `hardware`, `gpu`, `hybrid` and `cpu` are images by kind of codec, as nvImageCodec reports
        them, without those that were used to warm up.
        """
        _, hardware, gpu, hybrid, cpu = self._decoded.tolist()
        return {
            **super().stats(),
            "engines": self.engines.count,
            "engines_unavailable_reason": self.engines.reason,
            "hardware": hardware,
            "gpu": gpu,
            "hybrid": hybrid,
            "cpu": cpu,
            "portable": self.fallback_count,
        }

    def _step(
        self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], stream: int
    ) -> None:
        """A `HostStep`."""
        self._run(table, bases, stream)
        decoded_by = table["decoded_by"][(table["rows"] > 0) & (table["status"] == abi.SUCCESS)]
        counts = np.bincount(decoded_by, minlength=len(self._decoded))
        # Besides the engines, only the decoder of lossless JPEGs takes several at once.
        batched = codec_calls.BY_HARDWARE if self.engines.count else codec_calls.BY_GPU
        counts[batched] += counts[codec_calls.BY_BATCH]
        self._decoded += counts

    def _run(self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], stream: int) -> None:
        sample_format, color = FORMATS[self.channels]
        on_host = self.device.device_id is None
        templates = map(ctypes.addressof, (self._info, self._view, self._params))
        chunk = self._chunk or len(table)
        scratch = np.empty(codec_calls.batch_bytes(chunk), np.uint8)
        words = np.array(
            [
                table.ctypes.data,
                len(table),
                bases.ctypes.data,
                stream,
                self._instance.library.functions.ctypes.data,
                self._instance.handle,
                *templates,
                self._decoder,
                self.channels,
                sample_format,
                color,
                abi.HOST_BUFFER if on_host else abi.DEVICE_BUFFER,
                chunk,
                self._notes.ctypes.data,
                scratch.ctypes.data,
                0,
            ],
            np.uint64,
        )
        with self._lock:
            heard = self._heard
            codec_calls.decode_batch(words)
            if self._heard != heard:  # of whom is not known: the portable codec finds out
                warned = is_jpeg(table) & (table["decoded_by"] == codec_calls.BY_CPU)
                table["status"][warned & (table["rows"] > 0)] = abi.FAILED

    def _new_decoder(self, kinds: list[str], share: float, settings: str) -> int:
        codecs = (abi.Backend * len(kinds))(
            *[
                abi.Backend.new(
                    kind=KINDS[kind],
                    params=abi.BackendParams.new(
                        load_hint=share if kind == "hardware" else 1.0,
                        load_hint_policy=abi.FIXED_LOAD,
                    ),
                )
                for kind in kinds
            ]
        )
        threads = max(1, min(self.device.threads, available_cores() - 1))  # as nvImageCodec does
        ordinal = self.device.device_id
        execution = abi.ExecutionParams.new(
            max_num_cpu_threads=threads,
            device_id=abi.CPU_ONLY_DEVICE if ordinal is None else ordinal,
            pre_init=1,
            skip_pre_sync=1,
            num_backends=len(kinds),
            backends=ctypes.addressof(codecs),
        )
        # Smooth colours as libjpeg-turbo makes them; a stream of its own for each thread.
        given = f":fancy_upsampling=1 :num_cuda_streams={threads} {settings}"
        return self._instance.decoder(execution, given.rstrip())


def _capability(device_id: int) -> tuple[int, int]:
    """Compute capability of a GPU."""
    import cupy

    number = int(cupy.cuda.Device(device_id).compute_capability)
    return number // 10, number % 10
