"""A record's whole way, from the file to an array on the device.

How a pipeline ends. Where the code and this list differ, the code is wrong.

1. The epoch is over: every batch was handed out, the threads end, the files are closed. Memory
   between the stages is kept for the next epoch.
2. A stage raises: the consumer gets the batches before the failure, then the exception, once,
   unchanged but for a note that names the thread. The threads end as in 3.
3. The consumer stops early (`close`, `reset`, leaving a `with`): every wait is woken, every thread
   is joined, and what was read ahead is dropped. A batch that the consumer holds stays as it is.
4. The iterator is garbage: as 3, when it is collected. The thread that collects it waits two
   seconds at most, as it may hold a lock that one of our threads needs.
5. The process forks: the threads stay with the parent. In the child, every use of an iterator that
   has begun to read raises a `PipelineClosedError`, whatever other threads of the parent were
   doing, and `close` does nothing. A new iterator works, and so does one that has not begun.
6. The interpreter exits: as 3, before modules are torn down.
7. A thread cannot be started: the consumer gets a `BackendError` that says what to do, and the
   threads that were started are joined. The iterator is where it was: use it again, or close it.
8. Another thread calls `close`: as 3. A consumer that waits for a batch gets a
   `PipelineClosedError`, not the end of the epoch. A closed iterator stays closed.
9. Several threads ask for batches: each batch goes to exactly one of them, then each of them gets
   a StopIteration. `reset`, `set_epoch` and the like wait until a batch that was asked for is
   handed out.
10. One of the pipeline's own threads uses the iterator, as a decoder might: it gets a RuntimeError,
   since it would wait for itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, replace

from gpuio.core.prefetch import Closable, Prefetch
from gpuio.core.timing import BatchCounter, Meter, PipelineStats, ProfilerRange, Stopwatch
from gpuio.devices.base import Device
from gpuio.devices.ring import Ring
from gpuio.errors import BackendError, PipelineClosedError
from gpuio.pipeline.cache.image_cache import ImageCache
from gpuio.pipeline.error_policy import FaultLog
from gpuio.pipeline.executor import Batch, Executor, Field
from gpuio.pipeline.masks import MaskField
from gpuio.pipeline.planner import Overrides, PlannedBatch, Planner
from gpuio.pipeline.read.reader import RecordBatch, RecordReader
from gpuio.samplers import Selection


class Pipeline:
    """The stages for one data set on one device, put together.

    Args:
        read: Reads encoded images.
        planner: Reads their headers, and plans batches.
        executor: Decodes and augments.
        device: Where images and batches live.
        depth: Batches that may wait between two stages, and for the consumer.
        masks: Reads and plans the masks of the images, if they have any.
        cache: Keeps pixels; the stages have it, too.
    """

    def __init__(
        self,
        read: RecordReader,
        planner: Planner,
        executor: Executor,
        device: Device,
        *,
        depth: int = 2,
        masks: MaskField | None = None,
        cache: ImageCache | None = None,
    ) -> None:
        self.planner = planner
        self.executor = executor
        self.device = device
        self.depth = depth
        self._masks, self._cache = masks, cache
        readers = [read] if masks is None else [read, masks.read]
        self._inputs = [
            _Input(each, field, device, executor.batch_size)
            for each, field in zip(readers, executor.fields, strict=True)
        ]
        self._stages: tuple[Prefetch[PlannedBatch] | Prefetch[Batch], ...] = ()
        self._interrupted = False
        # What is measured goes on from one epoch to the next.
        self._reading, self._decoding = Meter("gpuio.read"), Meter("gpuio.decode")
        self._epochs = 0
        self._before = self.accounts()

    @property
    def faults(self) -> FaultLog:
        """Samples that could not be read or decoded."""
        return self.executor.faults

    def batches(
        self,
        selections: Iterable[Selection],
        *,
        epoch: int,
        overrides: Overrides | None = None,
    ) -> Prefetch[Batch]:
        """The batches of one epoch, in order. Each `Prefetch` is a thread.

        Only one epoch is under way at a time: what is left of the one before is dropped.

        Raises:
            BackendError: A thread cannot be started.
            PipelineClosedError: `interrupt` was called.
        """
        self.stop()
        if self._cache is not None:
            self._cache.begin()
        self._before = self.accounts()
        self._epochs += 1
        planned = self._planned(selections, epoch, overrides)
        hosts = [each.host for each in self._inputs]
        # Also of the second thread: the first one may wait for a store, or in the planner.
        waits: list[Closable] = [*hosts, *(each.read for each in self._inputs), self.planner]
        ready = Prefetch(planned, 1, name="gpuio-read", waits=waits, meter=self._reading)
        self._stages = (ready,)
        made = _counted(self.executor(ready, *hosts), [each.made for each in self._inputs])
        try:
            batches = Prefetch(
                made,
                self.depth,
                name="gpuio-decode",
                scope=self.device.scope,
                waits=waits,
                meter=self._decoding,
            )
        except BackendError:
            self.stop()
            raise
        self._stages = (ready, batches)
        if self._interrupted:  # by a thread that saw the stages of the epoch before
            self.interrupt()  # `close` waits for the threads, which may wait for a file
            raise PipelineClosedError("this iterator was closed")
        return batches

    def _planned(
        self, selections: Iterable[Selection], epoch: int, overrides: Overrides | None
    ) -> Generator[PlannedBatch, None, None]:
        """The stages of the thread that reads."""
        copies = itertools.tee(selections, len(self._inputs))  # for one thread, which reads all
        images, *masks = (each(own) for each, own in zip(self._inputs, copies, strict=True))
        planned = self.planner(images, epoch=epoch, overrides=overrides)
        if self._masks is not None:
            planned = self._masks(planned, masks[0])
        return _ending(planned, [images, *masks])

    def interrupt(self) -> None:
        """Wake all threads that wait for a batch, from any thread; only `close` may follow."""
        self._interrupted = True
        for stage in self._stages:
            stage.interrupt()

    def stop(self) -> None:
        """End the epoch under way; all threads are joined when this returns."""
        for stage in reversed(self._stages):
            stage.close()

    def close(self) -> None:
        """End everything and close the decoders."""
        self.stop()
        try:
            self.device.record().synchronize()
        finally:  # also when the device has failed
            for each in self._inputs:
                each.field.decoder.close()
            if self._cache is not None:
                self._cache.close()

    def accounts(self) -> dict[str, PipelineStats]:
        """What was done since the pipeline was made, and how long it took.

        Returns:
            That of the images by the name "", and where there are masks, theirs by "masks". What
            threads waited for is the same for both, and stands with the images alone.
        """
        read, decode, accounts = self._reading, self._decoding, dict[str, PipelineStats]()
        starved = read.awaited.read()
        busy = max(decode.making.read() - starved, 0.0)
        masks = 0.0 if self._masks is None else self._masks.busy.read()
        total = sum(each.field.decoding + each.field.augmenting for each in self._inputs)
        for each in self._inputs:
            field, is_images = each.field, not accounts
            work = field.decoding + field.augmenting
            part = work / total if total else float(is_images)
            accounts["" if is_images else "masks"] = PipelineStats(
                self._epochs,
                each.counter.stats(read.making.read() - masks if is_images else masks),
                each.made.stats(busy * part),
                each.files.read(),
                decoding=field.decoding / 1e9,
                augmenting=field.augmenting / 1e9,
            )
        images = accounts[""]
        accounts[""] = replace(
            images,
            read=replace(images.read, blocked=read.blocked.read()),
            decode=replace(images.decode, starved=starved, blocked=decode.blocked.read()),
            waited=decode.awaited.read(),
            first=decode.first,
        )
        return accounts

    def mark(self, marks: Iterable[ProfilerRange]) -> None:
        """Show to profilers what the threads are at, from now on."""
        marks = tuple(marks)
        files = [each.files for each in self._inputs]
        for watch in (*self._reading.stopwatches, *self._decoding.stopwatches, *files):
            watch.marks = marks

    def stats(self) -> dict[str, object]:
        """Where the time went: see `ImageRecordIter.stats`."""
        figures: dict[str, dict[str, object]] = {}
        for (name, account), each in zip(self.accounts().items(), self._inputs, strict=True):
            spent = account - self._before[name]
            figures[name] = {
                "stages": {"read": asdict(spent.read), "decode": asdict(spent.decode)},
                "files": spent.files,
                "waited": spent.waited,
                "decoding": spent.decoding,
                "augmenting": spent.augmenting,
                "threads": self.device.threads,
                **each.field.decoder.stats(),
            }
        stats = figures.pop("")
        if self._cache is not None:
            figures["cache"] = {**self._cache.stats()}
        return {**stats, **figures, "faults": self.faults.count}


class _Input:
    """One field of the samples, which is read into host memory of its own.

    Args:
        read: Reads the records.
        field: Decodes them.
        device: Gives the host memory.
        batch_size: Records in the largest batch.

    Attributes:
        host: The host memory.
        files: Runs while files are read.
        counter: Counts what was read.
        made: Counts what was decoded.
    """

    def __init__(self, read: RecordReader, field: Field, device: Device, batch_size: int) -> None:
        self.read, self.field = read, field
        self._ahead = read.ahead(batch_size)
        # One is filled, one waits, each work in flight has one, and `_ahead` are being read.
        slots = 2 + device.max_in_flight + self._ahead
        self.host = Ring(device.empty_host, slots, read.source.batch_nbytes(batch_size))
        self.files = Stopwatch("gpuio.files")
        self.counter, self.made = BatchCounter(), BatchCounter()

    def __call__(self, selections: Iterable[Selection]) -> Generator[RecordBatch, None, None]:
        """The records of an epoch; what is left of the one before is dropped."""
        self.host.reset()
        records = self.read(selections, self.host, self._ahead)
        return _noted(records, self.files, self.counter)


# No function that a thread runs refers to the pipeline, so that it can be garbage.


def _ending(
    planned: Generator[PlannedBatch, None, None],
    records: Sequence[Generator[RecordBatch, None, None]],
) -> Generator[PlannedBatch, None, None]:
    """The same batches; the records that they are made of end with them, also by an error.

    An error keeps the generators alive that it went through, and so the files that they read.
    """
    try:
        yield from planned
    finally:
        for each in records:
            each.close()


def _noted(
    batches: Iterable[RecordBatch], files: Stopwatch, counter: BatchCounter
) -> Generator[RecordBatch, None, None]:
    """The same batches; their records are counted, and the time that files take is measured."""
    left = iter(batches)
    while True:
        with files:
            batch = next(left, None)
        if batch is None:
            return
        counter.add(len(batch.nbytes), int(batch.nbytes.sum()))
        yield batch
        del batch


def _counted(
    batches: Iterable[Batch], counters: Sequence[BatchCounter]
) -> Generator[Batch, None, None]:
    """The same batches; each of their fields is counted."""
    for batch in batches:
        fields = [batch.data] if batch.masks is None else [batch.data, batch.masks.data]
        for data, counter in zip(fields, counters, strict=True):
            counter.add(len(data), data.nbytes)
        del fields, data
        yield batch
        del batch  # the consumer alone decides how long it lives
