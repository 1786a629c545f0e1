"""The portable codec: simplejpeg and Pillow, on every platform, one image at a time.

It serves where nvImageCodec has no wheel, and takes the single images that nvImageCodec declines.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import Backend, Link
from gpuio.codec import decode_rgb
from gpuio.decode.base import Decoder, Opened, encoded
from gpuio.errors import DecodeError
from gpuio.reader.dataset import Dataset
from gpuio.reader.reader import RecordBatch


def decode_places(
    pool: ThreadPoolExecutor,
    records: RecordBatch,
    places: Sequence[int],
    channels: int,
    *,
    tolerant: bool,
) -> dict[int, npt.NDArray[np.uint8]]:
    """(H, W, C) uint8 images by place in the batch, without those that cannot be decoded."""

    def decoded(place: int) -> npt.NDArray[np.uint8] | None:
        try:
            return decode_rgb(encoded(records, place), channels, tolerant=tolerant)
        except DecodeError:
            return None

    found = zip(places, pool.map(decoded, places), strict=True)
    return {place: image for place, image in found if image is not None}


class PortableDecoder(Decoder):
    """Decodes whole images as it opens them, in a few Python threads."""

    name = "portable"

    def __init__(
        self, backend: Backend, channels: int, dataset: Dataset, *, tolerant: bool = False
    ) -> None:
        super().__init__(backend, channels, dataset, tolerant=tolerant)
        self._pool = ThreadPoolExecutor(backend.threads, "gpuio-decode")

    def close(self) -> None:
        self._pool.shutdown()

    def open(self, records: RecordBatch) -> Opened:
        places = range(len(records.nbytes))
        pixels = decode_places(self._pool, records, places, self.channels, tolerant=self.tolerant)
        size = np.zeros((len(places), 2), np.int32)
        for place, image in pixels.items():
            size[place] = image.shape[:2]
        return Opened(size, pixels)

    def links(
        self, opened: Opened, box: npt.NDArray[np.int32], pitch: npt.NDArray[np.int64]
    ) -> list[Link]:
        return []

    def failed(self, opened: Opened) -> npt.NDArray[np.bool_]:
        return np.zeros(len(opened.size), bool)
