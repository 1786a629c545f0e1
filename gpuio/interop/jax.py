"""Batches in JAX arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpuio.interop.loader import Loader

if TYPE_CHECKING:
    from gpuio.mxnet.iterators.record_iter import RecordIter


class JaxLoader(Loader):
    """`(images, labels)` in JAX arrays on the iterator's device, without a copy.

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

    def _taken(self, array: Any) -> Any:
        host = isinstance(array, np.ndarray)
        if self._sharding is None:
            if host and array.dtype.name == "bfloat16":  # not NumPy's own, so not DLPack's: a copy
                return jax.numpy.asarray(array)
            return jax.dlpack.from_dlpack(array)
        return self._shared(np.asarray(array) if host else jax.dlpack.from_dlpack(array))

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
