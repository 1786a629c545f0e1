"""Augmenters of images with boxes, and the list of them that `ImageDetIter` uses.

A label is an (objects, 5 or more) float array: class, xmin, ymin, xmax, ymax, and further values;
coordinates are fractions of the width and height. Random values are drawn from Python's `random`,
in MXNet's order.

Unlike MXNet 1.9.1 on purpose: `DetRandomCropAug` and `DetRandomPadAug` do nothing, with a warning,
if their ranges make no sense (MXNet means to warn, but its warning fails with a TypeError); a
number as `pad_val` is the value of all three channels.

Source: MXNet 1.9.1, python/mxnet/image/detection.py.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from numbers import Real
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.core.signatures import suggest
from gpuio.mxnet import advice
from gpuio.mxnet.image.augmenters import (
    Augmenter,
    ColorNormalizeAug,
    Described,
    ForceResizeAug,
    ResizeAug,
    SharedOptions,
    color_augmenters,
    mirrored,
    statistics,
)
from gpuio.mxnet.image.functions import copyMakeBorder, fixed_crop

Image = npt.NDArray[Any]
Label = npt.NDArray[Any]
Box = tuple[int, int, int, int]
Range = Sequence[float]

_ISOLATED_CONSTANT: Final = 16
_TINY: Final = 2  # pixels, below which neither objects nor windows count


class DetAugmenter(Described):
    """Base of augmenters of images with boxes."""

    def __call__(self, src: Image, label: Label) -> tuple[Image, Label]:
        """The augmented image and label."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, src, label)")


class DetBorrowAug(DetAugmenter):
    """An `Augmenter` that leaves boxes where they are."""

    def __init__(self, augmenter: Augmenter) -> None:
        if not isinstance(augmenter, Augmenter):
            raise TypeError(f"augmenter must be an Augmenter, got {type(augmenter).__name__}")
        super().__init__(augmenter=augmenter.dumps())
        self.augmenter = augmenter

    def dumps(self) -> list[Any]:
        """A list: the name of the class in lower case, and the `dumps` of the augmenter."""
        return [type(self).__name__.lower(), self.augmenter.dumps()]

    def __call__(self, src: Image, label: Label) -> tuple[Image, Label]:
        return self.augmenter(src), label


class DetRandomSelectAug(DetAugmenter):
    """One of `aug_list` at random, or none with probability `skip_prob`.

    As in MXNet, the list itself is shuffled.
    """

    def __init__(self, aug_list: Any, skip_prob: float = 0) -> None:
        super().__init__(skip_prob=skip_prob)
        augs = aug_list if isinstance(aug_list, list | tuple) else [aug_list]
        for aug in augs:
            if not isinstance(aug, DetAugmenter):
                raise ValueError(f"aug_list must hold DetAugmenters, got {type(aug).__name__}")  # noqa: TRY004  as in mxnet
        self.aug_list: list[DetAugmenter] = augs if isinstance(augs, list) else list(augs)
        self.skip_prob = skip_prob if augs else 1

    def dumps(self) -> list[Any]:
        """A list: the name of the class in lower case, and the `dumps` of `aug_list`."""
        return [type(self).__name__.lower(), [aug.dumps() for aug in self.aug_list]]

    def __call__(self, src: Image, label: Label) -> tuple[Image, Label]:
        if random.random() < self.skip_prob:
            return src, label
        random.shuffle(self.aug_list)
        return self.aug_list[0](src, label)


class DetHorizontalFlipAug(DetAugmenter):
    """Mirror left to right with probability `p`; the label is changed in place."""

    def __init__(self, p: float) -> None:
        super().__init__(p=p)
        self.p = p

    def __call__(self, src: Image, label: Label) -> tuple[Image, Label]:
        if random.random() < self.p:
            src = mirrored(src)
            label[:, (1, 3)] = 1 - label[:, (3, 1)]
        return src, label


