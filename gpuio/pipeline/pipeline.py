"""A record's whole way, file to device array: each line of `batches` is a room.

How a pipeline ends. Where the code and this list differ, the code is wrong.

1. The epoch is over: every batch is handed out, the threads end, the files are closed; memory
   between the rooms is kept for the next epoch.
2. A room raises: the batches before the failure are handed out, then the consumer gets that
   exception, once, unchanged but for a note that names the thread; threads end as in 3.
3. The consumer stops early (`close`, `reset`, leaving a `with`): every wait is woken, every thread
   joined, what was read ahead is dropped. A batch that the consumer holds stays as it is.
4. The iterator is garbage: as 3, when it is collected. The thread that collects waits for two
   seconds at most, as it may hold a lock that one of ours needs.
5. The process forks: the threads stay with the parent. In the child, all that is asked of an
   iterator that has begun to read is a `PipelineClosedError`, whatever other threads of the parent
   were doing; `close` does nothing; a new iterator works, and one that has not begun.
6. The interpreter exits: as 3, before modules are torn down.
7. A thread cannot be started: the consumer gets a `BackendError` that says what to do; those that
   were started are joined. The iterator is where it was: it can be asked again, or closed.
8. Another thread calls `close`: as 3, also while the consumer waits for a batch, who then gets a
   `PipelineClosedError`, not the end of the epoch. What was closed stays closed.
9. Several threads ask: each batch goes to exactly one of them, then each gets its StopIteration.
   `reset`, `set_epoch` and the like wait until a batch that was asked for is handed out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict
from typing import Any

from gpuio.core.prefetch import Prefetch
from gpuio.core.timing import BatchCounter, Meter, PipelineStats, ProfilerRange, Stopwatch
from gpuio.devices.base import Device
from gpuio.devices.ring import Ring
from gpuio.errors import BackendError, PipelineClosedError
from gpuio.pipeline.error_policy import FaultLog
from gpuio.pipeline.executor import Batch, Executor
from gpuio.pipeline.planner import Overrides, Planner
from gpuio.pipeline.read.reader import RecordBatch, RecordReader
from gpuio.samplers import Selection


class Pipeline:
    """The rooms for one data set on one device, put together.

    Args:
        read: Reads encoded images.
        planner: Reads their headers, and plans batches.
        executor: Decodes and augments.
        device: Where images and batches live.
        depth: Batches that may wait between two rooms, and for the consumer.
    """

    def __init__(
        self,
        read: RecordReader,
        planner: Planner,
        executor: Executor,
        device: Device,
        *,
        depth: int = 2,
    ) -> None:
        self.read = read
        self.planner = planner
        self.executor = executor
        self.device = device
        self.depth = depth
        # One slot is filled while one waits, and each lane decodes one; some are on their way.
        self._ahead = read.ahead(executor.batch_size)
        slots, nbytes = 2 + device.max_in_flight + self._ahead, read.nbytes(executor.batch_size)
        self._host = Ring(device.empty_host, slots, nbytes)
        self._stages: tuple[Prefetch[Any], ...] = ()
        self._interrupted = False
        # What is measured goes on from one epoch to the next.
        self._reading, self._decoding = Meter("gpuio.read"), Meter("gpuio.decode")
        self._files = Stopwatch("gpuio.files")
        self._read, self._made, self._epochs = BatchCounter(), BatchCounter(), 0
        self._before = self.account()

    @property
    def faults(self) -> FaultLog:
        """Images that could not be had."""
        return self.executor.faults

    def batches(
        self,
        selections: Iterable[Selection],
        *,
        epoch: int,
        overrides: Overrides | None = None,
    ) -> Prefetch[Batch]:
        """The batches of one epoch, in order. Each line is a room; each `Prefetch` is a thread.

        Only one epoch is under way at a time: what is left of the one before is dropped.

        Raises:
            BackendError: A thread cannot be started.
            PipelineClosedError: `interrupt` was called.
        """
        self.stop()
        self._host.reset()
        self._before = self.account()
        self._epochs += 1
        host, scope = self._host, self.device.scope
        records = _noted(self.read(selections, host, self._ahead), self._files, self._read)
        planned = self.planner(records, epoch=epoch, overrides=overrides)
        # Also of the second thread: the first one may wait for a store, or in the planner.
        waits = (host, self.read, self.planner)
        ready = Prefetch(planned, 1, name="gpuio-read", waits=waits, meter=self._reading)
        self._stages = (ready,)
        made = _counted(self.executor(ready, host), self._made)
        try:
            batches = Prefetch(
                made,
                self.depth,
                name="gpuio-decode",
                scope=scope,
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

    def interrupt(self) -> None:
        """Wake whoever waits for a batch, for good: `close` is to follow. For any thread."""
        self._interrupted = True
        for stage in self._stages:
            stage.interrupt()

    def stop(self) -> None:
        """End the epoch under way; all threads are joined when this returns."""
        for stage in reversed(self._stages):
            stage.close()

    def close(self) -> None:
        """End everything and give the decoder back."""
        self.stop()
        self.device.record().synchronize()
        self.executor.decoder.close()

    def account(self) -> PipelineStats:
        """What was done since the pipeline was made, and how long it took."""
        read, decode = self._reading, self._decoding
        starved = read.awaited.read()
        busy = max(decode.making.read() - starved, 0.0)
        return PipelineStats(
            epochs=self._epochs,
            read=self._read.stats(read.making.read(), 0.0, read.blocked.read()),
            decode=self._made.stats(busy, starved, decode.blocked.read()),
            files=self._files.read(),
            waited=decode.awaited.read(),
            first=decode.first,
            decoding=self.executor.decoding / 1e9,
            augmenting=self.executor.augmenting / 1e9,
        )

    def accounts(self) -> dict[str, PipelineStats]:
        """The account of every pipeline that this one consists of, by name: here of one."""
        return {"": self.account()}

    def mark(self, marks: Iterable[ProfilerRange]) -> None:
        """Show to profilers what the threads are at, from now on."""
        marks = tuple(marks)
        for watch in (*self._reading.stopwatches, *self._decoding.stopwatches, self._files):
            watch.marks = marks

    def stats(self) -> dict[str, Any]:
        """Where the time went: see `ImageRecordIter.stats`."""
        spent = self.account() - self._before
        return {
            "stages": {"read": asdict(spent.read), "decode": asdict(spent.decode)},
            "files": spent.files,
            "waited": spent.waited,
            "decoding": spent.decoding,
            "augmenting": spent.augmenting,
            "threads": self.device.threads,
            **self.executor.decoder.stats(),
            "faults": self.faults.count,
        }


# What threads run holds no pipeline: one that nobody has any more is to be collected.


def _noted(
    batches: Iterable[RecordBatch], files: Stopwatch, tally: BatchCounter
) -> Generator[RecordBatch, None, None]:
    """Records as they come; how many there are, and how long files take, is noted."""
    left = iter(batches)
    while True:
        with files:
            batch = next(left, None)
        if batch is None:
            return
        tally.add(len(batch.nbytes), int(batch.nbytes.sum()))
        yield batch
        del batch


def _counted(batches: Iterable[Batch], tally: BatchCounter) -> Generator[Batch, None, None]:
    """Batches as they come, counted."""
    for batch in batches:
        tally.add(len(batch.data), batch.data.nbytes)
        yield batch
        del batch  # the consumer alone decides how long it lives
