"""Batches in JAX arrays."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpuio.interop.loader import Loader

if TYPE_CHECKING:
    from gpuio.mxnet.iterators.record_iter import RecordIter

_MOST_HELD: Final = 4
"""Most batches that wait for JAX's copy; beyond them the caller waits for the oldest."""


class JaxLoader(Loader):
    """`(images, labels)` in JAX arrays on the iterator's device.

    On the CPU they share the iterator's memory. On a GPU they are copies, made on the device: JAX
    tells nobody which of its streams read an array of others, and until when.

    Args:
        source: The iterator.
        label_dtype: float32, int32 or int64; None is JAX's type of integers where an image has one
            label, a class, and float32 where it has several.
        sharding: Makes global arrays, of which the batches of this process are a part: every
            process has an iterator over its own part of the data (`num_parts`, `part_index`). A
            mesh distributes the images over all its devices.

    Raises:
        ValueError: A batch cannot be distributed like this.
    """

    def __init__(
        self,
        source: RecordIter,
        *,
        label_dtype: npt.DTypeLike | None = None,
        sharding: Mesh | NamedSharding | None = None,
    ) -> None:
        whole = jax.dtypes.canonicalize_dtype(np.int64).name
        super().__init__(source, label_dtype, whole)
        if isinstance(sharding, Mesh):
            sharding = NamedSharding(sharding, PartitionSpec(sharding.axis_names))
        self._sharding = sharding
        self._copies = _Copies()
        if sharding is not None:
            self._check(sharding)

    def _check(self, sharding: NamedSharding) -> None:
        devices = len(sharding.addressable_devices)
        if not devices:
            raise ValueError("sharding has no device of this process")
        shape = self.source.provide_data[0].shape
        processes = len(sharding.device_set) // devices
        try:
            sharding.shard_shape((shape[0] * processes, *shape[1:]))
        except ValueError as error:
            raise ValueError(
                f"sharding cannot share batches of shape {shape} out over the {devices} devices of "
                f"each of {processes} processes: {error}"
            ) from error

    def close(self) -> None:
        self._copies.finish()
        super().close()

    def _taken(self, array: Any) -> Any:
        if not isinstance(array, np.ndarray):
            copied = self._copies.make(array)
            return copied if self._sharding is None else self._shared(copied)
        if self._sharding is not None:
            return self._shared(np.asarray(array))
        if array.dtype.name == "bfloat16":  # not NumPy's own, so not DLPack's: a copy
            return jax.numpy.asarray(array)
        return jax.dlpack.from_dlpack(array)

    def _brought(self, array: npt.NDArray[Any], images: Any) -> Any:
        if self._sharding is None:
            return jax.device_put(array, images.sharding)
        return self._shared(array)

    def _shared(self, array: Any) -> Any:
        """The global array in which `array` is the part of this process."""
        assert self._sharding is not None
        spec = PartitionSpec(*self._sharding.spec[: array.ndim])
        sharding = NamedSharding(self._sharding.mesh, spec)
        return jax.make_array_from_process_local_data(sharding, array)


class _Copies:
    """Copies that JAX makes of batches, each of which is kept until its copy is made."""

    def __init__(self) -> None:
        self._held: deque[tuple[jax.Array, object]] = deque()
        self._lock = threading.Lock()  # threads may share a loader

    def make(self, array: Any) -> jax.Array:
        """JAX's copy of an array of the device, which may still be under way."""
        copied = jax.dlpack.from_dlpack(array, copy=True)
        with self._lock:
            self._held.append((copied, array))
            while self._held and (len(self._held) > _MOST_HELD or _is_made(self._held[0][0])):
                _wait(self._held[0][0])
                self._held.popleft()
        return copied

    def finish(self) -> None:
        """Wait until all copies are made."""
        with self._lock:
            while self._held:
                _wait(self._held[0][0])
                self._held.popleft()


def _is_made(copied: jax.Array) -> bool:
    try:
        return copied.is_ready()
    except RuntimeError:  # it was donated to a computation
        return False


def _wait(copied: jax.Array) -> None:
    try:
        copied.block_until_ready()
    except RuntimeError:  # the computation that it was donated to comes after the copy
        (device, *_) = copied.sharding.device_set
        (jax.device_put(0, device) + 0).block_until_ready()
