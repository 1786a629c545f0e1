"""MXNet's `mx.recordio`: the names of `gpuio.mxnet.recordio`, which needs NumPy alone."""

from gpuio.formats.image_record import IRHeader, pack, unpack
from gpuio.mxnet.recordio import MXIndexedRecordIO, MXRecordIO, pack_img, unpack_img

__all__ = [
    "IRHeader",
    "MXIndexedRecordIO",
    "MXRecordIO",
    "pack",
    "pack_img",
    "unpack",
    "unpack_img",
]
