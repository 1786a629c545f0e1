"""What a decoder takes and gives, and what all decoders do alike."""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import LARGE, Device, KernelCall
from gpuio.devices.out_of_memory import give_back, naming_batch
from gpuio.errors import DecodeError
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.sources.dataset import Dataset

_ALIGNMENT = 64
_LONGEST = 1 << 20  # side of an image, in pixels: see `augment.geometry.LARGEST`
_NO_MEMORY = "there is not enough memory to decode it"
_PAD = 64  # bytes behind a window, for decoders that write a little too far


@dataclass(frozen=True, slots=True)
class Windows:
    """Which part of each image is wanted, once its size is known.

    Attributes:
        box: (N, 4) int32 y, x, height, width, in pixels.
        rejected: By place in the batch, why an image cannot be used.
        sketch: What the augment room has decided, handed on to it as it is.
    """

    box: npt.NDArray[np.int32]
    rejected: dict[int, str]
    sketch: Any


Plan = Callable[[Samples, npt.NDArray[np.int32]], Windows]
"""Samples and the (N, 2) int32 height and width of their images, in pixels, to windows."""


@dataclass(slots=True, weakref_slot=True)
class Opened:
    """Images whose headers were read.

    Attributes:
        size: (N, 2) int32 height and width as the picture is looked at; 0 where unreadable.
        pixels: uint8 of those that were decoded at once, (H, W, C), by place in the batch.
        handle: The decoder's own.
        later: Places whose images are decoded in `Decoder.retry`, some at a time, as all of a
            batch would take too much memory at once.
    """

    size: npt.NDArray[np.int32]
    pixels: dict[int, npt.NDArray[np.uint8]]
    handle: Any = None
    later: frozenset[int] = frozenset()


