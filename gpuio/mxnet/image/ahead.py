"""The compiled way of `ImageIter`: the rooms of `ImageRecordIter`, with what MXNet draws.

As there, one thread reads and the other one waits for the cores. But what an image gets is drawn
from the `random` and `numpy.random` that all of the program shares. So the reading thread draws
only while the caller waits for it in `Ahead.take`: equal programs draw equal numbers, though some
chunks ahead of the one that is handed out.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from gpuio.core.prefetch import Prefetch
from gpuio.devices import make_device
from gpuio.devices.pool import OutputPool
from gpuio.devices.ring import Ring
from gpuio.errors import BackendError, LabelError, PipelineClosedError
from gpuio.formats.exif import exif_place
from gpuio.kernels.float_color import map_colors
from gpuio.mxnet.image.compiled import Compiled
from gpuio.mxnet.image.functions import is_jfif
from gpuio.pipeline.decode import make_decoder
from gpuio.pipeline.decode.base import Decoder
from gpuio.pipeline.executor import Batch, Executor
from gpuio.pipeline.planner import Overrides, Planner
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.samplers import Selection
from gpuio.sources.base import RecordSource
from gpuio.transforms.op import BatchPlan

if TYPE_CHECKING:
    import numpy.typing as npt

    Labels = Callable[[Any], npt.ArrayLike]

_AHEAD: Final = 3  # chunks drawn ahead: one that is ready, and one for each lane of the CPU
_KEEP: Final = _AHEAD + 4
_JFIF_NBYTES: Final = 11

Run = tuple[int, int]
"""Where a chunk starts in the sequence, and how many samples it has."""


class Reader(Protocol):
    """`RecordReader`, or what does the same for other sources."""

    @property
    def source(self) -> RecordSource: ...

    def nbytes(self, count: int) -> int: ...

    def close(self) -> None: ...

    def __call__(
        self, batches: Iterable[Selection], ring: Ring
    ) -> Generator[RecordBatch, None, None]: ...


class LockstepGate:
    """Lets one thread work only while another one waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._given = self._taken = 0
        self._closed = False

    def give(self, count: int) -> None:
        """Let the other thread have `count` turns; wait until it has, or will not have them."""
        with self._changed:
            self._given += count
            self._changed.notify_all()
            while self._taken < self._given and not self._closed:
                self._changed.wait()

    @contextmanager
    def take(self) -> Iterator[None]:
        """A turn.

        Raises:
            PipelineClosedError: There will be none.
        """
        with self._changed:
            while self._taken >= self._given and not self._closed:
                self._changed.wait()
            if self._closed:
                raise PipelineClosedError("no more images: the iterator was closed")
        try:
            yield
        finally:
            with self._changed:
                self._taken += 1
                self._changed.notify_all()

    def close(self) -> None:
        """End every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Ahead:
    """Chunks of images, made some ahead of their use.

    Args:
        read: The first room.
        compiled: What is done to every image.
        batch_size: Samples in the largest chunk.
        label_width: W, labels of every image.
        labels: Labels by key, which replace those that are read; None for none.
        threads: CPU threads; all cores that this process may use when None.

    Attributes:
        pid: Process whose threads they are.
    """

    def __init__(
        self,
        read: Reader,
        compiled: Compiled,
        batch_size: int,
        label_width: int,
        labels: Labels | None,
        threads: int | None,
    ) -> None:
        self.pid = os.getpid()
        device = make_device("cpu", threads)
        self._read, self._device, self._compiled = read, device, compiled
        self._host = Ring(device.empty_host, 2 + device.max_in_flight, read.nbytes(batch_size))
        self._decode = make_decoder("auto", device, 3, read.source)
        self._execute = Executor(compiled.plan, self._decode, batch_size, device, keep=_KEEP)
        self._label_width, self._labels = label_width, labels
        shape = (batch_size, *compiled.plan.shape)
        self._pool = OutputPool(device, shape, "float32", _KEEP)
        self._deciding: ChunkPlanner | None = None
        self._stages: tuple[Prefetch[Any], ...] = ()
        self._interrupted = False

    def start(
        self, runs: Iterable[Run], order: Sequence[Any], ids_of: Callable[[Any], Any]
    ) -> None:
        """Begin to make chunks.

        Args:
            runs: What they hold.
            order: Keys of the sequence.
            ids_of: Keys of a chunk to the numbers of its records, (N,) int64.

        Raises:
            BackendError: A thread cannot be started.
            PipelineClosedError: `interrupt` was called.
        """
        self.stop()
        self._host.reset()
        host, turns, threads = self._host, LockstepGate(), self._device.threads
        deciding = ChunkPlanner(
            self._compiled,
            self._decode,
            turns,
            self._read.source,
            self._label_width,
            self._labels,
        )
        records = _unturned(self._read(deciding.selections(runs, order, ids_of), host))
        planned = run_finally(turns.close, deciding(records))
        ready = Prefetch(planned, 1, name="gpuio-read", waits=(turns, host, self._read))
        self._stages = (ready,)
        made = self._execute(ready, host)
        if self._compiled.maps_colors:
            made = _colored(made, self._pool, threads)
        scope = self._device.scope
        try:
            chunks = Prefetch(made, 1, name="gpuio-decode", scope=scope, waits=(turns, host))
        except BackendError:
            self.stop()
            raise
        self._deciding, self._stages = deciding, (ready, chunks)
        if self._interrupted:  # by a thread that saw what was under way before
            self.interrupt()  # `close` waits for the threads, which may wait for a file
            raise PipelineClosedError("this iterator was closed")
        turns.give(_AHEAD)

    def take(self) -> Batch | None:
        """The next chunk, or None after the last one.

        Raises:
            GpuioError: A sample could not be read or decoded; `failed` says which.
        """
        if self._deciding is None:
            return None
        self._deciding.turns.give(1)
        batch: Batch | None = next(self._stages[-1], None)
        if batch is not None:
            self._deciding.decided.popleft()
            batch.ready.synchronize()
        return batch

    def failed(self) -> int | None:
        """Place in its chunk of the sample that made `take` fail; None where it was no sample."""
        decided = self._deciding.decided if self._deciding is not None else None
        return min(decided[0].faults, default=None) if decided else None

    def interrupt(self) -> None:
        """Wake whoever waits for a chunk, for good: `close` is to follow. For any thread."""
        self._interrupted = True
        if self.pid == os.getpid():
            for stage in self._stages:
                stage.interrupt()

    def stop(self) -> None:
        """Drop what is under way; all threads are joined when this returns."""
        for stage in reversed(self._stages):
            stage.close()
        self._deciding, self._stages = None, ()

    def close(self) -> None:
        """End everything and give the decoder back."""
        self.stop()
        if self.pid == os.getpid():
            self._decode.close()


class ChunkPlanner(Planner):
    """Plans chunks with what `Compiled` draws while the caller waits.

    It does not know the threads, so that they end when nobody refers to `Ahead` any more.
    """

    def __init__(
        self,
        compiled: Compiled,
        decoder: Decoder,
        turns: LockstepGate,
        source: RecordSource,
        label_width: int,
        labels: Labels | None,
    ) -> None:
        super().__init__(compiled.plan, decoder)
        self.turns = turns
        self.decided: deque[Samples] = deque()  # chunks that were not yet taken
        self._compiled, self._source = compiled, source
        self._label_width, self._labels = label_width, labels
        self._keys: deque[Sequence[Any]] = deque()

    def selections(
        self, runs: Iterable[Run], order: Sequence[Any], ids_of: Callable[[Any], Any]
    ) -> Generator[Selection, None, None]:
        """What each chunk holds."""
        for at, count in runs:
            keys = order[at : at + count]
            self._keys.append(keys)
            yield Selection(ids_of(keys), 0)

    def plan_batch(
        self,
        samples: Samples,
        size: npt.NDArray[np.int32],
        *,
        epoch: int = 0,
        overrides: Overrides | None = None,
    ) -> BatchPlan:
        """Draw what the images of a chunk get."""
        keys = self._keys.popleft()
        if self._labels is not None:
            self._relabel(samples, keys, self._labels)
        self.decided.append(samples)
        sound = (size > 0).min(axis=1)
        sound[list(samples.faults)] = False
        with self.turns.take():
            drawn = self._compiled.draw(size, sound, lambda place: self._name(samples, place))
        return super().plan_batch(samples, size, epoch=epoch, overrides=drawn)

    def _name(self, samples: Samples, place: int) -> str:
        return f"{self._source.where(int(samples.ids[place]))}, key {samples.keys[place]}"

    def _relabel(self, samples: Samples, keys: Sequence[Any], labels: Labels) -> None:
        for place, key in enumerate(keys):
            values = np.asarray(labels(key), np.float32).ravel()
            if values.size == self._label_width:
                samples.labels[place] = values
            else:
                where, width = self._name(samples, place), self._label_width
                reason = f"{where}: it has {values.size} labels, not label_width={width}"
                samples.faults.setdefault(place, LabelError(reason))


def _unturned(batches: Generator[RecordBatch, None, None]) -> Generator[RecordBatch, None, None]:
    """Batches whose JFIF files are not turned: see `imdecode`."""
    with closing(batches):
        for records in batches:
            places = zip(records.address.tolist(), records.nbytes.tolist(), strict=True)
            for address, nbytes in places:
                if nbytes > _JFIF_NBYTES and is_jfif(ctypes.string_at(address, _JFIF_NBYTES)):
                    memory = memoryview((ctypes.c_uint8 * nbytes).from_address(address)).cast("B")
                    place = exif_place(memory)
                    if place is not None:
                        memory[place] = 0  # what is not called Exif says nothing of turns
            yield records


def run_finally(
    end: Callable[[], None], items: Generator[Any, None, None]
) -> Generator[Any, None, None]:
    """`items`, and `end` once there are no more, whatever the reason."""
    try:
        with closing(items):
            yield from items
    finally:
        end()


def _colored(
    made: Generator[Batch, None, None], pool: OutputPool, threads: int
) -> Generator[Batch, None, None]:
    """Batches of (N, H, W, 3) uint8 with their colours mapped, as (N, 3, H, W) float32."""
    with closing(made):
        for batch in made:
            memory, _ = pool.take()
            count, height, width, _ = batch.data.shape
            data = memory[:count]
            colors = np.ascontiguousarray(batch.sampled["colors"])
            places = (batch.data.ctypes.data, colors.ctypes.data, data.ctypes.data)
            map_colors(count, threads, *places, height * width)
            yield replace(batch, data=data)
