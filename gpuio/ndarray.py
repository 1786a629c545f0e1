"""MXNet's `mx.ndarray`: the names of `gpuio.mxnet.ndarray`."""

from typing import Any

from gpuio.core.lazy import missing
from gpuio.mxnet.ndarray import NDArray, array, ones, waitall, zeros

__all__ = ["NDArray", "array", "ones", "waitall", "zeros"]


def __getattr__(name: str) -> Any:
    raise missing(__name__, name)
