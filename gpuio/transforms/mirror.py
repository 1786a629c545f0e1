"""Mirror left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.random import Draw


@dataclass(frozen=True, slots=True)
class Mirror(Op):
    """Mirror every image, or one half of them.

    Where only crops and colours follow, which give the same pixels before a mirror and after it,
    pixels are mirrored on their way into the batch.

    Oracle: `numpy.flip` along the width.

    Attributes:
        random: Mirror each image with probability 1/2.
    """

    cost: ClassVar[str] = "free; a pass over the window if a later step moves pixels"
    random: bool = False

    def __call__(self, batch: BatchPlan) -> None:
        where = np.ones(len(batch.geometry.size), bool)
        if self.random:
            where = batch.sample("mirror", lambda draws: draws.coin(Draw.MIRROR)).astype(bool)
        batch.geometry.mirror_images(where)
