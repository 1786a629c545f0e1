"""MXNet's `mx.nd`, as far as data scripts need it: a NumPy array with a few of MXNet's methods.

Arithmetic, indexing, `astype` and `reshape` are NumPy's. There are no operators such as `nd.dot`,
and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.mxnet.context import Context, cpu, gpu


class ArrayMethods:
    """MXNet's methods that an array answers in the same way wherever its memory is."""

    shape: tuple[int, ...]
    size: int

    def asnumpy(self) -> npt.NDArray[Any]:
        """The values as a plain NumPy array."""
        raise NotImplementedError

    def as_in_context(self, context: Context) -> Any:
        """This array on a device: itself, or a copy."""
        raise NotImplementedError

    @property
    def context(self) -> Context:
        """The device: `cpu(0)`, unless it is a GPU such as `gpu(0)`."""
        return cpu()

    @property
    def ctx(self) -> Context:
        """`context`, as later versions of MXNet call it."""
        return self.context

    def as_in_ctx(self, ctx: Context) -> Any:
        """`as_in_context`, as later versions of MXNet call it."""
        return self.as_in_context(ctx)

    def asscalar(self) -> Any:
        """The one element, as a NumPy number.

        Raises:
            ValueError: There is not exactly one.
        """
        if self.size != 1:
            raise ValueError(f"an array of shape {self.shape} is not a scalar")
        return self.asnumpy().reshape(-1)[0]


class NDArray(ArrayMethods, np.ndarray[Any, np.dtype[Any]]):
    """A NumPy array with MXNet's methods.

    A single element is an array too, of shape (), so that it has the methods as well; it can be
    used as a number, an index or a key.
    """

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return found if isinstance(found, np.ndarray) else np.asarray(found).view(NDArray)

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))

    def __hash__(self) -> int:  # type: ignore[override]
        if self.ndim:
            raise TypeError(f"an array of shape {self.shape} cannot be a key")
        return hash(self.item())

    def asnumpy(self) -> npt.NDArray[Any]:
        """The same memory as a plain NumPy array."""
        return self.view(np.ndarray)

    def as_in_context(self, context: Context) -> Any:
        """This array on a device: itself, or a copy on a GPU.

        Raises:
            BackendError: `context` is a GPU that cannot be used.
        """
        return _on_device(self, context)

    def copyto(self, other: NDArray | Context) -> Any:
        """Copy the values into another array, or into a new one on a device; that array.

        Raises:
            BackendError: `other` is a GPU that cannot be used.
            ValueError: `other` is an array of another shape.
        """
        if isinstance(other, Context):
            copied = _on_device(self, other)
            return self.copy() if copied is self else copied
        if other.shape != self.shape:
            raise ValueError(f"other must have shape {self.shape}, got {other.shape}")
        np.copyto(other, self, casting="unsafe")
        return other

    def wait_to_read(self) -> None:
        """Return at once: the values are there."""


class DeviceMethods(ArrayMethods):
    """MXNet's methods of an array that a device other than the CPU has exported.

    Such an array has `device_id`, `to_host`, `synchronize`, `order` and, on a GPU, `copy_to`.
    """

    device_id: int | None
    to_host: Callable[[], npt.NDArray[Any]]
    synchronize: Callable[[], None]
    order: Callable[[], None]
    copy_to: Callable[[int], Any]

    def asnumpy(self) -> npt.NDArray[Any]:
        """A copy on the host, made once the batch is written."""
        return self.to_host()

    @property
    def context(self) -> Context:
        """The GPU, such as `gpu(0)`; `cpu(0)` where the memory is that of the host."""
        return cpu() if self.device_id is None else gpu(self.device_id)

    def as_in_context(self, context: Context) -> Any:
        """This array on a device: itself, or a copy.

        Raises:
            BackendError: `context` is a GPU that cannot be used.
        """
        if context == self.context:
            return self
        if "cpu" in (context.device_type, self.context.device_type):
            return _on_device(self.asnumpy().view(NDArray), context)
        return wrap(self.copy_to(context.device_id))

    def wait_to_read(self) -> None:
        """Make the calling thread wait until the values are there."""
        self.synchronize()


def wrap(exported: Any) -> Any:
    """MXNet's array over one that a device has exported: the same memory, and the same order."""
    if type(exported) is np.ndarray:
        return exported.view(NDArray)
    return exported.view(type=_class_over(type(exported)))  # type: ignore[arg-type]  # mypy's


@cache
def _class_over(exported: type) -> type:
    """The class of a device's arrays with MXNet's methods.

    It is made here so that neither CuPy nor the simulated device is imported without need.
    """
    host = (NDArray,) if issubclass(exported, np.ndarray) else ()
    return type("DeviceNDArray", (DeviceMethods, exported, *host), {"__module__": __name__})


def _on_device(host: NDArray, context: Context | None) -> Any:
    """An array on a device: `host` itself on the CPU (and for None), a copy of it on a GPU.

    Raises:
        BackendError: `context` is a GPU that cannot be used.
    """
    if context is None or context.device_type == "cpu":
        return host
    from gpuio.devices.cuda import CudaDriver

    CudaDriver(context.device_id)  # which raises the error of a GPU that cannot be used
    from gpuio.devices.cuda_array import copy_to_gpu

    return wrap(copy_to_gpu(host.asnumpy(), context.device_id))


def array(source_array: Any, ctx: Context | None = None, dtype: npt.DTypeLike | None = None) -> Any:
    """A copy of an array, or of nested lists.

    Args:
        source_array: Anything that NumPy can make an array of.
        ctx: The device that gets the array; None is `cpu(0)`. On a GPU it is a CuPy array with the
            same methods.
        dtype: Type of the elements; None is that of an NDArray, and float32 for anything else.

    Raises:
        BackendError: `ctx` is a GPU that cannot be used.
        TypeError: `source_array` cannot be made an array.
    """
    if dtype is None:
        dtype = source_array.dtype if isinstance(source_array, NDArray) else np.float32
    try:
        host = np.array(source_array, p.as_dtype(dtype)).view(NDArray)
    except (TypeError, ValueError) as error:
        kind = type(source_array).__name__
        raise TypeError(f"source_array must be like an array, got {kind}: {error}") from error
    return _on_device(host, ctx)


def zeros(
    shape: int | tuple[int, ...],
    ctx: Context | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Any:
    """An array of zeros, float32 unless `dtype` says otherwise."""
    return _on_device(np.zeros(shape, p.as_dtype(dtype or np.float32)).view(NDArray), ctx)


def ones(
    shape: int | tuple[int, ...],
    ctx: Context | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Any:
    """An array of ones, float32 unless `dtype` says otherwise."""
    return _on_device(np.ones(shape, p.as_dtype(dtype or np.float32)).view(NDArray), ctx)


def waitall() -> None:
    """Return at once: no work is queued."""
