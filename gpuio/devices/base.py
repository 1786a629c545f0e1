"""The one seam between CPU and GPU: where memory lives and where kernels run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from gpuio.kernels.checks import check_steps
from gpuio.kernels.parallel import Task, run_program
from gpuio.kernels.steps import COLOR_STEP, STEP

if TYPE_CHECKING:
    from gpuio.devices.lanes import Lane
    from gpuio.devices.pool import Lease

LARGE = 64 << 20
"""Bytes: an image that takes more memory than this on its way is not worked on by all threads."""

_WORTH_A_THREAD = 8  # items of a quick kernel, for which it pays to start a thread

Array: TypeAlias = Any  # type: ignore[explicit-any]
"""An array in a device's memory, `numpy.ndarray` or `cupy.ndarray`, which share no type."""

HostArray: TypeAlias = npt.NDArray[Any]  # type: ignore[explicit-any]
"""An array of any type in host memory."""

Stream: TypeAlias = Any  # type: ignore[explicit-any]
"""A driver's own stream of work."""


class Event(Protocol):
    """A point in a stream's work."""

    def wait(self) -> None:
        """Make the device's own stream wait for the event; the calling thread goes on."""

    def synchronize(self) -> None:
        """Make the calling thread wait for the event."""


class _Done:
    """An event that has always happened."""

    def wait(self) -> None: ...

    def synchronize(self) -> None: ...


DONE: Event = _Done()


class KernelCall(NamedTuple):
    """A kernel and what it works on.

    Attributes:
        kernel: A `gpuio.kernels.parallel.Task`; on a GPU also a `HostStep`.
        table: One row for each item; its address is the kernel's first argument.
        args: Its other arguments: addresses and sizes.
    """

    kernel: Task | HostStep
    table: npt.NDArray[np.void]
    args: tuple[int, ...] = ()

    @property
    def call(self) -> tuple[Task, tuple[int, ...]]:
        """As `gpuio.kernels.parallel` takes it."""
        return cast("Task", self.kernel), (self.table.ctypes.data, *self.args)


class HostStep(Protocol):
    """A step that the host starts on a device, such as a decoder's for a whole batch."""

    def __call__(
        self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], lane: Lane
    ) -> None:
        """Start the step without the GIL; return when only the device has still to work.

        It runs in a thread of the lane, beside the steps of other lanes.

        Args:
            table: One row for each item.
            bases: (N,) addresses of the items' memory, which no other work still uses: the step may
                write to it before its turn on the stream.
            lane: Has the stream of the step's own work; kernels that follow in the program wait for
                it.
        """


class Running(Protocol):
    """Kernels at work.

    Attributes:
        starved: Items that were not run for lack of memory, by number, with the bytes that each
            takes; known after `join`.
    """

    starved: dict[int, int]

    def join(self) -> npt.NDArray[np.int64]:
        """Wait, once, until the host has no more work for the kernels.

        Returns:
            (kernels,) int64, nanoseconds that all threads spent in each kernel; 0 where unknown.
        """


class Work(ABC):
    """One batch on a device: what its kernels read, and then their run."""

    def __init__(self) -> None:
        self._colors: list[tuple[int, npt.NDArray[np.void]]] = []

    def upload(self, host: HostArray) -> int:
        """The address at which the kernels find a copy of `host`, which must not change."""
        address = self._upload(host)
        if host.dtype == COLOR_STEP:
            self._colors.append((address, host))
        return address

    def upload_all(self, hosts: Sequence[HostArray]) -> npt.NDArray[np.uint64]:
        """(N,) addresses at which the kernels find copies of N pictures, which must not change."""
        return np.array([self.upload(host) for host in hosts], np.uint64)

    @abstractmethod
    def keep(self, host: HostArray) -> int:
        """The address of `host` itself, which only the host reads and which is kept alive."""

    def start(self, program: Sequence[KernelCall], nbytes: npt.NDArray[np.int64]) -> Running:
        """Begin to run kernels one after the other on each item, after what runs already.

        Args:
            program: The kernels.
            nbytes: (N,) memory that each item may use while it passes through the program.

        Raises:
            ProgramError: A table is one that its kernel cannot take; nothing was started.
        """
        for call in program:
            if call.table.dtype == STEP:
                name, channels = getattr(call.kernel, "__name__", ""), call.args[0]
                check_steps(name, call.table, channels, nbytes, self._colors)
        return self._start(program, nbytes)

    @abstractmethod
    def _upload(self, host: HostArray) -> int:
        """`upload` for a table of any type."""

    @abstractmethod
    def _start(self, program: Sequence[KernelCall], nbytes: npt.NDArray[np.int64]) -> Running:
        """Begin to run a program that was checked."""


class Device(ABC):
    """One device. Everything that a stage does differently on CPU and GPU is a method here.

    Attributes:
        name: Its name, such as "cpu" or "cuda:0".
        device_id: Number of the GPU; None where the device's memory is the host's.
        threads: CPU threads that may work at once.
        max_in_flight: Works that may run at once; host steps of one run beside those of another.
        most_items: Largest batch.
    """

    name: str
    device_id: int | None = None
    threads: int
    max_in_flight: int = 1
    most_items: int = 2**31 - 1

    @abstractmethod
    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Host memory of shape (nbytes,) that the device can read without a staging copy."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Uninitialised device memory."""

    @abstractmethod
    def upload(self, host: HostArray) -> Array:
        """`host` in device memory, there when this returns."""

    @abstractmethod
    def download(self, array: Array) -> HostArray:
        """`array` in host memory after all work that was queued so far, until the next call."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """Where `array` starts, as kernels take it."""

    @abstractmethod
    def wrap(self, memory: Array, owner: object) -> Array:
        """An array over `memory` that keeps `owner` alive, as do all views of it."""

    @abstractmethod
    def work(self) -> Work:
        """The work of a new batch, to be started by the calling thread."""

    def run(self, call: KernelCall) -> None:
        """Run a quick kernel on the CPU, on all its items, and wait until that is done."""
        count = len(call.table)
        run_program([call.call], count, min(self.threads, count // _WORTH_A_THREAD))

    @abstractmethod
    def gather_items(self, data: Array, places: npt.NDArray[np.int64], fill: int = 0) -> None:
        """Overwrite each item of `data` with that at a place, or with `fill` where it is -1."""

    @abstractmethod
    def record(self) -> Event:
        """An event after all work that was queued so far."""

    @abstractmethod
    def export(self, data: Array, ready: Event, lease: Lease) -> Array:
        """`data` for the consumer, in order with the stream that is current in its thread."""

    @abstractmethod
    def after(self, readers: Sequence[Stream]) -> Event:
        """An event after all work that was queued on `readers`, streams of a lease, so far."""

    def rest(self) -> None:  # noqa: B027  only some have threads
        """Join all threads, until there is work again; none is under way."""

    @abstractmethod
    def scope(self) -> AbstractContextManager[None]:
        """Make this device current in the calling thread."""
