"""What iterators over batches of images have in common: epochs, MXNet's interface, saved states."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.timing import BatchCounter
from gpuio.devices import make_device
from gpuio.devices.base import Device
from gpuio.errors import FormatError
from gpuio.formats import saved_array
from gpuio.mxnet.image_plan import with_mean_image
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc
from gpuio.mxnet.iterators.conversions import Conversions
from gpuio.mxnet.iterators.epochs import EpochIter
from gpuio.mxnet.ndarray import NDArray, wrap
from gpuio.pipeline.config import LoaderConfig
from gpuio.pipeline.decode import make_decoder
from gpuio.pipeline.error_policy import FaultLog
from gpuio.pipeline.executor import Batch, Executor
from gpuio.pipeline.masks import Masks, mask_field
from gpuio.pipeline.pipeline import Pipeline
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import Planner
from gpuio.pipeline.position import Position, load, save
from gpuio.pipeline.read.reader import LabelCheck, RecordReader
from gpuio.samplers import Selection
from gpuio.sources.base import RecordSource
from gpuio.sources.labels import Relabel
from gpuio.storage.paths import PathLike
from gpuio.transforms.normalize import Normalization


@dataclass(frozen=True, slots=True)
class Labels:
    """Where labels come from, and how many there are.

    Attributes:
        width: W, labels that a record has; the most, where `ragged` is given.
        shape: Of an image's labels in a batch.
        relabel: Gives labels by id, instead of those in the records.
        ragged: Allows records with fewer labels, and says which of them are wrong.
    """

    width: int
    shape: tuple[int, ...]
    relabel: Relabel | None = None
    ragged: LabelCheck | None = None


class RecordIter(EpochIter, Conversions):
    """Base of iterators over batches of images from .rec files.

    Args:
        config: All options but those of augmentation.
        dataset: The records.
        labels: Their labels.
        plan: What is done to every image, without a mean image.
        mean_img: File with the mean image, made if it is missing; "" for none.
        masks: The masks of the images, and what is done to them.

    Attributes:
        default_dtype: The type of the batches where none is given.
        taken: Counts what was handed out since the iterator was made, without padding.

    Other attributes are described at `ImageRecordIter`.
    """

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
        self._config = config
        self._device = make_device(config.runtime.device, config.runtime.preprocess_threads)
        self.part = config.sampling.shard
        self._dataset = dataset
        self._fingerprint = dataset.fingerprint()
        self._labels = labels
        self._masks = masks
        self._order = config.sampling.order(len(dataset))
        self.plan = plan
        if mean_img:
            image = self._mean_image(Path(mean_img), plan)
            try:
                self.plan = with_mean_image(plan, image)
            except ValueError as error:
                raise FormatError(f"{mean_img}: {error}") from error
        self._pipeline = self._assemble(self.plan, self._device, masks)
        self._pipeline.faults.note(dataset.losses.count, dataset.losses.faults)
        self._batches: Iterator[Batch] | None = None
        self.taken = self._before = BatchCounter()
        self._began = self._last = 0.0  # of the epoch, in seconds of time.perf_counter
        self._position = Position()
        dtype, shape = p.as_dtype(self.plan.dtype).type, self.plan.output_shape(self.batch_size)
        self.provide_data = [DataDesc(config.output.data_name, shape, dtype, self.plan.layout)]
        rows = (self.batch_size, *labels.shape)
        self.provide_label = [DataDesc(config.output.label_name, rows, np.float32, "NCHW")]
        sides = (self.batch_size, *self.plan.shape[1:])
        self.provide_masks = [] if masks is None else [DataDesc("masks", sides, np.uint8, "NHW")]

    def _assemble(self, plan: Plan, device: Device, masks: Masks | None = None) -> Pipeline:
        """A pipeline of the images, and of `masks`, if there are any."""
        labels, runtime = self._labels, self._config.runtime
        read = RecordReader(
            self._dataset,
            label_width=labels.width,
            relabel=labels.relabel,
            ragged=labels.ragged,
        )
        decoder = make_decoder(
            runtime.decoder,
            device,
            plan.shape[0],
            self._dataset,
            deterministic=runtime.deterministic,
            tolerant=runtime.tolerate == "warnings",
        )
        field = None if masks is None else mask_field(masks, device, plan.shape[1:])
        executor = Executor(
            plan,
            decoder,
            self.batch_size,
            device,
            on_error=runtime.on_error,
            # What waits, what is being made, what the consumer has and what it has just dropped.
            keep=runtime.prefetch_buffer + 4,
            masks=field,
        )
        planner = Planner(plan, decoder, seed=self._config.sampling.augmentation_seed)
        depth = runtime.prefetch_buffer
        return Pipeline(read, planner, executor, device, depth=depth, masks=field)

    def _mean_image(self, path: Path, plan: Plan) -> npt.NDArray[np.float32]:
        """The mean image in a file, or the mean of the augmented images, which it then holds.

        It is the mean of the records of all parts, whichever part makes it.
        """
        if path.exists():
            return saved_array.load_mean(path, plan.shape)
        plain = replace(plan, dtype="float32", layout="NCHW", normalization=Normalization())
        device = make_device("cpu", self._device.threads)  # which decodes to exact pixels
        pipeline = self._assemble(plain, device)
        order = replace(self._order, num_parts=1, part_index=0, last_batch="pad")
        total, count = np.zeros(plan.shape), 0
        try:
            for batch in pipeline.batches(order.batches(0), epoch=0):
                own = len(batch.data) - batch.pad
                total += batch.data[:own].sum(axis=0, dtype=np.float64)
                count += own
        finally:
            pipeline.close()
        image = (total / count).astype(np.float32)
        saved_array.save(path, {"mean_img": image})
        return image

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.num_records} records, {self.part}, "
            f"{len(self)} batches of {self.batch_size} in an epoch>"
        )

    def __len__(self) -> int:
        """Batches in an epoch, the same for every part."""
        return self._order.length()

    @property
    def num_records(self) -> int:
        """Records of all parts together."""
        return len(self._dataset)

    @property
    def epoch(self) -> int:
        """Number of the epoch under way, from 0."""
        return self._position.epoch

    @property
    def left(self) -> int:
        """Batches that are left of the epoch."""
        return 0 if self._ended else self._order.length(*self._position[1:])

    @property
    def pipeline(self) -> Pipeline:
        """What makes the batches."""
        return self._pipeline

    @property
    def faults(self) -> FaultLog:
        return self._pipeline.faults

    def _is_over(self) -> bool:
        return not self.left

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
        self._pipeline.stop()
        self._position = position
        self._rewound()

    def _start(self) -> None:
        if self._batches is None:
            self._guard.begin()
            selections = self._order.batches(*self._position)
            self._batches = self._pipeline.batches(selections, epoch=self.epoch)
            self._before, self._began = replace(self.taken), time.perf_counter()

    def _take(self) -> DataBatch:
        assert self._batches is not None
        batch = next(self._batches)
        self._position = self._position.after(self.batch_size)
        self.taken.add(len(batch.data) - batch.pad, batch.data.nbytes)
        self._last = time.perf_counter()
        return self._wrap(batch)

    def _wrap(self, batch: Batch) -> DataBatch:
        labels = batch.labels if self._labels.shape else batch.labels[:, 0]
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
        """The images of a batch once more, as its `augmentation` says they were made.

        The table may be changed: "record" says which records, all else what they get; what it
        does not say is drawn for the epoch under way.

        Args:
            augmentation: `batch.augmentation`, from this iterator or one like it, also when it
                comes from a file: (N, ...) arrays by name.

        Raises:
            ValueError: There is no "record", or the arrays are not equally long.
        """
        self._guard.check()
        given = {name: np.asarray(values) for name, values in augmentation.items()}
        if "record" not in given:
            raise ValueError("augmentation has no 'record': which images it is about")
        ids = given.pop("record").astype(np.int64)
        for name, values in given.items():
            if len(values) != len(ids):
                raise ValueError(
                    f"augmentation has {len(values)} of {name!r} for {len(ids)} records"
                )
        if len(ids) and not (ids.min() >= 0 and ids.max() < self.num_records):
            raise ValueError(f"records must be in [0, {self.num_records}), got {ids.tolist()}")
        # The device of the epoch under way has memory for one pipeline only.
        device = make_device(self._device.name, self._device.threads)
        pipeline = self._assemble(self.plan, device, self._masks)
        try:
            selection = Selection(ids, 0)
            return self._wrap(
                next(pipeline.batches([selection], epoch=self.epoch, overrides=given))
            )
        finally:
            pipeline.close()

    def state_dict(self) -> dict[str, Any]:
        """Where the iterator is: a few integers, to be given to `load_state_dict`.

        The batch that follows is the one after the last batch that was returned; after the last
        batch of an epoch it is the first one of the next.
        """
        self._guard.check_process()
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
        """Where the time goes, in the epoch under way; `gpuio.profile` also names the limit.

        `batches` and `images`, without padding, that were handed out within `seconds` of its start;
        `images_per_second`. `stages` has for "read" (files, headers and random numbers) and
        "decode" (decoding and augmentation) what came out of it (`batches`, `images`, `nbytes`),
        and for how many seconds it was `busy`, `starved` for lack of input and `blocked` because
        its output was full; `files` is what files took of it. `waited` is how long the consumer
        waited. `decoding` and `augmenting` are CPU seconds of all `threads` together.

        Since the iterator was made: `decoded_in_part`, images of which only a window was decoded;
        `decoded_by_portable`, those that the decoder left to the portable codec; `faults`. And
        `part`, what this reads.
        """
        images = self.taken.images - self._before.images
        seconds = max(self._last - self._began, 0.0)
        return {
            "seconds": seconds,
            "batches": self.taken.batches - self._before.batches,
            "images": images,
            "images_per_second": images / seconds if images else 0.0,
            **self._pipeline.stats(),
            "part": asdict(self.part),
        }

    def _interrupt(self) -> None:
        self._pipeline.interrupt()

    def _end(self) -> None:
        super()._end()
        self._batches = None
        self._pipeline.close()
