"""The methods of an iterator that give its batches as arrays of other frameworks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy.typing as npt

from gpuio.core.extras import explained
from gpuio.core.signatures import suggest

if TYPE_CHECKING:
    from gpuio.interop.cupy import CupyLoader
    from gpuio.interop.jax import JaxLoader
    from gpuio.interop.numpy import NumpyLoader
    from gpuio.interop.torch import TorchLoader
    from gpuio.mxnet.iterators.record_iter import RecordIter


class Conversions:
    """What `RecordIter` is to other frameworks: loaders, each imported when it is asked for."""

    @suggest
    def torch(
        self,
        *,
        channels_last: bool = False,
        label_dtype: npt.DTypeLike | None = None,
        out: Sequence[Any] | None = None,
    ) -> TorchLoader:
        """The batches as PyTorch tensors: see `gpuio.torch.TorchLoader` for the arguments."""
        with explained("torch()"):
            from gpuio.interop.torch import TorchLoader

        return TorchLoader(
            cast("RecordIter", self), channels_last=channels_last, label_dtype=label_dtype, out=out
        )

    @suggest
    def jax(self, *, label_dtype: npt.DTypeLike | None = None, sharding: Any = None) -> JaxLoader:
        """The batches as JAX arrays: see `gpuio.interop.jax.JaxLoader` for the arguments."""
        with explained("jax()"):
            from gpuio.interop.jax import JaxLoader

        return JaxLoader(cast("RecordIter", self), label_dtype=label_dtype, sharding=sharding)

    @suggest
    def cupy(self, *, label_dtype: npt.DTypeLike | None = None) -> CupyLoader:
        """The batches as CuPy arrays, with labels of `label_dtype`: see `numpy`."""
        with explained("cupy()"):
            from gpuio.interop.cupy import CupyLoader

        return CupyLoader(cast("RecordIter", self), label_dtype)

    @suggest
    def numpy(self, *, label_dtype: npt.DTypeLike | None = None) -> NumpyLoader:
        """The batches as `(images, labels)` in NumPy arrays.

        Args:
            label_dtype: float32, int32 or int64; None is int64 where an image has one label, a
                class, and float32 where it has several.
        """
        from gpuio.interop.numpy import NumpyLoader

        return NumpyLoader(cast("RecordIter", self), label_dtype)
