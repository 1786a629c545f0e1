"""MXNet's `mx.io`: iterators over batches."""

from gpuio.batch import DataBatch, DataDesc, DataIter
from gpuio.iterators import ImageRecordInt8Iter, ImageRecordIter, ImageRecordUInt8Iter

__all__ = [
    "DataBatch",
    "DataDesc",
    "DataIter",
    "ImageRecordInt8Iter",
    "ImageRecordIter",
    "ImageRecordUInt8Iter",
]
