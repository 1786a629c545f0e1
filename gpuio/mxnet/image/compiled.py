"""Lists of augmenters as plans of compiled kernels.

Such a list resizes and crops, then mirrors, casts to float32 and changes colours, all by augmenters
of this package: the lists that `CreateAugmenter` makes, and most that are made by hand. Only the
drawing of random values is done in Python, in MXNet's order: image by image, augmenter by
augmenter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.kernels.float_color import MAP
from gpuio.mxnet.image import augmenters as a
from gpuio.mxnet.image.functions import choose
from gpuio.pipeline.plan import Plan
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.op import BatchPlan, Column, Op

Row = tuple[int, int, int, int, int, int, int]

_COLUMNS: Final = 7  # y, x, height, width, new height, new width, interpolation
_RGB_ORDER: Final = 1
_SAME: Final = np.eye(3, 4)


@dataclass(frozen=True, slots=True)
class DrawnWindows(Op):
    """Windows, sizes and mirrors that were drawn for each image beforehand.

    Attributes:
        shape: Height and width of the result, in pixels.
        count: Windows of each image, one after the other.
    """

    cost: ClassVar[str] = "a pass over each window that is resized"
    shape: tuple[int, int]
    count: int

    def __call__(self, batch: BatchPlan) -> None:
        count = len(batch.geometry.size)
        windows = batch.sample("windows", lambda _: _whole_pixels(count, self.count))
        for number in range(self.count):
            row = windows[:, number]
            batch.geometry.resize(row[:, 4:6], row[:, 6], row[:, :4])
            batch.geometry.steps[-1].fill = _RGB_ORDER
        nowhere = np.zeros(len(windows), bool)
        batch.geometry.mirror_images(batch.sample("mirror", lambda _: nowhere))
        if "colors" in batch.overrides:
            batch.sampled["colors"] = np.asarray(batch.overrides["colors"])


class Compiled:
    """A list of augmenters that kernels can run.

    Args:
        moving: The augmenters that resize and crop; they come first.
        coloring: The augmenters that mirror and change colours, without the cast.
        shape: 3, height and width of the result, in pixels.

    Attributes:
        maps_colors: Whether the colours of what `plan` makes are then mapped by "colors".
        plan: Everything else that is done to an image.
    """

    def __init__(
        self, moving: Sequence[Any], coloring: Sequence[Any], shape: tuple[int, int, int]
    ) -> None:
        self._moving, self._drawing, self._shape = moving, coloring, shape
        flips = [aug for aug in coloring if isinstance(aug, a.HorizontalFlipAug)]
        colors = [aug for aug in coloring if not isinstance(aug, a.HorizontalFlipAug)]
        self.maps_colors = bool(colors) and [type(aug) for aug in colors] != [a.ColorNormalizeAug]
        ops = (DrawnWindows(shape[1:], len(moving)),)
        if self.maps_colors:
            self.plan = Plan(ops, shape, "uint8", "NHWC")
        else:
            self.plan = Plan(ops, shape, normalization=_normalization(*colors))
            self._drawing = flips  # normalization draws nothing

    @classmethod
    def of(cls, augs: Sequence[Any], shape: tuple[int, int, int]) -> Compiled | None:
        """`augs` compiled, or None if kernels cannot run them."""
        moving: list[Any] = []
        coloring: list[Any] = []
        cast = False
        for aug in _flat(augs):
            if not a.is_own(aug):
                return None
            if _is_moving(aug) and not (coloring or cast):
                moving.append(aug)
            elif isinstance(aug, a.HorizontalFlipAug):
                coloring.append(aug)
            elif isinstance(aug, a.CastAug) and np.dtype(aug.typ) == np.float32:
                cast = True
            elif cast and _is_coloring(aug):
                coloring.append(aug)
            else:
                return None
        return cls(moving, coloring, shape)

    def draw(
        self,
        size: npt.NDArray[np.int32],
        valid: npt.NDArray[np.bool_],
        name: Callable[[int], str] = "image {}".format,
    ) -> dict[str, Column]:
        """Draw what each image gets, by the names under which `plan` samples it, and "colors".

        Args:
            size: (N, 2) heights and widths, in pixels.
            valid: (N,) bool, the images that could be read; nothing is drawn for the others.
            name: Gives the file and place of an image, from its place in the batch, for messages.

        Raises:
            FormatError: The augmenters make an image of another shape than that of the result.
        """
        windows = _whole_pixels(len(size), len(self._moving))
        windows[:, :1, 4:6] = self._shape[1:]
        windows[:, 1:, 2:6] = self._shape[1:] * 2
        mirror = np.zeros(len(size), bool)
        maps: list[list[a.ColorMap]] = [[] for _ in size]
        for place in np.flatnonzero(valid).tolist():
            height, width = size[place].tolist()
            try:
                self._draw_windows(height, width, windows[place])
            except ValueError as error:
                raise FormatError(f"{name(place)}: {error}") from None
            for aug in self._drawing:
                if isinstance(aug, a.HorizontalFlipAug):
                    mirror[place] ^= random.random() < aug.p
                else:
                    maps[place] += _color_maps(aug)
        columns: dict[str, Column] = {"windows": windows, "mirror": mirror}
        if self.maps_colors:
            columns["colors"] = _composed(maps)
        return columns

    def _draw_windows(self, height: int, width: int, rows: npt.NDArray[np.int64]) -> None:
        """Draw the windows of one image of a height and width into its rows."""
        for number, aug in enumerate(self._moving):
            rows[number] = row = _window(aug, height, width)
            height, width = row[4:6]
        if (height, width) != self._shape[1:]:
            raise ValueError(
                f"augmenters must make images of {self._shape[1:]}, as data_shape says, and made "
                f"one of {(height, width)}"
            )


def _whole_pixels(count: int, windows: int) -> npt.NDArray[np.int64]:
    """(count, windows, 7) int64 rows that keep images of one pixel as they are."""
    rows = np.zeros((count, windows, _COLUMNS), np.int64)
    rows[:, :, 2:6] = 1
    return rows


def _flat(augs: Sequence[Any]) -> Iterator[Any]:
    """The augmenters, with those of a `SequentialAug` in its place."""
    for aug in augs:
        if type(aug) is a.SequentialAug:
            yield from _flat(aug.ts)
        else:
            yield aug


def _is_moving(aug: Any) -> bool:
    """Whether `aug` resizes or crops, to whole numbers of pixels above 0."""
    if not isinstance(aug, a.Resizing | a.Cropping):
        return False
    sides = np.ravel(np.asarray(aug.size, object)).tolist()
    return all(isinstance(side, Integral) and int(side) > 0 for side in sides)


def _is_coloring(aug: Any) -> bool:
    """Whether `aug` changes colours in a way that is the same for all pixels."""
    if isinstance(aug, a.RandomOrderAug):
        return all(map(_is_coloring, aug.ts))
    if isinstance(aug, a.ColorNormalizeAug):
        given = [value for value in (aug.mean, aug.std) if value is not None]
        return all(np.shape(value) in ((), (1,), (3,)) for value in given)
    return isinstance(aug, a.Coloring)


def _normalization(aug: a.ColorNormalizeAug | None = None) -> Normalization:
    """The normalization of the only augmenter that changes colours, or none."""
    if aug is None:
        return Normalization()
    mean, std = aug.statistics()
    return Normalization((*mean.tolist(), 0), (*std.tolist(), 1))


def _window(aug: a.Resizing | a.Cropping, height: int, width: int) -> Row:
    """Draw the window that an augmenter takes of an image, its new size and the interpolation.

    Raises:
        ValueError: The window has no pixels.
    """
    if isinstance(aug, a.Resizing):
        goal = aug.target(height, width)
        return 0, 0, height, width, *goal, choose(aug.interp, (height, width, *goal))
    x0, y0, w, h = aug.box(height, width)
    new_width, new_height = aug.size
    if not (w and h):
        raise ValueError(f"an image of {width} x {height} has no window like {tuple(aug.size)}")
    method = 1
    if (w, h) != (new_width, new_height):
        method = choose(aug.interp, (h, w, new_height, new_width))
    return y0, x0, h, w, new_height, new_width, method


def _color_maps(aug: Any) -> list[a.ColorMap]:
    """Draw the maps of the next image, in the order in which an augmenter applies them."""
    if isinstance(aug, a.RandomOrderAug):
        random.shuffle(aug.ts)
        return [step for child in aug.ts for step in _color_maps(child)]
    drawn: a.ColorMap = aug.draw_map()
    return [drawn]


def _composed(steps: Sequence[Sequence[a.ColorMap]]) -> npt.NDArray[np.float64]:
    """(N, MAP) float64, the composition of all maps of each of N images."""
    count, length = len(steps), max((len(own) for own in steps), default=0)
    matrices = np.tile(_SAME, (count, length, 1, 1))
    lumas = np.zeros((count, length, 1, 1))
    for place, own in enumerate(steps):
        for number, (matrix, luma) in enumerate(own):
            matrices[place, number], lumas[place, number] = matrix, luma
    pixel = np.tile(np.eye(3), (count, 1, 1))
    mean, offset = np.zeros((count, 3, 3)), np.zeros((count, 3, 1))
    for number in range(length):
        matrix, shift = matrices[:, number, :, :3], matrices[:, number, :, 3:]
        gray = lumas[:, number] * np.broadcast_to(a.LUMA, (3, 3))
        mean = matrix @ mean + gray @ (pixel + mean)
        pixel = matrix @ pixel
        offset = matrix @ offset + gray @ offset + shift
    parts = [part.reshape(count, -1) for part in (pixel, mean, offset)]
    maps = np.concatenate(parts, axis=1)
    assert maps.shape == (count, MAP)
    return maps