class _RandomBoxAug(DetAugmenter):
    """Base of augmenters that draw boxes until one is good enough.

    Without a good one in `max_attempts`, image and label stay as they are.

    Args:
        least_area: Where no area of the range is above this, the augmenter does nothing, and warns.
        **described: The arguments that `dumps` tells, both ranges and `max_attempts` among them.
    """

    def __init__(self, *, least_area: float, **described: Any) -> None:
        for name in ("aspect_ratio_range", "area_range"):
            described[name] = _pair(name, described[name])
        super().__init__(**described)
        ratios, areas = described["aspect_ratio_range"], described["area_range"]
        self.aspect_ratio_range: Range = ratios
        self.area_range: Range = areas
        self.max_attempts: int = described["max_attempts"]
        valid_areas = least_area < areas[1] and areas[0] <= areas[1]
        self.enabled = valid_areas and 0 < ratios[0] <= ratios[1]
        if not self.enabled:
            name = "aspect_ratio_range" if valid_areas else "area_range"
            does_nothing = f"{type(self).__name__} does nothing"
            advice.warn(f"{does_nothing}: invalid {name} {described[name]}")

    def __call__(self, src: Image, label: Label) -> tuple[Image, Label]:
        height, width = src.shape[:2]
        if self.enabled and height > 0 and width > 0:
            for _ in range(self.max_attempts):
                box = self._propose(height, width)
                augmented = None if box is None else self._try(src, label, box)
                if augmented is not None:
                    return augmented
        return src, label

    def _propose(self, height: int, width: int) -> Box | None:
        """Draw a box (x, y, width, height) for an image; None if one of this shape does not fit."""
        raise NotImplementedError

    def _try(self, src: Image, label: Label, box: Box) -> tuple[Image, Label] | None:
        """The augmented image and label, or None if the box is not good enough."""
        raise NotImplementedError

    def _draw_shape(self, height: int, width: int) -> tuple[float, float, float]:
        """The smallest and the largest area, in pixels, and an aspect ratio that is drawn."""
        least, most = (area * height * width for area in self.area_range)
        return least, most, random.uniform(*self.aspect_ratio_range)


class DetRandomCropAug(_RandomBoxAug):
    """Crop a random window that shows enough of the objects in it.

    Args:
        min_object_covered: The fraction that the window must show of every object it meets.
        aspect_ratio_range: Smallest and largest width / height, or the only one.
        area_range: Smallest and largest area, as fractions of the image, or the only one.
        min_eject_coverage: Objects of which no more than this fraction is shown are dropped.
        max_attempts: How many windows are tried.
    """

    def __init__(
        self,
        min_object_covered: float = 0.1,
        aspect_ratio_range: float | Range = (0.75, 1.33),
        area_range: float | Range = (0.05, 1.0),
        min_eject_coverage: float = 0.3,
        max_attempts: int = 50,
    ) -> None:
        super().__init__(
            least_area=0,
            min_object_covered=min_object_covered,
            aspect_ratio_range=aspect_ratio_range,
            area_range=area_range,
            min_eject_coverage=min_eject_coverage,
            max_attempts=max_attempts,
        )
        self.min_object_covered = min_object_covered
        self.min_eject_coverage = min_eject_coverage

    def _try(self, src: Image, label: Label, box: Box) -> tuple[Image, Label] | None:
        cropped = self._crop_label(label, box, *src.shape[:2])
        return None if cropped is None else (fixed_crop(src, *box), cropped)

    def _propose(self, height: int, width: int) -> Box | None:
        least, most, ratio = self._draw_shape(height, width)
        h, max_h = round(math.sqrt(least / ratio)), round(math.sqrt(most / ratio))
        if round(max_h * ratio) > width:
            max_h = int((width + 0.4999999) / ratio)
        max_h = min(max_h, height)
        h = min(h, max_h)
        if h < max_h:
            h = random.randint(h, max_h)
        w = round(h * ratio)
        if w * h < least:
            h += 1
            w = round(h * ratio)
        if w * h > most:
            h -= 1
            w = round(h * ratio)
        if not (least <= w * h <= most and 0 <= w <= width and 0 <= h <= height):
            return None
        y = random.randint(0, height - h)
        x = random.randint(0, width - w)
        return x, y, w, h

    def _crop_label(self, label: Label, box: Box, height: int, width: int) -> Label | None:
        """The label of a window; None if the window shows too little of the objects."""
        x, y, w, h = box
        if w * h < _TINY:
            return None
        left, top, right, bottom = x / width, y / height, (x + w) / width, (y + h) / height
        areas = _areas(label[:, 1:5])
        large = areas * width * height > _TINY
        seen = label[large, 1:5]
        seen[:, :2] = np.maximum(seen[:, :2], (left, top))
        seen[:, 2:] = np.minimum(seen[:, 2:], (right, bottom))
        parts = _areas(seen) / areas[large]
        parts = parts[parts > 0]
        if not parts.size or parts.min() <= self.min_object_covered:
            return None
        out = label.copy()
        out[:, (1, 3)] -= left
        out[:, (2, 4)] -= top
        out[:, (1, 3)] /= w / width
        out[:, (2, 4)] /= h / height
        out[:, 1:5] = np.clip(out[:, 1:5], 0, 1)
        with np.errstate(divide="ignore", invalid="ignore"):  # an object may have no area
            left_over = _areas(out[:, 1:5]) * (w / width) * (h / height) / areas
        keep = have_area(out) & (left_over > self.min_eject_coverage)
        return out[keep] if keep.any() else None


