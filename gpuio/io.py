"""MXNet's `mx.io`: iterators over batches, each imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gpuio.core import lazy

if TYPE_CHECKING:
    from gpuio.mxnet.iterators.array_iter import NDArrayIter
    from gpuio.mxnet.iterators.batch import DataBatch, DataDesc, DataIter
    from gpuio.mxnet.iterators.csv_iter import CSVIter
    from gpuio.mxnet.iterators.det_record import ImageDetRecordIter
    from gpuio.mxnet.iterators.image_record import (
        ImageRecordInt8Iter,
        ImageRecordIter,
        ImageRecordUInt8Iter,
    )
    from gpuio.mxnet.iterators.libsvm_iter import LibSVMIter
    from gpuio.mxnet.iterators.mnist_iter import MNISTIter
    from gpuio.mxnet.iterators.wrappers import PrefetchingIter, ResizeIter

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
    "CSVIter": "gpuio.mxnet.iterators.csv_iter:CSVIter",
    "DataBatch": "gpuio.mxnet.iterators.batch:DataBatch",
    "DataDesc": "gpuio.mxnet.iterators.batch:DataDesc",
    "DataIter": "gpuio.mxnet.iterators.batch:DataIter",
    "ImageDetRecordIter": "gpuio.mxnet.iterators.det_record:ImageDetRecordIter",
    "ImageRecordInt8Iter": "gpuio.mxnet.iterators.image_record:ImageRecordInt8Iter",
    "ImageRecordIter": "gpuio.mxnet.iterators.image_record:ImageRecordIter",
    "ImageRecordIter_v1": "gpuio.mxnet.iterators.image_record:ImageRecordIter",
    "ImageRecordUInt8Iter": "gpuio.mxnet.iterators.image_record:ImageRecordUInt8Iter",
    "ImageRecordUInt8Iter_v1": "gpuio.mxnet.iterators.image_record:ImageRecordUInt8Iter",
    "LibSVMIter": "gpuio.mxnet.iterators.libsvm_iter:LibSVMIter",
    "MNISTIter": "gpuio.mxnet.iterators.mnist_iter:MNISTIter",
    "NDArrayIter": "gpuio.mxnet.iterators.array_iter:NDArrayIter",
    "PrefetchingIter": "gpuio.mxnet.iterators.wrappers:PrefetchingIter",
    "ResizeIter": "gpuio.mxnet.iterators.wrappers:ResizeIter",
}


def __getattr__(name: str) -> Any:
    return lazy.load(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
