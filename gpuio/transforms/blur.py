"""Gaussian blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gpuio.kernels.steps import MOST_RADIUS
from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.random import named

_SIGMA = named("blur_sigma")


@dataclass(frozen=True, slots=True)
class GaussianBlur(Op):
    """Blur each image with a Gaussian of random width; the picture is mirrored at its edges.

    Oracle: torchvision.transforms.v2.GaussianBlur, and a convolution by NumPy: along x, then along
    y, in float32, rounded to levels once.

    Attributes:
        kernel_size: Pixels of the convolution along each axis, odd, 3 to 23.
        sigma: Range of the standard deviation, in pixels, more than 0.
    """

    cost: ClassVar[str] = "a long pass over the window, and a pass for steps before it"
    kernel_size: int
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        most = 2 * MOST_RADIUS + 1
        if not 3 <= self.kernel_size <= most or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and in [3, {most}], got {self.kernel_size}")
        low, high = self.sigma
        if not 0 < low <= high < np.inf:
            raise ValueError(f"sigma must be more than 0 and in order, got {low} to {high}")

    def __call__(self, batch: BatchPlan) -> None:
        sigma = batch.sample("blur_sigma", lambda draws: draws.uniform(_SIGMA, *self.sigma))
        batch.geometry.blur(gaussian(self.kernel_size, sigma))


def gaussian(size: int, sigma: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, size) weights that sum to 1.

    Source: torchvision 0.20, transforms/_functional_tensor.py (_get_gaussian_kernel1d).
    """
    distance = np.arange(size) - size // 2
    weights = np.exp(-0.5 * (distance / np.maximum(sigma.astype(np.float64), 1e-6)[:, None]) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
