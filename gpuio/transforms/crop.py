"""Cut windows of the size of the output out of images.

Source: MXNet 1.9.1, src/io/image_aug_default.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gpuio.transforms import geometry
from gpuio.transforms.normalize import round_half_away
from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.random import Draw, Draws

_TRIES = 10
_F32 = np.float32


@dataclass(frozen=True, slots=True)
class Crop(Op):
    """A window of the output's size, in the middle or at random; small images are enlarged first.

    Oracle: MXNet 1.9.1, `rand_crop` of ImageRecordIter.

    Attributes:
        shape: Height and width of the output, in pixels.
        random: Whether the place of the window is random.
        inter_method: Interpolation for enlarging, 0 to 4, 9 by size, 10 random.
    """

    cost: ClassVar[str] = "free; up to two passes for images smaller than the crop"
    shape: tuple[int, int]
    random: bool = False
    inter_method: int = 1

    def __call__(self, batch: BatchPlan) -> None:
        chain, (height, width) = batch.geometry, self.shape
        if (chain.size < self.shape).any():
            goal = np.broadcast_to(np.array(self.shape), chain.size.shape)
            name, draw = "enlarge_interpolation", Draw.CROP_INTERPOLATION
            method = batch.interpolation(name, self.inter_method, chain.size, goal, draw)
            # Two resizes, each rounding to pixels: first to the height, then to the width.
            size = chain.size.copy()
            low = size[:, 0] < height
            size[low, 1] = _scaled(height, size[low, 0], size[low, 1])
            size[low, 0] = height
            chain.resize(batch.bounded(size), method)
            size = chain.size.copy()
            narrow = size[:, 1] < width
            size[narrow, 0] = _scaled(width, size[narrow, 1], size[narrow, 0])
            size[narrow, 1] = width
            size = np.maximum(size, self.shape)
            chain.resize(batch.bounded(size), method)
        chain.crop(_window(batch, np.array(self.shape), random=self.random))


@dataclass(frozen=True, slots=True)
class SquareCrop(Op):
    """A square of a random side, in the middle or at random, resized to the output.

    Images smaller than `longest` are rejected.

    Oracle: MXNet 1.9.1, `min_crop_size` and `max_crop_size` of ImageRecordIter.

    Attributes:
        shape: Height and width of the output, in pixels.
        shortest: Smallest side of the square, in pixels.
        longest: Largest side of the square, in pixels.
        random: Whether the place of the square is random.
        inter_method: Interpolation for resizing, 0 to 4, 9 by size, 10 random.
    """

    cost: ClassVar[str] = "a pass over the window"
    shape: tuple[int, int]
    shortest: int
    longest: int
    random: bool = False
    inter_method: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(
                "min_crop_size and max_crop_size must both be given, at least 1 and in order, "
                f"got {self.shortest} and {self.longest}"
            )

    def __call__(self, batch: BatchPlan) -> None:
        size = batch.geometry.size
        sides = self.shortest, self.longest
        side = batch.sample("crop_size", lambda draws: draws.integers(Draw.CROP_SIZE, *sides))
        side = np.clip(side, *sides)  # overrides may be anything
        fits = size.min(axis=1) >= self.longest
        for place in np.flatnonzero(~fits).tolist():
            height, width = size[place]
            batch.rejected[place] = (
                f"image of {width} x {height} pixels is smaller than max_crop_size={self.longest}"
            )
        window = _window(batch, np.stack([side, side], axis=1), random=self.random)
        _resize_window(batch, window, fits, self.shape, self.inter_method)
        Crop(self.shape)(batch)


@dataclass(frozen=True, slots=True)
class RandomResizedCrop(Op):
    """A window of random area and aspect ratio, resized to the output.

    Ten windows are tried; if none fits into the image, it gets a plain centre crop.

    Oracle: MXNet 1.9.1, `random_resized_crop` of ImageRecordIter.

    Attributes:
        shape: Height and width of the output, in pixels.
        area: Range of the area of the window, as a part of that of the image.
        ratio: Range of its width over its height; the two are exchanged for one half of the images.
        inter_method: Interpolation for resizing, 0 to 4, 9 by size, 10 random.
    """

    cost: ClassVar[str] = "a pass over the window"
    shape: tuple[int, int]
    area: tuple[float, float] = (1, 1)
    ratio: tuple[float, float] = (1, 1)
    inter_method: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError(
                "min_random_area and max_random_area must be more than 0 and in order, got "
                f"{self.area[0]} and {self.area[1]}"
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(
                "min_aspect_ratio and max_aspect_ratio must be more than 0 and in order, got "
                f"{self.ratio[0]} and {self.ratio[1]}"
            )

    def __call__(self, batch: BatchPlan) -> None:
        size = batch.geometry.size
        window = batch.sample("crop_window", lambda draws: self._windows(draws, size))
        window = np.minimum(window, size)  # overrides may be anything
        found = window[:, 0] > 0
        box = _window(batch, np.maximum(window, 1), random=True)
        _resize_window(batch, box, found, self.shape, self.inter_method)
        Crop(self.shape, inter_method=self.inter_method)(batch)

    def _windows(self, draws: Draws, size: geometry.Sizes) -> geometry.Sizes:
        """(N, 2) heights and widths of windows that fit; 0 where none does."""
        height, width = size.T
        window = np.zeros_like(size)
        tries = 0 if self.area == (1, 1) == self.ratio else _TRIES
        for number in range(tries):
            if window.all():
                break
            first = Draw.AREA_TRIES + 3 * number
            area = draws.uniform(first, *self.area) * (height * width).astype(_F32)
            ratio = draws.uniform(first + 1, *self.ratio)
            sides = np.sqrt(area / ratio), np.sqrt(area * ratio)
            high, wide = (round_half_away(side).astype(np.int64) for side in sides)
            swap = draws.uniform(first + 2) > _F32(0.5)
            high, wide = np.where(swap, wide, high), np.where(swap, high, wide)
            fits = (high <= height) & (wide <= width) & (high > 0) & (wide > 0)
            fits &= window[:, 0] == 0
            window[fits] = np.stack([high, wide], axis=1)[fits]
        return window


def _scaled(
    goal: int, side: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """`other` when `side` becomes `goal`, in float32 and cut."""
    return (_F32(goal) / side.astype(_F32) * other.astype(_F32)).astype(np.int64)


def _window(batch: BatchPlan, shape: geometry.Sizes, *, random: bool) -> geometry.Boxes:
    """(N, 4) windows of `shape` in the picture, in the middle or at random."""
    size = batch.geometry.size
    crop = np.empty((len(size), 4), np.int64)
    crop[:, 2:] = shape
    spare = np.maximum(size - shape, 0)
    crop[:, :2] = spare // 2
    if random:
        y = batch.sample("crop_y", lambda draws: draws.integers(Draw.CROP_Y, 0, spare[:, 0]))
        x = batch.sample("crop_x", lambda draws: draws.integers(Draw.CROP_X, 0, spare[:, 1]))
        crop[:, :2] = np.clip(np.stack([y, x], axis=1), 0, spare)  # overrides may be anything
    return crop


def _resize_window(
    batch: BatchPlan,
    crop: geometry.Boxes,
    where: npt.NDArray[np.bool_],
    shape: tuple[int, int],
    inter_method: int,
) -> None:
    """Resize the window `crop` to `shape` for the images `where`; the others stay as they are."""
    crop = np.where(where[:, None], crop, geometry.whole(batch.geometry.size))
    goal = np.where(where[:, None], shape, crop[:, 2:])
    name, draw = "crop_interpolation", Draw.CROP_INTERPOLATION
    method = batch.interpolation(name, inter_method, crop[:, 2:], goal, draw)
    batch.geometry.resize(goal, method, crop)
