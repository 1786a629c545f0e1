"""Segmentation masks: a second data set, whose pixels go where those of the images go.

What an image gets is drawn for its record, so a second pipeline that draws for the same records
moves masks like images, if geometry is all it has, and the nearest pixel its only interpolation.
The two run side by side, and a batch is one of each. A failure in either fails the pair.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from gpuio.core.timing import PipelineStats, ProfilerRange
from gpuio.devices.base import Device
from gpuio.errors import DecodeError, GpuioError, PipelineClosedError
from gpuio.pipeline.error_policy import FaultLog, OnError, apply_error_policy
from gpuio.pipeline.executor import Batch
from gpuio.pipeline.pipeline import Pipeline
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.read.reader import Samples
from gpuio.samplers import Selection
from gpuio.sources.base import RecordSource
from gpuio.sources.registry import open_source
from gpuio.storage.paths import PathLike
from gpuio.transforms.op import BatchPlan, Op

T = TypeVar("T")
_SIZE = "size"


@dataclass(frozen=True, slots=True)
class Masks:
    """Where masks come from, and what is done to them.

    Attributes:
        source: As many records as there are images, in their order.
        plan: The geometry of the images.
        fill: Label of what lies outside of a picture.
    """

    source: RecordSource
    plan: Plan
    fill: int


def open_masks(path: PathLike | list[PathLike], images: RecordSource) -> RecordSource:
    """The masks of `images`, which have their keys, where both have an .idx.

    Raises:
        ValueError: They are not as many, or have other keys.
        FileNotFoundError: There is no such file.
        FormatError: A file is not what it should be, or holds no record.
    """
    masks = open_source(path)
    if len(masks) != len(images):
        raise ValueError(
            f"masks must be as many as images: {masks} has {len(masks)} records, "
            f"{images} has {len(images)}"
        )
    if images.keys is not None and masks.keys is not None:
        different = np.flatnonzero(images.keys != masks.keys)
        if len(different):
            place = int(different[0])
            raise ValueError(
                "masks must be in the order of the images, and have their keys: "
                f"{masks.where(place)} has key {masks.keys[place]}, its image {images.keys[place]}"
            )
    return masks


@dataclass(frozen=True, slots=True)
class NoteSize(Op):
    """Note how large the images are."""

    cost: ClassVar[str] = "free"

    def __call__(self, batch: BatchPlan) -> None:
        batch.sampled[_SIZE] = batch.geometry.original


def noting_size(plan: Plan) -> Plan:
    """`plan`, with sizes among what is drawn, so that images and masks can be compared."""
    return replace(plan, ops=(NoteSize(), *plan.ops))


class MaskedPipeline:
    """Two pipelines side by side, which together end like one.

    Both must keep the places of samples that could not be read or decoded
    (`on_error="zero"`), and their plans note sizes.

    Args:
        images: One of them.
        masks: The other, over a data set of as many records.
        on_error: What happens to samples of which image or mask could not be read or decoded.
        fill: Label of the mask of an image of zeros.
    """

    def __init__(self, images: Pipeline, masks: Pipeline, on_error: OnError, fill: int) -> None:
        self.faults = FaultLog()
        self._images = images
        self._masks = masks
        self._on_error: OnError = on_error
        self._fill = fill

    def batches(
        self,
        selections: Iterable[Selection],
        *,
        epoch: int,
        overrides: Mapping[str, Any] | None = None,
    ) -> Iterator[Batch]:
        """The batches of one epoch with their masks, in order; see `Pipeline.batches`."""
        first, second = shared(selections)
        moves = {k: v for k, v in (overrides or {}).items() if not k.endswith("interpolation")}
        images = self._images.batches(first, epoch=epoch, overrides=overrides)
        try:
            masks = self._masks.batches(second, epoch=epoch, overrides=moves)
        except PipelineClosedError:
            raise  # `close` waits for the threads, which may wait for a file
        except GpuioError:
            self.stop()
            raise
        return _Pairs(images, masks, self._pair, self.stop)

    def _pair(self, image: Batch, mask: Batch) -> Batch:
        """One batch of both, with faults settled."""
        sampled = {name: column for name, column in image.sampled.items() if name != _SIZE}
        faults = self._faults(image, mask)
        if not faults:
            return replace(image, sampled=sampled, masks=mask)
        samples = Samples(sampled["record"], image.keys, image.labels, image.pad, faults)
        places, pad = apply_error_policy(samples, self._on_error)
        self.faults.add([faults[place] for place in sorted(faults)])
        image = _settled(image, places, self._images.device, 0)
        mask = _settled(mask, places, self._masks.device, self._fill)
        places = np.where(places < 0, np.arange(len(places)), places)
        sampled = {name: column[places] for name, column in sampled.items()}
        labels, keys = image.labels[places], image.keys[places]
        return replace(
            image, labels=labels, keys=keys, pad=pad, sampled=sampled, faults=faults, masks=mask
        )

    def _faults(self, image: Batch, mask: Batch) -> dict[int, GpuioError]:
        """Why a pair of image and mask is at fault, by place; other sizes are a reason, too."""
        faults = {**mask.faults, **image.faults}
        size, other = image.sampled[_SIZE], mask.sampled[_SIZE]
        for place in np.flatnonzero((size != other).any(axis=1)).tolist():
            if place not in faults:
                where = self._masks.read.source.where(int(image.sampled["record"][place]))
                (height, width), (high, wide) = size[place], other[place]
                faults[place] = DecodeError(
                    f"{where}: mask of {wide} x {high} pixels for the image with key "
                    f"{image.keys[place]}, which has {width} x {height}"
                )
        return faults

    def interrupt(self) -> None:
        """Wake whoever waits for a batch, for good: see `Pipeline.interrupt`."""
        self._images.interrupt()
        self._masks.interrupt()

    def stop(self) -> None:
        """End the epoch under way; all threads are joined when this returns."""
        self._images.stop()
        self._masks.stop()

    def close(self) -> None:
        """End everything and give the decoders back."""
        self._images.close()
        self._masks.close()

    def accounts(self) -> dict[str, PipelineStats]:
        """What each has done since it was made."""
        return {"": self._images.account(), "masks": self._masks.account()}

    def mark(self, marks: Iterable[ProfilerRange]) -> None:
        """Show to profilers what all threads are at, from now on."""
        marks = tuple(marks)
        self._images.mark(marks)
        self._masks.mark(marks)

    def stats(self) -> dict[str, Any]:
        """Where the time went, of the images, and of the masks under "masks"."""
        count = self.faults.count
        return {**self._images.stats(), "masks": self._masks.stats(), "faults": count}


class _Pairs(Iterator[Batch]):
    """Batches of images with those of their masks; also after a Ctrl-C between the two.

    Args:
        images: Some.
        masks: As many.
        pair: Makes one batch of both.
        stop: Ends both, after an error in either.
    """

    def __init__(
        self,
        images: Iterator[Batch],
        masks: Iterator[Batch],
        pair: Callable[[Batch, Batch], Batch],
        stop: Callable[[], None],
    ) -> None:
        self._images, self._masks, self._pair, self._stop = images, masks, pair, stop
        self._image: Batch | None = None  # that waits for its mask

    def __next__(self) -> Batch:
        try:
            if self._image is None:
                self._image = next(self._images, None)
            mask = next(self._masks, None)
            image, self._image = self._image, None
            if image is not None and mask is not None:
                return self._pair(image, mask)
            if image is not None or mask is not None:
                raise ValueError("images and masks differ in batches")  # noqa: TRY301  both end
        except Exception:
            self._stop()
            raise
        raise StopIteration


def _settled(batch: Batch, places: npt.NDArray[np.int64], device: Device, fill: int) -> Batch:
    """`batch` with the pixels of `places`, and `fill` where that is -1."""
    with device.scope():
        batch.ready.wait()
        device.gather_items(batch.data, places, fill)
        return replace(batch, ready=device.record())


def shared(items: Iterable[T]) -> tuple[Iterator[T], Iterator[T]]:
    """Two iterators over `items`, each for a thread of its own."""
    lock = threading.Lock()

    def each(own: Iterator[T]) -> Iterator[T]:
        while True:
            with lock:
                try:
                    item = next(own)
                except StopIteration:
                    return
            yield item

    first, second = itertools.tee(items)
    return each(first), each(second)
