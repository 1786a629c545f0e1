"""nvImageCodec on a GPU: hardware engines, CUDA and CPU, a whole batch in one call.

nvImageCodec offers each picture to its codecs in turn, until one of them decodes it: the JPEG
engines (baseline JPEG of one scan, not 4:1:1 or 4:1:0), nvJPEG's hybrid of CPU and CUDA (other
JPEGs), the CPU (other formats; the pixels are copied over). All of them write into memory that we
own, and work that is queued later on the same stream finds the pixels there.

Known behaviour, and what is done about it:

* Engines of Hopper write when they are called, whatever the stream is still busy with (seen with
  nvJPEG 12.3 to 13.2). So the caller makes sure that no other work uses the memory *before* the
  call, and nvImageCodec is told not to wait for the stream.
* The first batch fixes the share of the hardware. Hence `warm_up`.
* A batch of one image hangs in 0.9 if threads share a CUDA stream. Each thread gets its own.
* If the engines refuse one picture, all pictures of that call go to the next codec. That is slower,
  and the pixels are right.
* Engines and nvJPEG never warn, as libjpeg does. A JPEG without the markers of a complete one goes
  to the portable codec: it was truncated or overwritten. Bytes that are missing or changed inside
  of pixel data may give wrong pixels without an error.
* Only one thread at a time may use a decoder. There is a lock.

On a device whose memory is the host's (one without `device_id`), the same code runs with the CPU
codecs alone: that is how it is tested without a GPU.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Collection
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import available_cores
from gpuio.devices.base import KernelCall
from gpuio.errors import BackendError
from gpuio.formats.encoding import imencode
from gpuio.kernels import codec_calls, codec_messages
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.hardware import Engines, find_engines, load_nvjpeg, warn_if_hidden
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.nvimgcodec_base import CPU_MODULES, NvImageCodec, is_jpeg

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
        kinds: The `KINDS` of codecs that may be used. The portable codec decodes what they do not.
        share: The part of a batch that the engines may get, 0 to 1.
        chunk: The most images in one call of nvImageCodec; None for whole batches.
        settings: More options of nvImageCodec, `module:name=value` with blanks between them.
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
        share: float = 1.0,
        chunk: int | None = None,
        settings: str = "",
        windowed: bool = False,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {kinds!r}")
        device, library = options.device, abi.load()
        modules: tuple[str, ...] = CPU_MODULES
        if device.device_id is None:
            self.engines, kinds = Engines(0, "the device is the CPU"), ("cpu",)
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
        self._notes = np.zeros(1, codec_messages.NOTES)
        # An instance for this decoder alone, so that it reports the images of this decoder alone.
        listener = codec_messages.note.address, self._notes
        instance = abi.Instance(library, modules, listener)
        super().__init__(options, instance)
        self.windowed = windowed
        self._chunk = chunk
        picture = np.zeros((_WARM_UP_SIZE, _WARM_UP_SIZE, 3), np.uint8)
        self._small = np.frombuffer(imencode(".jpg", picture), np.uint8)  # for `warm_up`
        self._warm = False
        self._lock = threading.Lock()
        self._decoded = np.zeros(codec_messages.DECODED_BY, np.int64)
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
            call = KernelCall(step, np.zeros(count, codec_calls.IMAGE_JOB))
            self.device.work().start([call], sizes).join()

    def warm_up(self, batch_size: int, bases: npt.NDArray[np.uint64], stream: int) -> None:
        """Decode a batch of small JPEGs, so that nvImageCodec gets ready for batches of that size.

        It has to be called once, before the first batch, as it fixes the share of the engines.

        Args:
            batch_size: Images in a full batch.
            bases: (batch_size,) addresses of `warm_up_nbytes` bytes each; they may all be the same.
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

    def stats(self) -> dict[str, object]:
        """The figures of every decoder, and how many images each kind of codec has decoded.

        `engines` is the number of JPEG engines in use; if it is 0, `engines_unavailable_reason`
        says why. `hardware`, `gpu`, `hybrid` and `cpu` count images by kind of codec, as
        nvImageCodec reports them, without those of `warm_up`.
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
        # Besides the engines, only the codec for lossless JPEGs takes several at once.
        batched = codec_messages.BY_HARDWARE if self.engines.count else codec_messages.BY_GPU
        counts[batched] += counts[codec_messages.BY_BATCH]
        self._decoded += counts

    def _run(self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], stream: int) -> None:
        chunk = self._chunk or len(table)
        scratch = np.empty(codec_calls.batch_bytes(chunk), np.uint8)
        batch = np.zeros(1, codec_calls.BATCH)
        batch[0] = (
            bases.ctypes.data,
            self._instance.library.functions.ctypes.data,
            self._instance.handle,
            *map(ctypes.addressof, (self._pixels, self._view, self._params)),
            self._decoder,
            self._notes.ctypes.data,
            scratch.ctypes.data,
            chunk,
        )
        with self._lock:
            self._pixels.cuda_stream = stream
            before = self._warning_count
            codec_calls.decode_batch(table, batch)
            if self._warning_count != before:  # of which image is not known: all are tried again
                warned = is_jpeg(table) & (table["decoded_by"] == codec_messages.BY_CPU)
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
        # Colours are upsampled as by libjpeg-turbo; each thread has a stream of its own.
        given = f":fancy_upsampling=1 :num_cuda_streams={threads} {settings}"
        return self._instance.decoder(execution, given.rstrip())


def _capability(device_id: int) -> tuple[int, int]:
    """Compute capability of a GPU."""
    import cupy

    number = int(cupy.cuda.Device(device_id).compute_capability)
    return number // 10, number % 10
