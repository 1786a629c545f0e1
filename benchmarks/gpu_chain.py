"""nvImageCodec as it is: one decoder with all kinds of codecs, which shares a batch out itself.

gpuio has a decoder for each kind of codec, and shares a batch out among them. This one is what it
is compared with. Memory and threads are those of gpuio's devices, and nothing else.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import KernelCall
from gpuio.kernels import codec_calls
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.hardware import load_nvjpeg
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.nvimgcodec_base import CPU_MODULES, NvImageCodec, pixel_info, release

if TYPE_CHECKING:
    from gpuio.devices.lanes import Lane

WAYS = {
    "default": "",
    "legacy": "nvjpeg_hw_decoder:force_legacy_batch=1",
    "single": "nvjpeg_hw_decoder:force_batch_single=1",
}
"""nvImageCodec's ways to give a batch to the engines, and its option for each."""

BACKENDS = (abi.HARDWARE_BACKEND, abi.GPU_ONLY_BACKEND, abi.HYBRID_BACKEND, abi.CPU_ONLY_BACKEND)


class Chain(NvImageCodec):
    """Decodes whole batches, each in one call.

    Args:
        options: As for every decoder.
        way: One of `WAYS`.
        fancy: Whether enlarged colours are smoothed, as libjpeg-turbo does.
        share: The part of a batch that the engines get.
        settings: More options of nvImageCodec, `module:name=value` with blanks between them.
        threads: CPU threads of a decoder.
    """

    name = "bare"

    def __init__(
        self,
        options: DecoderOptions,
        *,
        way: str = "default",
        fancy: bool = True,
        share: float = 1.0,
        settings: str = "",
        threads: int,
    ) -> None:
        library, modules, ordinal = abi.load(), CPU_MODULES, options.device.device_id
        if ordinal is not None:
            load_nvjpeg(library.cuda)
            modules = (*CPU_MODULES, "nvjpeg_ext")
        super().__init__(options, abi.Instance(library, modules))
        self._backends = BACKENDS if ordinal is not None else BACKENDS[-1:]
        words = (f":fancy_upsampling={int(fancy)}", f":num_cuda_streams={threads}")
        text = " ".join(filter(None, (*words, WAYS[way], settings)))
        with self.device.scope():
            lanes = range(self.device.max_in_flight)
            self._decoders = [self._new(share, threads, ordinal, text) for _ in lanes]
        pixels = pixel_info(self.channels, on_host=ordinal is None)
        self._pixels = [pixels.__class__.from_buffer_copy(pixels) for _ in lanes]
        self._view = abi.CodeStreamView.new(region=abi.Region.new(ndim=2))
        self._params = abi.DecodeParams.new(apply_exif_orientation=0)

    def _new(self, share: float, threads: int, ordinal: int | None, options: str) -> int:
        backends = [
            abi.Backend.new(
                kind=kind,
                params=abi.BackendParams.new(
                    load_hint=share if kind == abi.HARDWARE_BACKEND else 1.0,
                    load_hint_policy=abi.FIXED_LOAD,
                ),
            )
            for kind in self._backends
        ]
        codecs = (abi.Backend * len(backends))(*backends)
        execution = abi.ExecutionParams.new(
            max_num_cpu_threads=threads,
            device_id=abi.CPU_ONLY_DEVICE if ordinal is None else ordinal,
            pre_init=1,
            skip_pre_sync=1,
            num_backends=len(codecs),
            backends=ctypes.addressof(codecs),
        )
        return self._instance.decoder(execution, options)

    def close(self) -> None:
        self._pool.shutdown()
        self._instance.destroy(self._decoders)

    def decode(self, jobs: DecodeJobs) -> list[KernelCall]:
        table = jobs.headers.table
        table["y"], table["x"], table["rows"], table["cols"] = jobs.box.T
        table["dst"], table["pitch"] = 0, jobs.pitch
        return [KernelCall(self._step, table)]

    def _step(self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], lane: Lane) -> None:
        """A `HostStep`."""
        places = np.flatnonzero((table["rows"] > 0) & (table["stream"] != 0))
        scratch = np.empty(codec_calls.batch_bytes(max(1, len(places))), np.uint8)
        pixels, batch = self._pixels[lane.number], np.zeros(1, codec_calls.BATCH)
        pixels.cuda_stream = lane.handle
        batch[0] = (
            bases.ctypes.data,
            self._instance.library.functions.ctypes.data,
            self._instance.handle,
            *map(ctypes.addressof, (pixels, self._view, self._params)),
            self._decoders[lane.number],
            scratch.ctypes.data,
            max(1, len(places)),
        )
        codec_calls.decode_batch(table, places, batch)
        release(self._instance, table)
