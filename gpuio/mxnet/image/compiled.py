"""Lists of augmenters that kernels can run.

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
from gpuio.mxnet.image.functions import resolve_interp
from gpuio.pipeline.plan import Plan
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.op import BatchPlan, Column, Op

WindowRow = tuple[int, int, int, int, int, int, int]
"""y, x, height and width of a window, its new height and width, and the interpolation."""

_COLUMNS: Final = 7  # of a `WindowRow`
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
        batch.geometry.mirror_images(batch.sample("mirror", lambda _: np.zeros(count, bool)))
        if "colors" in batch.overrides:
            batch.sampled["colors"] = np.asarray(batch.overrides["colors"])


class CompiledAugmenters:
    """A list of augmenters that kernels can run.

    Args:
        resampling: The augmenters that resize and crop; they come first.
        others: The augmenters that mirror and change colours, without the cast.
        shape: 3, height and width of the result, in pixels.

    Attributes:
        maps_colors: Whether `map_colors` then maps the colours by "colors", which `draw` draws.
        plan: Everything else that is done to an image.
    """

    def __init__(
        self,
        resampling: Sequence[a.Resizing | a.Cropping],
        others: Sequence[a.Augmenter],
        shape: tuple[int, int, int],
    ) -> None:
        self._resampling, self._shape = resampling, shape
        ops = (DrawnWindows(shape[1:], len(resampling)),)
        flips = [aug for aug in others if isinstance(aug, a.HorizontalFlipAug)]
        colors = [aug for aug in others if not isinstance(aug, a.HorizontalFlipAug)]
        if not colors:
            self.plan = Plan(ops, shape)
        elif len(colors) == 1 and isinstance(colors[0], a.ColorNormalizeAug):
            mean, std = (tuple(values.tolist()) for values in colors[0].statistics())
            self.plan = Plan(ops, shape, normalization=Normalization((*mean, 0), (*std, 1)))
            colors = []  # normalization draws nothing
        else:
            self.plan = Plan(ops, shape, "uint8", "NHWC")
        self.maps_colors = bool(colors)
        self._drawing = others if colors else flips

    @classmethod
    def of(cls, augs: Sequence[Any], shape: tuple[int, int, int]) -> CompiledAugmenters | None:
        """`augs` compiled, or None if kernels cannot run them."""
        resampling: list[a.Resizing | a.Cropping] = []
        others: list[a.Augmenter] = []
        cast = False
        for aug in _flat(augs):
            if not a.is_own(aug):
                return None
            if isinstance(aug, a.Resizing | a.Cropping):
                if others or cast or not _has_size(aug):
                    return None
                resampling.append(aug)
            elif isinstance(aug, a.CastAug):
                if np.dtype(aug.typ) != np.float32:
                    return None
                cast = True
            elif isinstance(aug, a.HorizontalFlipAug) or (cast and _maps_colors(aug)):
                others.append(aug)
            else:
                return None
        return cls(resampling, others, shape)

    def draw(
        self,
        size: npt.NDArray[np.int32],
        valid: npt.NDArray[np.bool_],
        name: Callable[[int], str],
    ) -> dict[str, Column]:
        """Draw what each image gets, by the names under which `plan` samples it, and "colors".

        Args:
            size: (N, 2) heights and widths, in pixels.
            valid: (N,) bool, the images that could be read; nothing is drawn for the others.
            name: Gives the file and place of an image, from its place in the batch, for messages.

        Raises:
            FormatError: The augmenters make an image of another shape than that of the result.
        """
        windows = _whole_pixels(len(size), len(self._resampling))
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
        for number, aug in enumerate(self._resampling):
            rows[number] = row = _window(aug, height, width)
            height, width = row[4:6]
        if (height, width) != self._shape[1:]:
            raise ValueError(
                f"augmenters must make images of {self._shape[1:]}, as data_shape says, and made "
                f"one of {(height, width)}"
            )


def _whole_pixels(count: int, windows: int) -> npt.NDArray[np.int64]:
    """(count, windows, 7) int64 `WindowRow`s that keep images of one pixel as they are."""
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


def _has_size(aug: a.Resizing | a.Cropping) -> bool:
    """Whether an augmenter makes images of a whole number of pixels above 0."""
    sides = np.ravel(np.asarray(aug.size, object)).tolist()
    return all(isinstance(side, Integral) and int(side) > 0 for side in sides)


def _maps_colors(aug: a.Augmenter) -> bool:
    """Whether `aug` changes colours in a way that is the same for all pixels."""
    if isinstance(aug, a.RandomOrderAug):
        return all(map(_maps_colors, aug.ts))
    if isinstance(aug, a.ColorNormalizeAug):
        given = [value for value in (aug.mean, aug.std) if value is not None]
        return all(np.shape(value) in ((), (1,), (3,)) for value in given)
    return isinstance(aug, a.Coloring)


def _window(aug: a.Resizing | a.Cropping, height: int, width: int) -> WindowRow:
    """Draw the window that an augmenter takes of an image, its new size and the interpolation.

    Raises:
        ValueError: The window has no pixels.
    """
    if isinstance(aug, a.Resizing):
        goal = aug.target(height, width)
        return 0, 0, height, width, *goal, resolve_interp(aug.interp, (height, width, *goal))
    x0, y0, w, h = aug.box(height, width)
    new_width, new_height = aug.size
    if not (w and h):
        raise ValueError(f"an image of {width} x {height} has no window like {tuple(aug.size)}")
    interp = 1
    if (w, h) != (new_width, new_height):
        interp = resolve_interp(aug.interp, (h, w, new_height, new_width))
    return y0, x0, h, w, new_height, new_width, interp


def _color_maps(aug: a.Augmenter) -> list[a.ColorMap]:
    """Draw the maps of the next image, in the order in which an augmenter applies them."""
    if isinstance(aug, a.RandomOrderAug):
        random.shuffle(aug.ts)
        return [step for child in aug.ts for step in _color_maps(child)]
    assert isinstance(aug, a.Coloring)
    return [aug.draw_map()]


def _composed(maps: Sequence[Sequence[a.ColorMap]]) -> npt.NDArray[np.float64]:
    """(N, MAP) float64, the composition of all maps of each of N images."""
    count, length = len(maps), max((len(own) for own in maps), default=0)
    matrices = np.tile(_SAME, (count, length, 1, 1))
    lumas = np.zeros((count, length, 1, 1))
    for place, own in enumerate(maps):
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
    composed = np.concatenate([part.reshape(count, -1) for part in (pixel, mean, offset)], axis=1)
    assert composed.shape == (count, MAP)
    return composed
