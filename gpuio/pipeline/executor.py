"""The executor: planned batches in, dense batches out; it decodes, runs kernels, and retries."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpuio.core import compile_notice
from gpuio.core.parameters import element
from gpuio.devices.base import Array, Device, Event, KernelCall, Running
from gpuio.devices.out_of_memory import naming_batch
from gpuio.devices.pool import Lease, OutputPool
from gpuio.devices.ring import Ring
from gpuio.errors import GpuioError
from gpuio.kernels.steps import STEPS, StepKind
from gpuio.kernels.warp import weight_table
from gpuio.pipeline.decode.base import Decoder
from gpuio.pipeline.error_policy import FaultLog, OnError, apply_error_policy
from gpuio.pipeline.lowering import Target, lower
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import PlannedBatch
from gpuio.transforms.op import Column


@dataclass(frozen=True, slots=True)
class Batch:
    """What the pipeline gives to iterators.

    Attributes:
        data: (N, C, H, W) or (N, H, W, C) on the device.
        labels: (N, W) float32, on the host.
        keys: (N,) int64 or uint64 record keys: see `Samples`.
        pad: How many samples at the end only fill up the batch.
        sampled: By name, the (N, ...) values that the ops have sampled for each image.
        ready: When `data` is written.
        lease: Of the memory of `data`.
        faults: By place in the batch as it was read, samples that could not be read or decoded.
        masks: The masks of the images, (N, 1, H, W) uint8; None where there are none.
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
    """A batch whose kernels are at work.

    Attributes:
        planned: Where it comes from.
        data: Where it goes.
        lease: Of `data`.
        running: The kernels.
        decoding: How many of the kernels decode; they come first.
        joined: Whether the kernels were waited for.
    """

    planned: PlannedBatch
    data: Array
    lease: Lease
    running: Running
    decoding: int
    joined: bool = False


