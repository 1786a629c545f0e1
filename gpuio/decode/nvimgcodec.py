"""nvImageCodec on the CPU: libjpeg-turbo and friends, a batch at a time, without driver or GIL.

Its C API is called from compiled code: one decoder for each thread (a decoder shared by threads
corrupts the heap), each image in the thread that takes it, its window only where the codec can.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import cache

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import Backend, Link
from gpuio.decode import nvimgcodec_abi as abi
from gpuio.decode.base import Opened
from gpuio.decode.nvimgcodec_base import CPU_MODULES, FORMATS, NvImageCodec
from gpuio.kernels import codec_calls
from gpuio.reader.dataset import Dataset


class NvImageCodecDecoder(NvImageCodec):
    """Decodes with nvImageCodec's CPU codecs.

    Raises:
        BackendError: nvImageCodec is not installed, or does not start.
    """

    name = "nvimgcodec"

    def __init__(self, backend: Backend, channels: int, dataset: Dataset) -> None:
        instance = _instance()
        super().__init__(backend, channels, dataset, instance)
        count = backend.threads * backend.lanes
        self._decoders = np.array([self._new_decoder() for _ in range(count)], np.uint64)
        self._finalizer = weakref.finalize(self, instance.destroy, self._decoders.tolist())

    def close(self) -> None:
        self._pool.shutdown()
        self._finalizer()

    def links(
        self, opened: Opened, box: npt.NDArray[np.int32], pitch: npt.NDArray[np.int64]
    ) -> list[Link]:
        table = opened.handle
        table["y"], table["x"], table["rows"], table["cols"] = box.T
        table["dst"], table["pitch"] = 0, pitch
        sample_format, color = FORMATS[self.channels]
        words = (
            self._instance.library.functions.ctypes.data,
            self._instance.handle,
            *map(ctypes.addressof, (self._info, self._view, self._params)),
            self._decoders.ctypes.data,
            self.channels,
            sample_format,
            color,
            abi.HOST_BUFFER,
        )
        return [Link(codec_calls.decode, table, words)]

    def _new_decoder(self) -> int:
        codecs = abi.Backend.new(
            kind=abi.CPU_ONLY_BACKEND, params=abi.BackendParams.new(load_hint=1.0)
        )
        execution = abi.ExecutionParams.new(
            max_num_cpu_threads=1,  # decodes in the calling thread
            device_id=abi.CPU_ONLY_DEVICE,
            pre_init=1,
            num_backends=1,
            backends=ctypes.addressof(codecs),
        )
        return self._instance.decoder(execution)


@cache
def _instance() -> abi.Instance:
    """The library, started once a process with the modules that decode on the CPU."""
    return abi.Instance(abi.load(), CPU_MODULES)
