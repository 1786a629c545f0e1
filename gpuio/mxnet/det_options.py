"""From the keywords of `ImageDetRecordIter` to the steps for every image and its objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from gpuio.core import parameters as p
from gpuio.mxnet.image_options import Augmentation, checked
from gpuio.mxnet.keywords import Values
from gpuio.pipeline.config import OutputConfig
from gpuio.pipeline.plan import Plan
from gpuio.transforms.detection import (
    ColorShift,
    FitInto,
    MirrorObjects,
    Objects,
    PackLabels,
    PadObjects,
    ResizeMode,
    TopLeft,
)
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.object_crop import CropObjects, EmitMode, Sampler
from gpuio.transforms.op import Op
from gpuio.transforms.resize import ResizeShorterEdge

RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
_RANGES = {
    "scale": "scales",
    "ratio": "aspect_ratios",
    "overlap": "overlaps",
    "sample_coverage": "sample_coverages",
    "object_coverage": "object_coverages",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DetAugmentation(Augmentation):
    """The keywords of `ImageDetRecordIter`'s augmentation; `gpuio.mxnet.keywords` has them."""

    aug_seq: str
    rand_crop_prob: float
    min_crop_scales: tuple[float, ...]
    max_crop_scales: tuple[float, ...]
    min_crop_aspect_ratios: tuple[float, ...]
    max_crop_aspect_ratios: tuple[float, ...]
    min_crop_overlaps: tuple[float, ...]
    max_crop_overlaps: tuple[float, ...]
    min_crop_sample_coverages: tuple[float, ...]
    max_crop_sample_coverages: tuple[float, ...]
    min_crop_object_coverages: tuple[float, ...]
    max_crop_object_coverages: tuple[float, ...]
    num_crop_sampler: int
    crop_emit_mode: EmitMode
    emit_overlap_thresh: float
    max_crop_trials: tuple[float, ...]
    rand_pad_prob: float
    max_pad_scale: float
    max_random_hue: int
    random_hue_prob: float
    max_random_saturation: int
    random_saturation_prob: float
    max_random_illumination: int
    random_illumination_prob: float
    max_random_contrast: float
    random_contrast_prob: float
    rand_mirror_prob: float
    resize_mode: ResizeMode
    label_pad_value: float

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)
        p.choice("aug_seq", self.aug_seq, ("det_aug_default",))
        p.choice("resize_mode", self.resize_mode, RESIZE_MODES)


def make_det_plan(
    output: OutputConfig,
    augmentation: DetAugmentation,
    normalization: Normalization,
    label_width: int,
) -> Plan:
    """The plan that keywords stand for.

    Args:
        output: The form of the batches.
        augmentation: What is done to every image.
        normalization: What makes the output's values of levels.
        label_width: The number of labels that a row of the batch has space for.

    Raises:
        ValueError: A keyword has an impossible value.
    """
    o, (channels, *_), shape = augmentation, output.data_shape, output.data_shape[1:]
    for name in ("max_random_hue", "max_random_saturation", "max_random_illumination"):
        if getattr(o, name) and channels != 3:
            raise ValueError(f"{name} needs data_shape with 3 channels, got {channels}")
    ops: list[Op] = [Objects()]
    if o.resize != -1:
        ops.append(ResizeShorterEdge(o.resize, o.inter_method))
    shifts = (
        (o.max_random_hue, o.random_hue_prob),
        (o.max_random_saturation, o.random_saturation_prob),
        (o.max_random_illumination, o.random_illumination_prob),
        (o.max_random_contrast, o.random_contrast_prob),
    )
    if any(amount and chance > 0 for amount, chance in shifts):
        ops.append(ColorShift(*shifts))
    if o.rand_mirror_prob > 0:
        ops.append(MirrorObjects(o.rand_mirror_prob))
    if o.rand_pad_prob > 0 and o.max_pad_scale > 1:
        ops.append(PadObjects(o.rand_pad_prob, o.max_pad_scale, o.fill_value))
    if o.num_crop_sampler > 0:
        emit, threshold = o.crop_emit_mode, o.emit_overlap_thresh
        crop = CropObjects(o.rand_crop_prob, _samplers(o), emit, threshold)
        ops += [crop] if o.rand_crop_prob > 0 else []
    ops.append(FitInto(shape, o.resize_mode, o.inter_method))
    ops.append(PackLabels(channels, label_width, o.label_pad_value))
    ops.append(TopLeft(shape))
    return checked(Plan(tuple(ops), output.data_shape, output.dtype, output.layout, normalization))


def det_normalization(values: Values) -> Normalization:
    """MXNet's rules: means count if one is above 0, a standard deviation if it is above 0."""
    mean, std = values.channels("mean"), values.channels("std")
    if max(mean) <= 0:
        mean = (0, 0, 0, 0)
    std = tuple(value if np.float32(value) > 0 else 1 for value in std)
    return Normalization(mean, std, values["scale"])


def _samplers(o: DetAugmentation) -> tuple[Sampler, ...]:
    count = o.num_crop_sampler
    columns: dict[str, list[tuple[float, float]]] = {}
    for field, name in _RANGES.items():
        low, high = f"min_crop_{name}", f"max_crop_{name}"
        pairs = zip(_each(o, low, count), _each(o, high, count), strict=True)
        columns[field] = list(pairs)
    trials = [int(value) for value in _each(o, "max_crop_trials", count)]
    if trials != list(_each(o, "max_crop_trials", count)) or min(trials) < 0:
        raise ValueError(f"max_crop_trials must be integers of at least 0, got {o.max_crop_trials}")
    return tuple(
        Sampler(trials=trials[k], **{field: column[k] for field, column in columns.items()})
        for k in range(count)
    )


def _each(o: DetAugmentation, name: str, count: int) -> tuple[float, ...]:
    """The value of a keyword for each of `count` samplers."""
    values: tuple[float, ...] = getattr(o, name)
    if len(values) not in (1, count):
        raise ValueError(f"{name} must have 1 value or {count}, as num_crop_sampler, got {values}")
    return values if len(values) == count else values * count