class Executor:
    """Makes dense batches on a device of planned ones.

    Args:
        plan: What is done to every image.
        decoder: The one that has read the headers.
        batch_size: N, the largest batch.
        device: Where images and batches live.
        on_error: What happens to samples that could not be read or decoded.
        keep: How many output batches are kept for use again.

    Attributes:
        faults: Samples that could not be read or decoded.
        decoding: Nanoseconds of all threads together that went into decoding.
        augmenting: Nanoseconds of all threads together that went into all other kernels.
    """

    def __init__(
        self,
        plan: Plan,
        decoder: Decoder,
        batch_size: int,
        device: Device,
        *,
        on_error: OnError = "raise",
        keep: int = 4,
    ) -> None:
        if batch_size > device.most_items:
            raise ValueError(
                f"batch_size must be at most {device.most_items} on {device.name}, got {batch_size}"
            )
        self.batch_size = batch_size
        self.decoder = decoder
        self.faults = FaultLog()
        self.decoding = self.augmenting = 0
        compile_notice.listen()
        self._plan = plan
        self._on_error: OnError = on_error
        self._device = device
        self._pool = OutputPool(device, plan.output_shape(batch_size), element(plan.dtype), keep)
        image = plan.normalization.mean_image(plan.dtype)
        self._mean = None if image is None else device.upload(image)
        self._mean_image = 0 if image is None else device.address(self._mean)
        self._weights: dict[int, Array] = {}

    def __call__(self, batches: Iterable[PlannedBatch], host: Ring) -> Generator[Batch, None, None]:
        """Decode and augment: one output for each batch, on the current stream.

        Args:
            batches: What is to be made.
            host: The ring of the encoded images, whose slots are given back.
        """
        self.decoder.prepare(self.batch_size)
        waiting: deque[_Launched] = deque()
        left, failure = iter(batches), None
        try:
            while True:
                try:
                    planned = next(left)
                except StopIteration:
                    break
                except Exception as error:  # what was launched before it is handed out first
                    failure = error
                    break
                try:
                    with naming_batch("keys", planned.samples.keys):
                        waiting.append(self._launch(planned))
                except BaseException:
                    self._release(planned, host)
                    raise
                if len(waiting) == self._device.max_in_flight:
                    yield self._complete(waiting.popleft(), host)
            while waiting:
                yield self._complete(waiting.popleft(), host)
        finally:
            for launched in waiting:
                self._end(launched, host)
        if failure is not None:
            raise failure

    def _launch(self, planned: PlannedBatch) -> _Launched:
        places = np.arange(len(planned.jobs.box))
        memory, lease = self._pool.take()
        data = memory[: len(places)]
        decoding = self.decoder.decode(planned.jobs)
        running = self._start(planned, data, places, decoding)
        compile_notice.notice.over()
        return _Launched(planned, data, lease, running, len(decoding))

    def _complete(self, launched: _Launched, host: Ring) -> Batch:
        """Wait for a batch, and let the decoder retry what failed."""
        planned, data, decoder = launched.planned, launched.data, self.decoder
        try:
            with naming_batch("keys", planned.samples.keys):
                self._join(launched.running, launched.decoding)
                launched.joined = True
                places = np.arange(len(data))
                self._reject_starved(launched.running, planned, places)
                while again := decoder.retry(planned.records, planned.jobs):
                    self._redo(planned, data, np.array(again))
        finally:
            self._end(launched, host)
        return self._deliver(planned, data, launched.lease)

    def _end(self, launched: _Launched, host: Ring) -> None:
        """Wait for a batch, wanted or not, and give back what it holds."""
        if not launched.joined:
            launched.running.join()
        self._release(launched.planned, host)

    def _release(self, planned: PlannedBatch, host: Ring) -> None:
        self.decoder.release(planned.jobs.headers)
        host.release(planned.records.slot, after=self._device.record())

    def _redo(self, planned: PlannedBatch, data: Array, places: npt.NDArray[np.int64]) -> None:
        """Make the images at `places` once more, of pixels in host memory that are freed then."""
        running = self._start(planned, data, places, [])
        self._join(running, 0)
        self._reject_starved(running, planned, places)
        planned.jobs.drop(places.tolist())

    def _reject_starved(
        self, running: Running, planned: PlannedBatch, places: npt.NDArray[np.int64]
    ) -> None:
        """Make faults of images for which there was no memory.

        Args:
            running: The kernels, which have ended.
            planned: The batch.
            places: (items,) place in the batch of each item of the kernels.
        """
        for item, nbytes in running.starved.items():
            place = int(places[item])
            height, width = planned.jobs.headers.size[place].tolist()
            self.decoder.reject(
                planned.records,
                place,
                f"its {width} x {height} pixels take {nbytes} bytes of memory on their way, which "
                "cannot be had",
            )

    def _join(self, running: Running, decoding: int) -> None:
        spent = running.join()
        self.decoding += int(spent[:decoding].sum())
        self.augmenting += int(spent[decoding:].sum())

    def _deliver(self, planned: PlannedBatch, data: Array, lease: Lease) -> Batch:
        """The batch, after what `on_error` says about its faults was done."""
        samples = planned.samples
        sampled = planned.batch_plan.sampled
        places, pad = apply_error_policy(samples, self._on_error)
        if samples.faults:
            self.faults.add([samples.faults[place] for place in sorted(samples.faults)])
            self._device.gather_items(data, places)
            places = np.where(places < 0, np.arange(len(places)), places)
            sampled = {name: column[places] for name, column in sampled.items()}
        labels, keys = planned.batch_plan.labels[places], samples.keys[places]
        ready = self._device.record()
        return Batch(data, labels, keys, pad, sampled, ready, lease, samples.faults)

    def _start(
        self,
        planned: PlannedBatch,
        data: Array,
        places: npt.NDArray[np.int64],
        decoding: Sequence[KernelCall],
    ) -> Running:
        """Start the kernels that decode, and behind them all others, for the images at `places`."""
        work = self._device.work()
        target = Target(self._device.address(data), self._mean_image, self._weights_of)
        program = lower(self._plan, work, planned, places, target)
        return work.start([*decoding, *program.calls], program.nbytes)

    def _weights_of(self, kind: StepKind) -> int:
        """Address of the weights of a kind of warp."""
        if kind not in self._weights:
            self._weights[kind] = self._device.upload(weight_table(STEPS[kind].taps))
        return self._device.address(self._weights[kind])
