"""nvImageCodec on the CPU: libjpeg-turbo and libpng, a batch at a time, without driver or GIL.

Only the window of an image is decoded if the codec can.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from gpuio.devices.base import KernelCall
from gpuio.errors import BackendError
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.cpu_codecs import CpuCodecs
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.decode.libjpeg_warnings import DAMAGED, SIDE, VALID
from gpuio.pipeline.decode.nvimgcodec_base import CPU_MODULES, NvImageCodec, release


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
        count = self.device.threads * self.device.max_in_flight
        self._codecs = CpuCodecs(instance, self.channels, count, self._warnings)
        if self._warnings is not None and self.channels != 4 and not self._sees_warnings():
            if not self.tolerant:
                raise BackendError("libjpeg's warnings inside nvImageCodec cannot be seen")
            self._warnings = self._codecs.warnings = None

    def close(self) -> None:
        self._pool.shutdown()
        self._codecs.close()

    def decode(self, jobs: DecodeJobs) -> list[KernelCall]:
        table = jobs.headers.table
        table["y"], table["x"], table["rows"], table["cols"] = jobs.box.T
        table["dst"], table["pitch"] = 0, jobs.pitch
        return [self._codecs.call(table)]

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


@cache
def cpu_instance() -> abi.Instance:
    """The library with the modules that decode on the CPU, started once in a process."""
    return abi.Instance(abi.load(), CPU_MODULES)
