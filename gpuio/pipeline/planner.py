"""The planner: what every image of a batch gets, decided before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuio.devices.out_of_memory import naming_batch
from gpuio.errors import GpuioError
from gpuio.pipeline.cache.image_cache import CachedBatch, ImageCache
from gpuio.pipeline.decode.base import Decoder
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.windows import decode_jobs, open_headers
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.transforms.geometry import whole
from gpuio.transforms.op import BatchPlan, Column
from gpuio.transforms.random import Draws

Overrides = Mapping[str, Column]
"""By name of what an op samples, (N, ...) values to use instead of random ones."""


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A batch of which everything is decided, and nothing is decoded.

    Attributes:
        records: The encoded images.
        batch_plan: What each image gets.
        jobs: What is to be decoded of each image.
        masks: The same for the masks of the images; None where there are none.
        cached: Which images are made of pixels in the cache; None without a cache.
    """

    records: RecordBatch
    batch_plan: BatchPlan
    jobs: DecodeJobs
    masks: PlannedBatch | None = None
    cached: CachedBatch | None = None

    @property
    def samples(self) -> Samples:
        """The samples, with the faults of this field that are known so far."""
        return self.records.samples

    @property
    def fields(self) -> list[PlannedBatch]:
        """The images, and their masks, if there are any."""
        return [self] if self.masks is None else [self, self.masks]

    def all_faults(self) -> dict[int, GpuioError]:
        """By place in the batch, why a sample is at fault; a failure in any field fails it."""
        if self.masks is None:
            return self.samples.faults
        return {**self.masks.samples.faults, **self.samples.faults}


class Planner:
    """Reads the headers of record batches, and plans what is done to their images.

    A planner that samples its values in another way overrides `plan_batch`.

    Args:
        plan: What is done to every image.
        decoder: Reads the headers.
        seed: Seed of all random numbers.
        cache: Keeps pixels, those that the reader did not have to read and those of this epoch.
    """

    def __init__(
        self, plan: Plan, decoder: Decoder, *, seed: int = 0, cache: ImageCache | None = None
    ) -> None:
        self.plan = plan
        self._decoder = decoder
        self._seed = seed
        self._cache = cache

    def __call__(
        self, batches: Iterable[RecordBatch], *, epoch: int = 0, overrides: Overrides | None = None
    ) -> Generator[PlannedBatch, None, None]:
        """Plan one batch after the other.

        Args:
            batches: The encoded images.
            epoch: Number of the epoch, from 0.
            overrides: Values to use instead of random ones, for every batch.
        """
        for records in batches:
            with naming_batch("keys", records.samples.keys):
                planned = self._plan(records, epoch, overrides)
            yield planned

    def close(self) -> None:
        """End every wait of the thread that plans: this planner waits for nothing."""

    def _plan(self, records: RecordBatch, epoch: int, overrides: Overrides | None) -> PlannedBatch:
        decoder, samples = self._decoder, records.samples
        headers = open_headers(decoder, records)
        batch_plan = self.plan_batch(samples, headers.size, epoch=epoch, overrides=overrides)
        for place, reason in batch_plan.rejected.items():
            if headers.size[place].all():
                decoder.reject(records, place, reason)
        window, cached = batch_plan.geometry.window, None
        if self._cache is not None and records.found is not None:
            geometry = batch_plan.geometry
            cached = self._cache.plan(samples.ids, records.found, [*samples.faults], geometry)
            window = np.where(cached.fill[:, None], whole(geometry.original), window)
        jobs = decode_jobs(decoder, records, headers, window)
        return PlannedBatch(records, batch_plan, jobs, cached=cached)

    def plan_batch(
        self,
        samples: Samples,
        size: npt.NDArray[np.int32],
        *,
        epoch: int = 0,
        overrides: Overrides | None = None,
    ) -> BatchPlan:
        """What the ops of the plan make of images of (N, 2) `size`, heights and widths in pixels.

        Args:
            samples: The samples of the batch; the ops move their labels.
            size: 0 x 0 where a header could not be read.
            epoch: Number of the epoch, from 0.
            overrides: Values to use instead of random ones.

        Raises:
            ValueError: The ops make images of another size than the output.
        """
        draws = Draws(samples.ids, seed=self._seed, epoch=epoch)
        batch = BatchPlan.of(size, draws, overrides)
        batch.labels, batch.widths = samples.labels, samples.widths
        batch.sampled["record"] = samples.ids
        for op in self.plan.ops:
            op(batch)
        batch.check_size(self.plan.shape[1:])
        batch.finish()
        return batch
