"""Devices: where memory lives and kernels run."""

from __future__ import annotations

import importlib.util
import warnings

from gpuio.devices.base import Device
from gpuio.devices.cpu import CpuDevice
from gpuio.devices.visible import visible_gpus


def make_device(device: str | None, threads: int | None) -> Device:
    """The device for a device name.

    Args:
        device: "cpu"; "cuda:N", a GPU, or "cuda", the calling thread's current one; "simulated", a
            slow GPU on the CPU, for tests; None for "cuda" where a GPU is visible, else the CPU.
        threads: CPU threads of the pipeline's stages; all available cores when None.

    Raises:
        BackendError: The device cannot be used.
        ValueError: `device` is not the name of a device.
    """
    if device is None:
        device = default_device()
    if device == "cpu":
        return CpuDevice(threads)
    kind, _, number = device.partition(":")
    if kind == "cuda" and (number.isdecimal() or device == "cuda"):
        from gpuio.devices.cuda import CudaDriver
        from gpuio.devices.gpu import GpuDevice

        return GpuDevice(CudaDriver(int(number) if number else None), threads)
    if device == "simulated":
        from gpuio.devices.gpu import GpuDevice
        from gpuio.devices.simulated import SimulatedDriver, simulated_device

        return GpuDevice(SimulatedDriver(simulated_device()), threads)
    raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {device!r}")


def default_device() -> str:
    """The name "cuda" if there is a GPU that gpuio can use, otherwise "cpu"."""
    if visible_gpus() == 0:
        return "cpu"
    if importlib.util.find_spec("cupy") is None or importlib.util.find_spec("numba_cuda") is None:
        warnings.warn(
            "there is a GPU, but the packages that gpuio needs for it are missing, so images are "
            "made on the CPU: pip install 'gpuio[cuda13]', or give device='cpu'",
            stacklevel=2,
        )
        return "cpu"
    return "cuda"
