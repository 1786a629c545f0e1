"""The portable codec: simplejpeg and Pillow, on every platform, one image at a time.

It decodes where nvImageCodec has no wheel, and the images that are not given to nvImageCodec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import WorkerPool
from gpuio.devices.base import LARGE
from gpuio.devices.out_of_memory import give_back
from gpuio.errors import DecodeError
from gpuio.formats.codec import opened
from gpuio.pipeline.decode.base import Decoded, Decoder, DecoderOptions, decode_at
from gpuio.pipeline.decode.jobs import Headers
from gpuio.pipeline.read.reader import RecordBatch

_JPEG = b"\xff\xd8\xff"
_SMALL_JPEG = 1 << 18  # bytes: no smaller JPEG has more than `LARGE` bytes of pixels
_KEPT = 1 << 30  # bytes of decoded images of one batch; the others are decoded once more later


def decode_places(
    decoder: Decoder, pool: WorkerPool, records: RecordBatch, places: Sequence[int]
) -> Headers:
    """Decode the images at `places` by `decode_image`; those that cannot be decoded are left out.

    Large images are decoded one after the other, and again in `Decoder.retry`. So are those that
    would make the batch larger than 1 GiB.
    """
    size = np.zeros((len(records.nbytes), 2), np.int32)
    pixels: dict[int, npt.NDArray[np.uint8]] = {}
    alone: list[int] = []

    def decode(place: int, *, large: bool = False) -> npt.NDArray[np.uint8] | None:
        try:
            data = records.encoded(place)
            if not large and _is_large(data, decoder.channels):
                alone.append(place)
                return None
            image = decode_at(decoder, records, place, data)
        except (DecodeError, MemoryError):
            return None  # `open_headers` says why
        size[place] = image.shape[:2]
        return image

    free = _KEPT
    for place, image in zip(places, pool.map(decode, places), strict=True):
        if image is not None and image.nbytes <= free:
            pixels[place] = image
            free -= image.nbytes
    for place in alone:
        decode(place, large=True)
    if alone:
        give_back()
    later = frozenset(np.flatnonzero(size[:, 0]).tolist()) - pixels.keys()
    return Headers(size, pixels, later=later)


def _is_large(data: bytes, channels: int) -> bool:
    """Whether the pixels of an image take more than `LARGE` bytes, judged by its header."""
    if len(data) < _SMALL_JPEG and data.startswith(_JPEG):
        return False
    try:
        with opened(data) as picture:
            return picture.width * picture.height * channels > LARGE
    except DecodeError:  # `decode_image` will say what is wrong with it
        return False


class PortableDecoder(Decoder):
    """Decodes whole images as it opens them, in a few Python threads.

    A decoder for images of other formats derives from this one, and changes `decode_image`.
    """

    name = "portable"

    def __init__(self, options: DecoderOptions) -> None:
        super().__init__(options)
        self._pool = WorkerPool(options.device.threads, "gpuio-decode")

    def close(self) -> None:
        self._pool.shutdown()

    def open(self, records: RecordBatch) -> Headers:
        places = np.flatnonzero(records.nbytes > 0).tolist()
        return decode_places(self, self._pool, records, places)

    def map(self, decode: Callable[[int], Decoded], places: Sequence[int]) -> Iterator[Decoded]:
        return self._pool.map(decode, places)
