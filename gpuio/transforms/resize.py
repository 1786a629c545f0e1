"""Resize the shorter edge.

Source: MXNet 1.9.1, src/io/image_aug_default.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gpuio.transforms.geometry import RANDOM
from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.random import Draw


@dataclass(frozen=True, slots=True)
class ResizeShorterEdge(Op):
    """The shorter edge becomes `edge`, the longer one in proportion, cut to a whole number.

    Oracle: MXNet 1.9.1, `resize` of ImageRecordIter (cv::resize).

    Attributes:
        edge: In pixels, at least 1.
        inter_method: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos, 9 by size, 10 random.
    """

    cost: ClassVar[str] = "a pass over the window; free for images of the right size"
    edge: int
    inter_method: int = 1

    def __post_init__(self) -> None:
        if self.edge < 1:
            raise ValueError(f"resize must be at least 1, or -1 for none, got {self.edge}")

    @property
    def is_fixed(self) -> bool:
        return self.inter_method != RANDOM

    @property
    def least_edge(self) -> int | None:
        return self.edge

    def __call__(self, batch: BatchPlan) -> None:
        source = batch.geometry.size
        height, width = source.T
        longer = np.maximum(self.edge * source.max(axis=1) // source.min(axis=1), 1)
        tall = height > width
        sides = np.where(tall, longer, self.edge), np.where(tall, self.edge, longer)
        size = batch.bounded(np.stack(sides, axis=1))
        name, draw = "resize_interpolation", Draw.RESIZE_INTERPOLATION
        method = batch.interpolation(name, self.inter_method, source, size, draw)
        batch.geometry.resize(size, method)
