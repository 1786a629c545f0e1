"""Load RecordIO image sets into training loops, on NVIDIA GPUs and on CPUs.

`import gpuio` needs NumPy alone; what a name needs is imported when the name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpuio.errors import (
    BackendError,
    CorruptRecordError,
    DecodeError,
    FormatError,
    GpuioError,
    LabelError,
    PipelineClosedError,
    StateError,
)

if TYPE_CHECKING:
    from gpuio import image, io, recordio
    from gpuio import image as img
    from gpuio.batch import DataBatch, DataDesc, DataIter
    from gpuio.iterators import ImageRecordInt8Iter, ImageRecordIter, ImageRecordUInt8Iter

__version__ = "0.1.0"

_MODULES = {"image": "image", "img": "image", "io": "io", "recordio": "recordio"}
_HOMES = {
    "DataBatch": "gpuio.batch",
    "DataDesc": "gpuio.batch",
    "DataIter": "gpuio.batch",
    "ImageRecordInt8Iter": "gpuio.iterators",
    "ImageRecordIter": "gpuio.iterators",
    "ImageRecordUInt8Iter": "gpuio.iterators",
}

__all__ = [
    "BackendError",
    "CorruptRecordError",
    "DataBatch",
    "DataDesc",
    "DataIter",
    "DecodeError",
    "FormatError",
    "GpuioError",
    "ImageRecordInt8Iter",
    "ImageRecordIter",
    "ImageRecordUInt8Iter",
    "LabelError",
    "PipelineClosedError",
    "StateError",
    "image",
    "img",
    "io",
    "recordio",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"gpuio.{_MODULES[name]}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gpuio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
