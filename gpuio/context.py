"""MXNet's `mx.context`: the names of `gpuio.mxnet.context`."""

from gpuio.mxnet.context import Context, cpu, current_context, gpu, num_gpus

__all__ = ["Context", "cpu", "current_context", "gpu", "num_gpus"]
