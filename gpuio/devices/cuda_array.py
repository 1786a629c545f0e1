"""A batch's array on a GPU: CuPy's, in order with the streams that read it.

It reads as CuPy arrays do: on the stream that is current in the reader's thread, or on the one
that a framework names when it takes the array over. Either waits until the batch is written, and is
noted in the batch's lease, so that its memory is not used again before that stream has come so far.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cupy
import numpy.typing as npt

from gpuio.devices.pool import Lease

_LEGACY = 1


class _Handle(NamedTuple):
    """A stream that another library made."""

    ptr: int


class OrderedArray(cupy.ndarray):  # type: ignore[misc]
    """A CuPy array, and views of it, that streams read only once the batch is written."""

    _ready: Any = None
    _lease: Lease | None = None

    def __array_finalize__(self, origin: Any) -> None:
        # CuPy gives results of calculations the array as origin, too; only views have its memory.
        if isinstance(origin, OrderedArray) and self.data.mem is origin.data.mem:
            self._ready, self._lease = origin._ready, origin._lease

    def __dlpack__(self, *, stream: int | None = None, **kwargs: Any) -> Any:
        """CuPy's capsule, once `stream` waits for the batch.

        Args:
            stream: Handle of the reader's CUDA stream; None and 1 are the default stream, 2 is the
                default stream of the thread, -1 asks for no order at all.
            kwargs: As in the array API standard.
        """
        if stream != -1:
            self.record_stream(stream)
        with self.device:
            return super().__dlpack__(stream=stream, **kwargs)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """CuPy's interface; its stream is the current one, which waits for the batch."""
        self._order()
        with self.device:
            interface: dict[str, Any] = super().__cuda_array_interface__
        return interface

    def record_stream(self, stream: Any = None) -> None:
        """Note that a stream reads the array, so that its memory is used again only after that.

        Only needed for streams that gpuio does not see: any but the one that is current where the
        batch is taken, and those that a framework names in `__dlpack__`.

        Args:
            stream: A CuPy stream, or the handle of one; None is the default stream.
        """
        if stream is None or isinstance(stream, int):
            stream = _Handle(_LEGACY if stream is None else stream)
        self._order(stream)

    def order(self) -> None:
        """Let the current stream wait for the batch, and note that it reads it."""
        self._order()

    def _order(self, stream: Any = None) -> None:
        """Let a stream wait for the batch, and note it; the current one if None."""
        if self._ready is None or self._lease is None:
            return
        stream = _current(self.device) if stream is None else stream
        self._ready.wait(stream.ptr)
        if all(stream.ptr != known.ptr for known in self._lease.readers):
            self._lease.readers.append(stream)

    def to_host(self) -> npt.NDArray[Any]:
        """A copy in host memory, made once the batch is written."""
        self._order()
        with self.device:
            copied: npt.NDArray[Any] = self.get()
        return copied

    def synchronize(self) -> None:
        """Make the calling thread wait until the batch, and the current stream's work, is done."""
        with self.device:
            if self._ready is not None:
                self._ready.synchronize()
            cupy.cuda.get_current_stream().synchronize()

    @property
    def device_id(self) -> int:
        """Number of the GPU."""
        return int(self.device.id)

    def copy_to(self, device_id: int) -> OrderedArray:
        """A copy on another GPU, in memory of its own, complete when this returns."""
        self.synchronize()
        return copy_to_gpu(self, device_id)


def _current(device: Any) -> Any:
    with device:
        return cupy.cuda.get_current_stream()


def export(data: Any, ready: Any, lease: Lease) -> OrderedArray:
    """A batch's array, in order with the current stream.

    Args:
        data: `cupy.ndarray`, the batch.
        ready: `CudaEvent` after which it is written.
        lease: Lease of its memory.
    """
    array: OrderedArray = data.view(type=OrderedArray)
    array._ready, array._lease = ready, lease
    array._order()
    return array


def copy_to_gpu(array: Any, device_id: int) -> OrderedArray:
    """A copy on a GPU of an array of the host or of another GPU, complete when this returns."""
    with cupy.cuda.Device(device_id):
        copied: OrderedArray = cupy.array(array).view(type=OrderedArray)
        copied._ready = copied._lease = None  # those of another array's memory
        cupy.cuda.get_current_stream().synchronize()
    return copied
