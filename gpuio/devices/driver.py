"""The seam below `gpu.py`: the few operations of CUDA that a device uses.

`cuda.py` has the real ones; `simulated.py` has ones that run the same kernels on the CPU and fail
where an order is missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Array, Stream
from gpuio.devices.pool import Lease
from gpuio.kernels.device import DeviceKernel

Mark: TypeAlias = Any  # type: ignore[explicit-any]
"""A driver's own event: a point in a stream's work."""


class Driver(ABC):
    """The operations of CUDA that a device uses. Streams and events are the driver's own objects.

    Attributes:
        name: Name of the device.
        device_id: Number of the device; None if its memory is the host's.
    """

    name: str
    device_id: int | None

    @abstractmethod
    def new_stream(self) -> Stream:
        """A stream that does not wait for the default stream."""

    @abstractmethod
    def handle(self, stream: Stream) -> int:
        """The CUDA handle of a stream."""

    @abstractmethod
    def record(self, stream: Stream) -> Mark:
        """An event after all work that was queued on `stream` so far."""

    @abstractmethod
    def wait(self, stream: Stream, event: Mark) -> None:
        """Make work that is queued on `stream` from now on wait for `event`."""

    @abstractmethod
    def synchronize(self, event: Mark) -> None:
        """Make the calling thread wait for `event`, without the GIL."""

    @abstractmethod
    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Pinned host memory."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Device memory that no work queued on any stream still uses.

        Memory that a pool recycles in order of a stream would not do: libraries such as the decoder
        of a Hopper GPU write when they are called, whatever a stream waits for.
        """

    @abstractmethod
    def address(self, array: Array) -> int:
        """The address of device memory."""

    @abstractmethod
    def wrap(self, memory: Array, owner: object) -> Array:
        """An array over `memory` that keeps `owner` alive, as do all views of it."""

    @abstractmethod
    def copy(self, to: int, start: int, nbytes: int, stream: Stream) -> None:
        """Copy bytes from address `start`, of the device or of pinned memory."""

    @abstractmethod
    def fill(self, start: int, value: int, nbytes: int, stream: Stream) -> None:
        """Set bytes of device memory to `value`."""

    @abstractmethod
    def launch(
        self,
        kernel: DeviceKernel,
        grid: tuple[int, int, int],
        args: tuple[int, ...],
        stream: Stream,
    ) -> None:
        """Queue a kernel."""

    def host_writes(self, start: int) -> None:  # noqa: B027  only a simulation checks it
        """Note that the host, or a library that does not keep to streams, now writes to memory."""

    def stream_writes(self, start: int, stream: Stream) -> None:  # noqa: B027
        """Note that a library writes to memory, in order with the work that is queued so far."""

    def hand_over(self) -> Mark:
        """What the calling thread knows to have happened, for another thread to `take_over`."""
        return None

    def take_over(self, known: Mark) -> None:  # noqa: B027
        """Note that the calling thread comes after the `hand_over` of another."""

    @abstractmethod
    def export(self, data: Array, ready: Mark, lease: Lease) -> Array:
        """`data` for the consumer: the streams that it reads it on wait for `ready`.

        Streams that are seen to read it are noted in the lease.
        """

    @abstractmethod
    def scope(self) -> AbstractContextManager[None]:
        """Make the device current in the calling thread, and then what was current before."""

    @contextmanager
    def lane_scope(self, stream: Stream, known: Mark) -> Generator[None]:
        """`scope` for a thread of a lane, which knows only what it has taken over.

        Args:
            stream: The lane's stream.
            known: From `hand_over` in the thread that has given the work.
        """
        with self.scope():
            self.take_over(known)
            yield
