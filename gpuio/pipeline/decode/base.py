"""What a decoder is: it opens headers, decodes windows of images, and tells which it decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import LARGE, Device, KernelCall
from gpuio.errors import DecodeError
from gpuio.formats.codec import decode_rgb
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.sources.base import RecordSource

Decoded = TypeVar("Decoded")
NO_MEMORY = "there is not enough memory to decode it"
"""Why an image has no pixels."""


@dataclass(frozen=True, slots=True)
class DecoderOptions:
    """What every decoder is told.

    Attributes:
        device: Where the images go.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA, of images that have four).
        source: The records; it says in messages where one lies.
        deterministic: Use only codecs that give the same pixels each time, on a GPU too.
        tolerant: Take the pixels that libjpeg makes up where a JPEG is damaged.
        engine_share: The part that a GPU's JPEG engines get of the pixels that they can decode, 0
            to 1; None to go by measured rates.
        decode_threads: CPU threads that decode beside a GPU; with 0 the CPU decodes only what the
            GPU cannot; None for up to 16.
        least_edge: Pixels of the shorter edge that are enough: a decoder may decode larger images
            to 1/2, 1/4 or 1/8 of their size, which is then their size by their headers. None if
            all pixels are wanted.
    """

    device: Device
    channels: int
    source: RecordSource
    deterministic: bool = False
    tolerant: bool = False
    engine_share: float | None = None
    decode_threads: int | None = None
    least_edge: int | None = None


class Decoder(ABC):
    """Reads headers and decodes windows of images, a batch at a time.

    It knows nothing of augmentation. One batch goes through `open`, `decode` (the executor runs the
    kernels that it returns), `retry` until that returns no place, and `release`; one whose images
    are all in a cache does not go through it. A decoder may do
    all of its work in `open`; then only `open` has to be written.

    Args:
        options: What images are decoded, and where to.

    Attributes:
        name: Its name in messages and in `ImageRecordIter.stats`.
        windowed: Whether `decode` can decode a part of an image.
        windows: Images of which only a part was decoded.
        fallback_count: Images that the portable codec decoded for another decoder.
    """

    name: str = "unnamed"
    windowed = True

    def __init__(self, options: DecoderOptions) -> None:
        self.device = options.device
        self.channels = options.channels
        self.source = options.source
        self.tolerant = options.tolerant
        self.windows = 0
        self.fallback_count = 0

    def prepare(self, count: int) -> None:  # noqa: B027  most are ready
        """Get ready for batches of `count` images: in the thread that decodes, before an epoch."""

    @abstractmethod
    def open(self, records: RecordBatch) -> Headers:
        """Read the headers of all images of a batch."""

    def widen(  # noqa: B027  most find damage in any window
        self, box: npt.NDArray[np.int32], headers: Headers, samples: Samples
    ) -> None:
        """Enlarge windows, (N, 4) y, x, height, width, to what has to be decoded for them."""

    def decode(self, jobs: DecodeJobs) -> list[KernelCall]:
        """Kernels that write each window of `jobs` to the start of the item's scratch memory."""
        return []

    def decoded(self, jobs: DecodeJobs) -> npt.NDArray[np.bool_]:
        """(N,) bool, images that the kernels of `decode` have decoded, once they have run."""
        return np.zeros(len(jobs.box), bool)

    def retry(self, records: RecordBatch, jobs: DecodeJobs) -> list[int]:
        """Decode what `decode` did not, and what was left for later, with `decode_image`.

        Images that cannot be decoded become faults of their samples.

        Returns:
            Places of the images that are decoded now. Call again until there are none: the pixels
            of one call take 64 MiB at most, or are those of one image.
        """
        valid = self.decoded(jobs)
        again = (jobs.box[:, 2] > 0) & ~valid
        again[[*jobs.headers.later]] = True
        again[[*records.samples.faults, *jobs.retried]] = False
        left = np.flatnonzero(again)
        nbytes = jobs.headers.size[left].astype(np.int64).prod(axis=1) * self.channels
        done: list[int] = []
        while len(left) and not done:
            count = max(1, int(np.searchsorted(np.cumsum(nbytes), LARGE, "right")))
            places, left, nbytes = left[:count].tolist(), left[count:], nbytes[count:]
            jobs.retried.update(places)
            found = self.map(partial(self._decode_again, records, jobs), places)
            for place, pixels in zip(places, found, strict=True):
                if isinstance(pixels, str):
                    self.reject(records, place, pixels)
                else:
                    jobs.put(place, pixels)
                    done.append(place)
        self.fallback_count += len(done)
        valid[done] = True
        self.confirm(records.samples.ids[valid])
        return done

    def confirm(self, ids: npt.NDArray[np.int64]) -> None:  # noqa: B027  most find damage anywhere
        """Remember that the images of these records were decoded, and are not damaged."""

    def map(self, decode: Callable[[int], Decoded], places: Sequence[int]) -> Iterator[Decoded]:
        """What `decode` makes of the image at each place, in their order.

        A decoder whose `decode_image` may be called in several threads at once uses them.
        """
        return map(decode, places)

    def _decode_again(
        self, records: RecordBatch, jobs: DecodeJobs, place: int
    ) -> npt.NDArray[np.uint8] | str:
        """The pixels of the image at `place`, or why there are none."""
        try:
            pixels = decode_at(self, records, place, records.encoded(place))
            check_size(pixels, *jobs.headers.size[place].tolist())
        except DecodeError as error:
            return str(error)
        except MemoryError:
            return NO_MEMORY
        return pixels

    def decode_image(self, data: bytes) -> npt.NDArray[np.uint8]:
        """(H, W, C) pixels of one image on the host, for `retry`.

        Raises:
            DecodeError: `data` is no image, or a damaged one.
        """
        return decode_rgb(data, self.channels, tolerant=self.tolerant)

    def reject(self, records: RecordBatch, place: int, reason: str) -> None:
        """Make the image at `place` a fault of its sample, which has none yet or keeps its own."""
        samples = records.samples
        if place not in samples.faults:
            where = self.source.where(int(samples.ids[place]))
            samples.faults[place] = DecodeError(f"{where}, key {samples.keys[place]}: {reason}")

    def release(self, headers: Headers) -> None:  # noqa: B027  most hold nothing
        """Free what `open` holds."""

    def close(self) -> None:  # noqa: B027  most hold nothing
        """Free everything."""

    def stats(self) -> dict[str, object]:
        """Figures about its work so far, which `ImageRecordIter.stats` has."""
        return {
            "decoder": self.name,
            "decoded_in_part": self.windows,
            "decoded_by_portable": self.fallback_count,
        }


