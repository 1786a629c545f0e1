"""MXNet's `mx.io`: iterators over batches, each imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gpuio import lazy

if TYPE_CHECKING:
    from gpuio.array_iter import NDArrayIter
    from gpuio.batch import DataBatch, DataDesc, DataIter
    from gpuio.csv_iter import CSVIter
    from gpuio.det_iterator import ImageDetRecordIter
    from gpuio.iterators import ImageRecordInt8Iter, ImageRecordIter, ImageRecordUInt8Iter
    from gpuio.libsvm_iter import LibSVMIter
    from gpuio.mnist_iter import MNISTIter
    from gpuio.wrappers import PrefetchingIter, ResizeIter

    ImageRecordIter_v1 = ImageRecordIter
    ImageRecordUInt8Iter_v1 = ImageRecordUInt8Iter

__all__ = [
    "CSVIter",
    "DataBatch",
    "DataDesc",
    "DataIter",
    "ImageDetRecordIter",
    "ImageRecordInt8Iter",
    "ImageRecordIter",
    "ImageRecordIter_v1",
    "ImageRecordUInt8Iter",
    "ImageRecordUInt8Iter_v1",
    "LibSVMIter",
    "MNISTIter",
    "NDArrayIter",
    "PrefetchingIter",
    "ResizeIter",
]

# MXNet's `_v1` iterators are older ones with the same parameters; here they are the same ones.
_HOMES: Final = {
    "CSVIter": "gpuio.csv_iter:CSVIter",
    "DataBatch": "gpuio.batch:DataBatch",
    "DataDesc": "gpuio.batch:DataDesc",
    "DataIter": "gpuio.batch:DataIter",
    "ImageDetRecordIter": "gpuio.det_iterator:ImageDetRecordIter",
    "ImageRecordInt8Iter": "gpuio.iterators:ImageRecordInt8Iter",
    "ImageRecordIter": "gpuio.iterators:ImageRecordIter",
    "ImageRecordIter_v1": "gpuio.iterators:ImageRecordIter",
    "ImageRecordUInt8Iter": "gpuio.iterators:ImageRecordUInt8Iter",
    "ImageRecordUInt8Iter_v1": "gpuio.iterators:ImageRecordUInt8Iter",
    "LibSVMIter": "gpuio.libsvm_iter:LibSVMIter",
    "MNISTIter": "gpuio.mnist_iter:MNISTIter",
    "NDArrayIter": "gpuio.array_iter:NDArrayIter",
    "PrefetchingIter": "gpuio.wrappers:PrefetchingIter",
    "ResizeIter": "gpuio.wrappers:ResizeIter",
}


def __getattr__(name: str) -> Any:
    return lazy.load(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
