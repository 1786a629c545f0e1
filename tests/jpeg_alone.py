"""gpuio's JPEG decoder by itself: one picture at a time, in memory that a test provides."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gpuio.kernels.jpeg import decode as kernels
from gpuio.kernels.jpeg.header import JOB
from gpuio.kernels.jpeg.scan import CHECKPOINT

Bytes = npt.NDArray[np.uint8]
Place = Callable[[str, int], Bytes]
"""Memory by what it is for, and how many bytes of it; valid until it is asked for again."""
Window = tuple[int, int, int, int]

_TASK = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint64)


def plain(what: str, nbytes: int) -> Bytes:
    """A `Place`: memory as NumPy has it."""
    return np.full(nbytes, 0xA5, np.uint8)


class JpegAlone:
    """Decodes one picture after the other.

    Args:
        place: Where the memory of each comes from.

    Attributes:
        checkpoints: Bytes of those of the last picture that has some.
    """

    checkpoints: Bytes

    def __init__(self, place: Place = plain) -> None:
        self._place = place
        self._probe, self._decode = _TASK(kernels.probe.address), _TASK(kernels.decode.address)
        self._state = place("state", kernels.STATE.itemsize)
        self.forget()

    def forget(self) -> None:
        """Forget the tables of the pictures before."""
        self._state[:] = 0

    def open(self, data: bytes) -> npt.NDArray[np.void] | None:
        """(1,) JOB of a picture whose header is taken; else None."""
        self._data = self._place("data", len(data))
        self._data[:] = np.frombuffer(data, np.uint8)
        job = np.zeros(1, JOB)
        job["data"], job["nbytes"] = self._data.ctypes.data, len(data)
        self._run(self._probe, job.ctypes.data)
        return job if job["taken"][0] else None

    def decode(
        self,
        job: npt.NDArray[np.void],
        window: Window | None = None,
        channels: int = 3,
        *,
        reverse: bool = False,
        saves: bool = False,
    ) -> Bytes | None:
        """(rows, cols, channels) pixels of a window; None if the picture was declined.

        Args:
            job: Of the picture that was opened last.
            window: y, x, rows, cols; the whole picture if None.
            channels: 1 or 3.
            reverse: Blue, green, red.
            saves: Write checkpoints, if they are not known yet; later windows use them.
        """
        height, width = int(job["height"][0]), int(job["width"][0])
        y, x, rows, cols = window or (0, 0, height, width)
        job["y"], job["x"], job["rows"], job["cols"] = y, x, rows, cols
        pixels = self._place("pixels", rows * cols * channels)
        scratch = self._place("scratch", int(job["scratch_nbytes"][0]))
        if saves and not job["known"][0]:
            count = -(-height // (8 * int(job["down"][0, 0])))
            self.checkpoints = self._place("checkpoints", count * CHECKPOINT.itemsize)
            job["checkpoints"] = self.checkpoints.ctypes.data
        job["dst"], job["scratch"], job["status"] = pixels.ctypes.data, scratch.ctypes.data, 0
        state = self._state.ctypes.data
        self._run(self._decode, job.ctypes.data, state, channels, int(reverse))
        if job["status"][0] != kernels.SUCCESS:
            return None
        return pixels.reshape(rows, cols, channels).copy()

    @staticmethod
    def _run(task: Callable[..., None], *args: int) -> None:
        words = np.array(args, np.uint64)
        task(words.ctypes.data, 0, 0, 0)


def decoded(
    data: bytes, channels: int = 3, window: Window | None = None, *, reverse: bool = False
) -> Bytes | None:
    """Pixels of one picture; None if its header is not taken, or the picture declined."""
    decoder = JpegAlone()
    job = decoder.open(data)
    return None if job is None else decoder.decode(job, window, channels, reverse=reverse)
