"""The third room: images that are ready to be decoded in, one dense batch out."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpuio.core import compile_notice as compiling
from gpuio.core.parameters import element
from gpuio.devices.base import Array, Device, Event, KernelCall, Running
from gpuio.devices.out_of_memory import naming_batch
from gpuio.devices.pool import Lease, OutputPool
from gpuio.devices.ring import Ring
from gpuio.errors import GpuioError
from gpuio.kernels.taps import TAPS
from gpuio.kernels.warp import weight_table
from gpuio.pipeline.decode.base import Decoder, ImageBatch, Windows
from gpuio.pipeline.error_policy import FaultLog, OnError, apply_error_policy
from gpuio.pipeline.lowering import Passes
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.read.reader import Samples
from gpuio.transforms.op import BatchPlan, Column
from gpuio.transforms.random import Draws


@dataclass(frozen=True, slots=True)
class Batch:
    """What the iterators hand on.

    Attributes:
        data: (N, C, H, W) or (N, H, W, C) on the device.
        labels: (N, W) float32, on the host.
        keys: (N,) int64 record keys, or uint64: see `Samples`.
        pad: How many at the end only fill the batch up.
        sampled: By name of an augmentation, (N,) what each image got.
        ready: When `data` is written.
        lease: Of the memory of `data`.
        faults: By place in the batch as it was read, samples that could not be had.
        masks: Those of the images, (N, 1, H, W) uint8, where there are any.
    """

    data: Array
    labels: npt.NDArray[np.float32]
    keys: npt.NDArray[np.int64 | np.uint64]
    pad: int
    sampled: dict[str, Column]
    ready: Event
    lease: Lease
    faults: Mapping[int, GpuioError] = field(default_factory=dict)
    masks: Batch | None = None


@dataclass(slots=True)
class _Launched:
    """A batch that is being made.

    Attributes:
        images: Where it comes from.
        data: Where it goes.
        lease: Of `data`.
        running: The kernels at work.
        joined: Whether they were waited for.
    """

    images: ImageBatch
    data: Array
    lease: Lease
    running: Running
    joined: bool = False


class Augmenter:
    """Decides what each image gets, then does it to whole batches.

    Args:
        plan: What is done.
        batch_size: N, the largest batch.
        device: Where images and batches live.
        seed: Of all random numbers.
        on_error: What happens to samples that could not be read or decoded.
        keep: Output batches kept for use again.
    """

    def __init__(
        self,
        plan: Plan,
        batch_size: int,
        device: Device,
        *,
        seed: int = 0,
        on_error: OnError = "raise",
        keep: int = 4,
    ) -> None:
        if batch_size > device.most_items:
            raise ValueError(
                f"batch_size must be at most {device.most_items} on {device.name}, got {batch_size}"
            )
        self.plan = plan
        self.batch_size = batch_size
        self.faults = FaultLog()
        compiling.listen()
        self._seed = seed
        self._on_error: OnError = on_error
        self._device = device
        self._pool = OutputPool(device, plan.output_shape(batch_size), element(plan.dtype), keep)
        image = plan.normalization.mean_image(plan.dtype)
        self._mean = None if image is None else device.upload(image)
        self._mean_image = 0 if image is None else device.address(self._mean)
        self._weights: dict[int, Array] = {}
        self.decoding = self.augmenting = 0  # nanoseconds, of all threads

    def sketch(
        self,
        samples: Samples,
        size: npt.NDArray[np.int32],
        *,
        epoch: int,
        overrides: Mapping[str, Column] | None = None,
    ) -> Windows:
        """Decide everything about images of (N, 2) `size`; the windows that this takes.

        Args:
            samples: Whose images they are.
            size: Heights and widths, in pixels.
            epoch: From 0.
            overrides: By name, (N, ...) values to use instead of random ones.
        """
        draws = Draws(samples.ids, seed=self._seed, epoch=epoch)
        sketch = BatchPlan.of(size, draws, overrides)
        sketch.labels, sketch.widths = samples.labels, samples.widths
        sketch.sampled["record"] = samples.ids
        for op in self.plan.ops:
            op(sketch)
        if (sketch.crop[:, 2:] > self.plan.shape[1:]).any():
            found = sketch.crop[:, 2:].max(axis=0).tolist()
            raise ValueError(
                f"the ops of the plan end in windows of up to {found} pixels, and the output has "
                f"{self.plan.shape[1:]}: let the last one that moves pixels be a crop"
            )
        sketch.finish()
        rejected = {place: reason for place, reason in sketch.rejected.items() if size[place].all()}
        return Windows(sketch.geometry.window.astype(np.int32), rejected, sketch)

    def __call__(
        self, batches: Iterable[ImageBatch], decoder: Decoder, host: Ring
    ) -> Generator[Batch, None, None]:
        """Decode and augment: one output for each batch, on the current stream.

        Args:
            batches: Ready to be decoded.
            decoder: Where they come from.
            host: The ring of their encoded images, which are given back.
        """
        decoder.prepare(self.batch_size)
        waiting: deque[_Launched] = deque()
        left, failure = iter(batches), None
        try:
            while True:
                try:
                    images = next(left)
                except StopIteration:
                    break
                except Exception as error:  # what was launched before it is handed on first
                    failure = error
                    break
                try:
                    with naming_batch("keys", images.samples.keys):
                        waiting.append(self._launch(images))
                except BaseException:
                    decoder.finish(images.opened)
                    host.release(images.records.slot, after=self._device.record())
                    raise
                if len(waiting) == self._device.max_in_flight:
                    yield self._complete(waiting.popleft(), decoder, host)
            while waiting:
                yield self._complete(waiting.popleft(), decoder, host)
        finally:
            for launched in waiting:
                self._end(launched, decoder, host)
        if failure is not None:
            raise failure

    def _launch(self, images: ImageBatch) -> _Launched:
        places = np.arange(len(images.origin))
        memory, lease = self._pool.take()
        data = memory[: len(places)]
        running = self._start(images, data, places, images.links)
        compiling.notice.over()
        return _Launched(images, data, lease, running)

    def _complete(self, launched: _Launched, decoder: Decoder, host: Ring) -> Batch:
        """Wait for a batch, and decode in another way what failed."""
        images, data = launched.images, launched.data
        try:
            with naming_batch("keys", images.samples.keys):
                self._join(launched.running, len(images.links))
                launched.joined = True
                self._note_starved(launched.running, images, decoder)
                while again := decoder.retry(images):
                    self._redo(images, data, again, decoder)
        finally:
            self._end(launched, decoder, host)
        return self._deliver(images, data, launched.lease)

    def _end(self, launched: _Launched, decoder: Decoder, host: Ring) -> None:
        """Wait for a batch, wanted or not, and give back what it holds."""
        if not launched.joined:
            launched.running.join()
        decoder.finish(launched.images.opened)
        host.release(launched.images.records.slot, after=self._device.record())

    def _redo(
        self, images: ImageBatch, data: Array, places: Sequence[int], decoder: Decoder
    ) -> None:
        """Make images once more, of pixels that are given back then."""
        running = self._start(images, data, np.array(places), [])
        self._join(running, 0)
        self._note_starved(running, images, decoder, places)
        images.drop(places)

    @staticmethod
    def _note_starved(
        running: Running, images: ImageBatch, decoder: Decoder, places: Sequence[int] | None = None
    ) -> None:
        """Make faults of images for which there was no memory; items are `places`, or all."""
        for item, nbytes in running.starved.items():
            place = item if places is None else places[item]
            height, width = images.opened.size[place].tolist()
            decoder.reject(
                images,
                place,
                f"its {width} x {height} pixels take {nbytes} bytes of memory on their way, which "
                "cannot be had",
            )

    def _join(self, running: Running, links: int) -> None:
        spent = running.join()
        self.decoding += int(spent[:links].sum())
        self.augmenting += int(spent[links:].sum())

    def _deliver(self, images: ImageBatch, data: Array, lease: Lease) -> Batch:
        """The batch, with faults settled."""
        samples = images.samples
        sampled = images.sketch.sampled
        places, pad = apply_error_policy(samples, self._on_error)
        if samples.faults:
            self.faults.add([samples.faults[place] for place in sorted(samples.faults)])
            self._device.gather_items(data, places)
            places = np.where(places < 0, np.arange(len(places)), places)
            sampled = {name: column[places] for name, column in sampled.items()}
        labels, keys = images.sketch.labels[places], samples.keys[places]
        ready = self._device.record()
        return Batch(data, labels, keys, pad, sampled, ready, lease, samples.faults)

    def _start(
        self,
        images: ImageBatch,
        data: Array,
        places: npt.NDArray[np.int64],
        links: Sequence[KernelCall],
    ) -> Running:
        """Start `links`, then every pass, for the images at `places`."""
        work = self._device.work()
        passes = Passes(self.plan, work, images, places, self._weights_of)
        passes.add_steps()
        passes.add_finish(self._device.address(data), self._mean_image)
        return work.start([*links, *passes.links], passes.nbytes)

    def _weights_of(self, kind: int) -> int:
        """Address of the weights of a kind of warp."""
        if kind not in self._weights:
            self._weights[kind] = self._device.upload(weight_table(int(TAPS[kind])))
        return self._device.address(self._weights[kind])
