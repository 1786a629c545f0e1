"""What a decoder takes and gives, and what all decoders do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import Backend
from gpuio.backends.ring import Ring, Slot
from gpuio.errors import DecodeError
from gpuio.reader.dataset import Dataset
from gpuio.reader.reader import RecordBatch, Samples

ALIGNMENT = 64
PAD = 64  # bytes of the arena behind the last image, for decoders that write a little too far


@dataclass(frozen=True, slots=True)
class Windows:
    """Which part of each image is wanted; `plan` makes it from their sizes.

    Attributes:
        box: (N, 4) int32 y, x, height, width, in pixels; height 0 where the image is not wanted.
        refused: By place in the batch, why an image cannot be used.
        sketch: What the augment room has decided, handed on to it as it is.
    """

    box: npt.NDArray[np.int32]
    refused: dict[int, str]
    sketch: Any


Plan = Callable[[Samples, npt.NDArray[np.int32]], Windows]
"""Samples and the (N, 2) int32 height and width of their images, in pixels, to windows."""


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Decoded windows of one batch, each of its own size, in one slot.

    Attributes:
        samples: Whose images they are.
        origin: (N,) uint64, where pixel (0, 0) of each image would be, had all of it been decoded.
        pitch: (N,) int64, bytes between the rows of each.
        sketch: From `Windows`.
        slot: The memory, given back when the images are read.
    """

    samples: Samples
    origin: npt.NDArray[np.uint64]
    pitch: npt.NDArray[np.int64]
    sketch: Any
    slot: Slot


@dataclass(slots=True)
class Opened:
    """Images whose headers were read.

    Attributes:
        size: (N, 2) int32 height and width as the picture is looked at; 0 where unreadable.
        whole: (N,) bool, those that cannot be decoded in part.
        handle: The decoder's own.
    """

    size: npt.NDArray[np.int32]
    whole: npt.NDArray[np.bool_]
    handle: Any


class Decoder(ABC):
    """A stage: record batches in, image batches out, in the same order.

    Args:
        backend: Where the images go.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA, of images that have four).
        dataset: For messages.
    """

    name: str

    def __init__(self, backend: Backend, channels: int, dataset: Dataset) -> None:
        self.backend = backend
        self.channels = channels
        self.dataset = dataset
        self.windows = 0  # images of which only a part was decoded

    @abstractmethod
    def open(self, records: RecordBatch) -> Opened:
        """Read the headers of all images."""

    @abstractmethod
    def decode(
        self,
        records: RecordBatch,
        opened: Opened,
        box: npt.NDArray[np.int32],
        address: npt.NDArray[np.uint64],
        pitch: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Write every window of `box` that has rows; (N,) whether each is there.

        Args:
            records: The encoded images.
            opened: From `open`.
            box: (N, 4) int32 y, x, height, width.
            address: (N,) uint64, where the first pixel of each window goes.
            pitch: (N,) int64, bytes between rows.
        """

    def finish(self, opened: Opened) -> None:  # noqa: B027  most hold nothing
        """Give back what `open` holds."""

    def reason(self, data: bytes) -> str:
        """Why an image cannot be decoded."""
        from gpuio.codec import decode_rgb

        try:
            decode_rgb(data, self.channels)
        except DecodeError as error:
            return str(error)
        return f"{self.name} cannot decode it, though other codecs can"

    def close(self) -> None:  # noqa: B027  most hold nothing
        """Give back everything."""

    def __call__(
        self, batches: Iterable[RecordBatch], host: Ring, arena: Ring, plan: Plan
    ) -> Generator[ImageBatch, None, None]:
        """One slot of `arena` for each batch; its slot of `host` is given back.

        Args:
            batches: From the reader.
            host: The ring of their slots.
            arena: Where decoded windows lie.
            plan: Asked for the windows as soon as the sizes are known.
        """
        for records in batches:
            opened = self.open(records)
            try:
                images = self._decode(records, opened, plan, arena.acquire())
            finally:
                self.finish(opened)
            host.release(records.slot, after=self.backend.record())
            yield images

    def _decode(self, records: RecordBatch, opened: Opened, plan: Plan, slot: Slot) -> ImageBatch:
        samples = records.samples
        wanted = plan(samples, opened.size)
        box = wanted.box.copy()
        readable = (records.nbytes > 0) & (opened.size[:, 0] > 0)
        box[~readable, 2:] = 0
        box[list(wanted.refused), 2:] = 0
        # libjpeg-turbo does not smooth the colours of the first column, if it is all that is asked.
        column = (box[:, 1] == 0) & (box[:, 3] == 1)
        box[column, 3] = np.minimum(2, opened.size[column, 1])
        whole = opened.whole & (box[:, 2] > 0)
        box[whole, :2], box[whole, 2:] = 0, opened.size[whole]
        pitch = box[:, 3].astype(np.int64) * self.channels
        nbytes = -(-(pitch * box[:, 2]) // ALIGNMENT) * ALIGNMENT
        memory = slot.reserve(int(nbytes.sum()) + PAD + ALIGNMENT)
        base = -(-self.backend.address(memory) // ALIGNMENT) * ALIGNMENT
        address = (np.cumsum(nbytes) - nbytes).astype(np.uint64) + np.uint64(base)
        done = self.decode(records, opened, box, address, pitch)
        self.windows += int((done & (box[:, 2:] != opened.size).any(axis=1)).sum())
        for place, reason in wanted.refused.items():
            samples.faults.setdefault(place, self._error(records, place, reason))
        missing = ~done & (records.nbytes > 0)
        for place in np.flatnonzero(missing | (records.nbytes == 0)).tolist():
            if place not in samples.faults:
                samples.faults[place] = self._fault(records, place)
        start = box[:, 0] * pitch + box[:, 1].astype(np.int64) * self.channels
        origin = address - start.astype(np.uint64)
        return ImageBatch(samples, origin, pitch, wanted.sketch, slot)

    def _fault(self, records: RecordBatch, place: int) -> DecodeError:
        data = encoded(records, place)
        reason = self.reason(data) if data else "its image has 0 bytes"
        return self._error(records, place, reason)

    def _error(self, records: RecordBatch, place: int, reason: str) -> DecodeError:
        where = self.dataset.where(int(records.samples.ids[place]))
        return DecodeError(f"{where}, key {records.samples.keys[place]}: {reason}")


def encoded(records: RecordBatch, place: int) -> bytes:
    """The encoded image at `place`, copied."""
    import ctypes

    return ctypes.string_at(int(records.address[place]), int(records.nbytes[place]))
