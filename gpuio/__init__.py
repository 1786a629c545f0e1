"""Load RecordIO image sets into training loops: MXNet's data IO without MXNet.

`import gpuio` needs NumPy alone; what a name needs is imported when the name is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if not os.path.isdir(os.path.join(__path__[0], "kernels")):  # noqa: PTH112, PTH118  pathlib is slow
    # This is the checkout, where kernels/ lies beside this folder, not an installed package. Python
    # started there takes this folder even where gpuio is installed elsewhere.
    __path__.append(os.path.dirname(os.path.abspath(__path__[0])))  # noqa: PTH100, PTH120

from gpuio.core import lazy
from gpuio.errors import (
    BackendError,
    CorruptRecordError,
    DecodeError,
    FormatError,
    GpuioError,
    LabelError,
    MissingPackageError,
    PipelineClosedError,
    ProgramError,
    StateError,
)

if TYPE_CHECKING:
    from gpuio import base, image, io, nd, recordio
    from gpuio import image as img
    from gpuio.mxnet import context, ndarray
    from gpuio.mxnet.context import Context, cpu, current_context, gpu
    from gpuio.mxnet.iterators.batch import DataBatch, DataDesc, DataIter
    from gpuio.mxnet.iterators.det_record import ImageDetRecordIter
    from gpuio.mxnet.iterators.image_record import (
        ImageRecordInt8Iter,
        ImageRecordIter,
        ImageRecordUInt8Iter,
    )
    from gpuio.observe.profile import profile, progress
    from gpuio.pipeline.decode.registry import register_decoder
    from gpuio.sources.base import EncodedImage, RecordSource
    from gpuio.sources.registry import SourceOptions, register_source

__version__ = "0.1.0"

_HOMES = {
    "Context": "gpuio.mxnet.context:Context",
    "DataBatch": "gpuio.mxnet.iterators.batch:DataBatch",
    "DataDesc": "gpuio.mxnet.iterators.batch:DataDesc",
    "DataIter": "gpuio.mxnet.iterators.batch:DataIter",
    "EncodedImage": "gpuio.sources.base:EncodedImage",
    "ImageDetRecordIter": "gpuio.mxnet.iterators.det_record:ImageDetRecordIter",
    "ImageRecordInt8Iter": "gpuio.mxnet.iterators.image_record:ImageRecordInt8Iter",
    "ImageRecordIter": "gpuio.mxnet.iterators.image_record:ImageRecordIter",
    "ImageRecordUInt8Iter": "gpuio.mxnet.iterators.image_record:ImageRecordUInt8Iter",
    "RecordSource": "gpuio.sources.base:RecordSource",
    "SourceOptions": "gpuio.sources.registry:SourceOptions",
    "base": "gpuio.base",
    "context": "gpuio.context",
    "cpu": "gpuio.mxnet.context:cpu",
    "current_context": "gpuio.mxnet.context:current_context",
    "gpu": "gpuio.mxnet.context:gpu",
    "image": "gpuio.image",
    "img": "gpuio.image",
    "io": "gpuio.io",
    "nd": "gpuio.nd",
    "ndarray": "gpuio.ndarray",
    "profile": "gpuio.observe.profile:profile",
    "progress": "gpuio.observe.profile:progress",
    "recordio": "gpuio.recordio",
    "register_decoder": "gpuio.pipeline.decode.registry:register_decoder",
    "register_source": "gpuio.sources.registry:register_source",
    "torch": "gpuio.torch",  # not in __all__: it needs PyTorch
}

__all__ = [
    "BackendError",
    "Context",
    "CorruptRecordError",
    "DataBatch",
    "DataDesc",
    "DataIter",
    "DecodeError",
    "EncodedImage",
    "FormatError",
    "GpuioError",
    "ImageDetRecordIter",
    "ImageRecordInt8Iter",
    "ImageRecordIter",
    "ImageRecordUInt8Iter",
    "LabelError",
    "MissingPackageError",
    "PipelineClosedError",
    "ProgramError",
    "RecordSource",
    "SourceOptions",
    "StateError",
    "base",
    "context",
    "cpu",
    "current_context",
    "gpu",
    "image",
    "img",
    "io",
    "nd",
    "ndarray",
    "profile",
    "progress",
    "recordio",
    "register_decoder",
    "register_source",
]


def __getattr__(name: str) -> Any:
    return lazy.load(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