@dataclass(slots=True)
class ImageBatch:
    """Images of one batch, about to be decoded: `links` do it, in front of what follows.

    Attributes:
        samples: Whose images they are.
        links: Kernels that decode the windows, over the places of the batch.
        origin: (N,) uint64, where pixel (0, 0) of each image would be, had all of it been decoded.
        pitch: (N,) int64, bytes between the rows of each.
        local: (N,) bool, those whose origin is an offset into the item's memory.
        nbytes: (N,) int64, bytes that the window of each takes there.
        sketch: From `Windows`.
        opened: From `Decoder.open`.
        records: The encoded images.
        pixels: By place in the batch, flat uint8 of images that are in host memory already.
        retried: Places at which `Decoder.retry` has been.
    """

    samples: Samples
    links: list[KernelCall]
    origin: npt.NDArray[np.uint64]
    pitch: npt.NDArray[np.int64]
    local: npt.NDArray[np.bool_]
    nbytes: npt.NDArray[np.int64]
    sketch: Any
    opened: Opened
    records: RecordBatch
    pixels: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)
    retried: set[int] = field(default_factory=set)

    def put(self, place: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Make decoded pixels, (H, W, C), the image at `place`."""
        self.pixels[place] = np.ascontiguousarray(pixels).reshape(-1)
        self.pitch[place] = pixels.shape[1] * pixels.shape[2]
        self.local[place] = False

    def drop(self, places: Sequence[int]) -> None:
        """Give back what `put` has put at `places`."""
        if sum(self.pixels.pop(place).nbytes for place in places) > LARGE:
            give_back()


class Decoder(ABC):
    """A stage: record batches in, image batches out, in the same order.

    Args:
        device: Where the images go.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA, of images that have four).
        dataset: For messages.
        tolerant: Take the pixels that libjpeg makes up where a JPEG is damaged.

    Attributes:
        windowed: Whether `links` can decode a part of an image.
    """

    name: str
    windowed = True

    def __init__(
        self, device: Device, channels: int, dataset: Dataset, *, tolerant: bool = False
    ) -> None:
        self.device = device
        self.channels = channels
        self.dataset = dataset
        self.tolerant = tolerant
        self.windows = 0  # images of which only a part was decoded
        self.fallback_count = 0  # images that the portable codec decoded for another decoder

    def prepare(self, count: int) -> None:  # noqa: B027  most are ready
        """Get ready for batches of `count` images: in the thread that decodes, before an epoch."""

    @abstractmethod
    def open(self, records: RecordBatch) -> Opened:
        """Read the headers of all images."""

    @abstractmethod
    def links(
        self, opened: Opened, box: npt.NDArray[np.int32], pitch: npt.NDArray[np.int64]
    ) -> list[KernelCall]:
        """Kernels that write each window to the start of the item's memory.

        Args:
            opened: From `open`.
            box: (N, 4) int32 y, x, height, width; height 0 where nothing is wanted.
            pitch: (N,) int64, bytes between rows.
        """

    @abstractmethod
    def failed(self, opened: Opened) -> npt.NDArray[np.bool_]:
        """(N,) bool, images that `links` were to decode, and could not."""

    def widen(  # noqa: B027  most see damage wherever it is
        self, box: npt.NDArray[np.int32], opened: Opened, samples: Samples
    ) -> None:
        """Enlarge windows, (N, 4) y, x, height, width, to what is to be decoded for them."""

    def finish(self, opened: Opened) -> None:  # noqa: B027  most hold nothing
        """Give back what `open` holds."""

    def close(self) -> None:  # noqa: B027  most hold nothing
        """Give back everything."""

    def stats(self) -> dict[str, Any]:
        """What users may want to know of its work so far."""
        return {
            "decoder": self.name,
            "decoded_in_part": self.windows,
            "decoded_by_portable": self.fallback_count,
        }

    def __call__(
        self, batches: Iterable[RecordBatch], plan: Plan
    ) -> Generator[ImageBatch, None, None]:
        """Read the headers, and get ready to decode what `plan` wants."""
        for records in batches:
            with naming_batch("keys", records.samples.keys):
                images = self._prepare(records, plan)
            yield images

    def _prepare(self, records: RecordBatch, plan: Plan) -> ImageBatch:
        samples = records.samples
        opened = self.open(records)
        self._check_sizes(records, opened)
        wanted = plan(samples, opened.size)
        for place in np.flatnonzero((opened.size[:, 0] == 0) | (records.nbytes == 0)).tolist():
            if place not in samples.faults:
                samples.faults[place] = self._error(records, place, self._reason(records, place))
        for place, reason in wanted.rejected.items():
            samples.faults.setdefault(place, self._error(records, place, reason))
        box = wanted.box.copy()
        if not self.windowed:
            box[:, :2], box[:, 2:] = 0, opened.size
        # libjpeg-turbo does not smooth the colours of the first column, if that is all it gets.
        column = (box[:, 1] == 0) & (box[:, 3] == 1)
        box[column, 3] = np.minimum(2, opened.size[column, 1])
        self.widen(box, opened, samples)
        box[[*samples.faults, *opened.pixels, *opened.later], 2:] = 0
        self.windows += int(((box[:, 2] > 0) & (box[:, 2:] != opened.size).any(axis=1)).sum())
        pitch = box[:, 3].astype(np.int64) * self.channels
        start = box[:, 0] * pitch + box[:, 1].astype(np.int64) * self.channels
        nbytes = pitch * box[:, 2] + _PAD
        batch = ImageBatch(
            samples,
            self.links(opened, box, pitch),
            np.uint64(0) - start.astype(np.uint64),
            pitch,
            np.ones(len(box), bool),
            -(-nbytes // _ALIGNMENT) * _ALIGNMENT,  # what rooms behind this one add is aligned, too
            wanted.sketch,
            opened,
            records,
        )
        for place, pixels in opened.pixels.items():
            batch.put(place, pixels)
        return batch

    def _check_sizes(self, records: RecordBatch, opened: Opened) -> None:
        """Make faults of images whose size cannot be used, before memory is taken for any."""
        from gpuio.formats.codec import check_size

        for place in np.flatnonzero(oversize(opened.size)).tolist():
            height, width = opened.size[place].tolist()
            try:
                check_size(height, width)
                reason = f"image: {width} x {height} pixels, and a side has at most {_LONGEST}"
            except DecodeError as error:
                reason = str(error)
            records.samples.faults.setdefault(place, self._error(records, place, reason))
            opened.size[place] = 0
            opened.pixels.pop(place, None)

    def retry(self, batch: ImageBatch) -> list[int]:
        """Decode what failed, or was left for later, with the portable codec.

        The others become faults.

        Returns:
            The places where that went well. There may be more: they are decoded by the next call
            when those of this one take much memory.
        """
        from gpuio.formats.codec import decode_rgb

        again = self.failed(batch.opened)
        again[[*batch.opened.later]] = True
        again[[*batch.samples.faults, *batch.retried]] = False
        done, nbytes = [], 0
        for place in np.flatnonzero(again).tolist():
            if nbytes > LARGE:
                break
            batch.retried.add(place)
            try:
                data = encoded(batch.records, place)
                pixels = decode_rgb(data, self.channels, tolerant=self.tolerant)
                _check_planned(pixels, *batch.opened.size[place].tolist())
                batch.put(place, pixels)
                done.append(place)
                nbytes += pixels.nbytes
            except DecodeError as error:
                self.reject(batch, place, str(error))
            except MemoryError:
                self.reject(batch, place, _NO_MEMORY)
        self.fallback_count += len(done)
        return done

    def reject(self, batch: ImageBatch, place: int, reason: str) -> None:
        """Note that the image at `place` could not be decoded."""
        batch.samples.faults[place] = self._error(batch.records, place, reason)

    def _reason(self, records: RecordBatch, place: int) -> str:
        from gpuio.formats.codec import decode_rgb

        data = encoded(records, place)
        if not data:
            hint = self.dataset.hint(int(records.samples.ids[place]))
            return f"its image has 0 bytes{hint}"
        try:
            decode_rgb(data, self.channels, tolerant=self.tolerant)
        except DecodeError as error:
            return str(error)
        except MemoryError:
            return _NO_MEMORY
        return f"{self.name} cannot decode it, though other codecs can"

    def _error(self, records: RecordBatch, place: int, reason: str) -> DecodeError:
        where = self.dataset.where(int(records.samples.ids[place]))
        return DecodeError(f"{where}, key {records.samples.keys[place]}: {reason}")


def _check_planned(pixels: npt.NDArray[np.uint8], height: int, width: int) -> None:
    """Refuse pixels of another size than that with which everything was planned."""
    if pixels.shape[:2] != (height, width):
        high, wide = pixels.shape[:2]
        raise DecodeError(
            f"image: {wide} x {high} pixels by one decoder, {width} x {height} by another"
        )


def oversize(size: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """(N,) bool, images of (N, 2) height and width that cannot be; those of 0 x 0 are not."""
    from gpuio.formats import codec

    height, width = size.astype(np.int64).T
    wrong = (size < 0).any(axis=1) | ((height == 0) != (width == 0))
    most = np.inf if codec.MAX_IMAGE_PIXELS is None else codec.MAX_IMAGE_PIXELS
    return wrong | (height * width > most) | (size > _LONGEST).any(axis=1)


def encoded(records: RecordBatch, place: int) -> bytes:
    """The encoded image at `place`, copied."""
    return ctypes.string_at(int(records.address[place]), int(records.nbytes[place]))
