"""A border of one value around every picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpuio.transforms.op import BatchPlan, Op


@dataclass(frozen=True, slots=True)
class Pad(Op):
    """Put a border of `margin` pixels on every side.

    Oracle: MXNet 1.9.1, `pad` of ImageRecordIter (cv::copyMakeBorder).

    Attributes:
        margin: Width of the border in pixels, at least 1.
        fill: Value of the first three channels; the fourth is 0.
    """

    cost: ClassVar[str] = "a pass over the window"
    margin: int
    fill: int = 255

    def __post_init__(self) -> None:
        if self.margin < 1:
            raise ValueError(f"margin must be at least 1, got {self.margin}")

    def __call__(self, batch: BatchPlan) -> None:
        batch.geometry.border(self.margin, self.fill)
