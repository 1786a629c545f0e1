"""Labels that are places in the picture, and go where its pixels go.

The steps of every image, put together, are one affine map; places are relative to the picture,
0 to 1 from edge to edge, before and after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gpuio.transforms.geometry import Sizes, Step
from gpuio.transforms.object_crop import EmitMode, check_emit
from gpuio.transforms.op import BatchPlan, Changes, Op

LABEL_KINDS = {"values": 1, "boxes": 5, "points": 2}
"""What labels may be, and how many numbers a value, a box, and a point have."""

Maps = npt.NDArray[np.float64]
"""(N, 2, 3) affine maps of (x, y, 1)."""


@dataclass(frozen=True, slots=True)
class MovePoints(Op):
    """Labels are x and y of points; points that leave the picture get places outside [0, 1].

    Oracle: pixels that say where they were, see tests/transforms/test_label_transforms.py.

    Attributes:
        filler: Value of the labels of points that an image does not have and others have.
    """

    cost: ClassVar[str] = "free"
    changes: ClassVar[Changes] = "labels"
    last_of: ClassVar[tuple[Changes, ...]] = ("geometry",)
    filler: float = -1

    def __call__(self, batch: BatchPlan) -> None:
        points = batch.labels.reshape(len(batch.labels), -1, 2)
        moved = move(forward(batch), points)
        present = _present_mask(batch, 2)
        batch.labels = _flat(np.where(present[:, :, None], moved, self.filler))


@dataclass(frozen=True, slots=True)
class MoveBoxes(Op):
    """Labels are class, xmin, ymin, xmax, ymax of boxes, which are clipped to the picture.

    A rotated box becomes the upright box around it. Boxes that leave the picture are dropped, and
    those behind them move up.

    Oracle: pixels of boxes, see tests/transforms/test_label_transforms.py.

    Attributes:
        emit: "center" keeps boxes whose centre stays in the picture, "overlap" those of which
            more than `threshold` of the area does.
        threshold: See `emit`.
        filler: Value of the labels of boxes that an image does not have and others have.
    """

    cost: ClassVar[str] = "free"
    changes: ClassVar[Changes] = "labels"
    last_of: ClassVar[tuple[Changes, ...]] = ("geometry",)
    emit: EmitMode = "center"
    threshold: float = 0.3
    filler: float = -1

    def __post_init__(self) -> None:
        check_emit(self.emit, self.threshold)

    def __call__(self, batch: BatchPlan) -> None:
        boxes = batch.labels.reshape(len(batch.labels), -1, 5)
        left, top, right, bottom = np.moveaxis(boxes[:, :, 1:], 2, 0)
        present = _present_mask(batch, 5) & (right > left) & (bottom > top)
        corners = np.stack([left, top, right, top, left, bottom, right, bottom], axis=2)
        count = boxes.shape[1]
        moved = move(forward(batch), corners.reshape(len(boxes), -1, 2))
        moved = moved.reshape(len(boxes), count, 4, 2)
        low, high = moved.min(axis=2), moved.max(axis=2)
        inner = np.clip(low, 0, 1), np.clip(high, 0, 1)
        part = (inner[1] - inner[0]).prod(axis=2)
        keep = present & (part > 0)
        if self.emit == "center":
            centre = (low + high) / 2
            keep &= ((centre >= 0) & (centre < 1)).all(axis=2)
        else:
            keep &= part > self.threshold * (high - low).prod(axis=2)
        result = np.concatenate([boxes[:, :, :1], *inner], axis=2)
        result[~keep] = self.filler
        order = np.argsort(~keep, axis=1, kind="stable")
        batch.labels = _flat(np.take_along_axis(result, order[:, :, None], axis=1))


def forward(batch: BatchPlan) -> Maps:
    """Maps from places in the pictures, relative to them, to places in the output."""
    chain = batch.geometry
    maps = np.zeros((len(chain.size), 2, 3))
    maps[:, 0, 0], maps[:, 1, 1] = chain.original[:, 1], chain.original[:, 0]
    for step in chain.steps:
        maps[:, :, 2] -= step.offset[:, ::-1]
        if step.moves.any():
            maps = np.where(step.moves[:, None, None], _after(maps, step), maps)
    return maps / chain.size[:, ::-1, None]


def move(maps: Maps, points: npt.NDArray[np.float32 | np.float64]) -> npt.NDArray[np.float64]:
    """(N, K, 2) x and y of points, mapped."""
    return points @ maps[:, :, :2].swapaxes(1, 2) + maps[:, None, :, 2]


def _after(maps: Maps, step: Step) -> Maps:
    """Maps to the result of a step, from maps to its source; both in pixels, from edge to edge."""
    if step.matrix is not None:
        back = step.matrix.reshape(-1, 2, 3)  # between centres of pixels, from canvas to source
        forth = np.linalg.inv(np.where(_singular(back), np.eye(2), back[:, :, :2]))
        moved = maps.copy()
        moved[:, :, 2] -= back[:, :, 2] + 0.5
        moved = forth @ moved
        moved[:, :, 2] += 0.5
        return moved
    if step.margin and step.weights is None:
        moved = maps.copy()
        moved[:, :, 2] += step.margin
        return moved
    return maps * (_xy(step.size) / _xy(step.source))[:, :, None]


def _singular(maps: Maps) -> npt.NDArray[np.bool_]:
    return (np.abs(np.linalg.det(maps[:, :, :2])) < 1e-12)[:, None, None]


def _xy(size: Sizes) -> npt.NDArray[np.float64]:
    return np.maximum(size[:, ::-1], 1).astype(np.float64)


def _present_mask(batch: BatchPlan, width: int) -> npt.NDArray[np.bool_]:
    """(N, K) bool, things of `width` numbers that images have."""
    count = batch.labels.shape[1] // width
    if batch.widths is None:
        return np.ones((len(batch.labels), count), bool)
    return np.arange(count) < (batch.widths // width)[:, None]


def _flat(things: npt.NDArray[np.float32 | np.float64]) -> npt.NDArray[np.float32]:
    return things.astype(np.float32).reshape(len(things), -1)
