"""gpuio's own JPEG decoder for one image, whose pixels become an array."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.kernels.jpeg import decode as kernels
from gpuio.kernels.jpeg.header import JOB, RGB
from gpuio.kernels.parallel import run_program

_KEPT = 16 << 20  # bytes of scratch memory that a thread keeps for its next image


class _Memory(threading.local):
    """What a thread decodes with."""

    def __init__(self) -> None:
        self.states = kernels.new_states(1)
        self._scratch = np.empty(0, np.uint8)

    def scratch(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """At least so many bytes."""
        if nbytes > _KEPT:
            return np.empty(nbytes, np.uint8)
        if nbytes > self._scratch.size:
            self._scratch = np.empty(nbytes, np.uint8)
        return self._scratch


class ArrayDecoder:
    """Decodes in the calling thread, of which any number may do so at once, without the GIL."""

    def __init__(self) -> None:
        self._memory = _Memory()

    @property
    def is_at_hand(self) -> bool:
        """Whether the code was compiled before, on this machine and for this version."""
        return kernels.probe.is_kept and kernels.decode.is_kept

    def decode(
        self, data: bytes, channels: int = 3, *, reverse: bool = False
    ) -> npt.NDArray[np.uint8] | None:
        """The pixels of a baseline JPEG, equal to libjpeg-turbo's.

        Args:
            data: The JPEG.
            channels: 3, or 1 for luma alone.
            reverse: Blue comes first instead of red.

        Returns:
            (H, W, channels) uint8; None where the image is none that this decoder takes, is turned
            by its EXIF orientation, is too large, or may be damaged: another decoder has to look at
            it.
        """
        encoded = np.frombuffer(data, np.uint8)
        table = np.zeros(1, JOB)
        table["data"], table["nbytes"] = encoded.ctypes.data, encoded.size
        run_program([(kernels.probe, (table.ctypes.data,))], 1, 1)
        row = table[0]
        height, width = int(row["height"]), int(row["width"])
        if not row["taken"] or (channels == 1 and row["color"] == RGB):
            return None
        try:
            codec.check_size(height, width)
            pixels = np.empty((height, width, channels), np.uint8)
            scratch = self._memory.scratch(int(row["scratch_nbytes"]))
        except (DecodeError, MemoryError):
            return None
        table["rows"], table["cols"] = height, width
        table["dst"], table["scratch"] = pixels.ctypes.data, scratch.ctypes.data
        args = (table.ctypes.data, self._memory.states.ctypes.data, channels, int(reverse))
        run_program([(kernels.decode, args)], 1, 1)
        return pixels if table["status"][0] == kernels.SUCCESS else None
