"""Mirror left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.random import Draw


@dataclass(frozen=True, slots=True)
class Mirror(Op):
    """Mirror every image, or one half of them.

    Attributes:
        random: One half.
    """

    cost: ClassVar[str] = "free"
    random: bool = False

    def __call__(self, batch: BatchPlan) -> None:
        batch.mirror[:] = True
        if self.random:
            batch.mirror[:] = batch.sample("mirror", lambda draws: draws.coin(Draw.MIRROR))
