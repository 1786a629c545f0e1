"""What passes between a decoder and the stages around it: headers and jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import LARGE
from gpuio.devices.out_of_memory import give_back

_ALIGNMENT = 64  # bytes: what is put into an item's scratch memory begins at a multiple of this
_OVERRUN = 64  # bytes behind a window, for decoders that write a little too far


def aligned(nbytes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,) bytes, rounded up so that what follows in an item's scratch memory is aligned."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _no_table() -> npt.NDArray[np.void]:
    return np.zeros(0, "V1")


@dataclass(slots=True, weakref_slot=True)
class Headers:
    """Images of a batch whose headers were read.

    Attributes:
        size: (N, 2) int32 height and width with the EXIF orientation applied; 0 where the header
            cannot be read.
        pixels: By place in the batch, (H, W, C) uint8 of images that `open` has decoded.
        table: (N,) rows of the decoder's own; empty where it keeps none.
        later: Places of images that `Decoder.retry` decodes, a few at a time, since the pixels of
            all of them would take too much memory at once.
        scratch: (N,) int64, bytes of scratch memory that decoding takes besides the pixels; empty
            where it takes none.
    """

    size: npt.NDArray[np.int32]
    pixels: dict[int, npt.NDArray[np.uint8]]
    table: npt.NDArray[np.void] = field(default_factory=_no_table)
    later: frozenset[int] = frozenset()
    scratch: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(slots=True)
class DecodeJobs:
    """The window of each image that is decoded, and where its pixels are found afterwards.

    `Decoder.decode` writes each window to the start of the item's scratch memory. Images that are
    decoded in host memory are put in with `put`.

    Attributes:
        headers: The images.
        box: (N, 4) int32 y, x, height, width, in pixels; height 0 where nothing is to be decoded.
        channels: Bytes of a pixel.
        pitch: (N,) int64, bytes between rows.
        origin: (N,) uint64, where pixel (0, 0) of each image would be if all of it were decoded.
        in_scratch: (N,) bool, images whose origin is an offset into the item's scratch memory.
        nbytes: (N,) int64, bytes of scratch memory that each window takes, and its decoding.
        scratch: (N,) int64, offset in an item's scratch memory of what only decoding takes.
        pixels: By place in the batch, flat uint8 of images in host memory.
        retried: Places that `Decoder.retry` has tried.
    """

    headers: Headers
    box: npt.NDArray[np.int32]
    channels: int
    pitch: npt.NDArray[np.int64] = field(init=False)
    origin: npt.NDArray[np.uint64] = field(init=False)
    in_scratch: npt.NDArray[np.bool_] = field(init=False)
    nbytes: npt.NDArray[np.int64] = field(init=False)
    scratch: npt.NDArray[np.int64] = field(init=False)
    pixels: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)
    retried: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        box = self.box
        self.pitch = box[:, 3].astype(np.int64) * self.channels
        start = box[:, 0] * self.pitch + box[:, 1].astype(np.int64) * self.channels
        self.origin = np.uint64(0) - start.astype(np.uint64)
        self.in_scratch = np.ones(len(box), bool)
        self.nbytes = self.scratch = aligned(self.pitch * box[:, 2] + _OVERRUN)
        if len(self.headers.scratch):
            self.nbytes = self.scratch + aligned(self.headers.scratch)
        for place, pixels in self.headers.pixels.items():
            self.put(place, pixels)

    def put(self, place: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Make decoded pixels, (H, W, C), the image at `place`."""
        self.pixels[place] = np.ascontiguousarray(pixels).reshape(-1)
        self.pitch[place] = pixels.shape[1] * pixels.shape[2]
        self.in_scratch[place] = False

    def drop(self, places: Sequence[int]) -> None:
        """Free the pixels that `put` has put at `places`."""
        if sum(self.pixels.pop(place).nbytes for place in places) > LARGE:
            give_back()
