"""The portable codec: simplejpeg and Pillow, on every platform, one image at a time.

It serves where nvImageCodec has no wheel, and takes the single images that nvImageCodec declines.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import Backend
from gpuio.codec import decode_rgb
from gpuio.decode.base import Decoder, Opened, encoded
from gpuio.errors import DecodeError
from gpuio.reader.dataset import Dataset
from gpuio.reader.reader import RecordBatch


class PortableDecoder(Decoder):
    """Decodes whole images in a few Python threads."""

    name = "portable"

    def __init__(self, backend: Backend, channels: int, dataset: Dataset) -> None:
        super().__init__(backend, channels, dataset)
        self._pool = ThreadPoolExecutor(backend.threads, "gpuio-decode")

    def close(self) -> None:
        self._pool.shutdown()

    def open(self, records: RecordBatch) -> Opened:
        count = len(records.nbytes)
        pixels = list(self._pool.map(lambda place: self._image(records, place), range(count)))
        size = np.array([(0, 0) if p is None else p.shape[:2] for p in pixels], np.int32)
        return Opened(size, np.zeros(count, bool), pixels)

    def decode(
        self,
        records: RecordBatch,
        opened: Opened,
        box: npt.NDArray[np.int32],
        address: npt.NDArray[np.uint64],
        pitch: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        for place in np.flatnonzero(box[:, 2]).tolist():
            _write(opened.handle[place], box[place], int(address[place]))
        return box[:, 2] > 0

    def _image(self, records: RecordBatch, place: int) -> npt.NDArray[np.uint8] | None:
        try:
            return decode_rgb(encoded(records, place), self.channels)
        except DecodeError:
            return None


def measure(data: bytes, channels: int) -> tuple[int, int]:
    """Height and width of an image as `decode_into` will have it; (0, 0) if it cannot."""
    try:
        height, width = decode_rgb(data, channels).shape[:2]
    except DecodeError:
        return 0, 0
    return height, width


def decode_into(data: bytes, channels: int, box: npt.NDArray[np.int32], address: int) -> bool:
    """Write the window `box` (y, x, height, width) of an image at `address`; False if it cannot."""
    try:
        pixels = decode_rgb(data, channels)
    except DecodeError:
        return False
    y, x, height, width = map(int, box)
    if pixels.shape[0] < y + height or pixels.shape[1] < x + width:
        return False
    _write(pixels, box, address)
    return True


def _write(pixels: npt.NDArray[np.uint8], box: npt.NDArray[np.int32], address: int) -> None:
    y, x, height, width = map(int, box)
    window = np.ascontiguousarray(pixels[y : y + height, x : x + width])
    ctypes.memmove(address, window.ctypes.data, window.nbytes)