def decode_at(
    decoder: Decoder, records: RecordBatch, place: int, data: bytes
) -> npt.NDArray[np.uint8]:
    """What `Decoder.decode_image` makes of the image at `place`.

    Raises:
        DecodeError: `data` is no image or a damaged one, or the pixels have another shape or dtype
            than kernels rely on. An error of another kind gets a note that names the image.
    """
    try:
        pixels = decoder.decode_image(data)
        check_pixels(decoder, pixels)
    except (DecodeError, MemoryError):
        raise
    except Exception as error:
        where = decoder.source.where(int(records.samples.ids[place]))
        error.add_note(f"raised by the decoder {decoder.name!r}, which was given {where}")
        raise
    return pixels


def check_pixels(decoder: Decoder, pixels: object) -> None:
    """Refuse pixels of another shape or dtype than kernels read."""
    found = type(pixels).__name__
    if isinstance(pixels, np.ndarray):
        if pixels.ndim == 3 and pixels.shape[2] == decoder.channels and pixels.dtype == np.uint8:
            return
        found = f"{pixels.dtype} of shape {pixels.shape}"
    raise DecodeError(
        f"{decoder.name} has decoded it to {found}, not to uint8 of shape "
        f"(height, width, {decoder.channels})"
    )


def check_size(pixels: npt.NDArray[np.uint8], height: int, width: int) -> None:
    """Refuse pixels of another size than the one that the batch was planned with."""
    if pixels.shape[:2] != (height, width):
        high, wide = pixels.shape[:2]
        raise DecodeError(
            f"image: {wide} x {high} pixels by one decoder, {width} x {height} by another"
        )
