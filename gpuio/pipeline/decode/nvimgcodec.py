"""nvImageCodec on the CPU: libjpeg-turbo and libpng, a batch at a time, without driver or GIL.

Compiled code calls the C API. Each thread has a decoder of its own, as one that is shared corrupts
the heap, and decodes only the window of an image if the codec can.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import cache

import numpy as np

from gpuio.devices.base import KernelCall
from gpuio.errors import BackendError
from gpuio.kernels import codec_calls
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.decode.libjpeg_warnings import DAMAGED, SIDE, VALID
from gpuio.pipeline.decode.nvimgcodec_base import CPU_MODULES, NvImageCodec, pixel_info, release


class NvImageCodecDecoder(NvImageCodec):
    """Decodes with nvImageCodec's CPU codecs.

    Args:
        options: As for every decoder.

    Raises:
        BackendError: nvImageCodec is not installed or does not start; or libjpeg's warnings cannot
            be seen, and damage is not tolerated.
    """

    name = "nvimgcodec"

    def __init__(self, options: DecoderOptions) -> None:
        instance = cpu_instance()
        super().__init__(options, instance)
        self._pixels = pixel_info(self.channels, on_host=True)
        self._view = abi.CodeStreamView.new(region=abi.Region.new(ndim=2))
        self._params = abi.DecodeParams.new(apply_exif_orientation=0)
        count = self.device.threads * self.device.max_in_flight
        self._decoders = np.array([self._new_decoder() for _ in range(count)], np.uint64)
        self._finalizer = weakref.finalize(self, instance.destroy, self._decoders.tolist())
        if self._warnings is not None and self.channels != 4 and not self._sees_warnings():
            if not self.tolerant:
                raise BackendError("libjpeg's warnings inside nvImageCodec cannot be seen")
            self._warnings = None

    def close(self) -> None:
        self._pool.shutdown()
        self._finalizer()

    def decode(self, jobs: DecodeJobs) -> list[KernelCall]:
        table = jobs.headers.table
        table["y"], table["x"], table["rows"], table["cols"] = jobs.box.T
        table["dst"], table["pitch"] = 0, jobs.pitch
        args = (
            self._instance.library.functions.ctypes.data,
            self._instance.handle,
            *map(ctypes.addressof, (self._pixels, self._view, self._params)),
            self._decoders.ctypes.data,
            0 if self._warnings is None else self._warnings.ctypes.data,
        )
        return [KernelCall(codec_calls.decode, table, args)]

    def _sees_warnings(self) -> bool:
        """Try it: whether a valid JPEG is decoded, and a damaged one fails for its warning."""
        files = [np.frombuffer(data, np.uint8) for data in (VALID, DAMAGED)]
        address = np.array([file.ctypes.data for file in files], np.uint64)
        table = self._probe(address, np.array([file.size for file in files], np.int64))
        size = np.stack([table["height"], table["width"]], axis=1)
        box = np.concatenate([np.zeros_like(size), size], axis=1)
        pixels = np.zeros((len(files), SIDE * SIDE * self.channels), np.uint8)
        (call,) = self.decode(DecodeJobs(Headers(size, {}, table), box, self.channels))
        table["dst"] = pixels.ctypes.data + pixels.strides[0] * np.arange(len(files))
        task, args = call.call
        task(len(files), 1, *args)
        release(self._instance, table)
        decoded: list[bool] = (table["status"] == abi.SUCCESS).tolist()
        return decoded == [True, False]

    def _new_decoder(self) -> int:
        codecs = abi.Backend.new(
            kind=abi.CPU_ONLY_BACKEND, params=abi.BackendParams.new(load_hint=1.0)
        )
        execution = abi.ExecutionParams.new(
            max_num_cpu_threads=1,  # it decodes in the calling thread
            device_id=abi.CPU_ONLY_DEVICE,
            pre_init=1,
            num_backends=1,
            backends=ctypes.addressof(codecs),
        )
        return self._instance.decoder(execution)


@cache
def cpu_instance() -> abi.Instance:
    """The library with the modules that decode on the CPU, started once in a process."""
    return abi.Instance(abi.load(), CPU_MODULES)
