"""The array that users get of a batch on a GPU: CuPy's, with MXNet's methods and the right order.

It reads as CuPy arrays do: on the stream that is current in the reader's thread, or on the one
that a framework names when it takes the array over. Either waits until the batch is written, and is
noted in the batch's lease, so that its memory is not used again before that stream has come so far.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cupy
import numpy.typing as npt

from gpuio.devices.pool import Lease
from gpuio.mxnet.context import Context, gpu
from gpuio.mxnet.ndarray import NDArray

_LEGACY = 1


class _Handle(NamedTuple):
    """A stream of somebody else's."""

    ptr: int


class DeviceNDArray(cupy.ndarray):  # type: ignore[misc]
    """A CuPy array that also answers `asnumpy()`, `asscalar()` and questions about its device."""

    _ready: Any = None
    _lease: Lease | None = None

    def __array_finalize__(self, origin: Any) -> None:
        self._ready = getattr(origin, "_ready", None)
        self._lease = getattr(origin, "_lease", None)

    def __dlpack__(self, *, stream: int | None = None, **kwargs: Any) -> Any:
        """CuPy's capsule, once `stream` waits for the batch.

        Args:
            stream: Handle of the reader's CUDA stream; None is the default stream, 1 likewise, 2
                is the default stream of the thread, -1 asks for no order at all.
            kwargs: As in the array API standard.
        """
        if stream != -1:
            self.record_stream(stream)
        with self.device:
            return super().__dlpack__(stream=stream, **kwargs)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """CuPy's, whose stream is the current one, which waits for the batch."""
        self._order()
        with self.device:
            interface: dict[str, Any] = super().__cuda_array_interface__
        return interface

    def record_stream(self, stream: Any = None) -> None:
        """Say that a stream reads the array, so that its memory is used again only after that.

        Only needed for streams that gpuio does not see: those other than the one that is current
        where the batch is taken, or that a framework names in `__dlpack__`.

        Args:
            stream: A CuPy stream, or the handle of one; None is the default stream.
        """
        if stream is None or isinstance(stream, int):
            stream = _Handle(_LEGACY if stream is None else stream)
        self._order(stream)

    def _order(self, stream: Any = None) -> None:
        """Let a stream wait for the batch, and note it; the current one if None."""
        if self._ready is None or self._lease is None:
            return
        stream = _current(self.device) if stream is None else stream
        _wait(self.device, stream, self._ready)
        if all(stream.ptr != known.ptr for known in self._lease.readers):
            self._lease.readers.append(stream)

    def asnumpy(self) -> npt.NDArray[Any]:
        """A copy on the host, once the batch is there."""
        self._order()
        with self.device:
            copied: npt.NDArray[Any] = self.get()
        return copied

    def asscalar(self) -> Any:
        """The one element, as a NumPy number.

        Raises:
            ValueError: There is not exactly one.
        """
        if self.size != 1:
            raise ValueError(f"an array of shape {self.shape} is not a scalar")
        return self.asnumpy().reshape(-1)[0]

    @property
    def context(self) -> Context:
        """The GPU, such as `gpu(0)`."""
        return gpu(self.device.id)

    @property
    def ctx(self) -> Context:
        """As `context`."""
        return self.context

    def as_in_context(self, context: Context) -> DeviceNDArray | NDArray:
        """This array on a device: itself, or a copy."""
        if context == self.context:
            return self
        if context.device_type == "cpu":
            return self.asnumpy().view(NDArray)
        self._order()
        with self.device:
            cupy.cuda.get_current_stream().synchronize()
        with cupy.cuda.Device(context.device_id):
            copied: DeviceNDArray = cupy.array(self).view(type=DeviceNDArray)
            copied._ready = copied._lease = None
            cupy.cuda.get_current_stream().synchronize()
        return copied

    def as_in_ctx(self, ctx: Context) -> DeviceNDArray | NDArray:
        """`as_in_context`, as later versions of MXNet call it."""
        return self.as_in_context(ctx)

    def wait_to_read(self) -> None:
        """Hold the calling thread back until the values are there."""
        with self.device:
            if self._ready is not None:
                self._ready.synchronize()
            cupy.cuda.get_current_stream().synchronize()


def _current(device: Any) -> Any:
    with device:
        return cupy.cuda.get_current_stream()


def _wait(device: Any, stream: Any, event: Any) -> None:
    with device:  # handles such as that of the default stream mean the current device's
        cupy.cuda.runtime.streamWaitEvent(stream.ptr, event.ptr)


def export(data: Any, ready: Any, lease: Lease) -> DeviceNDArray:
    """A batch's array as users get it, in order with the current stream.

    Args:
        data: `cupy.ndarray`.
        ready: CuPy event after which it is written.
        lease: Of its memory.
    """
    array: DeviceNDArray = data.view(type=DeviceNDArray)
    array._ready, array._lease = ready, lease
    array._order()
    return array


def device_array(host: NDArray, context: Context) -> DeviceNDArray:
    """A copy of an array on a GPU."""
    with cupy.cuda.Device(context.device_id):
        made: DeviceNDArray = cupy.asarray(host.asnumpy()).view(type=DeviceNDArray)
    return made
