"""Lists of augmenters as plans of compiled kernels.

Such a list resizes and crops, then mirrors, casts to float32 and changes colours, all by
augmenters of this package: what `CreateAugmenter` makes, and most of what is made by hand. Only
what they draw is done in Python, in MXNet's order: image by image, augmenter by augmenter.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from gpuio.errors import FormatError
from gpuio.kernels.float_color import MAP
from gpuio.mxnet.image import augmenters as a
from gpuio.mxnet.image.functions import center_box, random_box, random_size_box, short_size
from gpuio.mxnet.image.interpolation import choose
from gpuio.pipeline.plan import Plan
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.op import BatchPlan, Column, Op

if TYPE_CHECKING:
    import numpy.typing as npt

    Row = tuple[int, int, int, int, int, int, int]
    Step = tuple[npt.NDArray[np.float64], float]

_MOVING: Final = (
    a.ResizeAug,
    a.ForceResizeAug,
    a.RandomCropAug,
    a.CenterCropAug,
    a.RandomSizedCropAug,
)
_COLORING: Final = (
    a.BrightnessJitterAug,
    a.ContrastJitterAug,
    a.SaturationJitterAug,
    a.HueJitterAug,
    a.LightingAug,
    a.RandomGrayAug,
    a.ColorNormalizeAug,
)
_MIXING: Final = (a.RandomOrderAug, a.ColorJitterAug)
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
        windows = batch.sample("windows", lambda _: _nothing(len(batch.geometry.size), self.count))
        for number in range(self.count):
            row = windows[:, number]
            batch.geometry.resize(row[:, 4:6], row[:, 6], row[:, :4])
            batch.geometry.steps[-1].fill = _RGB_ORDER
        batch.mirror[:] = batch.sample("mirror", lambda _: batch.mirror)
        batch.crop = np.zeros((len(windows), 4), np.int64)
        batch.crop[:, 2:] = self.shape
        if "colors" in batch.overrides:
            batch.sampled["colors"] = np.asarray(batch.overrides["colors"])


class Compiled:
    """A list of augmenters that kernels can do.

    Args:
        moving: Those that resize and crop.
        coloring: Those that follow, without the cast.
        shape: 3, height and width of the result, in pixels.

    Attributes:
        maps_colors: Whether there are colours to be mapped when the rest is done.
        plan: All that is done but for those colours.
    """

    def __init__(
        self, moving: Sequence[Any], coloring: Sequence[Any], shape: tuple[int, int, int]
    ) -> None:
        self._moving, self._coloring, self._shape = moving, coloring, shape
        colors = [aug for aug in coloring if type(aug) is not a.HorizontalFlipAug]
        self.maps_colors = bool(colors) and [type(aug) for aug in colors] != [a.ColorNormalizeAug]
        ops = (DrawnWindows(shape[1:], len(moving)),)
        if self.maps_colors:
            self.plan = Plan(ops, shape, "uint8", "NHWC")
        else:
            self.plan = Plan(ops, shape, normalization=_normalization(colors))

    @classmethod
    def of(cls, augs: Sequence[Any], shape: tuple[int, int, int]) -> Compiled | None:
        """`augs` compiled, or None where that cannot be."""
        moving: list[Any] = []
        coloring: list[Any] = []
        cast = False
        for aug in _flat(augs):
            kind = type(aug)
            if kind in _MOVING and not (coloring or cast) and _is_plain(aug):
                moving.append(aug)
            elif kind is a.HorizontalFlipAug:
                coloring.append(aug)
            elif kind is a.CastAug and np.dtype(aug.typ) == np.float32:
                cast = True
            elif cast and _is_coloring(aug):
                coloring.append(aug)
            else:
                return None
        return cls(moving, coloring, shape)

    def draw(
        self,
        size: npt.NDArray[np.int32],
        sound: npt.NDArray[np.bool_],
        name: Callable[[int], str] = "image {}".format,
    ) -> dict[str, Column]:
        """What each image gets, by the names under which `plan` and `color` take it.

        Args:
            size: (N, 2) heights and widths, in pixels.
            sound: (N,) bool, images that can be had: nothing is drawn for the others.
            name: The file and place of an image, by its place here, for messages.

        Raises:
            FormatError: An image does not get the shape of the result.
        """
        windows = _nothing(len(size), len(self._moving))
        windows[:, :1, 4:6] = self._shape[1:]
        windows[:, 1:, 2:6] = self._shape[1:] * 2
        mirror = np.zeros(len(size), bool)
        steps: list[list[Step]] = []
        for place, (height, width) in enumerate(size.tolist()):
            drawn: list[Step] = []
            steps.append(drawn)
            if not sound[place]:
                continue
            for number, aug in enumerate(self._moving):
                try:
                    row = _window(aug, height, width)
                except ValueError as error:
                    raise FormatError(f"{name(place)}: {error}") from None
                windows[place, number] = row
                height, width = row[4:6]
            if (height, width) != self._shape[1:]:
                raise FormatError(
                    f"{name(place)}: augmenters must make images of {self._shape[1:]}, as "
                    f"data_shape says, and made one of {(height, width)}"
                )
            for aug in self._coloring:
                if type(aug) is a.HorizontalFlipAug:
                    mirror[place] ^= random.random() < aug.p
                else:
                    drawn += _color_steps(aug)
        columns: dict[str, Column] = {"windows": windows, "mirror": mirror}
        if self.maps_colors:
            columns["colors"] = _composed(steps)
        return columns


def _nothing(count: int, windows: int) -> npt.NDArray[np.int64]:
    """(count, windows, 7) rows that leave pictures of one pixel as they are."""
    rows = np.zeros((count, windows, _COLUMNS), np.int64)
    rows[:, :, 2:6] = 1
    return rows


def _flat(augs: Sequence[Any]) -> Iterator[Any]:
    for aug in augs:
        if type(aug) is a.SequentialAug:
            yield from _flat(aug.ts)
        else:
            yield aug


def _is_plain(aug: Any) -> bool:
    """Whether the size that `aug` makes is of whole numbers above 0."""
    sides = [aug.size] if type(aug) is a.ResizeAug else list(aug.size)
    return all(isinstance(side, Integral) and int(side) > 0 for side in sides)


def _is_coloring(aug: Any) -> bool:
    if type(aug) is a.ColorNormalizeAug:
        given = [value for value in (aug.mean, aug.std) if value is not None]
        return all(np.shape(value) in ((), (1,), (3,)) for value in given)
    if type(aug) in _MIXING:
        return all(_is_coloring(child) for child in aug.ts)
    return type(aug) in _COLORING


def _normalization(colors: Sequence[Any]) -> Normalization:
    """That of the only augmenter that changes colours, or none."""
    if not colors:
        return Normalization()
    mean, std = _three(colors[0].mean, 0), _three(colors[0].std, 1)
    return Normalization((*mean.tolist(), 0), (*std.tolist(), 1))


def _three(values: Any, default: float) -> npt.NDArray[np.float64]:
    return np.broadcast_to(np.asarray(default if values is None else values, np.float64), 3)


def _window(aug: Any, height: int, width: int) -> Row:
    """What an augmenter does to an image of a height and width."""
    kind, interp = type(aug), aug.interp
    if kind in (a.ResizeAug, a.ForceResizeAug):
        goal = short_size(height, width, aug.size) if kind is a.ResizeAug else aug.size[::-1]
        method = choose(interp, (height, width, *goal))
        return 0, 0, height, width, *goal, method
    if kind is a.RandomCropAug:
        x0, y0, w, h = random_box(height, width, aug.size)
    elif kind is a.CenterCropAug:
        x0, y0, w, h = center_box(height, width, aug.size)
    else:
        x0, y0, w, h = random_size_box(height, width, aug.size, aug.area, aug.ratio)
    new_width, new_height = aug.size
    if not (w and h):
        raise ValueError(f"an image of {width} x {height} has no window like {tuple(aug.size)}")
    method = 1
    if (w, h) != (new_width, new_height):
        method = choose(interp, (h, w, new_height, new_width))
    return y0, x0, h, w, new_height, new_width, method


def _color_steps(aug: Any) -> list[Step]:
    """What an augmenter does to the colours of one image.

    Returns:
        Steps, each a (3, 4) matrix that maps (R, G, B, 1), and the part of the image's mean luma
        that is added.
    """
    kind = type(aug)
    if kind in _MIXING:
        random.shuffle(aug.ts)
        return [step for child in aug.ts for step in _color_steps(child)]
    matrix, luma = _SAME.copy(), 0.0
    if kind is a.BrightnessJitterAug:
        matrix *= 1.0 + random.uniform(-aug.brightness, aug.brightness)
    elif kind is a.ContrastJitterAug:
        alpha = 1.0 + random.uniform(-aug.contrast, aug.contrast)
        matrix *= alpha
        luma = 1.0 - alpha
    elif kind is a.SaturationJitterAug:
        alpha = 1.0 + random.uniform(-aug.saturation, aug.saturation)
        matrix *= alpha
        matrix[:, :3] += (1.0 - alpha) * np.asarray(a.LUMA)
    elif kind is a.HueJitterAug:
        matrix[:, :3] = aug.matrix(random.uniform(-aug.hue, aug.hue) * math.pi)
    elif kind is a.LightingAug:
        matrix[:, 3] = aug.draw()
    elif kind is a.RandomGrayAug:
        if random.random() < aug.p:
            matrix[:, :3] = np.asarray(aug.mat).T
    else:
        mean, std = _three(aug.mean, 0), _three(aug.std, 1)
        matrix[:, :3] /= std[:, None]
        matrix[:, 3] = -mean / std
    return [(matrix, luma)]


def _composed(steps: Sequence[Sequence[Step]]) -> npt.NDArray[np.float64]:
    """(N, MAP) maps that do all steps of each of N images; none where it has none."""
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
