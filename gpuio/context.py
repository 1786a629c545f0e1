"""MXNet's `mx.context`: where an array lies, as scripts write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gpuio import parameters as p
from gpuio.errors import BackendError

__all__ = ["Context", "cpu", "current_context", "gpu", "num_gpus"]

_TYPES: Final = ("cpu", "gpu")


@dataclass(frozen=True, slots=True, repr=False)
class Context:
    """A device; prints as in MXNet, such as `cpu(0)`.

    Attributes:
        device_type: "cpu" or "gpu".
        device_id: From 0.
    """

    device_type: str
    device_id: int = 0

    def __post_init__(self) -> None:
        p.choice("device_type", self.device_type, _TYPES)
        p.integer("device_id", self.device_id, least=0)

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"

    def require_cpu(self) -> None:
        """Refuse a GPU.

        Raises:
            BackendError: This is one.
        """
        if self.device_type != "cpu":
            raise BackendError(
                f"{self}: arrays of gpuio.nd lie in the memory of the CPU; give them to your "
                "framework, which brings them to the GPU"
            )


def cpu(device_id: int = 0) -> Context:
    """The CPU."""
    return Context("cpu", device_id)


def gpu(device_id: int = 0) -> Context:
    """A GPU; it can be named and compared, but holds no array yet."""
    return Context("gpu", device_id)


def current_context() -> Context:
    """Where arrays go when nothing is said: `cpu(0)`."""
    return cpu()


def num_gpus() -> int:
    """How many GPUs can hold arrays of `gpuio.nd`: none yet."""
    return 0