class DetRandomPadAug(_RandomBoxAug):
    """Put the image at a random place on a larger canvas of random size.

    Args:
        aspect_ratio_range: Smallest and largest width / height of the canvas, or the only one.
        area_range: Smallest and largest area of the canvas, in areas of the image, or the only one.
        max_attempts: How many canvases are tried.
        pad_val: Colour of the canvas: one value, or one for each channel.
    """

    def __init__(
        self,
        aspect_ratio_range: float | Range = (0.75, 1.33),
        area_range: float | Range = (1.0, 3.0),
        max_attempts: int = 50,
        pad_val: float | Sequence[float] = (128, 128, 128),
    ) -> None:
        super().__init__(
            least_area=1,
            aspect_ratio_range=aspect_ratio_range,
            area_range=area_range,
            max_attempts=max_attempts,
            pad_val=pad_val,
        )
        self.pad_val = pad_val

    def _try(self, src: Image, label: Label, box: Box) -> tuple[Image, Label]:
        (x, y, w, h), (height, width) = box, src.shape[:2]
        out = label.copy()
        out[:, (1, 3)] = (out[:, (1, 3)] * width + x) / w
        out[:, (2, 4)] = (out[:, (2, 4)] * height + y) / h
        values: Any = (self.pad_val,) * 3 if isinstance(self.pad_val, Real) else self.pad_val
        sides = y, h - y - height, x, w - x - width
        return copyMakeBorder(src, *sides, type=_ISOLATED_CONSTANT, values=values), out

    def _propose(self, height: int, width: int) -> Box | None:
        least, most, ratio = self._draw_shape(height, width)
        h, max_h = round(math.sqrt(least / ratio)), round(math.sqrt(most / ratio))
        if round(h * ratio) < width:
            h = int((width + 0.499999) / ratio)
        h = min(max(h, height), max_h)
        if h < max_h:
            h = random.randint(h, max_h)
        w = round(h * ratio)
        if h - height < _TINY or w - width < _TINY:
            return None
        y = random.randint(0, h - height)
        x = random.randint(0, w - width)
        return x, y, w, h


@suggest
def CreateMultiRandCropAugmenter(
    min_object_covered: float | list[float] = 0.1,
    aspect_ratio_range: Any = (0.75, 1.33),
    area_range: Any = (0.05, 1.0),
    min_eject_coverage: float | list[float] = 0.3,
    max_attempts: int | list[int] = 50,
    skip_prob: float = 0,
) -> DetRandomSelectAug:
    """One of several `DetRandomCropAug` at random, or none with probability `skip_prob`.

    All other arguments are those of `DetRandomCropAug`. Each may be a list, with one value for each
    of the augmenters, or one for all.
    """
    given = min_object_covered, aspect_ratio_range, area_range, min_eject_coverage, max_attempts
    lists = [value if isinstance(value, list) else [value] for value in given]
    count = max(map(len, lists))
    for values in lists:
        assert len(values) in (1, count), f"lists of {count} values or of 1 expected, got {values}"
    rows = zip(*(values * count if len(values) == 1 else values for values in lists), strict=True)
    return DetRandomSelectAug([DetRandomCropAug(*row) for row in rows], skip_prob=skip_prob)


class DetAugmenterOptions(SharedOptions, total=False):
    """The keywords of `CreateDetAugmenter`."""

    rand_crop: float
    rand_pad: float
    min_object_covered: float | list[float]
    aspect_ratio_range: Any
    area_range: Any
    min_eject_coverage: float | list[float]
    max_attempts: int
    pad_val: float | Sequence[float]


