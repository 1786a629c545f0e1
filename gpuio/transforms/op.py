"""What an augmentation is: something with parameters that adds its part to a batch's plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from gpuio.kernels.color import COLOR
from gpuio.transforms.geometry import LARGEST, MOST_PIXELS, Boxes, ResampleChain, Sizes
from gpuio.transforms.random import Draws

Column = npt.NDArray[Any]


@dataclass(slots=True)
class BatchPlan:
    """What one batch gets, while ops add to it.

    Attributes:
        frame: Geometry.
        draws: Random numbers of the batch.
        crop: (N, 4) windows in the last result of `frame`.
        mirror: (N,) bool.
        color: (N,) COLOR rows.
        gain: (N,) float32 that multiply the normalized values.
        offset: (N,) float32 in levels, added after the mean is taken off.
        given: By name, (N,) values to use instead of random ones.
        drawn: By name, (N,) values that were used; what users see as `batch.augmentation`.
        rejected: By place in the batch, why an image cannot be used.
        labels: (N, W) float32, what the batch will have; an op that moves them replaces them.
        widths: (N,) int64, how many of its labels each image has; None where that is all.
    """

    frame: ResampleChain
    draws: Draws
    crop: Boxes
    mirror: npt.NDArray[np.bool_]
    color: npt.NDArray[np.void]
    gain: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    given: Mapping[str, Column] = field(default_factory=dict)
    drawn: dict[str, Column] = field(default_factory=dict)
    rejected: dict[int, str] = field(default_factory=dict)
    labels: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    widths: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        size: npt.NDArray[np.int32],
        draws: Draws,
        given: Mapping[str, Column] | None = None,
    ) -> BatchPlan:
        """A sketch that leaves images of (N, 2) `size` as they are."""
        count, given_size = len(size), size.astype(np.int64)
        frame = ResampleChain(np.clip(given_size, 1, LARGEST))
        sketch = cls(
            frame,
            draws,
            np.concatenate([np.zeros((count, 2), np.int64), frame.size], axis=1),
            np.zeros(count, bool),
            np.zeros(count, COLOR),
            np.ones(count, np.float32),
            np.zeros(count, np.float32),
            given or {},
        )
        sketch.bounded(given_size)
        return sketch

    def take(self, name: str, draw: Callable[[], Column]) -> Column:
        """(N, ...) values that are given under `name`, else drawn; noted either way."""
        values = np.asarray(self.given[name]) if name in self.given else draw()
        if values.dtype.kind == "f":
            values = values.astype(np.float32, copy=False)  # also what came through a text file
        self.drawn[name] = values
        return values

    def bounded(self, size: Sizes) -> Sizes:
        """(N, 2) `size` of pictures to come, cut to LARGEST; images that go beyond are rejected."""
        for place in np.flatnonzero((size > LARGEST).any(axis=1)).tolist():
            height, width = size[place].tolist()
            self.rejected.setdefault(
                place,
                f"image would become {width:.0f} x {height:.0f} pixels, and {LARGEST} are the most "
                "of a side",
            )
        return np.fmin(np.fmax(size, 1), LARGEST).astype(np.int64)

    def finish(self) -> None:
        """Let every step know its window; images with one of too many pixels are rejected."""
        self.frame.finish(self.crop)
        for step in self.frame.steps:
            pixels = step.box[:, 2:].prod(axis=1)
            for place in np.flatnonzero(step.active & (pixels > MOST_PIXELS)).tolist():
                self.rejected.setdefault(
                    place,
                    f"{pixels[place]} pixels would have to be made on the way, and {MOST_PIXELS} "
                    "are the most",
                )


class Op(ABC):
    """One augmentation: a frozen dataclass that checks itself, and adds to a sketch.

    Attributes:
        cost: What it adds to the work, for people.
    """

    cost: ClassVar[str]

    @abstractmethod
    def __call__(self, sketch: BatchPlan) -> None:
        """Add what every image of the batch gets."""

    def __str__(self) -> str:
        """The op with the parameters that are not at their defaults."""
        defaults = {field.name: field.default for field in fields(cast("Any", self))}
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"
