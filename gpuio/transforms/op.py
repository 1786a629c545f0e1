"""What an augmentation is: parameters, and a call that adds its steps to the plan of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from gpuio.kernels.steps import COLOR_STEP, ColorKind
from gpuio.transforms.geometry import LARGEST, MOST_PIXELS, Boxes, ResampleChain, Sizes
from gpuio.transforms.random import Draws

Column = npt.NDArray[Any]


@dataclass(slots=True)
class BatchPlan:
    """What happens to each image of one batch; ops add to it.

    Attributes:
        geometry: Where every pixel comes from.
        draws: Random numbers of the batch.
        crop: (N, 4) windows in the last result of `geometry`.
        mirror: (N,) bool.
        colors: Colour steps in the order in which they apply, (N,) COLOR_STEP each; `add_color`
            appends one.
        gain: (N,) float32, factors of the normalized values.
        offset: (N,) float32 in levels, added after the mean is subtracted.
        overrides: By name, (N, ...) values to use instead of random ones.
        sampled: By name, (N, ...) values in use; users see them as `batch.augmentation`.
        rejected: By place in the batch, why an image cannot be used.
        labels: (N, W) float32 labels of the batch; an op that moves them replaces them.
        widths: (N,) int64, how many of its labels each image has; None where all have W.
    """

    geometry: ResampleChain
    draws: Draws
    crop: Boxes
    mirror: npt.NDArray[np.bool_]
    gain: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    colors: list[npt.NDArray[np.void]] = field(default_factory=list)
    overrides: Mapping[str, Column] = field(default_factory=dict)
    sampled: dict[str, Column] = field(default_factory=dict)
    rejected: dict[int, str] = field(default_factory=dict)
    labels: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    widths: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        size: npt.NDArray[np.int32],
        draws: Draws,
        overrides: Mapping[str, Column] | None = None,
    ) -> BatchPlan:
        """A plan that leaves images of (N, 2) `size` as they are."""
        count, wanted = len(size), size.astype(np.int64)
        geometry = ResampleChain(np.clip(wanted, 1, LARGEST))
        batch = cls(
            geometry,
            draws,
            np.concatenate([np.zeros((count, 2), np.int64), geometry.size], axis=1),
            np.zeros(count, bool),
            np.ones(count, np.float32),
            np.zeros(count, np.float32),
            overrides=overrides or {},
        )
        batch.bounded(wanted)
        return batch

    def sample(self, name: str, draw: Callable[[Draws], Column]) -> Column:
        """(N, ...) values of `overrides[name]`, else what `draw` makes; kept in `sampled`."""
        values = np.asarray(self.overrides[name]) if name in self.overrides else draw(self.draws)
        if values.dtype.kind == "f":
            values = values.astype(np.float32, copy=False)  # a text file may have made float64
        self.sampled[name] = values
        return values

    def add_color(
        self,
        kind: ColorKind | npt.NDArray[np.integer],
        a: npt.ArrayLike = 0,
        b: npt.ArrayLike = 0,
        c: npt.ArrayLike = 0,
    ) -> None:
        """Append a colour step, which applies after those that were appended before.

        Args:
            kind: One for all images, or (N,); NONE where an image has no such step.
            a: The first parameter of `kind`: one for all images, or (N,).
            b: The second parameter.
            c: The third parameter.
        """
        step = np.zeros(len(self.mirror), COLOR_STEP)
        step["kind"], step["a"], step["b"], step["c"] = kind, a, b, c
        self.colors.append(step)

    def bounded(self, size: Sizes) -> Sizes:
        """(N, 2) `size` of pictures to come, cut to LARGEST; larger images are rejected."""
        for place in np.flatnonzero((size > LARGEST).any(axis=1)).tolist():
            height, width = size[place].tolist()
            self.rejected.setdefault(
                place,
                f"image would become {width:.0f} x {height:.0f} pixels, and {LARGEST} are the most "
                "of a side",
            )
        return np.fmin(np.fmax(size, 1), LARGEST).astype(np.int64)

    def finish(self) -> None:
        """Compute the window of every step; images with a window too large are rejected."""
        self.geometry.finish(self.crop)
        for step in self.geometry.steps:
            pixels = step.box[:, 2:].prod(axis=1)
            for place in np.flatnonzero(step.active & (pixels > MOST_PIXELS)).tolist():
                self.rejected.setdefault(
                    place,
                    f"{pixels[place]} pixels would have to be made on the way, and {MOST_PIXELS} "
                    "are the most",
                )

    def for_masks(self, fill: int) -> BatchPlan:
        """The finished plan of the masks of these images: the same geometry, no colours.

        Pixels are the nearest ones, `fill` lies outside of a picture, and values stay as they are.
        """
        count = len(self.mirror)
        return replace(
            self,
            geometry=self.geometry.for_masks(fill, self.crop),
            colors=[],
            gain=np.ones(count, np.float32),
            offset=np.zeros(count, np.float32),
        )


class Op(ABC):
    """One augmentation: a frozen dataclass that checks itself, and adds to a `BatchPlan`.

    Attributes:
        cost: What it adds to the work, for people.
    """

    cost: ClassVar[str]

    @abstractmethod
    def __call__(self, batch: BatchPlan) -> None:
        """Add to `batch` what happens to each of its images."""

    def __str__(self) -> str:
        """The op with the parameters that are not at their defaults."""
        defaults = {field.name: field.default for field in fields(cast("Any", self))}
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"
