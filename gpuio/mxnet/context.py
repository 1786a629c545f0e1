"""MXNet's `mx.context`: names of devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gpuio.core import parameters as p

_TYPES: Final = ("cpu", "gpu")


@dataclass(frozen=True, slots=True, repr=False)
class Context:
    """A device; prints as in MXNet, such as `cpu(0)`.

    Attributes:
        device_type: "cpu" or "gpu".
        device_id: Number of the device, from 0.
    """

    device_type: str
    device_id: int = 0

    def __post_init__(self) -> None:
        p.choice("device_type", self.device_type, _TYPES)
        p.integer("device_id", self.device_id, least=0)

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"


def cpu(device_id: int = 0) -> Context:
    """The CPU."""
    return Context("cpu", device_id)


def gpu(device_id: int = 0) -> Context:
    """A GPU, numbered as CUDA numbers those that this process sees."""
    return Context("gpu", device_id)


def current_context() -> Context:
    """The device of arrays that are made without one: `cpu(0)`."""
    return cpu()


def num_gpus() -> int:
    """Number of GPUs that this process sees."""
    from gpuio.devices.visible import visible_gpus

    return visible_gpus()
