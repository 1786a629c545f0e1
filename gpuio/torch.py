"""gpuio for PyTorch: `RecordDataset`, and the loader that `ImageRecordIter.torch` makes."""

from __future__ import annotations

from gpuio.core.extras import explained

with explained("gpuio.torch"):
    from gpuio.interop.record_dataset import RecordDataset
    from gpuio.interop.torch import TorchLoader

__all__ = ["RecordDataset", "TorchLoader"]
