"""MXNet's `mx.base`: the name of its error."""

from __future__ import annotations

from gpuio.errors import GpuioError

MXNetError = GpuioError

__all__ = ["MXNetError"]
