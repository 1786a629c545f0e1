"""From the keywords of `ImageRecordIter` to the steps that every image goes through.

A step that is off is not in the plan and costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.mxnet.keywords import Values
from gpuio.pipeline.config import OutputConfig
from gpuio.pipeline.plan import Plan
from gpuio.transforms.affine import Affine
from gpuio.transforms.border import Pad
from gpuio.transforms.color import ColorJitter, Exposure, HlsJitter, Lighting, RandomGray
from gpuio.transforms.crop import Crop, RandomResizedCrop, SquareCrop
from gpuio.transforms.geometry import INTER_METHODS
from gpuio.transforms.label_transforms import LABEL_KINDS, MoveBoxes, MovePoints
from gpuio.transforms.mirror import Mirror
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.object_crop import EmitMode
from gpuio.transforms.op import Op
from gpuio.transforms.resize import ResizeShorterEdge

_ONE_BIT = 2e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """The keywords of augmentation that both iterators have; see `gpuio.mxnet.keywords`."""

    resize: int
    inter_method: int
    fill_value: int

    def __post_init__(self) -> None:
        if self.inter_method not in INTER_METHODS:
            wanted = ", ".join(map(str, INTER_METHODS))
            raise ValueError(f"inter_method must be one of {wanted}, got {self.inter_method}")
        if not 0 <= self.fill_value <= 255:
            raise ValueError(f"fill_value must be in [0, 255], got {self.fill_value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAugmentation(Augmentation):
    """The keywords of `ImageRecordIter`'s augmentation; `gpuio.mxnet.keywords` describes them."""

    aug_seq: str
    max_rotate_angle: int
    rotate: int
    rotate_list: tuple[int, ...]
    max_shear_ratio: float
    max_aspect_ratio: float
    min_aspect_ratio: float | None
    max_random_scale: float
    min_random_scale: float
    max_img_size: float
    min_img_size: float
    pad: int
    rand_crop: bool
    max_crop_size: int
    min_crop_size: int
    random_resized_crop: bool
    max_random_area: float
    min_random_area: float
    brightness: float
    contrast: float
    saturation: float
    random_h: int
    random_s: int
    random_l: int
    pca_noise: float
    rand_gray: float
    mirror: bool
    rand_mirror: bool
    max_random_contrast: float
    max_random_illumination: float

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)
        p.choice("aug_seq", self.aug_seq, ("aug_default",))
        for name in (*_EXPOSURE, "max_rotate_angle"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLabels:
    """The keywords of `ImageRecordIter`'s labels; `gpuio.mxnet.keywords` describes them."""

    label_width: int
    label_kind: str
    crop_emit_mode: EmitMode
    emit_overlap_thresh: float
    label_pad_value: float

    def __post_init__(self) -> None:
        p.choice("label_kind", self.label_kind, tuple(LABEL_KINDS))
        MoveBoxes(self.crop_emit_mode, self.emit_overlap_thresh)  # checks both
        size, width, kind = LABEL_KINDS[self.label_kind], self.label_width, self.label_kind
        if width == -1 and size > 1:
            return
        p.integer("label_width", width, least=1)
        if width % size:
            raise ValueError(f"label_width must be a multiple of {size} for {kind}, got {width}")

    def ops(self) -> list[Op]:
        """The steps that move labels with the pixels."""
        if self.label_kind == "boxes":
            emit, threshold = self.crop_emit_mode, self.emit_overlap_thresh
            return [MoveBoxes(emit, threshold, self.label_pad_value)]
        return [MovePoints(self.label_pad_value)] if self.label_kind == "points" else []


def make_plan(
    output: OutputConfig,
    augmentation: ImageAugmentation,
    normalization: Normalization,
    label_ops: Sequence[Op] = (),
) -> Plan:
    """The plan that keywords stand for.

    Raises:
        ValueError: A keyword has an impossible value, or two of them cannot go together.
    """
    o, shape = augmentation, output.data_shape
    on = [name for name in _COLORS if getattr(o, name)]
    if on and shape[0] != 3:
        raise ValueError(f"{on[0]} needs data_shape with 3 channels, got {shape[0]}")
    ops: list[Op] = []
    if o.resize != -1:
        ops.append(ResizeShorterEdge(o.resize, o.inter_method))
    ops += _affine(o)
    if o.pad > 0:
        ops.append(Pad(o.pad, o.fill_value))
    ops.append(_crop(o, shape[1:]))
    if max(o.brightness, o.contrast, o.saturation) > 0:
        amounts = (max(a, 0) for a in (o.brightness, o.contrast, o.saturation))
        ops.append(ColorJitter(*amounts))
    if o.random_h or o.random_s or o.random_l:
        ops.append(HlsJitter(o.random_h, o.random_s, o.random_l))
    if o.pca_noise > 0:
        ops.append(Lighting(o.pca_noise))
    if o.rand_gray > 0:
        ops.append(RandomGray(o.rand_gray))
    if o.mirror or o.rand_mirror:
        ops.append(Mirror(random=not o.mirror))
    if o.max_random_contrast or o.max_random_illumination:
        ops.append(Exposure(o.max_random_contrast, o.max_random_illumination))
    ops += label_ops
    return checked(Plan(tuple(ops), shape, output.dtype, output.layout, normalization))


def mask_plan(output: OutputConfig, augmentation: ImageAugmentation, fill: int) -> Plan:
    """What is done to the masks of images: their geometry alone, with the nearest pixel.

    Args:
        output: The form of the images.
        augmentation: What is done to them.
        fill: Label of what lies outside the picture.
    """
    off: dict[str, Any] = dict.fromkeys((*_COLORS, *_EXPOSURE), 0)
    shape = (1, *output.data_shape[1:])
    form = replace(output, data_shape=shape, dtype="uint8", layout="NCHW")
    moves = replace(augmentation, inter_method=0, fill_value=fill, **off)
    return make_plan(form, moves, Normalization())


def with_mean_image(plan: Plan, image: npt.NDArray[np.float32]) -> Plan:
    """`plan` with a mean image instead of the means.

    Args:
        plan: What is done to every image.
        image: (C, H, W), in levels.

    Raises:
        ValueError: The image has another shape, or values that the output cannot hold.
    """
    return checked(replace(plan, normalization=replace(plan.normalization, image=image)))


def checked(plan: Plan) -> Plan:
    """`plan`, if its normalization fits its output.

    Raises:
        ValueError: The mean image has another shape, or the values can exceed the dtype.
    """
    image = plan.normalization.image
    if image is not None and image.shape != plan.shape:
        raise ValueError(f"mean_img must be of shape {plan.shape}, got {image.shape}")
    exposure = next((op for op in plan.ops if isinstance(op, Exposure)), Exposure())
    channels, gain, offset = plan.shape[0], exposure.contrast, exposure.illumination
    plan.normalization.check(plan.dtype, channels, gain, offset)
    return plan


def normalization_of(values: Values) -> Normalization:
    """The normalization that the keywords of `ImageRecordIter` stand for."""
    std = values.channels("std")
    for channel, value in zip("rgba", std, strict=True):
        if np.float32(value) == 0:
            raise ValueError(f"std_{channel} must not be 0, got {value}")
    return Normalization(values.channels("mean"), std, values["scale"])


_COLORS = (
    "brightness",
    "contrast",
    "saturation",
    "random_h",
    "random_s",
    "random_l",
    "pca_noise",
    "rand_gray",
)
_EXPOSURE = ("max_random_contrast", "max_random_illumination")


def _aspect(o: ImageAugmentation) -> tuple[float, float]:
    if o.min_aspect_ratio is None:
        return 1 - o.max_aspect_ratio, 1 + o.max_aspect_ratio
    low, high = o.min_aspect_ratio, o.max_aspect_ratio
    # The same number given for both may have been read as two neighbouring float32.
    return low, low if abs(high - low) < _ONE_BIT * low else high


def _affine(o: ImageAugmentation) -> Sequence[Op]:
    ratio = None if o.random_resized_crop else _aspect(o)
    fixed = o.rotate not in (-1, 0)
    if not (
        o.max_rotate_angle > 0
        or fixed
        or o.rotate_list
        or o.max_shear_ratio > 0
        or (o.min_random_scale, o.max_random_scale) != (1, 1)
        or ratio not in (None, (1, 1))
        or (o.min_img_size, o.max_img_size) != (0, 1e10)
    ):
        return []
    angles = (o.rotate, o.rotate) if fixed else (-o.max_rotate_angle, o.max_rotate_angle)
    return [
        Affine(
            angles=angles,
            angle_list=o.rotate_list,
            shear=o.max_shear_ratio,
            scale=(o.min_random_scale, o.max_random_scale),
            ratio=ratio,
            limits=(o.min_img_size, o.max_img_size),
            fill=o.fill_value,
            inter_method=o.inter_method,
        )
    ]


def _crop(o: ImageAugmentation, shape: tuple[int, int]) -> Op:
    squares = (o.min_crop_size, o.max_crop_size) != (-1, -1)
    if o.random_resized_crop:
        conflicts = {
            "rand_crop": o.rand_crop,
            "min_crop_size and max_crop_size": squares,
            "min_random_scale and max_random_scale": (
                (o.min_random_scale, o.max_random_scale) != (1, 1)
            ),
        }
        for name, given in conflicts.items():
            if given:
                raise ValueError(f"random_resized_crop cannot go together with {name}")
        area = (o.min_random_area, o.max_random_area)
        return RandomResizedCrop(shape, area, _aspect(o), o.inter_method)
    if squares:
        left = _shortest(o)
        if left < o.max_crop_size:
            raise ValueError(
                f"max_crop_size={o.max_crop_size} is more than the shorter side of any image can "
                f"have after resize={o.resize}, scaling and pad={o.pad}, {left} pixels"
            )
        return SquareCrop(shape, o.min_crop_size, o.max_crop_size, o.rand_crop, o.inter_method)
    return Crop(shape, o.rand_crop, o.inter_method)


def _shortest(o: ImageAugmentation) -> int:
    """Pixels that the shorter side of an image can have at most when it is cropped."""
    side = float("inf") if o.resize == -1 else o.resize
    side = max(min(side * o.max_random_scale, o.max_img_size), o.min_img_size)
    return int(side) + 2 * max(o.pad, 0)
