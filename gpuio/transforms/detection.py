"""Augmentations of pictures with objects, whose labels move with the pixels.

Each moves the labels as MXNet does, relative to the picture and in float32; the pixels move by
whole numbers of them, so the two may differ by less than a pixel.

Oracle and source: MXNet 1.9.1, ImageDetRecordIter: src/io/image_det_aug_default.cc and
iter_image_det_recordio.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from gpuio.kernels.steps import ColorKind, StepKind
from gpuio.transforms import geometry
from gpuio.transforms.color import HLS
from gpuio.transforms.op import BatchPlan, Changes, Op
from gpuio.transforms.random import Draw, Draws

ResizeMode = Literal["force", "shrink", "fit"]
_F32 = np.float32
_LEAST_PAD = _F32(1.05)  # MXNet makes no canvas that is smaller
_LEAST_CONTRAST = 1e-3


@dataclass(frozen=True, slots=True)
class Objects(Op):
    """Start to move the labels of objects; objects without an extent are dropped."""

    cost: ClassVar[str] = "free"
    changes: ClassVar[Changes] = "labels"

    def __call__(self, batch: BatchPlan) -> None:
        from gpuio.kernels.objects import drop_empty

        labels, widths = batch.labels, batch.widths
        if widths is None:
            widths = np.full(len(labels), labels.shape[1])
        batch.labels, batch.widths = labels.copy(), widths.copy()
        drop_empty(batch.labels, batch.widths)


@dataclass(frozen=True, slots=True)
class ColorShift(Op):
    """Shift hue, lightness and saturation, then multiply levels by a factor, each by chance.

    Each parameter is a pair: a, and the probability with which an image gets the shift.

    Attributes:
        hue: The shift is -a to a half degrees.
        saturation: The shift is -a to a levels.
        lightness: The shift is -a to a levels.
        contrast: The factor is 1 - a to 1 + a.
    """

    cost: ClassVar[str] = "a loop over the picture, a long one for hue, saturation, lightness"
    changes: ClassVar[Changes] = "colors"
    hue: tuple[int, float] = (0, 0)
    saturation: tuple[int, float] = (0, 0)
    lightness: tuple[int, float] = (0, 0)
    contrast: tuple[float, float] = (0, 0)

    def __call__(self, batch: BatchPlan) -> None:
        limits = self.hue, self.saturation, self.lightness
        hue, saturation, lightness = (
            batch.sample(name, partial(_steps, name.upper(), *each)).astype(np.int32)
            for name, each in zip(HLS, limits, strict=True)
        )
        shifts = (hue | saturation | lightness) != 0
        kind = np.where(shifts, ColorKind.HLS.value, ColorKind.NONE.value)
        batch.add_color(kind, hue, lightness, saturation)
        contrast = batch.sample("contrast", partial(_by_chance, "CONTRAST", *self.contrast))
        scales = np.abs(contrast) > _LEAST_CONTRAST
        kind = np.where(scales, ColorKind.BRIGHTNESS.value, ColorKind.NONE.value)
        batch.add_color(kind, contrast + _F32(1))


@dataclass(frozen=True, slots=True)
class MirrorObjects(Op):
    """Mirror pictures and objects left to right.

    Attributes:
        p: Probability for each image.
    """

    cost: ClassVar[str] = "a pass over the window of the images that are mirrored"
    p: float

    def __call__(self, batch: BatchPlan) -> None:
        from gpuio.kernels.objects import mirror_objects

        where = batch.sample("mirror", lambda draws: draws.uniform(Draw.MIRROR) < self.p)
        where = where.astype(bool)
        mirror_objects(batch.labels, batch.widths, where)
        batch.geometry.mirror_images(where)


@dataclass(frozen=True, slots=True)
class PadObjects(Op):
    """Put pictures somewhere on a larger canvas of the same aspect ratio.

    Attributes:
        p: Probability for each image.
        largest: Largest side of the canvas, in sides of the picture; less than 1.05 is no canvas.
        fill: Value of the first three channels; the fourth is 0.
    """

    cost: ClassVar[str] = "a pass over the canvas of the images that get one"
    p: float
    largest: float
    fill: int = 127

    def __post_init__(self) -> None:
        if self.largest > geometry.LARGEST:
            most = geometry.LARGEST
            raise ValueError(f"max_pad_scale must be at most {most}, got {self.largest}")

    def __call__(self, batch: BatchPlan) -> None:
        from gpuio.kernels.objects import project_objects

        chain = batch.geometry
        canvas = batch.sample("pad_box", self._canvases)
        where = canvas[:, 0] > 0
        scale, x, y = np.where(where[:, None], canvas, np.array([1, 0, 0])).astype(_F32).T
        box = np.stack([-x, -y, scale, scale], axis=1)
        project_objects(batch.labels, batch.widths, np.where(where[:, None], box, _F32(0)))
        height, width = chain.size.T.astype(_F32)
        left, top = (x * width).astype(np.int64), (y * height).astype(np.int64)
        right = ((scale - x - _F32(1)) * width).astype(np.int64)
        bottom = ((scale - y - _F32(1)) * height).astype(np.int64)
        size = batch.bounded(chain.size + np.stack([top + bottom, left + right], axis=1))
        one, zero = np.ones(len(size)), np.zeros(len(size))
        matrix = np.stack([one, zero, -left, zero, one, -top], axis=1)
        kind = np.where(where, StepKind.WARP_NEAREST.value, StepKind.COPY.value)
        chain.warp(size, kind, matrix, self.fill)

    def _canvases(self, draws: Draws) -> npt.NDArray[np.float32]:
        """(N, 3) scales, and x and y of the picture in sides of it; 0 where there is no canvas."""
        scale = draws.uniform(Draw.PAD_SCALE, 1, self.largest)
        spare = scale - _F32(1)
        x, y = draws.uniform(Draw.PAD_X) * spare, draws.uniform(Draw.PAD_Y) * spare
        where = (draws.uniform(Draw.PAD_CHANCE) < self.p) & (scale >= _LEAST_PAD)
        return np.where(where[:, None], np.stack([scale, x, y], axis=1), _F32(0))


@dataclass(frozen=True, slots=True)
class FitInto(Op):
    """Resize to the output, or into it.

    Attributes:
        shape: Height and width of the output, in pixels.
        mode: "force": to exactly these; "shrink": pictures that are larger, in proportion, to fit;
            "fit": all pictures, in proportion, to fit.
        inter_method: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos, 9 by size, 10 random.
    """

    cost: ClassVar[str] = "a pass over the window"
    shape: tuple[int, int]
    mode: ResizeMode = "force"
    inter_method: int = 1

    def __call__(self, batch: BatchPlan) -> None:
        source = batch.geometry.size
        goal = np.broadcast_to(np.array(self.shape), source.shape)
        if self.mode != "force":
            ratio = (np.array(self.shape, _F32) / source.astype(_F32)).min(axis=1, keepdims=True)
            goal = np.maximum((ratio * source.astype(_F32)).astype(np.int64), 1)
        if self.mode == "shrink":
            larger = (source > self.shape).any(axis=1, keepdims=True)
            goal = np.where(larger, goal, source)
        name, draw = "crop_interpolation", Draw.CROP_INTERPOLATION
        method = batch.interpolation(name, self.inter_method, source, goal, draw)
        batch.geometry.resize(goal, method)


@dataclass(frozen=True, slots=True)
class PackLabels(Op):
    """Lay labels out as the batch has them: channels, rows, columns, count, labels, filler.

    Attributes:
        channels: Channels of the picture.
        width: How many labels a row can hold.
        filler: Value of the places behind the labels.
    """

    cost: ClassVar[str] = "free"
    changes: ClassVar[Changes] = "labels"
    channels: int
    width: int
    filler: float = -1

    def __call__(self, batch: BatchPlan) -> None:
        size, labels, widths = batch.geometry.size, batch.labels, batch.widths
        assert widths is not None
        packed = np.full((len(size), 4 + self.width), self.filler, _F32)
        packed[:, 0], packed[:, 3] = self.channels, widths
        packed[:, 1:3] = size
        used = np.arange(labels.shape[1]) < widths[:, None]
        packed[:, 4 : 4 + labels.shape[1]][used] = labels[used]
        batch.labels, batch.widths = packed, None


@dataclass(frozen=True, slots=True)
class TopLeft(Op):
    """Put pictures that are smaller than the output into its top left corner, on black.

    Attributes:
        shape: Height and width of the output, in pixels.
    """

    cost: ClassVar[str] = "a pass over the output of the images that are smaller"
    shape: tuple[int, int]

    def __call__(self, batch: BatchPlan) -> None:
        size = batch.geometry.size
        output = np.broadcast_to(np.array(self.shape), size.shape)
        smaller = (size != output).any(axis=1)
        still = np.broadcast_to(np.array([1.0, 0, 0, 0, 1, 0]), (len(size), 6))
        kind = np.where(smaller, StepKind.WARP_NEAREST.value, StepKind.COPY.value)
        batch.geometry.warp(output, kind, still, 0)


def _by_chance(purpose: str, amount: float, p: float, draws: Draws) -> npt.NDArray[np.float32]:
    """(N,) numbers from -amount to amount; 0 for all images but a part `p`."""
    shift = draws.uniform(Draw[purpose], -1, 1) * _F32(amount)
    return np.where(draws.uniform(Draw[f"{purpose}_CHANCE"]) < p, shift, _F32(0))


def _steps(purpose: str, amount: int, p: float, draws: Draws) -> npt.NDArray[np.int32]:
    """(N,) whole numbers of `_by_chance`, whose fractions are cut off."""
    return _by_chance(purpose, amount, p, draws).astype(np.int32)
