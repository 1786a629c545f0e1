"""From the configuration of a loader and its records to a pipeline."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpuio.devices import make_device
from gpuio.devices.base import Device
from gpuio.formats import saved_array
from gpuio.pipeline.cache.opening import make_cache
from gpuio.pipeline.config import LoaderConfig
from gpuio.pipeline.decode import make_decoder
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.executor import Executor
from gpuio.pipeline.masks import MaskField, Masks
from gpuio.pipeline.pipeline import Pipeline
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import Planner
from gpuio.pipeline.read.reader import LabelCheck, RecordReader
from gpuio.sources.base import RecordSource
from gpuio.sources.labels import Relabel
from gpuio.transforms.normalize import Normalization


@dataclass(frozen=True, slots=True)
class Labels:
    """Where labels come from, and how many there are.

    Attributes:
        width: Number of labels of a record; the largest number, where `ragged` is given.
        shape: Shape of an image's labels in a batch.
        relabel: Returns labels by id, instead of those in the records.
        ragged: Allows records with fewer labels, and checks them.
    """

    width: int
    shape: tuple[int, ...]
    relabel: Relabel | None = None
    ragged: LabelCheck | None = None


@dataclass(frozen=True, slots=True)
class PipelineBuilder:
    """Builds pipelines over the same records with the same configuration.

    Attributes:
        config: All options but those of augmentation.
        source: The records.
        labels: Their labels.
    """

    config: LoaderConfig
    source: RecordSource
    labels: Labels

    def build(self, plan: Plan, device: Device, masks: Masks | None = None) -> Pipeline:
        """A pipeline on a device, of which it takes all memory.

        Args:
            plan: What is done to every image.
            device: The device.
            masks: The masks of the images and what is done to them; None without masks.

        Raises:
            ValueError: The plan asks for images of another size than theirs, and the device or the
                masks do not allow that.
        """
        if plan.scaled_decode:
            _check_scaled_decode(device, masks)
        labels, runtime = self.labels, self.config.runtime
        options = DecoderOptions(
            device,
            plan.shape[0],
            self.source,
            deterministic=runtime.deterministic,
            tolerant=runtime.tolerate == "warnings",
            engine_share=runtime.engine_share,
            decode_threads=runtime.decode_threads,
            least_edge=plan.least_edge,
        )
        decoder = make_decoder(runtime.decoder, options)
        with ExitStack() as undo:
            undo.callback(decoder.close)
            storage = self.config.source.storage
            cache = make_cache(plan, decoder, options, labels.width, storage)
            read = RecordReader(
                self.source,
                label_width=labels.width,
                relabel=labels.relabel,
                ragged=labels.ragged,
                cache=cache,
            )
            field = None if masks is None else MaskField(masks, device, plan.shape[1:])
            executor = Executor(
                plan,
                decoder,
                self.config.sampling.batch_size,
                device,
                on_error=runtime.on_error,
                # Batches that wait, two at work, the consumer's, and the one it has just freed.
                keep=runtime.prefetch_buffer + 4,
                masks=field,
                cache=cache,
            )
            seed, depth = self.config.sampling.augmentation_seed, runtime.prefetch_buffer
            planner = Planner(plan, decoder, seed=seed, cache=cache)
            pipeline = Pipeline(
                read, planner, executor, device, depth=depth, masks=field, cache=cache
            )
            undo.pop_all()  # the pipeline closes its decoder itself
        return pipeline

    def mean_image(self, path: Path, plan: Plan, threads: int) -> npt.NDArray[np.float32]:
        """The mean image in a file; if there is none, the mean of the augmented images is written.

        It is the mean over the records of all parts, whichever part computes it.

        Args:
            path: The file.
            plan: What is done to every image, without a mean image.
            threads: CPU threads that compute the mean.

        Returns:
            (C, H, W) float32.
        """
        if path.exists():
            return saved_array.load_mean(path, plan.shape)
        plain = replace(
            plan, dtype="float32", layout="NCHW", normalization=Normalization(), cache=None
        )
        pipeline = self.build(plain, make_device("cpu", threads))  # which decodes to exact pixels
        order = self.config.sampling.order(len(self.source))
        order = replace(order, num_parts=1, part_index=0, last_batch="pad")
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


def _check_scaled_decode(device: Device, masks: Masks | None) -> None:
    """Raise ValueError where images cannot be decoded to a smaller size than theirs."""
    if device.name != "cpu":
        raise ValueError(
            f"scaled_decode=True works on the CPU, not on {device.name!r}: give device='cpu', or "
            "leave it out"
        )
    if masks is not None:
        raise ValueError(
            "scaled_decode=True does not go with masks, which have the size of whole images: leave "
            "it out"
        )
