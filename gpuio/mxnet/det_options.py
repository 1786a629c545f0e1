"""From the keywords of `ImageDetRecordIter` to what is done to every image and its objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
import numpy.typing as npt

from gpuio.mxnet.image_options import check_output
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


@dataclass(frozen=True, slots=True)
class DetOptions:
    """The augmentation keywords of `ImageDetRecordIter`, already of the right types.

    Attributes are described there.
    """

    data_shape: tuple[int, int, int]
    dtype: str = "float32"
    layout: str = "NCHW"
    resize: int = -1
    rand_crop_prob: float = 0
    min_crop_scales: tuple[float, ...] = (0,)
    max_crop_scales: tuple[float, ...] = (1,)
    min_crop_aspect_ratios: tuple[float, ...] = (1,)
    max_crop_aspect_ratios: tuple[float, ...] = (1,)
    min_crop_overlaps: tuple[float, ...] = (0,)
    max_crop_overlaps: tuple[float, ...] = (1,)
    min_crop_sample_coverages: tuple[float, ...] = (0,)
    max_crop_sample_coverages: tuple[float, ...] = (1,)
    min_crop_object_coverages: tuple[float, ...] = (0,)
    max_crop_object_coverages: tuple[float, ...] = (1,)
    num_crop_sampler: int = 1
    crop_emit_mode: str = "center"
    emit_overlap_thresh: float = 0.3
    max_crop_trials: tuple[float, ...] = (25,)  # whole numbers
    rand_pad_prob: float = 0
    max_pad_scale: float = 1
    max_random_hue: int = 0
    random_hue_prob: float = 0
    max_random_saturation: int = 0
    random_saturation_prob: float = 0
    max_random_illumination: int = 0
    random_illumination_prob: float = 0
    max_random_contrast: float = 0
    random_contrast_prob: float = 0
    rand_mirror_prob: float = 0
    fill_value: int = 127
    inter_method: int = 1
    resize_mode: str = "force"
    label_pad_value: float = -1


def make_det_plan(options: DetOptions, normalization: Normalization, label_width: int) -> Plan:
    """The plan that keywords stand for.

    Args:
        options: The keywords.
        normalization: Of the output.
        label_width: Labels that a row of the batch has room for.

    Raises:
        ValueError: A keyword has an impossible value.
    """
    o = options
    _check(o, normalization)
    channels, height, width = o.data_shape
    shape = height, width
    ops: list[Op] = [Objects()]
    if o.resize != -1:
        ops.append(ResizeShorterEdge(o.resize, o.inter_method))
    shifts = (
        (o.max_random_hue, o.random_hue_prob),
        (o.max_random_saturation, o.random_saturation_prob),
        (o.max_random_illumination, o.random_illumination_prob),
        (o.max_random_contrast, o.random_contrast_prob),
    )
    if any(amount and p > 0 for amount, p in shifts):
        ops.append(ColorShift(*shifts))
    if o.rand_mirror_prob > 0:
        ops.append(MirrorObjects(o.rand_mirror_prob))
    if o.rand_pad_prob > 0 and o.max_pad_scale > 1:
        ops.append(PadObjects(o.rand_pad_prob, o.max_pad_scale, o.fill_value))
    if o.num_crop_sampler > 0:
        mode = cast("EmitMode", o.crop_emit_mode)
        crop = CropObjects(o.rand_crop_prob, _samplers(o), mode, o.emit_overlap_thresh)
        ops += [crop] if o.rand_crop_prob > 0 else []
    ops.append(FitInto(shape, cast("ResizeMode", o.resize_mode), o.inter_method))
    ops.append(PackLabels(channels, label_width, o.label_pad_value))
    ops.append(TopLeft(shape))
    return Plan(tuple(ops), o.data_shape, o.dtype, o.layout, normalization)


def det_normalization(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    scale: float,
    image: npt.NDArray[np.float32] | None = None,
) -> Normalization:
    """MXNet's rules: any mean above 0 puts the mean image aside; what is not above 0 is no std."""
    if max(mean) > 0:
        image = None
    else:
        mean = (0,) * len(mean)
    return Normalization(
        mean, tuple(value if np.float32(value) > 0 else 1 for value in std), scale, image
    )


def _check(o: DetOptions, normalization: Normalization) -> None:
    check_output(o, normalization)
    if o.resize_mode not in RESIZE_MODES:
        wanted = ", ".join(RESIZE_MODES)
        raise ValueError(f"resize_mode must be one of {wanted}, got {o.resize_mode!r}")
    for name in ("max_random_hue", "max_random_saturation", "max_random_illumination"):
        if getattr(o, name) and o.data_shape[0] != 3:
            raise ValueError(f"{name} needs data_shape with 3 channels, got {o.data_shape[0]}")


def _samplers(o: DetOptions) -> tuple[Sampler, ...]:
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


def _each(o: DetOptions, name: str, count: int) -> tuple[float, ...]:
    """The value of a keyword for each of `count` samplers."""
    values: tuple[float, ...] = getattr(o, name)
    if len(values) not in (1, count):
        raise ValueError(f"{name} must have 1 value or {count}, as num_crop_sampler, got {values}")
    return values if len(values) == count else values * count
