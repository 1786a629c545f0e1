"""The compiled path of `ImageIter`: the pipeline of `ImageRecordIter`, planned by MXNet's draws.

A chunk is a batch, or the part of one before or after the end of the sequence. What an image gets
is drawn from the `random` and `numpy.random` that the whole program shares. So the planner, which
runs in a thread, draws only while the caller waits in `ChunkPipeline.take`: equal programs draw
equal numbers, though some chunks ahead of the one that is returned.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpuio.core.prefetch import Prefetch
from gpuio.devices import make_device
from gpuio.devices.base import Device
from gpuio.devices.pool import OutputPool
from gpuio.devices.ring import Ring
from gpuio.errors import BackendError, DecodeError, LabelError, PipelineClosedError
from gpuio.formats.exif import exif_place
from gpuio.formats.index import Index
from gpuio.kernels.float_color import map_colors
from gpuio.mxnet.image.compiled import CompiledAugmenters
from gpuio.mxnet.image.decode_queue import BrokenImageError
from gpuio.mxnet.image.functions import is_jfif
from gpuio.mxnet.image.samples import NO_ROOT, KeyedSamples
from gpuio.mxnet.image.sequence import SampleSequence
from gpuio.mxnet.ndarray import NDArray
from gpuio.pipeline.decode import make_decoder
from gpuio.pipeline.decode.base import Decoder, DecoderOptions
from gpuio.pipeline.executor import Batch, Executor
from gpuio.pipeline.pipeline import Pipeline
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import Overrides, PlannedBatch, Planner
from gpuio.pipeline.read.reader import RecordBatch, RecordReader, Samples
from gpuio.samplers import Selection
from gpuio.sources.base import RecordSource
from gpuio.sources.folder import FolderSource
from gpuio.sources.labels import no_labels
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.transforms.op import BatchPlan

if TYPE_CHECKING:
    import numpy.typing as npt

    LabelsByNumber = Callable[[int], npt.ArrayLike]
    NumbersByKey = Callable[[Sequence[Any]], npt.NDArray[np.int64]]

_AHEAD: Final = 3  # chunks drawn ahead: one that is ready, and two that the CPU works on
_KEEP: Final = _AHEAD + 4  # output arrays that are kept for reuse
_JFIF_NBYTES: Final = 11


class LockstepGate:
    """Lets one thread work only while another thread waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed = self._passed = 0
        self._closed = False

    def let_pass(self, count: int) -> None:
        """Let the other thread pass `count` times, and wait until it has, or the gate is closed."""
        with self._changed:
            self._allowed += count
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._passed >= self._allowed or self._closed)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait to pass once, and work until the context ends.

        Raises:
            PipelineClosedError: The gate was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._passed < self._allowed or self._closed)
            if self._closed:
                raise PipelineClosedError("no more images: the iterator was closed")
        try:
            yield
        finally:
            with self._changed:
                self._passed += 1
                self._changed.notify_all()

    def close(self) -> None:
        """End every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class ChunkPlanner(Planner):
    """Plans chunks with what `CompiledAugmenters` draws while the caller waits.

    Args:
        compiled: What is done to every image.
        decoder: Reads the headers.
        labels: Gives labels by the number of a record, instead of the stored ones; None for none.

    Attributes:
        gate: Lets this planner draw.
        waiting: Samples of the chunks that were drawn and not yet taken.
    """

    def __init__(
        self, compiled: CompiledAugmenters, decoder: Decoder, labels: LabelsByNumber | None
    ) -> None:
        super().__init__(compiled.plan, decoder)
        self.gate, self.waiting = LockstepGate(), deque[Samples]()
        self._compiled, self._labels = compiled, labels

    def __call__(
        self, batches: Iterable[RecordBatch], *, epoch: int = 0, overrides: Overrides | None = None
    ) -> Generator[PlannedBatch, None, None]:
        self.gate, self.waiting = LockstepGate(), deque()
        planned = super().__call__(map(_unoriented, batches), epoch=epoch, overrides=overrides)
        return _closing(self.gate, planned)

    def close(self) -> None:
        self.gate.close()

    def plan_batch(
        self,
        samples: Samples,
        size: npt.NDArray[np.int32],
        *,
        epoch: int = 0,
        overrides: Overrides | None = None,
    ) -> BatchPlan:
        if self._labels is not None:
            self._relabel(samples, self._labels)
        self.waiting.append(samples)
        valid: npt.NDArray[np.bool_] = np.all(size > 0, axis=1)
        valid[list(samples.faults)] = False
        with self.gate.turn():
            drawn = self._compiled.draw(size, valid, lambda place: self._name(samples, place))
        return super().plan_batch(samples, size, epoch=epoch, overrides=drawn)

    def _name(self, samples: Samples, place: int) -> str:
        where = self._decoder.source.where(int(samples.ids[place]))
        return f"{where}, key {samples.keys[place]}"

    def _relabel(self, samples: Samples, labels: LabelsByNumber) -> None:
        width = samples.labels.shape[1]
        for place, number in enumerate(samples.ids.tolist()):
            try:
                values = np.asarray(labels(number), np.float32).ravel()
            except LabelError as error:
                samples.faults.setdefault(place, error)
                continue
            if values.size == width:
                samples.labels[place] = values
                continue
            found = f"it has {values.size} labels, not label_width={width}"
            fault = LabelError(f"{self._name(samples, place)}: {found}")
            samples.faults.setdefault(place, fault)


class ColorExecutor(Executor):
    """An executor for the CPU that also maps colours; batches are (N, 3, H, W) float32."""

    def __init__(self, plan: Plan, decoder: Decoder, batch_size: int, device: Device) -> None:
        super().__init__(plan, decoder, batch_size, device, keep=_KEEP)
        self._floats = OutputPool(device, (batch_size, *plan.shape), "float32", _KEEP)
        self._threads = device.threads

    def __call__(
        self, batches: Iterable[PlannedBatch], *hosts: Ring
    ) -> Generator[Batch, None, None]:
        with closing(super().__call__(batches, *hosts)) as made:
            for batch in made:
                count, height, width, _ = batch.data.shape
                memory, _ = self._floats.take()
                colors = np.ascontiguousarray(batch.sampled["colors"])
                addresses = (array.ctypes.data for array in (batch.data, colors, memory))
                map_colors(count, self._threads, *addresses, height * width)
                yield replace(batch, data=memory[:count])


class ChunkPipeline:
    """Chunks of images, made some ahead of their use.

    Args:
        compiled: What is done to every image.
        samples: Where the samples come from.
        sequence: Their order, and the next one; `take` moves it on.
        label_width: W, labels of every image.
        threads: CPU threads.

    Attributes:
        pid: The process whose threads make the chunks.
    """

    def __init__(
        self,
        compiled: CompiledAugmenters,
        samples: KeyedSamples,
        sequence: SampleSequence,
        label_width: int,
        threads: int,
    ) -> None:
        self.pid = os.getpid()
        self._samples, self._sequence, self._label_width = samples, sequence, label_width
        source, keys = _records(samples, label_width)
        relabel = labels = None
        if samples.imglist is not None:
            # The planner looks the labels up, as a sample may have more or fewer than W of them.
            relabel = no_labels(label_width)
            labels = lambda number: samples.listed_label(keys[number].item())  # noqa: E731
        read = RecordReader(source, label_width=label_width, relabel=relabel)
        self._numbers_of = _numbers_by_key(keys)
        device = make_device("cpu", threads)
        decoder = make_decoder("auto", DecoderOptions(device, 3, source))
        if compiled.maps_colors:
            executor: Executor = ColorExecutor(compiled.plan, decoder, sequence.batch_size, device)
        else:
            executor = Executor(compiled.plan, decoder, sequence.batch_size, device, keep=_KEEP)
        self._planner = ChunkPlanner(compiled, decoder, labels)
        self._pipeline = Pipeline(read, self._planner, executor, device, depth=1)
        self._made: Prefetch[Batch] | None = None
        self._at = 0  # place in the sequence of the next chunk that is under way

    def take(self, count: int, *, filled: int = 0, kept: bool = False) -> tuple[NDArray, NDArray]:
        """Data and labels of the next `count` samples of the sequence, which goes on after them.

        Args:
            count: Samples up to the end of the batch, or of the sequence.
            filled: Places of the batch that have samples already.
            kept: Whether "roll_over" has kept these samples.

        Raises:
            BackendError: A thread cannot be started.
            BrokenImageError: An image cannot be decoded; the sequence goes on after it.
            GpuioError: A sample is wrong in another way; the sequence goes on after it.
            OSError: A file cannot be read; the sequence goes on after it.
            PipelineClosedError: `interrupt` was called.
        """
        sequence = self._sequence
        if self._at != sequence.cur:
            self.stop()
        try:
            chunk = self._next()
            if chunk is None:
                self._start(filled, kept)
                chunk = self._next()
        except (BackendError, PipelineClosedError):  # the sequence stays where it is
            self.stop()
            raise
        except Exception as error:
            waiting = self._planner.waiting
            place = min(waiting[0].faults, default=None) if waiting else None
            self.stop()
            sequence.cur += count if place is None else place + 1
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            if isinstance(error, DecodeError):
                name = self._samples.name(sequence.last_key)
                raise BrokenImageError(f"Broken image {name}: {error}") from error
            raise
        assert chunk is not None
        sequence.cur += count
        self._at = sequence.cur % len(sequence.keys)
        labels = chunk.labels if self._label_width > 1 else chunk.labels[:, 0]
        return chunk.data.view(NDArray), labels.view(NDArray)

    def _start(self, filled: int, kept: bool) -> None:
        # What threads run holds no reference to this object, so that it can be garbage-collected.
        chunks, numbers_of = self._sequence.chunks(filled, kept=kept), self._numbers_of
        selections = (Selection(numbers_of(keys), 0) for keys in chunks)
        self._made = self._pipeline.batches(selections, epoch=0)
        self._planner.gate.let_pass(_AHEAD)

    def _next(self) -> Batch | None:
        """The next chunk that is under way, or None after the last one."""
        if self._made is None:
            return None
        self._planner.gate.let_pass(1)
        batch = next(self._made, None)
        if batch is not None:
            self._planner.waiting.popleft()
            batch.ready.synchronize()
        return batch

    def interrupt(self) -> None:
        """Wake all threads that wait for a chunk, from any thread; only `close` may follow."""
        if self.pid == os.getpid():
            self._pipeline.interrupt()

    def stop(self) -> None:
        """Drop the chunks under way; all threads are joined when this returns."""
        self._pipeline.stop()
        self._planner.waiting.clear()
        self._made = None

    def close(self) -> None:
        """End everything."""
        self.stop()
        if self.pid == os.getpid():
            self._pipeline.close()


def _numbers_by_key(keys: npt.NDArray[Any]) -> NumbersByKey:
    """From keys to record numbers, given the keys of all records; of equal keys the last counts."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]

    def numbers_of(wanted: Sequence[Any]) -> npt.NDArray[np.int64]:
        values = np.asarray(wanted)
        known = np.zeros(len(values), bool)
        if values.dtype.kind == keys.dtype.kind:
            places = np.searchsorted(ordered, values, side="right") - 1
            known = ordered[places] == values
        if not known.all():
            raise KeyError(wanted[int(np.argmin(known))])  # in `seq`, which users may set
        return np.asarray(order[places])

    return numbers_of


