"""The base of iterators over batches of images: epochs, MXNet's interface, saved states."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.options import Group
from gpuio.core.prefetch import Prefetch
from gpuio.core.timing import BatchCounter
from gpuio.devices import make_device
from gpuio.errors import FormatError
from gpuio.mxnet.image_plan import with_mean_image
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc
from gpuio.mxnet.iterators.conversions import Conversions
from gpuio.mxnet.iterators.epochs import EpochIter
from gpuio.mxnet.ndarray import NDArray, wrap
from gpuio.pipeline.builder import Labels, PipelineBuilder
from gpuio.pipeline.config import LoaderConfig
from gpuio.pipeline.executor import Batch
from gpuio.pipeline.masks import Masks
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.position import Position, load, save
from gpuio.samplers import Selection
from gpuio.sources.base import RecordSource
from gpuio.storage.paths import PathLike


class RecordIter(EpochIter, Conversions):
    """Base of iterators over batches of images from .rec files.

    Args:
        config: All options but those of augmentation.
        dataset: The records.
        labels: Their labels.
        plan: What is done to every image, without a mean image.
        mean_img: File with the mean image, written if it is missing; "" for none.
        masks: The masks of the images, and what is done to them.

    Attributes:
        pipeline: The pipeline that makes the batches.
        taken: Counts of what was returned since the iterator was made, without padding.

    Other attributes are described at `ImageRecordIter` and `TakesKeywords`.
    """

    groups: ClassVar[tuple[type[Group], ...]]
    default_dtype: ClassVar[str] = "float32"

    def __init__(
        self,
        config: LoaderConfig,
        dataset: RecordSource,
        labels: Labels,
        plan: Plan,
        *,
        mean_img: PathLike = "",
        masks: Masks | None = None,
    ) -> None:
        super().__init__(config.sampling.batch_size)
        self._builder = PipelineBuilder(config, dataset, labels)
        runtime, self._masks = config.runtime, masks
        self._device = make_device(runtime.device, runtime.preprocess_threads)
        self.part = config.sampling.shard
        self.num_records = len(dataset)
        self._fingerprint = p.integer("fingerprint", dataset.fingerprint())
        self._order = config.sampling.order(len(dataset))
        self.plan = plan = replace(
            plan, cache=runtime.cache_limit, scaled_decode=runtime.scaled_decode
        )
        if mean_img:
            image = self._builder.mean_image(Path(mean_img), plan, self._device.threads)
            try:
                self.plan = with_mean_image(plan, image)
            except ValueError as error:
                raise FormatError(f"{mean_img}: {error}") from error
        self.pipeline = self._builder.build(self.plan, self._device, masks)
        self.faults = self.pipeline.faults
        self.faults.note(dataset.losses.count, dataset.losses.faults)
        self._batches: Prefetch[Batch] | None = None
        self.taken = self._before = BatchCounter()
        self._began = self._last = 0.0  # first and last batch of the epoch, by time.perf_counter
        self._position = Position()
        dtype, shape = p.as_dtype(self.plan.dtype).type, self.plan.output_shape(self.batch_size)
        self.provide_data = [DataDesc(config.output.data_name, shape, dtype, self.plan.layout)]
        rows = (self.batch_size, *labels.shape)
        self.provide_label = [DataDesc(config.output.label_name, rows, np.float32, "NCHW")]
        sides = (self.batch_size, *self.plan.shape[1:])
        self.provide_masks = [] if masks is None else [DataDesc("masks", sides, np.uint8, "NHW")]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.num_records} records, {self.part}, "
            f"{len(self)} batches of {self.batch_size} in an epoch>"
        )

    def __len__(self) -> int:
        """Batches in an epoch, the same for every part."""
        return self._order.length()

    @property
    def epoch(self) -> int:
        """Number of the epoch under way, from 0."""
        return self._position.epoch

    @property
    def left(self) -> int:
        """Batches that are left of the epoch."""
        return 0 if self._ended else self._order.length(*self._position[1:])

    def _is_over(self) -> bool:
        return not self.left

    def _is_spent(self) -> bool:
        return self._batches is not None and self._batches.is_spent()

    def hard_reset(self) -> None:
        """Begin epoch 0 again."""
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch: the same number gives the same batches."""
        with self._guard:
            self._go_to(Position(p.integer("epoch", epoch, least=0)))

    def _begin(self) -> None:
        if self._ended or self._position != Position(self.epoch):
            self._go_to(Position(self.epoch + 1))

    def _go_to(self, position: Position) -> None:
        self._batches = None
        self.pipeline.stop()
        self._position = position
        self._rewound()

    def _start(self) -> None:
        if self._batches is None:
            self._guard.begin()
            selections = self._order.batches(*self._position)
            self._batches = self.pipeline.batches(selections, epoch=self.epoch)
            self._before, self._began = replace(self.taken), time.perf_counter()

    def _take(self) -> DataBatch:
        assert self._batches is not None
        batch = next(self._batches)
        self._position = self._position.after(self.batch_size)
        self.taken.add(len(batch.data) - batch.pad, batch.data.nbytes)
        self._last = time.perf_counter()
        return self._wrap(batch)

    def _wrap(self, batch: Batch) -> DataBatch:
        labels = batch.labels if self._builder.labels.shape else batch.labels[:, 0]
        masks, export = batch.masks, self._device.export
        return DataBatch(
            [wrap(export(batch.data, batch.ready, batch.lease))],
            [wrap(labels)],
            batch.pad,
            batch.keys,
            augmentation=batch.sampled,
            masks=masks and wrap(export(masks.data, batch.ready, masks.lease))[:, 0],
        )

    def getpad(self) -> int:
        return self._current.pad or 0

    def getmasks(self) -> NDArray | None:
        """(N, H, W) uint8, or None without masks."""
        return cast("NDArray | None", self._current.masks)

    def replay(self, augmentation: Mapping[str, npt.ArrayLike]) -> DataBatch:
        """Make the images of a batch again, from its `augmentation`.

        The table may be changed: "record" names the records, each other column the sampled values
        of one augmentation. Values that it lacks are sampled for the epoch under way.

        Args:
            augmentation: `batch.augmentation`, from this iterator or one like it, also loaded from
                a file: (N, ...) arrays by name.

        Raises:
            ValueError: There is no "record", or no number in it; a record does not exist; or the
                lengths differ.
        """
        self._guard.check()
        ids, overrides = _replayed(augmentation, self.num_records)
        # The device of the epoch under way has memory for one pipeline only.
        device = make_device(self._device.name, self._device.threads)
        pipeline = self._builder.build(replace(self.plan, cache=None), device, self._masks)
        try:
            batches = pipeline.batches([Selection(ids, 0)], epoch=self.epoch, overrides=overrides)
            return self._wrap(next(batches))
        finally:
            pipeline.close()

    def state_dict(self) -> dict[str, Any]:
        """The iterator's place in the data: a few integers, to be given to `load_state_dict`.

        The next batch is the one after the last batch that was returned; after the last batch of an
        epoch it is the first one of the next.
        """
        self._guard.check_caller()
        with self._guard.lock:
            position = self._position
        return save(position, self._order, self._fingerprint)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved state, also one of another batch size, or another number of parts.

        Raises:
            StateError: The state is of another data set, seed or order; or was saved in mid-epoch
                without shuffling by another number of parts.
        """
        position = load(state, self._order, self._fingerprint)
        with self._guard:
            self._go_to(position)

    def stats(self) -> dict[str, Any]:
        """Where the time goes, in the epoch under way; `gpuio.profile` also names the bottleneck.

        `batches` and `images` were returned, without padding, in the first `seconds` of the epoch,
        at `images_per_second`. `stages` has for "read" (files, headers and random numbers) and
        "decode" (decoding and augmentation) what came out of the stage (`batches`, `images`,
        `nbytes`), and for how many seconds it was `busy`, `starved` for lack of input and `blocked`
        because its output was full. `files` are the seconds of reading that went into files, and
        `waited` those that the consumer waited for batches. `decoding` and `augmenting` are CPU
        seconds over all `threads`.

        These count from the making of the iterator: `decoded_in_part`, images of which only a
        window was decoded; `decoded_from_checkpoints`, those of these whose other rows were not
        even read, and `checkpoint_nbytes`, the memory for that; `decoded_by_portable`, images that
        the decoder left to the portable codec; `faults`; and in `cache`, its `hits` and `misses`,
        and how many `entries` of `nbytes` all who share it have put there. `part` is the part of
        the data set that the iterator reads.
        """
        images = self.taken.images - self._before.images
        seconds = max(self._last - self._began, 0.0)
        return {
            "seconds": seconds,
            "batches": self.taken.batches - self._before.batches,
            "images": images,
            "images_per_second": images / seconds if images else 0.0,
            **self.pipeline.stats(),
            "part": asdict(self.part),
        }

    def _interrupt(self) -> None:
        self.pipeline.interrupt()

    def _end(self) -> None:
        super()._end()
        self._batches = None
        self.pipeline.close()


def _replayed(
    augmentation: Mapping[str, npt.ArrayLike], count: int
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[Any]]]:
    """(N,) records of an augmentation table of (N, ...) arrays, and its other columns.

    Raises:
        ValueError: There is no "record", or no number in it; a record does not exist; or the
            lengths differ.
    """
    columns = {name: np.asarray(values) for name, values in augmentation.items()}
    if "record" not in columns:
        raise ValueError("augmentation has no 'record', which names the images")
    records = columns.pop("record")
    numeric = records.dtype.kind in "iuf"
    if records.ndim != 1 or not len(records) or not numeric or (records % 1 != 0).any():
        raise ValueError(f"'record' must be a list of record numbers, got {records.tolist()!r}")
    for name, values in columns.items():
        if values.shape[:1] != records.shape:
            raise ValueError(
                f"augmentation must have {len(records)} of {name!r}, one for each record, got an "
                f"array of shape {values.shape}"
            )
    if not (records.min() >= 0 and records.max() < count):
        raise ValueError(f"records must be in [0, {count}), got {records.tolist()}")
    return records.astype(np.int64), columns
