"""Rotate, shear, scale and stretch, in one warp.

Source: MXNet 1.9.1, src/io/image_aug_default.cc; OpenCV 3.4, imgwarp.cpp (warpAffine).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gpuio.kernels.steps import StepKind
from gpuio.transforms import geometry
from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.random import Draw, Draws

# Area has no meaning for a warp, and becomes bilinear.
_KIND_OF = np.array(
    [
        StepKind.WARP_NEAREST,
        StepKind.WARP_LINEAR,
        StepKind.WARP_CUBIC,
        StepKind.WARP_LINEAR,
        StepKind.WARP_LANCZOS,
    ]
)
_F32 = np.float32


@dataclass(frozen=True, slots=True)
class Affine(Op):
    """Rotate, shear, scale and stretch about the middle; only the scale changes the canvas.

    What leaves the canvas is cut off, and what comes in from outside is filled. Positive angles
    rotate counter-clockwise.

    Oracle: MXNet 1.9.1, `max_rotate_angle`, `max_shear_ratio`, `max_random_scale` and
    `max_aspect_ratio` of ImageRecordIter (cv::warpAffine).

    Attributes:
        angles: Least and most whole degrees.
        angle_list: Degrees to choose from instead.
        shear: The shear ratio is -shear to shear.
        scale: Range of the scale.
        ratio: Range of the aspect ratio; None draws none.
        limits: Shortest and longest side of the canvas, in pixels.
        fill: Value of the first three channels outside of the image; the fourth is 0.
        inter_method: 0 nearest, 1 or 3 bilinear, 2 cubic, 4 Lanczos, 9 by size, 10 random.
    """

    cost: ClassVar[str] = "a pass over the window"
    angles: tuple[int, int] = (0, 0)
    angle_list: tuple[int, ...] = ()
    shear: float = 0
    scale: tuple[float, float] = (1, 1)
    ratio: tuple[float, float] | None = None
    limits: tuple[float, float] = (0, 1e10)
    fill: int = 255
    inter_method: int = 1

    def __post_init__(self) -> None:
        for name, (low, high) in (("max_random_scale", self.scale), ("max_img_size", self.limits)):
            if high < low:
                raise ValueError(f"{name}={high} is less than {name.replace('max', 'min')}={low}")
        if _F32(self.scale[0]) <= 0:
            raise ValueError(f"min_random_scale must be more than 0, got {self.scale[0]}")
        low, high = self.limits
        if not 0 <= low <= geometry.LARGEST:
            limit = f"in [0, {geometry.LARGEST}]"
            raise ValueError(f"min_img_size must be {limit}, got {low}")
        if high < 1:
            raise ValueError(f"max_img_size must be at least 1, got {high}")
        if self.shear < 0:
            raise ValueError(f"max_shear_ratio must be at least 0, got {self.shear}")
        if self.ratio is not None and not 0 < _F32(self.ratio[0]) <= _F32(self.ratio[1]):
            low, high = self.ratio
            raise ValueError(
                f"aspect ratios must be more than 0 and in order, got {low} (min_aspect_ratio) "
                f"to {high} (max_aspect_ratio)"
            )

    def __call__(self, batch: BatchPlan) -> None:
        chain, most = batch.geometry, self.shear
        shear = batch.sample("shear", lambda draws: draws.uniform(Draw.SHEAR, -most, most))
        angle = batch.sample("angle", self._angles)
        scale = batch.sample("scale", lambda draws: draws.uniform(Draw.SCALE, *self.scale))
        ratio = np.ones(len(shear), _F32)
        if self.ratio is not None:
            limits = self.ratio
            ratio = batch.sample("aspect_ratio", lambda draws: draws.uniform(Draw.ASPECT, *limits))
        least, largest = (_F32(limit) for limit in self.limits)
        canvas = np.clip(scale[:, None] * chain.size.astype(_F32), least, largest)
        size = batch.bounded(np.trunc(canvas))
        name, draw = "warp_interpolation", Draw.WARP_INTERPOLATION
        method = batch.interpolation(name, self.inter_method, chain.size, size, draw)
        matrix = _inverse(_matrices(chain.size, canvas, angle, shear, scale, ratio))
        chain.warp(size, _KIND_OF[method], matrix, self.fill)

    def _angles(self, draws: Draws) -> npt.NDArray[np.int64]:
        if not self.angle_list:
            return draws.integers(Draw.ANGLE, *self.angles)
        return np.array(self.angle_list)[draws.integers(Draw.ANGLE, 0, len(self.angle_list) - 1)]


def _matrices(
    source: geometry.Sizes,
    canvas: npt.NDArray[np.float32],
    angle: npt.NDArray[np.float32 | np.int64],
    shear: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    ratio: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """(N, 6) affine maps of source to canvas about the middles of both, in MXNet's float32.

    Sizes are (N, 2) heights and widths, those of a canvas with fractions; angles are degrees.
    """
    height, width = source.T.astype(_F32)
    tall, wide = canvas.T
    radians = angle * np.pi / 180
    a, b = np.cos(radians).astype(_F32), np.sin(radians).astype(_F32)
    down = _F32(2) * scale / (_F32(1) + ratio)
    across = ratio * down
    m00, m01 = down * a - shear * b * across, down * b + shear * a * across
    m10, m11 = -b * across, a * across
    tx = (wide - (m00 * width + m01 * height)) / _F32(2)
    ty = (tall - (m10 * width + m11 * height)) / _F32(2)
    return np.stack([m00, m01, tx, m10, m11, ty], axis=1).astype(np.float64)


def _inverse(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The inverses of (N, 6) affine maps."""
    m00, m01, tx, m10, m11, ty = matrix.T
    d = 1 / (m00 * m11 - m01 * m10)
    i00, i01, i10, i11 = m11 * d, -m01 * d, -m10 * d, m00 * d
    shift = -i00 * tx - i01 * ty, -i10 * tx - i11 * ty
    return np.ascontiguousarray(np.stack([i00, i01, shift[0], i10, i11, shift[1]], axis=1))