def _records(samples: KeyedSamples, label_width: int) -> tuple[RecordSource, npt.NDArray[Any]]:
    """The records of all samples, and (N,) their keys."""
    if samples.rec:
        index = (Index.load(samples.idx) if samples.idx else Index.scan(samples.rec)).sorted()
        # Exactly the records of this index, also where another one lies beside the .rec.
        return RecordIOSource.of_index(samples.rec, index), index.keys
    assert samples.imglist is not None
    if samples.root is None:
        raise TypeError(NO_ROOT)
    keys = np.array(sorted(set(samples.imglist)))
    paths = [samples.imglist[key][1] for key in keys.tolist()]
    unlabeled = np.broadcast_to(np.float32(0), (len(paths), label_width))
    return FolderSource(paths, unlabeled, root=samples.root), keys


def _closing(
    gate: LockstepGate, planned: Generator[PlannedBatch, None, None]
) -> Generator[PlannedBatch, None, None]:
    """`planned`; the gate is closed once there are no more, whatever the reason."""
    with closing(gate), closing(planned):
        yield from planned


def _unoriented(records: RecordBatch) -> RecordBatch:
    """The batch, whose JFIF files have no EXIF orientation any more: see `imdecode`."""
    for address, nbytes in zip(records.address.tolist(), records.nbytes.tolist(), strict=True):
        if nbytes > _JFIF_NBYTES and is_jfif(ctypes.string_at(address, _JFIF_NBYTES)):
            memory = memoryview((ctypes.c_uint8 * nbytes).from_address(address)).cast("B")
            place = exif_place(memory)
            if place is not None:
                memory[place] = 0  # clobber the Exif marker so that decoders ignore the orientation
    return records
