"""Segmentation masks: a second field of the samples, whose pixels go where those of the images go.

What happens to an image is planned once. Its mask gets the same geometry, with the nearest pixels
and without colours, and both are made by one executor. A failure in either fails the pair.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace

import numpy as np

from gpuio.core.timing import Stopwatch
from gpuio.devices.base import Device
from gpuio.errors import DecodeError
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.mask import MaskDecoder
from gpuio.pipeline.decode.windows import decode_jobs, open_headers
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import PlannedBatch
from gpuio.pipeline.read.reader import RecordBatch, RecordReader
from gpuio.sources.base import RecordSource
from gpuio.sources.labels import no_labels
from gpuio.sources.registry import open_source
from gpuio.storage.paths import PathLike


@dataclass(frozen=True, slots=True)
class Masks:
    """Where masks come from.

    Attributes:
        source: The masks, one for each image, in the order of the images.
        fill: Label of what lies outside of a picture.
    """

    source: RecordSource
    fill: int


def open_masks(path: PathLike | list[PathLike], images: RecordSource) -> RecordSource:
    """The masks of `images`, which have their keys, where both have an .idx.

    Raises:
        ValueError: There are not as many masks as images, or they have other keys.
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


class MaskField:
    """Plans the masks of planned images, and says what the executor makes of them.

    Args:
        masks: Where they come from.
        device: Where batches live.
        size: Height and width of the output, in pixels.

    Attributes:
        read: Reads the encoded masks.
        decoder: Decodes them.
        fill: Label of what lies outside of a picture, and of the mask of an image left out.
        plan: The format of the output.
        busy: Runs while masks are read, opened and planned.
    """

    def __init__(self, masks: Masks, device: Device, size: tuple[int, int]) -> None:
        self.read = RecordReader(masks.source, relabel=no_labels(1))
        self.decoder = MaskDecoder(DecoderOptions(device, 1, masks.source))
        self.fill = masks.fill
        self.plan = Plan((), (1, *size), "uint8")
        self.busy = Stopwatch("gpuio.masks")

    def __call__(
        self, batches: Iterable[PlannedBatch], masks: Iterable[RecordBatch]
    ) -> Generator[PlannedBatch, None, None]:
        """Planned batches with their masks; `masks` holds the same records in the same batches."""
        left = iter(masks)
        for planned in batches:
            with self.busy:
                paired = replace(planned, masks=self._plan(planned, next(left)))
            yield paired

    def _plan(self, images: PlannedBatch, records: RecordBatch) -> PlannedBatch:
        decoder, faults = self.decoder, records.samples.faults
        headers = open_headers(decoder, records)
        # What is planned for an image that is at fault does not fit its mask.
        for place, fault in images.samples.faults.items():
            faults.setdefault(place, fault)
        size = images.jobs.headers.size
        for place in np.flatnonzero((size != headers.size).any(axis=1)).tolist():
            where = decoder.source.where(int(records.samples.ids[place]))
            (height, width), (high, wide) = size[place], headers.size[place]
            reason = (
                f"{where}: mask of {wide} x {high} pixels for the image with key "
                f"{images.samples.keys[place]}, which has {width} x {height}"
            )
            faults.setdefault(place, DecodeError(reason))
        batch_plan = images.batch_plan.for_masks(self.fill)
        jobs = decode_jobs(decoder, records, headers, batch_plan.geometry.window)
        return PlannedBatch(records, batch_plan, jobs)
