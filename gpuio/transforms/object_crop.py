"""Crops that keep objects of a picture.

Source: MXNet 1.9.1, src/io/image_det_aug_default.cc; Liu et al., SSD: Single Shot MultiBox Detector
(ECCV 2016), section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from gpuio.core.parameters import choice
from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.random import Draw, Draws

EmitMode = Literal["center", "overlap"]
EMIT_MODES: tuple[str, ...] = get_args(EmitMode)
"""In the order of CENTER and OVERLAP of kernels/objects.py."""
MOST_SAMPLERS = Draw.CROP_TRIALS - Draw.SAMPLER_ORDER
_F32 = np.float32


@dataclass(frozen=True, slots=True)
class Sampler:
    """How crops are drawn, and what they must meet.

    Attributes:
        scale: Range of the crop's sides, in sides of the picture.
        ratio: Range of its width over its height.
        overlap: Range of the intersection over union with an object; (0, 1) takes any.
        sample_coverage: Range of the intersection over the crop's area; (0, 1) takes any.
        object_coverage: Range of the intersection over the object's area; (0, 1) takes any.
        trials: How many crops are drawn before this sampler gives up.
    """

    scale: tuple[float, float] = (0, 1)
    ratio: tuple[float, float] = (1, 1)
    overlap: tuple[float, float] = (0, 1)
    sample_coverage: tuple[float, float] = (0, 1)
    object_coverage: tuple[float, float] = (0, 1)
    trials: int = 25

    def __post_init__(self) -> None:
        for name, (low, high) in (
            ("scales", self.scale),
            ("aspect_ratios", self.ratio),
            ("overlaps", self.overlap),
            ("sample_coverages", self.sample_coverage),
            ("object_coverages", self.object_coverage),
        ):
            if high < low:
                raise ValueError(f"max_crop_{name}={high} is less than min_crop_{name}={low}")
        if self.scale[0] < 0 or self.scale[1] > 1:
            raise ValueError(
                "min_crop_scales and max_crop_scales must be in [0, 1], got "
                f"{self.scale[0]} and {self.scale[1]}"
            )
        if self.ratio[0] < 0:
            raise ValueError(f"min_crop_aspect_ratios must be at least 0, got {self.ratio[0]}")


@dataclass(frozen=True, slots=True)
class CropObjects(Op):
    """Crop where one object at least meets a sampler's limits, and one survives.

    Samplers are tried in random order; a picture for which none finds a crop stays whole.

    Oracle: MXNet 1.9.1, `rand_crop_prob` of ImageDetRecordIter.

    Attributes:
        p: Probability for each image.
        samplers: At least one.
        emit: "center" keeps objects whose centre is in the crop, "overlap" those of which more
            than `threshold` of the area is.
        threshold: See `emit`.
    """

    cost: ClassVar[str] = "free"
    p: float
    samplers: tuple[Sampler, ...] = (Sampler(),)
    emit: EmitMode = "center"
    threshold: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= len(self.samplers) <= MOST_SAMPLERS:
            raise ValueError(
                f"num_crop_sampler must be in [1, {MOST_SAMPLERS}], got {len(self.samplers)}"
            )
        check_emit(self.emit, self.threshold)

    def __call__(self, batch: BatchPlan) -> None:
        from gpuio.kernels.objects import crop_objects

        chain = batch.geometry
        box = batch.sample("crop_box", lambda draws: self._boxes(batch, draws)).astype(_F32)
        keep = EMIT_MODES.index(self.emit), _F32(self.threshold)
        crop_objects(batch.labels, batch.widths, box, *keep)
        box = np.where(box[:, 2:3] > 0, box, np.array([0, 0, 1, 1], _F32))
        height, width = chain.size.T.astype(_F32)
        x, y, wide, high = (box * np.stack([width, height] * 2, axis=1)).astype(np.int64).T
        size = np.maximum(np.stack([high, wide], axis=1), 1)
        start = np.minimum(np.stack([y, x], axis=1), chain.size - size)
        chain.crop(np.concatenate([start, size], axis=1))

    def _boxes(self, batch: BatchPlan, draws: Draws) -> npt.NDArray[np.float32]:
        """(N, 4) x, y, width and height relative to the picture; all 0 where there is no crop."""
        from gpuio.kernels.objects import find_crops

        boxes = np.zeros((len(batch.labels), 4), _F32)
        height, width = batch.geometry.size.T.astype(_F32)
        where = draws.uniform(Draw.CROP_CHANCE) < self.p
        blocks = [draws.block(Draw.SAMPLER_ORDER), draws.block(Draw.CROP_TRIALS)]
        objects = batch.labels, batch.widths, width / height, where
        order = np.empty(len(self.samplers), np.int64)
        keep = EMIT_MODES.index(self.emit), _F32(self.threshold)
        stream = *draws.stream, np.array(blocks, np.uint64)
        find_crops(*objects, *stream, table(self.samplers), order, *keep, boxes)
        return boxes


def check_emit(emit: EmitMode, threshold: float) -> None:
    """Refuse an unknown way of keeping objects, and a threshold below 0."""
    choice("crop_emit_mode", emit, EMIT_MODES)
    if threshold < 0:
        raise ValueError(f"emit_overlap_thresh must be at least 0, got {threshold}")


def table(samplers: tuple[Sampler, ...]) -> npt.NDArray[np.void]:
    """(S,) SAMPLER rows as kernels take them."""
    from gpuio.kernels.objects import SAMPLER

    rows = np.zeros(len(samplers), SAMPLER)
    for row, sampler in zip(rows, samplers, strict=True):
        for name in SAMPLER.names or ():
            row[name] = getattr(sampler, name)
    return rows
