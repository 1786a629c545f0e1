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
    """Rotation, shear, scale and aspect ratio about the middle; the canvas scales, no more.

    What is turned out of the canvas is cut off, what is turned in is filled. Positive angles turn
    counter-clockwise.

    Attributes:
        angles: Whole degrees from `angles[0]` to `angles[1]`.
        angle_list: Degrees to choose from instead.
        shear: Ratio from -shear to shear.
        scale: Range of the scale.
        ratio: Range of the aspect ratio; None draws none.
        limits: Shortest and longest side of the canvas, in pixels.
        fill: Value of the first three channels outside; the fourth is 0.
        inter_method: As of a resize; area means bilinear.
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
        chain = batch.geometry
        height, width = chain.size.T.astype(_F32)
        shear = batch.sample(
            "shear", lambda draws: draws.uniform(Draw.SHEAR, -self.shear, self.shear)
        )
        angle = batch.sample("angle", self._angles)
        scale = batch.sample("scale", lambda draws: draws.uniform(Draw.SCALE, *self.scale))
        ratio = np.ones(len(shear), _F32)
        if self.ratio is not None:
            low, high = self.ratio
            ratio = batch.sample(
                "aspect_ratio", lambda draws: draws.uniform(Draw.ASPECT, low, high)
            )
        turn = angle * np.pi / 180
        a, b = np.cos(turn).astype(_F32), np.sin(turn).astype(_F32)
        down = _F32(2) * scale / (_F32(1) + ratio)
        across = ratio * down
        least, most = (_F32(limit) for limit in self.limits)
        wide, tall = np.clip(scale * width, least, most), np.clip(scale * height, least, most)
        m00, m01 = down * a - shear * b * across, down * b + shear * a * across
        m10, m11 = -b * across, a * across
        tx = (wide - (m00 * width + m01 * height)) / _F32(2)
        ty = (tall - (m10 * width + m11 * height)) / _F32(2)
        matrix = np.stack([m00, m01, tx, m10, m11, ty], axis=1)
        size = batch.bounded(np.trunc(np.stack([tall, wide], axis=1)))
        draw = Draw.WARP_INTERPOLATION
        method = batch.sample(
            "warp_interpolation",
            lambda draws: geometry.choose(self.inter_method, chain.size, size, draws, draw),
        )
        chain.warp(size, _KIND_OF[method], _inverse(matrix.astype(np.float64)), self.fill)

    def _angles(self, draws: Draws) -> npt.NDArray[np.int64]:
        if not self.angle_list:
            return draws.integers(Draw.ANGLE, *self.angles)
        return np.array(self.angle_list)[draws.integers(Draw.ANGLE, 0, len(self.angle_list) - 1)]


def _inverse(m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 6) affine maps, source to canvas, turned round."""
    m00, m01, tx, m10, m11, ty = m.T
    d = 1 / (m00 * m11 - m01 * m10)
    i00, i01, i10, i11 = m11 * d, -m01 * d, -m10 * d, m00 * d
    shift = -i00 * tx - i01 * ty, -i10 * tx - i11 * ty
    return np.ascontiguousarray(np.stack([i00, i01, shift[0], i10, i11, shift[1]], axis=1))
