"""From the keywords of `ImageDetRecordIter` to the steps for every image and its objects."""

from __future__ import annotations

from gpuio.mxnet.det_keywords import DetColor, DetGeometry, DetLabels
from gpuio.mxnet.image_plan import checked
from gpuio.pipeline.config import OutputConfig
from gpuio.pipeline.plan import Plan
from gpuio.transforms.detection import (
    ColorShift,
    FitInto,
    MirrorObjects,
    Objects,
    PackLabels,
    PadObjects,
    TopLeft,
)
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.object_crop import CropObjects, Sampler
from gpuio.transforms.op import Op
from gpuio.transforms.resize import ResizeShorterEdge

_RANGES = {
    "scale": "scales",
    "ratio": "aspect_ratios",
    "overlap": "overlaps",
    "sample_coverage": "sample_coverages",
    "object_coverage": "object_coverages",
}


def make_det_plan(
    output: OutputConfig,
    labels: DetLabels,
    geometry: DetGeometry,
    color: DetColor,
    normalization: Normalization,
    label_width: int,
) -> Plan:
    """The plan that keywords stand for; a row of labels has space for `label_width` of them.

    Raises:
        ValueError: A keyword has an impossible value.
    """
    o, c, (channels, *_), shape = geometry, color, output.data_shape, output.data_shape[1:]
    for name in ("max_random_hue", "max_random_saturation", "max_random_illumination"):
        if getattr(color, name) and channels != 3:
            raise ValueError(f"{name} needs data_shape with 3 channels, got {channels}")
    ops: list[Op] = [Objects()]
    if o.resize != -1:
        ops.append(ResizeShorterEdge(o.resize, o.inter_method))
    shifts = (
        (c.max_random_hue, c.random_hue_prob),
        (c.max_random_saturation, c.random_saturation_prob),
        (c.max_random_illumination, c.random_illumination_prob),
        (c.max_random_contrast, c.random_contrast_prob),
    )
    if any(amount and chance > 0 for amount, chance in shifts):
        ops.append(ColorShift(*shifts))
    if o.rand_mirror_prob > 0:
        ops.append(MirrorObjects(o.rand_mirror_prob))
    if o.rand_pad_prob > 0 and o.max_pad_scale > 1:
        ops.append(PadObjects(o.rand_pad_prob, o.max_pad_scale, o.fill_value))
    if o.num_crop_sampler > 0:
        emit, threshold = labels.crop_emit_mode, labels.emit_overlap_thresh
        crop = CropObjects(o.rand_crop_prob, _samplers(o), emit, threshold)
        ops += [crop] if o.rand_crop_prob > 0 else []
    ops.append(FitInto(shape, o.resize_mode, o.inter_method))
    ops.append(PackLabels(channels, label_width, labels.label_pad_value))
    ops.append(TopLeft(shape))
    return checked(Plan(tuple(ops), output.data_shape, output.dtype, output.layout, normalization))


def _samplers(o: DetGeometry) -> tuple[Sampler, ...]:
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


def _each(o: DetGeometry, name: str, count: int) -> tuple[float, ...]:
    """The value of a keyword for each of `count` samplers."""
    values: tuple[float, ...] = getattr(o, name)
    if len(values) not in (1, count):
        raise ValueError(f"{name} must have 1 value or {count}, as num_crop_sampler, got {values}")
    return values if len(values) == count else values * count
