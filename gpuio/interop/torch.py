"""Batches in PyTorch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from gpuio.interop.loader import Loader

if TYPE_CHECKING:
    from gpuio.mxnet.iterators.batch import DataBatch
    from gpuio.mxnet.iterators.record_iter import RecordIter


class TorchLoader(Loader):
    """`(images, labels)` in tensors on the iterator's device, without a copy.

    Args:
        source: The iterator.
        channels_last: Images are (N, C, H, W) tensors in PyTorch's memory format `channels_last`.
            With `layout="NHWC"` that takes no copy. False keeps the iterator's layout.
        label_dtype: float32, int32 or int64; None is int64 where an image has one label, a class,
            and float32 where it has several.
        out: Tensors for images and labels (and masks), of the shapes of a full batch, that every
            batch is copied into, and that are returned each time; for a short last batch, views of
            their first rows. They may be on any device and of any dtype; if that of the labels is
            floating-point, labels are read as float32.

    Raises:
        ValueError: `out` has tensors of other shapes.
    """

    def __init__(
        self,
        source: RecordIter,
        *,
        channels_last: bool = False,
        label_dtype: npt.DTypeLike | None = None,
        out: Sequence[torch.Tensor] | None = None,
    ) -> None:
        given = () if out is None else out  # one tensor is neither true nor false
        if label_dtype is None and any(labels.is_floating_point() for labels in given[1:2]):
            label_dtype = "float32"
        super().__init__(source, label_dtype)
        self._permuted = channels_last and source.plan.layout == "NHWC"
        self._reordered = channels_last and not self._permuted and out is None
        self._out = out
        if out is not None:
            self._check(out)

    def _check(self, out: Sequence[torch.Tensor]) -> None:
        described = [*self.source.provide_data, *self.source.provide_label]
        described += self.source.provide_masks
        shapes = [tuple(each.shape) for each in described]
        if self._permuted:
            n, h, w, c = shapes[0]
            shapes[0] = n, c, h, w
        found = [tuple(tensor.shape) for tensor in out]
        if found != shapes:
            raise ValueError(f"out must have tensors of the shapes {shapes}, got {found}")

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where Lightning looks for `set_epoch`, to say which epoch begins: on its `sampler`."""
        return SimpleNamespace(sampler=self)

    def _convert(self, batch: DataBatch) -> tuple[Any, ...]:
        images, *others = super()._convert(batch)
        if self._permuted:
            images = images.permute(0, 3, 1, 2)
        if self._reordered:
            images = images.contiguous(memory_format=torch.channels_last)
        if self._out is None:
            return images, *others
        rows = tuple(tensor[: len(images)] for tensor in self._out)
        for row, tensor in zip(rows, (images, *others), strict=True):
            row.copy_(tensor, non_blocking=row.is_cuda)  # on the host they are to be there
        return rows

    def _taken(self, array: Any) -> torch.Tensor:
        if isinstance(array, np.ndarray) and array.dtype.name == "bfloat16":  # not NumPy's own
            return torch.from_dlpack(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_dlpack(array)

    def _brought(self, array: npt.NDArray[Any], images: torch.Tensor) -> torch.Tensor:
        # From pageable memory this returns once the values are read, so they may go away.
        return torch.from_dlpack(array).to(images.device, non_blocking=True)
