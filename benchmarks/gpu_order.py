"""In which order nvImageCodec works on this GPU: beside queued work, and after a first batch.

python gpu_order.py MEASUREMENT SETTINGS     # SETTINGS is JSON
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from gpu_child import Row, answer
from gpu_marks import Marks
from gpu_sides import encoded
from gpu_slots import CHAIN, Pixels, Slots, kinds_of
from numba import cuda

from gpuio.kernels.native import load8, store8
from gpuio.pipeline.decode import nvimgcodec_abi as abi

SLOW = 0.1  # seconds that a queued kernel takes before it reads
_PATTERN = 0xAA


def share(settings: Row) -> Iterator[Row]:
    """How many of a batch the engines get after a first batch of one image, and of a full one."""
    count = settings["batch_size"]
    images = list(itertools.islice(itertools.cycle(encoded(settings["rec"], count)), count))
    for first in (1, count):
        slots = Slots(settings["device"], images, settings["rec"])
        with slots.device.scope():
            slots.decoder.prepare(first)
        slots.device.rest()
        done = slots.decode()
        slots.wait()
        stats = {kind: slots.decoder.stats()[kind] for kind in CHAIN}
        yield {"first_batch": first, "decoded": int(done.sum()), **stats}
        slots.close()


def read_late(source, turns, to):
    """A CUDA kernel of one thread: copies 64 bytes, after `turns` steps that take their time.

    Args:
        source: uint64, address.
        turns: int64.
        to: uint64, address of 65 bytes.
    """
    number = np.uint64(1)
    for turn in range(turns):
        number = number * np.uint64(6364136223846793005) + np.uint64(turn)
    for k in range(64):
        store8(to + np.uint64(k), np.int32(load8(source + np.uint64(k))))
    store8(to + np.uint64(64), np.int32(number >> np.uint64(56)))


READ_LATE = "void(uint64, int64, uint64)"


class _Reader:
    """Queues `read_late` on a stream, slowed down to about `SLOW` seconds."""

    def __init__(self, slots: Slots) -> None:
        self._driver, self._stream = slots.device._driver, slots.stream
        self._kept = self._driver.empty((65,), np.uint8)
        self._on_gpu = slots.device.device_id is not None
        if self._on_gpu:
            with self._driver.scope():
                self._compiled = cuda.jit(READ_LATE)(read_late)
            self._turns = 1 << 16
            for _ in range(2):  # the first run also loads the code
                marks = Marks(slots.device)
                begin = marks.mark(self._stream)
                self.queue(self._driver.address(slots.arena))
                took = marks.seconds(begin, marks.mark(self._stream))
            self._turns = int(self._turns * SLOW / took)

    def queue(self, address: int) -> None:
        """Read from an address, later."""
        to = self._driver.address(self._kept)
        if self._on_gpu:
            with self._driver.scope():
                stream = cuda.external_stream(self._driver.handle(self._stream))
                self._compiled[1, 1, stream](address, self._turns, to)
        else:
            self._driver.copy(to, address, 64, self._stream)

    def found(self) -> Pixels:
        """What was read."""
        kept = self._kept
        return (kept.get() if hasattr(kept, "get") else np.array(kept))[:64]


def order(settings: Row) -> Iterator[Row]:
    """Whether decoding waits for what its stream was given before.

    Memory is filled with a pattern; a kernel that takes 100 ms is queued, which then reads it; and
    without waiting for that, pictures are decoded to the same memory. `in_order` counts the turns
    in which the kernel found the pattern. Once as gpuio has it, with nvImageCodec told not to wait
    for the stream; once told to.
    """
    images = encoded(settings["rec"], settings["batch_size"])
    new = abi.ExecutionParams.new
    for (kind, kinds), waits in itertools.product(kinds_of(settings).items(), (True, False)):
        abi.ExecutionParams.new = lambda w=waits, **g: new(**g | {"skip_pre_sync": not w})
        try:
            slots = Slots(settings["device"], images, settings["rec"], kinds=kinds)
        finally:
            abi.ExecutionParams.new = new
        driver, start = slots.device._driver, slots.device.address(slots.arena)
        slots.decode()
        slots.wait()
        reader, kept = _Reader(slots), 0
        for _ in range(settings["turns"]):
            driver.fill(start, _PATTERN, slots.arena.nbytes, slots.stream)
            slots.wait()
            reader.queue(start)
            slots.decode()
            slots.wait()
            kept += bool((reader.found() == _PATTERN).all())
        yield {"kind": kind, "told_to_wait": waits, "turns": settings["turns"], "in_order": kept}
        slots.close()


MEASUREMENTS = {m.__name__: m for m in (share, order)}

if __name__ == "__main__":
    answer(MEASUREMENTS)
