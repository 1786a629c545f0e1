"""The executor: planned batches in, dense batches out; it decodes, runs kernels, and retries."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from gpuio.core import compile_notice
from gpuio.core.parameters import as_dtype
from gpuio.devices.base import Array, Device, Event, KernelCall, Running
from gpuio.devices.out_of_memory import naming_batch
from gpuio.devices.pool import Lease, OutputPool
from gpuio.devices.ring import Ring
from gpuio.errors import BackendError, GpuioError
from gpuio.kernels.steps import STEPS, StepKind
from gpuio.kernels.warp import weight_table
from gpuio.pipeline.cache.image_cache import ImageCache
from gpuio.pipeline.decode.base import Decoder
from gpuio.pipeline.error_policy import FaultLog, OnError, apply_error_policy
from gpuio.pipeline.lowering import Program
from gpuio.pipeline.masks import MaskField
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import PlannedBatch
from gpuio.transforms.op import Column


@dataclass(frozen=True, slots=True)
class Output:
    """The pixels of one field of a batch.

    Attributes:
        data: (N, C, H, W) or (N, H, W, C) on the device.
        lease: Owns the memory of `data`.
    """

    data: Array
    lease: Lease


@dataclass(frozen=True, slots=True)
class Batch:
    """What the pipeline gives to iterators.

    Attributes:
        data: The images, (N, C, H, W) or (N, H, W, C) on the device.
        labels: (N, W) float32, on the host.
        keys: (N,) int64 or uint64 record keys: see `Samples`.
        pad: How many samples at the end only fill up the batch.
        sampled: By name, the (N, ...) values that the ops have sampled for each image.
        ready: When `data` and `masks` are written.
        lease: Owns the memory of `data`.
        faults: By place in the batch as it was read, samples that could not be read or decoded.
        masks: (N, 1, H, W) uint8, the masks of the images; None where there are none.
    """

    data: Array
    labels: npt.NDArray[np.float32]
    keys: npt.NDArray[np.int64 | np.uint64]
    pad: int
    sampled: dict[str, Column]
    ready: Event
    lease: Lease
    faults: Mapping[int, GpuioError] = field(default_factory=dict)
    masks: Output | None = None


class Field:
    """One field of the samples, images or masks: how it is decoded, and where it goes.

    Args:
        plan: The output's format, and what is done to the pixels.
        decoder: The one that has read the headers.
        fill: Value of the pixels of a sample that is left out.
        device: Where batches live.
        batch_size: N, the largest batch.
        keep: How many output batches are kept for use again.

    Attributes:
        decoding: Nanoseconds of all threads together that went into decoding.
        augmenting: Nanoseconds of all threads together that went into all other kernels.
    """

    def __init__(
        self, plan: Plan, decoder: Decoder, fill: int, device: Device, batch_size: int, keep: int
    ) -> None:
        self.plan, self.decoder, self.fill = plan, decoder, fill
        self.decoding = self.augmenting = 0
        self._pool = OutputPool(device, plan.output_shape(batch_size), as_dtype(plan.dtype), keep)
        image = plan.normalization.mean_image(plan.dtype)
        self._mean = None if image is None else device.upload(image)
        self.mean_image = 0 if image is None else device.address(self._mean)

    def take(self, count: int) -> Output:
        """Memory for a batch of `count` samples."""
        memory, lease = self._pool.take()
        return Output(memory[:count], lease)


@dataclass(slots=True)
class _Part:
    """One field of a batch that is made.

    Attributes:
        field: The field.
        planned: What is to be made.
        output: Where it goes.
        decoding: How many kernels decode it.
        augmenting: How many kernels follow these.
    """

    field: Field
    planned: PlannedBatch
    output: Output
    decoding: int = 0
    augmenting: int = 0


@dataclass(slots=True)
class _Launched:
    """A batch whose kernels are at work.

    Attributes:
        parts: Its fields, the images first.
        running: The kernels.
        joined: Whether somebody waits or has waited for the kernels.
    """

    parts: list[_Part]
    running: Running
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
        masks: The masks of the images, if they have any.
        cache: Keeps pixels of the images.

    Attributes:
        fields: Images, then masks, if there are any.
        faults: Samples that could not be read or decoded.
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
        masks: MaskField | None = None,
        cache: ImageCache | None = None,
    ) -> None:
        if batch_size > device.most_items:
            raise ValueError(
                f"batch_size must be at most {device.most_items} on {device.name}, got {batch_size}"
            )
        self.batch_size = batch_size
        self.faults = FaultLog()
        fields = [(plan, decoder, 0)]
        if masks is not None:
            fields.append((masks.plan, masks.decoder, masks.fill))
        self.fields = [Field(*each, device, batch_size, keep) for each in fields]
        compile_notice.listen()
        self._on_error: OnError = on_error
        self._device = device
        self._weights: dict[int, Array] = {}
        self._cache = cache

    def __call__(
        self, batches: Iterable[PlannedBatch], *hosts: Ring
    ) -> Generator[Batch, None, None]:
        """Decode and augment: one output for each batch, on the current stream.

        Args:
            batches: What is to be made.
            *hosts: For each field, the ring of its encoded pictures, whose slots are given back.
        """
        waiting: deque[_Launched] = deque()
        left, failure = iter(batches), None
        try:
            for each in self.fields:
                each.decoder.prepare(self.batch_size)
            while True:
                try:
                    planned = next(left)
                except StopIteration:
                    break
                except Exception as error:  # batches that were launched before come first
                    failure = error
                    break
                try:
                    with naming_batch("keys", planned.samples.keys):
                        waiting.append(self._launch(planned))
                except BaseException:
                    self._release(planned, hosts)
                    raise
                if len(waiting) == self._device.max_in_flight:
                    yield self._complete(waiting.popleft(), hosts)
            while waiting:
                yield self._complete(waiting.popleft(), hosts)
        finally:
            with ExitStack() as ends:  # kernels write to memory: none is left at work
                ends.callback(self._device.rest)
                for launched in reversed(waiting):
                    ends.callback(self._end, launched, hosts)
        if failure is not None:
            raise failure

    def _launch(self, planned: PlannedBatch) -> _Launched:
        places = np.arange(len(planned.jobs.box))
        parts = [
            _Part(each, part, each.take(len(places)))
            for each, part in zip(self.fields, planned.fields, strict=True)
        ]
        running = self._start(parts, places)
        compile_notice.notice.over()
        return _Launched(parts, running)

    def _complete(self, launched: _Launched, hosts: Sequence[Ring]) -> Batch:
        """Wait for a batch, and let the decoders retry what failed."""
        parts = launched.parts
        samples = parts[0].planned.samples
        try:
            with naming_batch("keys", samples.keys):
                launched.joined = True
                self._wait(launched.running, parts, np.arange(len(samples.ids)))
                for part in parts:
                    if not part.planned.records.is_cached:
                        self._retry(part)
                if self._cache is not None and (cached := parts[0].planned.cached) is not None:
                    self._cache.settle(cached, [*samples.faults])
        finally:
            self._end(launched, hosts)
        return self._deliver(parts)

    def _retry(self, part: _Part) -> None:
        """Let the decoder of a field retry what failed."""
        planned, decoder = part.planned, part.field.decoder
        while again := decoder.retry(planned.records, planned.jobs):
            if strays := set(again) - planned.jobs.pixels.keys():
                raise BackendError(
                    f"the decoder {decoder.name!r} has retried the images at places "
                    f"{sorted(strays)} of a batch, and put no pixels there"
                )
            self._redo(part, np.array(again))

    def _end(self, launched: _Launched, hosts: Sequence[Ring]) -> None:
        """Wait for a batch, wanted or not, and give back what it holds."""
        try:
            if not launched.joined:
                with suppress(Exception):  # of a batch that nobody wants: not instead of another's
                    launched.running.join()
        finally:
            self._release(launched.parts[0].planned, hosts)

    def _release(self, planned: PlannedBatch, hosts: Sequence[Ring]) -> None:
        for each, part, host in zip(self.fields, planned.fields, hosts, strict=True):
            if not part.records.is_cached:
                each.decoder.release(part.jobs.headers)
            host.release(part.records.slot, after=self._device.record())

    def _redo(self, part: _Part, places: npt.NDArray[np.int64]) -> None:
        """Make the pictures at `places` once more, of pixels in host memory that are freed then."""
        again = _Part(part.field, part.planned, part.output)
        self._wait(self._start([again], places, decode=False), [again], places)
        part.planned.jobs.drop(places.tolist())

    @staticmethod
    def _wait(running: Running, parts: Sequence[_Part], places: npt.NDArray[np.int64]) -> None:
        """Wait for kernels, count their time, and make faults of items that found no memory.

        Args:
            running: The kernels.
            parts: What they make.
            places: (items,) place in the batch of each item of the kernels.
        """
        left = running.join().tolist()
        for part in parts:
            first, last = part.decoding, part.decoding + part.augmenting
            part.field.decoding += sum(left[:first])
            part.field.augmenting += sum(left[first:last])
            left = left[last:]
        planned = parts[0].planned
        for item, nbytes in running.starved.items():
            place = int(places[item])
            height, width = planned.jobs.headers.size[place].tolist()
            reason = f"there is no memory of {nbytes} bytes for its {width} x {height} pixels"
            parts[0].field.decoder.reject(planned.records, place, reason)

    def _deliver(self, parts: Sequence[_Part]) -> Batch:
        """The batch, after what `on_error` says about its faults was done."""
        images, *masks = parts
        planned = images.planned
        samples, sampled = planned.samples, planned.batch_plan.sampled
        faults = planned.all_faults()
        places, pad = apply_error_policy(replace(samples, faults=faults), self._on_error)
        if faults:
            self.faults.add([faults[place] for place in sorted(faults)])
            for part in parts:
                self._device.gather_items(part.output.data, places, part.field.fill)
            places = np.where(places < 0, np.arange(len(places)), places)
            sampled = {name: column[places] for name, column in sampled.items()}
        return Batch(
            images.output.data,
            planned.batch_plan.labels[places],
            samples.keys[places],
            pad,
            sampled,
            self._device.record(),
            images.output.lease,
            faults,
            masks[0].output if masks else None,
        )

    def _start(
        self, parts: Sequence[_Part], places: npt.NDArray[np.int64], *, decode: bool = True
    ) -> Running:
        """Start all kernels for the items at `places`, one field after the other on each item.

        The fields of an item use the same scratch memory: one is in the batch before the next one
        begins.
        """
        work, calls = self._device.work(), list[KernelCall]()
        nbytes = np.zeros(len(places), np.int64)
        for part in parts:
            each, planned = part.field, part.planned
            decodes = decode and not planned.records.is_cached
            decoding = each.decoder.decode(planned.jobs) if decodes else []
            program = Program(each.plan, work, planned, places, self._weights_of)
            for step in planned.batch_plan.geometry.steps:
                program.add(step)
            program.add_finish(self._device.address(part.output.data), each.mean_image)
            part.decoding, part.augmenting = len(decoding), len(program.calls)
            calls += [*decoding, *program.calls]
            nbytes = np.maximum(nbytes, program.nbytes)
        return work.start(calls, nbytes)

    def _weights_of(self, kind: StepKind) -> int:
        """Address of the weights of a kind of warp."""
        if kind not in self._weights:
            self._weights[kind] = self._device.upload(weight_table(STEPS[kind].taps))
        return self._device.address(self._weights[kind])
