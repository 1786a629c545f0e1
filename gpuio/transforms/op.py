"""What an augmentation is: parameters, and a call that adds its steps to the plan of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gpuio.kernels.steps import COLOR_STEP, ColorKind
from gpuio.transforms.geometry import (
    LARGEST,
    MOST_PIXELS,
    Kinds,
    ResampleChain,
    Sizes,
    choose,
)
from gpuio.transforms.random import Draw, Draws

Value = np.bool_ | np.int32 | np.int64 | np.uint64 | np.float32 | np.float64
Scalar = TypeVar("Scalar", bound=Value)
Column = npt.NDArray[Value]
"""(N, ...) values, one or more for each image."""
Changes = Literal["geometry", "colors", "labels", "output"]


@dataclass(slots=True)
class BatchPlan:
    """What happens to each image of one batch, in order; ops add to it.

    Attributes:
        geometry: What happens to pixels, step by step, colours included.
        draws: Random numbers of the batch.
        present: (N,) bool, images whose headers could be read.
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
    present: npt.NDArray[np.bool_]
    gain: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
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
        """A plan that leaves images of (N, 2) `size` as they are; 0 where there is no image."""
        count, wanted = len(size), size.astype(np.int64)
        chain = ResampleChain(np.clip(wanted, 1, LARGEST))
        batch = cls(
            chain,
            draws,
            size.min(axis=1) > 0,
            np.ones(count, np.float32),
            np.zeros(count, np.float32),
            overrides or {},
        )
        batch.bounded(wanted)
        return batch

    def sample(
        self, name: str, draw: Callable[[Draws], npt.NDArray[Scalar]]
    ) -> npt.NDArray[Scalar]:
        """Values that an op needs: those of `overrides`, or else random ones.

        Args:
            name: What they are. An op that is not the first to use a name gets random numbers of
                its own, under the name with _2, _3, ... behind it.
            draw: Makes (N, ...) values of random numbers.

        Raises:
            ValueError: The values of `overrides` are no numbers.
        """
        uses = 1
        while (own := name if uses == 1 else f"{name}_{uses}") in self.sampled:
            uses += 1
        values: Column
        if own in self.overrides:
            values = np.asarray(self.overrides[own])
            if values.dtype.kind not in "biuf":
                raise ValueError(f"{own!r} must be numbers, got an array of {values.dtype}")
        else:
            values = draw(self.draws.again(uses - 1))
        if values.dtype.kind == "f":
            values = values.astype(np.float32, copy=False)  # a text file may have made float64
        self.sampled[own] = values
        return cast("npt.NDArray[Scalar]", values)

    def interpolation(
        self, name: str, method: int, source: Sizes, size: Sizes, draw: Draw
    ) -> Kinds:
        """(N,) interpolations that `inter_method` means from `source` to `size`, under `name`."""
        return self.choice(name, 5, lambda draws: choose(method, source, size, draws, draw))

    def choice(self, name: str, count: int, draw: Callable[[Draws], Kinds]) -> Kinds:
        """(N,) numbers below `count` that an op needs, as `sample` gives them.

        Raises:
            ValueError: There are other numbers in `overrides`.
        """
        values = self.sample(name, draw)
        if self.overrides and not ((values >= 0) & (values < count)).all():
            raise ValueError(f"{name!r} must be in [0, {count - 1}], got {values.tolist()}")
        return values.astype(np.int64)

    def add_color(
        self,
        kind: ColorKind | npt.NDArray[np.int64],
        a: npt.ArrayLike = 0,
        b: npt.ArrayLike = 0,
        c: npt.ArrayLike = 0,
    ) -> None:
        """Change the colours of each image as it is at this point.

        Args:
            kind: One for all images, or (N,); NONE where an image has no such step.
            a: Parameter of the kind, see `ColorKind`, one for all images or (N,).
            b: Its second parameter.
            c: Its third parameter.
        """
        color = np.zeros(len(self.gain), COLOR_STEP)
        color["kind"], color["a"], color["b"], color["c"] = kind, a, b, c
        self.geometry.add_color(color)

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

    def check_size(self, shape: tuple[int, int]) -> None:
        """Raise ValueError if ops make images of another (height, width) in pixels than `shape`."""
        others = (self.geometry.size != shape).any(axis=1) & self.present
        others[[*self.rejected]] = False
        if others.any():
            height, width = self.geometry.size[others][0].tolist()
            raise ValueError(
                f"the ops of the plan make an image of {height} x {width} pixels, and the output "
                f"has {shape[0]} x {shape[1]}: let the last one that moves pixels be a crop"
            )

    def finish(self) -> None:
        """Compute the window of every step; images with a window too large are rejected."""
        self.geometry.finish()
        for step in self.geometry.steps:
            pixels = step.box[:, 2] * step.box[:, 3]
            large = np.flatnonzero(pixels > MOST_PIXELS)
            for place in large[step.active[large]].tolist() if len(large) else ():
                self.rejected.setdefault(
                    place,
                    f"{pixels[place]} pixels would have to be made on the way, and {MOST_PIXELS} "
                    "are the most",
                )

    def for_masks(self, fill: int) -> BatchPlan:
        """The finished plan of the masks of these images: the same geometry, no colours.

        Pixels are the nearest ones, `fill` lies outside of a picture, and values stay as they are.
        """
        return replace(
            self,
            geometry=self.geometry.for_masks(fill),
            gain=np.ones_like(self.gain),
            offset=np.zeros_like(self.offset),
        )


def format_value(value: object) -> str:
    """A parameter as plans print it; floats with the digits that float32 has."""
    if isinstance(value, tuple):
        return f"({', '.join(map(format_value, value))}{',' * (len(value) == 1)})"
    return repr(float(str(np.float32(value)))) if isinstance(value, float) else repr(value)


@dataclass(frozen=True, slots=True)
class Op(ABC):
    """One augmentation: a frozen dataclass that checks itself, and adds to a `BatchPlan`.

    Attributes:
        cost: How much work it adds, in words, for `print(loader.plan)`. A pass or a loop visits
            each pixel of the window, which is the part of an image that is decoded, or of the
            picture, which is the output.
        changes: What of an image it changes.
        last_of: What no later op may change; `Plan` refuses such an order.
    """

    cost: ClassVar[str]
    changes: ClassVar[Changes] = "geometry"
    last_of: ClassVar[tuple[Changes, ...]] = ()

    @property
    def is_fixed(self) -> bool:
        """Whether it adds one step alone, a resize of whole images that is the same each time."""
        return False

    @property
    def least_edge(self) -> int | None:
        """What it makes of the shorter edge of images, in pixels, whatever their size; else None.

        As the first op it may then be given images that were decoded to a smaller size than theirs.
        """
        return None

    @abstractmethod
    def __call__(self, batch: BatchPlan) -> None:
        """Add to `batch` what happens to each of its images."""

    def __str__(self) -> str:
        """The op with the parameters that are not at their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        shown = [
            f"{name}={format_value(getattr(self, name))}"
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"