@suggest
def CreateDetAugmenter(  # noqa: PLR0913, PLR0917  MXNet's signature
    data_shape: Sequence[int],
    resize: int = 0,
    rand_crop: float = 0,
    rand_pad: float = 0,
    rand_gray: float = 0,
    rand_mirror: bool = False,
    mean: Any = None,
    std: Any = None,
    brightness: float = 0,
    contrast: float = 0,
    saturation: float = 0,
    pca_noise: float = 0,
    hue: float = 0,
    inter_method: int = 2,
    min_object_covered: float | list[float] = 0.1,
    aspect_ratio_range: Any = (0.75, 1.33),
    area_range: Any = (0.05, 3.0),
    min_eject_coverage: float | list[float] = 0.3,
    max_attempts: int = 50,
    pad_val: float | Sequence[float] = (127, 127, 127),
) -> list[DetAugmenter]:
    """The augmenters of an `ImageDetIter`.

    In this order: resize, crop, mirror, pad, resize to the output, cast to float32, colours as in
    `CreateAugmenter`, normalize.

    Args:
        data_shape: Channels, height, width of the result.
        resize: Length of the shorter side, in pixels; 0 keeps the size.
        rand_crop: Probability of a crop, by `CreateMultiRandCropAugmenter`.
        rand_pad: Probability of a larger canvas, by `DetRandomPadAug`.
        rand_gray: Probability of gray.
        rand_mirror: Mirror every image with probability 0.5.
        mean: (3,) or (1,) array to subtract; True for ImageNet's mean.
        std: (3,) or (1,) array to divide by; True for ImageNet's standard deviation.
        brightness: Largest change of the brightness, as a fraction.
        contrast: Largest change of the contrast, as a fraction.
        saturation: Largest change of the saturation, as a fraction.
        pca_noise: Standard deviation of the lighting.
        hue: Largest rotation of the hue, in half turns.
        inter_method: How to resize, as for `CreateAugmenter`.
        min_object_covered: As for `DetRandomCropAug`; a list for several kinds of crop.
        aspect_ratio_range: Smallest and largest width / height of crops and canvases.
        area_range: Smallest and largest area of crops, as fractions of the image; the largest one
            is also that of canvases, which are at least as large as the image.
        min_eject_coverage: As for `DetRandomCropAug`.
        max_attempts: How many crops, and how many canvases, are tried.
        pad_val: Colour of the canvas.
    """
    augs: list[DetAugmenter] = []
    if resize > 0:
        augs.append(DetBorrowAug(ResizeAug(resize, inter_method)))
    if rand_crop > 0:
        crops = min_object_covered, aspect_ratio_range, area_range, min_eject_coverage, max_attempts
        augs.append(CreateMultiRandCropAugmenter(*crops, skip_prob=1 - rand_crop))
    if rand_mirror:
        augs.append(DetHorizontalFlipAug(0.5))
    if rand_pad > 0:
        areas = (1.0, area_range[1])
        pad = DetRandomPadAug(aspect_ratio_range, areas, max_attempts, pad_val)
        augs.append(DetRandomSelectAug([pad], 1 - rand_pad))
    augs.append(DetBorrowAug(ForceResizeAug((data_shape[2], data_shape[1]), inter_method)))
    colors = color_augmenters(brightness, contrast, saturation, hue, pca_noise, rand_gray)
    augs += [DetBorrowAug(aug) for aug in colors]
    mean, std = statistics(mean, std)
    if mean is not None or std is not None:
        augs.append(DetBorrowAug(ColorNormalizeAug(mean, std)))
    return augs


def _pair(name: str, given: Any) -> Any:
    """A range; one number is both its smallest and its largest value."""
    if isinstance(given, tuple | list):
        return given
    assert isinstance(given, Real), f"{name} must be a number or two, got {given!r}"
    return given, given


def have_area(label: Label) -> npt.NDArray[np.bool_]:
    """(N,) bool, the objects of a label whose box has a positive width and height."""
    return (label[:, 3] > label[:, 1]) & (label[:, 4] > label[:, 2])


def _areas(boxes: Label) -> Label:
    """(N,) areas of (N, 4) boxes; 0 for a box whose maximum is below its minimum."""
    sides = np.maximum(0, boxes[:, 2:4] - boxes[:, :2])
    return sides[:, 0] * sides[:, 1]
