"""A record's whole way, file to device array: each line of `batches` is a room.

How a pipeline ends. Where the code and this list differ, the code is wrong.

1. The epoch is over: every batch is handed out, the threads end, the files are closed; memory
   between the rooms is kept for the next epoch.
2. A room raises: the batches before the failure are handed out, then the consumer gets that
   exception, once, unchanged but for a note that names the thread; threads end as in 3.
3. The consumer stops early (`close`, `reset`, leaving a `with`): every wait is woken, every thread
   joined, what was read ahead is dropped. A batch that the consumer holds stays as it is.
4. The iterator is garbage: as 3, when it is collected.
5. The process forks: the threads stay with the parent. In the child, asking for a batch is a
   `PipelineClosedError`; a new iterator works.
6. The interpreter exits: as 3, before modules are torn down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from gpuio.augment.augmenter import Augmenter, Batch
from gpuio.augment.faults import FaultLog
from gpuio.backends.base import Backend
from gpuio.backends.ring import Ring
from gpuio.decode.base import Decoder
from gpuio.prefetch import Prefetch
from gpuio.reader.order import Selection
from gpuio.reader.reader import RecordReader


class Pipeline:
    """The rooms for one data set on one device, put together.

    Args:
        read: First room, the .rec files.
        decode: Second room.
        augment: Third room.
        backend: Where images and batches live.
        depth: Batches that may wait between two rooms, and for the consumer.
    """

    def __init__(
        self,
        read: RecordReader,
        decode: Decoder,
        augment: Augmenter,
        backend: Backend,
        *,
        depth: int = 2,
    ) -> None:
        self.read = read
        self.decode = decode
        self.augment = augment
        self.backend = backend
        self.depth = depth
        # One slot is filled while one waits, and each lane decodes one.
        self._host = Ring(backend.empty_host, 2 + backend.lanes, read.nbytes(augment.batch_size))
        self._stages: tuple[Prefetch[Any], ...] = ()

    @property
    def faults(self) -> FaultLog:
        """Images that could not be had."""
        return self.augment.faults

    def batches(
        self,
        selections: Iterable[Selection],
        *,
        epoch: int,
        given: Mapping[str, Any] | None = None,
    ) -> Prefetch[Batch]:
        """The batches of one epoch, in order. Each line is a room; each `Prefetch` is a thread.

        Only one epoch is under way at a time: what is left of the one before is dropped.
        """
        self.stop()
        self._host.reset()
        host, scope = self._host, self.backend.scope
        records = self.read(selections, host)
        opened = self.decode(records, partial(self.augment.sketch, epoch=epoch, given=given))
        ready = Prefetch(opened, 1, name="gpuio-read", waits=(host,))
        made = self.augment(ready, self.decode, host)
        batches = Prefetch(made, self.depth, name="gpuio-decode", scope=scope, waits=(host,))
        self._stages = (ready, batches)
        return batches

    def stop(self) -> None:
        """End the epoch under way; all threads are joined when this returns."""
        for stage in reversed(self._stages):
            stage.close()

    def close(self) -> None:
        """End everything and give the decoder back."""
        self.stop()
        self.decode.close()

    def stats(self) -> dict[str, Any]:
        """Where the time went: see `ImageRecordIter.stats`."""
        stages, starved = {}, 0.0
        for stage, name in zip(self._stages, ("read", "decode"), strict=False):
            meter = stage.meter
            stages[name] = {
                "batches": meter["items"],
                "busy": max(meter["made"] - starved, 0.0),
                "starved": starved,
                "blocked": meter["full"],
            }
            starved = meter["empty"]
        return {
            "stages": stages,
            "waited": starved,
            "decoding": self.augment.decoding / 1e9,
            "augmenting": self.augment.augmenting / 1e9,
            "decoder": self.decode.name,
            "decoded_in_part": self.decode.windows,
            "decoded_by_portable": self.decode.ported,
            "faults": self.faults.count,
        }
