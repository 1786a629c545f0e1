"""From MXNet's keywords to the list of what is done to every image: the one place that knows both.

`print(plan)` shows the steps in order. A step that is off is not in the list and costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from gpuio.pipeline.plan import Plan
from gpuio.transforms.affine import Affine
from gpuio.transforms.border import Pad
from gpuio.transforms.color import ColorJitter, Exposure, HlsJitter, Lighting, RandomGray
from gpuio.transforms.crop import Crop, RandomResizedCrop, SquareCrop
from gpuio.transforms.geometry import INTER_METHODS
from gpuio.transforms.label_transforms import LABEL_KINDS, MoveBoxes, MovePoints
from gpuio.transforms.mirror import Mirror
from gpuio.transforms.normalize import OUTPUTS, Normalization
from gpuio.transforms.object_crop import EmitMode
from gpuio.transforms.op import Op
from gpuio.transforms.resize import ResizeShorterEdge

_ONE_BIT = 2e-7
_LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True, slots=True)
class Options:
    """The augmentation keywords of `ImageRecordIter`, already of the right types.

    Attributes are described there.
    """

    data_shape: tuple[int, int, int]
    dtype: str = "float32"
    layout: str = "NCHW"
    resize: int = -1
    max_rotate_angle: int = 0
    rotate: int = -1
    rotate_list: tuple[int, ...] = ()
    max_shear_ratio: float = 0
    max_aspect_ratio: float = 0
    min_aspect_ratio: float | None = None
    max_random_scale: float = 1
    min_random_scale: float = 1
    max_img_size: float = 1e10
    min_img_size: float = 0
    pad: int = 0
    fill_value: int = 255
    rand_crop: bool = False
    max_crop_size: int = -1
    min_crop_size: int = -1
    random_resized_crop: bool = False
    max_random_area: float = 1
    min_random_area: float = 1
    inter_method: int = 1
    brightness: float = 0
    contrast: float = 0
    saturation: float = 0
    random_h: int = 0
    random_s: int = 0
    random_l: int = 0
    pca_noise: float = 0
    rand_gray: float = 0
    mirror: bool = False
    rand_mirror: bool = False
    max_random_contrast: float = 0
    max_random_illumination: float = 0
    label_kind: str = "values"
    crop_emit_mode: str = "center"
    emit_overlap_thresh: float = 0.3
    label_pad_value: float = -1


def make_plan(options: Options, normalization: Normalization) -> Plan:
    """The plan that keywords stand for.

    Raises:
        ValueError: A keyword has an impossible value, or two of them cannot go together.
    """
    o = options
    _check(o, normalization)
    ops: list[Op] = []
    if o.resize != -1:
        ops.append(ResizeShorterEdge(o.resize, o.inter_method))
    ops += _affine(o)
    if o.pad > 0:
        ops.append(Pad(o.pad, o.fill_value))
    ops.append(_crop(o))
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
    if o.label_kind == "boxes":
        mode = cast("EmitMode", o.crop_emit_mode)
        ops.append(MoveBoxes(mode, o.emit_overlap_thresh, o.label_pad_value))
    elif o.label_kind == "points":
        ops.append(MovePoints(o.label_pad_value))
    return Plan(tuple(ops), o.data_shape, o.dtype, o.layout, normalization)


def geometry_of(options: Options, fill: int) -> Options:
    """The keywords that move pixels alone: one channel, uint8, the nearest pixel, no colours.

    Args:
        options: Of images.
        fill: The new `fill_value`.
    """
    off: dict[str, Any] = dict.fromkeys((*_COLORS, *_EXPOSURE), 0)
    return replace(
        options,
        data_shape=(1, *options.data_shape[1:]),
        dtype="uint8",
        layout="NCHW",
        inter_method=0,
        fill_value=fill,
        label_kind="values",
        **off,
    )


def mask_plan(options: Options, fill: int) -> Plan:
    """What is done to the masks of images of which `options` are the keywords."""
    return make_plan(geometry_of(options, fill), Normalization())


class Output(Protocol):
    """What all keywords say about the output."""

    @property
    def data_shape(self) -> tuple[int, int, int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def inter_method(self) -> int: ...
    @property
    def fill_value(self) -> int: ...


def check_output(o: Output, normalization: Normalization) -> None:
    """Refuse values that no iterator can take."""
    channels, height, width = o.data_shape
    if channels not in (1, 3, 4) or height < 1 or width < 1:
        raise ValueError(
            "data_shape must be (channels, height, width) with 1, 3 or 4 channels and sides of at "
            f"least 1, got {o.data_shape}"
        )
    for name, value, allowed in (
        ("dtype", o.dtype, tuple(OUTPUTS)),
        ("layout", o.layout, _LAYOUTS),
        ("inter_method", o.inter_method, INTER_METHODS),
    ):
        if value not in allowed:
            wanted = ", ".join(map(str, allowed))
            raise ValueError(f"{name} must be one of {wanted}, got {value!r}")
    if not 0 <= o.fill_value <= 255:
        raise ValueError(f"fill_value must be in [0, 255], got {o.fill_value}")
    image = normalization.image
    if image is not None and image.shape != o.data_shape:
        raise ValueError(f"mean_img must be of shape {o.data_shape}, got {image.shape}")
    normalization.check(o.dtype, channels)


def _check(o: Options, normalization: Normalization) -> None:
    check_output(o, normalization)
    if o.label_kind not in LABEL_KINDS:
        wanted = ", ".join(LABEL_KINDS)
        raise ValueError(f"label_kind must be one of {wanted}, got {o.label_kind!r}")
    MoveBoxes(cast("EmitMode", o.crop_emit_mode), o.emit_overlap_thresh)  # checks them
    for name in (*_EXPOSURE, "max_rotate_angle"):
        if getattr(o, name) < 0:
            raise ValueError(f"{name} must be at least 0, got {getattr(o, name)}")
    exposure = o.max_random_contrast, o.max_random_illumination
    normalization.check(o.dtype, o.data_shape[0], *exposure)
    on = [name for name in _COLORS if getattr(o, name)]
    if on and o.data_shape[0] != 3:
        raise ValueError(f"{on[0]} needs data_shape with 3 channels, got {o.data_shape[0]}")


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


def _aspect(o: Options) -> tuple[float, float]:
    if o.min_aspect_ratio is None:
        return 1 - o.max_aspect_ratio, 1 + o.max_aspect_ratio
    low, high = o.min_aspect_ratio, o.max_aspect_ratio
    # The same number given for both may have been read as two neighbouring float32.
    return low, low if abs(high - low) < _ONE_BIT * low else high


def _affine(o: Options) -> Sequence[Op]:
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


def _crop(o: Options) -> Op:
    shape = o.data_shape[1:]
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


def _shortest(o: Options) -> int:
    """Pixels that the shorter side of an image can have at most when it is cropped."""
    side = float("inf") if o.resize == -1 else o.resize
    side = max(min(side * o.max_random_scale, o.max_img_size), o.min_img_size)
    return int(side) + 2 * max(o.pad, 0)
