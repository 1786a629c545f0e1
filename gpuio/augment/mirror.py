"""Mirror left to right."""

from __future__ import annotations

from dataclasses import dataclass

from gpuio.augment.op import Op, Sketch
from gpuio.augment.random import Draw


@dataclass(frozen=True, slots=True)
class Mirror(Op):
    """Mirror every image, or one half of them.

    Attributes:
        random: One half.
    """

    random: bool = False

    def __call__(self, sketch: Sketch) -> None:
        sketch.mirror[:] = sketch.draws.coin(Draw.MIRROR) if self.random else True
        sketch.drawn["mirror"] = sketch.mirror
