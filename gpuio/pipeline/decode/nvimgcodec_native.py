"""One decoder of nvImageCodec for one kind of codec of a GPU; a batch decoder has several.

With one kind in each, it is known who decodes a picture, kinds can work side by side, and pictures
that one kind has failed to decode go to another one by our decision.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import available_cores
from gpuio.kernels import codec_calls
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.codec_memory import CodecMemory

if TYPE_CHECKING:
    from gpuio.devices.lanes import Lane

BACKENDS: Final[dict[str, tuple[int, ...]]] = {
    "hardware": (abi.HARDWARE_BACKEND,),
    "hybrid": (abi.GPU_ONLY_BACKEND, abi.HYBRID_BACKEND),
}
"""Backends of nvImageCodec by kind of codec: JPEG engines; CPU and CUDA."""

MAX_THREADS: Final = 16
"""CPU threads of a decoder: nvJPEG keeps a stream and memory for each."""

LEGACY: Final = "nvjpeg_hw_decoder:force_legacy_batch=1"
"""Option of nvImageCodec: engines get all images in one call, whatever their subsampling."""


class NativeDecoder:
    """A decoder of nvImageCodec; one thread at a time may use it.

    Args:
        instance: nvImageCodec, started.
        kind: One of `BACKENDS`.
        device_id: Number of the GPU; None where the device's memory is the host's, and tests have
            the CPU's codecs play those of a GPU.
        pixels: Format of images in memory; `decode` sets their addresses and sizes.
        threads: CPU threads, of which `MAX_THREADS` are used at most.
        settings: Options of nvImageCodec, `module:name=value` with blanks between them.
        chunk: The most images in one call of nvImageCodec; None for all.
        memory: Gives nvImageCodec memory for its own work; None to let it allocate.

    Attributes:
        kind: As given.

    Raises:
        BackendError: The library has no decoder of this kind for the device.
    """

    def __init__(
        self,
        instance: abi.Instance,
        kind: str,
        device_id: int | None,
        pixels: abi.ImageInfo,
        *,
        threads: int,
        settings: str = "",
        chunk: int | None = None,
        memory: CodecMemory | None = None,
    ) -> None:
        self.kind = kind
        self._instance, self._pixels, self._chunk = instance, pixels, chunk
        self._view = abi.CodeStreamView.new(region=abi.Region.new(ndim=2))
        self._params = abi.DecodeParams.new(apply_exif_orientation=0)
        backends = [
            abi.Backend.new(
                kind=backend,
                params=abi.BackendParams.new(load_hint=1.0, load_hint_policy=abi.FIXED_LOAD),
            )
            for backend in BACKENDS[kind]
        ]
        codecs = (abi.Backend * len(backends))(*backends)
        # nvImageCodec takes one core less than there are.
        threads = max(1, min(threads, available_cores() - 1, MAX_THREADS))
        device, pinned = (0, 0) if memory is None else map(ctypes.addressof, memory.allocators)
        execution = abi.ExecutionParams.new(
            device_allocator=device,
            pinned_allocator=pinned,
            max_num_cpu_threads=threads,
            device_id=abi.CPU_ONLY_DEVICE if device_id is None else device_id,
            pre_init=1,
            skip_pre_sync=1,
            num_backends=len(codecs),
            backends=ctypes.addressof(codecs),
        )
        # Colours are upsampled as by libjpeg-turbo; each thread has a stream of its own.
        options = f":fancy_upsampling=1 :num_cuda_streams={threads} {settings}".rstrip()
        self._decoder = instance.decoder(execution, options)
        self._finalizer = instance.destroy_with(self, [self._decoder], codecs, memory)

    def close(self) -> None:
        """Destroy the decoder."""
        self._finalizer()

    def decode(
        self,
        table: npt.NDArray[np.void],
        places: npt.NDArray[np.int64],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """Decode some images of a batch, and write their `status`; it holds no GIL.

        Args:
            table: (N,) IMAGE_JOB, images with a code stream and a window.
            places: (M,) rows of the table to decode.
            bases: (N,) addresses of the images' memory, which no other work still uses.
            lane: With its stream the pixels are in order.
        """
        chunk = self._chunk or max(1, len(places))
        scratch = np.empty(codec_calls.batch_bytes(chunk), np.uint8)
        batch = np.zeros(1, codec_calls.BATCH)
        batch[0] = (
            bases.ctypes.data,
            self._instance.library.functions.ctypes.data,
            self._instance.handle,
            *map(ctypes.addressof, (self._pixels, self._view, self._params)),
            self._decoder,
            scratch.ctypes.data,
            chunk,
        )
        self._pixels.cuda_stream = lane.handle
        codec_calls.decode_batch(table, np.ascontiguousarray(places, np.int64), batch)
