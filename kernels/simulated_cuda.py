"""`numba.cuda` as kernels in Python see it: places in the grid, and what threads share.

Threads that wait for each other take turns: one runs until it waits or ends, then the next one. So
nothing depends on the host's threads, and a kernel in which one thread does not wait for what
another writes reads what was there before, in one order of the turns if not in the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.np.numpy_support import as_dtype

_WARP = 32
_ALL_LANES = 0xFFFFFFFF
_POISON = 0xA5
_BARRIER, _SHUFFLE = "the barrier of its block", "a shuffle of its warp"


class Place(NamedTuple):
    """Of a block in its grid, or of a thread in its block; or how many there are."""

    x: int
    y: int
    z: int


class _Stopped(BaseException):
    """Another thread has failed, so one that waits ends."""


class _Turn:
    """A thread of a block, which runs while the caller of `take` waits.

    Attributes:
        number: Its number in the block.
        place: Its place there.
        waits: Where it waits; None once it has ended.
        value: What it gives to a shuffle, and then what it gets.
        source: Number of the thread whose value it gets.
        arrays: How many shared arrays it has asked for.
    """

    def __init__(self, number: int, place: Place, run: Callable[[], None]) -> None:
        self.number, self.place, self.arrays = number, place, 0
        self.value, self.source = np.int32(0), number
        self.waits: str | None = "its first turn"
        self._run, self._stopped = run, False
        self._error: BaseException | None = None
        self._resumed, self._returned = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def take(self) -> None:
        """Let the thread run until it waits or ends; raise what it raises."""
        self._resumed.release()
        self._returned.acquire()
        if self._error is not None:
            raise self._error

    def wait(self, where: str) -> None:
        """End the turn of the calling thread, which is this one."""
        self.waits = where
        self._returned.release()
        self._resumed.acquire()
        if self._stopped:
            raise _Stopped

    def stop(self) -> None:
        """End the thread, wherever it waits."""
        self._stopped = True
        self._resumed.release()
        self._thread.join()

    def _main(self) -> None:
        self._resumed.acquire()
        try:
            if not self._stopped:
                self._run()
        except _Stopped:
            pass
        except BaseException as error:  # which `take` raises
            self._error = error
        self.waits = None
        self._returned.release()


def _ready(turns: list[_Turn]) -> list[_Turn]:
    """Threads of a block that have waited long enough; those that shuffle have their values."""
    waiting = [turn for turn in turns if turn.waits is not None]
    if all(turn.waits == _BARRIER for turn in waiting):
        return waiting
    ready = []
    for first in range(0, len(turns), _WARP):
        warp = turns[first : first + _WARP]
        if len(warp) == _WARP and all(turn.waits == _SHUFFLE for turn in warp):
            values = [turns[turn.source].value for turn in warp]
            for turn, value in zip(warp, values, strict=True):
                turn.value = value
            ready += warp
    if not ready:
        places = ", ".join(sorted({str(turn.waits) for turn in waiting}))
        raise RuntimeError(f"threads of a block wait for each other for ever: in {places}")
    return ready


class SimulatedCuda:
    """The module, for the launches of one namespace, one at a time.

    Attributes:
        gridDim: Blocks of the launch.
        blockDim: Threads of a block.
        blockIdx: The block that runs.
        threadIdx: The thread that runs.
        shared: Has `array(shape, dtype)`: memory of the block, with any content at first.
    """

    def __init__(self) -> None:
        self.gridDim = self.blockDim = Place(1, 1, 1)
        self.blockIdx = self.threadIdx = Place(0, 0, 0)
        self.shared = SimpleNamespace(array=self._shared_array)
        self._turn: _Turn | None = None
        self._arrays: list[npt.NDArray[Any]] = []

    def run(self, body: Callable[[], None], grid: Place, block: Place) -> None:
        """Run the threads of a launch one after the other: they do not wait for each other."""
        self.gridDim, self.blockDim, self._turn = grid, block, None
        for self.blockIdx in map(Place._make, np.ndindex(grid)):
            for self.threadIdx in map(Place._make, np.ndindex(block)):
                body()

    def run_together(
        self, body: Callable[[], None], grid: Place, block: Place, *, backwards: bool
    ) -> None:
        """As `run`, but the threads of a block may wait for each other.

        Args:
            body: What a thread does.
            grid: Blocks of the launch.
            block: Threads of a block.
            backwards: Whether the last thread of a block has its turn first.

        Raises:
            RuntimeError: Threads wait for each other in different places.
        """
        self.gridDim, self.blockDim = grid, block
        places = [Place(x, y, z) for z, y, x in np.ndindex(block[::-1])]  # x is the fastest
        for self.blockIdx in map(Place._make, np.ndindex(grid)):
            self._arrays = []
            turns = [_Turn(number, place, body) for number, place in enumerate(places)]
            try:
                ready = turns
                while ready:
                    for self._turn in ready[::-1] if backwards else ready:
                        self.threadIdx = self._turn.place
                        self._turn.take()
                    ready = _ready(turns)
            finally:
                for turn in turns:
                    turn.stop()

    def syncthreads(self) -> None:
        """Wait for all threads of the block that have not ended."""
        self._running().wait(_BARRIER)

    def shfl_down_sync(self, mask: int, value: np.int32, delta: int) -> np.int32:
        """The value of the thread `delta` behind in the warp; its own if there is none."""
        assert mask == _ALL_LANES
        turn = self._running()
        turn.value = value
        turn.source = turn.number + (delta if turn.number % _WARP + delta < _WARP else 0)
        turn.wait(_SHUFFLE)
        return turn.value

    def _shared_array(self, shape: int, dtype: Any) -> npt.NDArray[Any]:
        turn = self._running()
        if turn.arrays == len(self._arrays):
            poison = np.full(shape * as_dtype(dtype).itemsize, _POISON, np.uint8)
            self._arrays.append(poison.view(as_dtype(dtype)))
        turn.arrays += 1
        return self._arrays[turn.arrays - 1]

    def _running(self) -> _Turn:
        assert self._turn is not None, "the kernel does not say that its threads wait"
        return self._turn
