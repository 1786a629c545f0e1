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

from collections.abc import Iterable
from functools import partial
from typing import Any

from gpuio.augment.augmenter import Augmenter, Batch
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
        # A room fills one slot while one waits and one is emptied by the next room.
        self._host = Ring(backend.empty_host, 3)
        self._arena = Ring(backend.empty_bytes, 3)
        self._stages: tuple[Prefetch[Any], ...] = ()

    def batches(self, selections: Iterable[Selection], *, epoch: int) -> Prefetch[Batch]:
        """The batches of one epoch, in order. Each line is a room; each `Prefetch` is a thread.

        Only one epoch is under way at a time: what is left of the one before is dropped.
        """
        self.stop()
        host, arena, scope = self._host, self._arena, self.backend.scope
        host.reset()
        arena.reset()
        plan = partial(self.augment.sketch, epoch=epoch)
        records = Prefetch(self.read(selections, host), 1, name="gpuio-read", waits=(host,))
        images = Prefetch(
            self.decode(records, host, arena, plan),
            1,
            name="gpuio-decode",
            scope=scope,
            waits=(host, arena),
        )
        batches = Prefetch(
            self.augment(images, arena),
            self.depth,
            name="gpuio-augment",
            scope=scope,
            waits=(host, arena),
        )
        self._stages = (records, images, batches)
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
        """Seconds, by room, of the epoch under way: `busy`, `starved` and `blocked`.

        A room is starved while the one before it has nothing ready, and blocked while the one
        behind it has no room. `waited` is what the consumer waited for batches.
        """
        stages, starved = {}, 0.0
        for stage, name in zip(self._stages, ("read", "decode", "augment"), strict=False):
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
            "decoder": self.decode.name,
            "images_decoded_in_part": self.decode.windows,
            "faults": self.augment.faults.count,
        }
