"""From the keywords of `ImageRecordIter` to the steps that every image goes through.

A step that is off is not in the plan and costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gpuio.mxnet.image_keywords import ImageColor, ImageGeometry
from gpuio.pipeline.config import OutputConfig
from gpuio.pipeline.plan import Plan
from gpuio.transforms.affine import Affine
from gpuio.transforms.border import Pad
from gpuio.transforms.color import ColorJitter, Exposure, HlsJitter, Lighting, RandomGray
from gpuio.transforms.crop import Crop, RandomResizedCrop, SquareCrop
from gpuio.transforms.mirror import Mirror
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.op import Op
from gpuio.transforms.resize import ResizeShorterEdge

_ONE_BIT = 2e-7


def make_plan(
    output: OutputConfig,
    geometry: ImageGeometry,
    color: ImageColor,
    normalization: Normalization,
    label_ops: Sequence[Op] = (),
) -> Plan:
    """The plan that keywords stand for; `label_ops` move labels with the pixels.

    Raises:
        ValueError: A keyword has an impossible value, or two of them cannot go together.
    """
    g, c, shape = geometry, color, output.data_shape
    on = [name for name in _COLORS if getattr(c, name)]
    if on and shape[0] != 3:
        raise ValueError(f"{on[0]} needs data_shape with 3 channels, got {shape[0]}")
    ops: list[Op] = []
    if g.resize != -1:
        ops.append(ResizeShorterEdge(g.resize, g.inter_method))
    ops += _affine(g)
    if g.pad > 0:
        ops.append(Pad(g.pad, g.fill_value))
    ops.append(_crop(g, shape[1:]))
    if max(c.brightness, c.contrast, c.saturation) > 0:
        amounts = (max(a, 0) for a in (c.brightness, c.contrast, c.saturation))
        ops.append(ColorJitter(*amounts))
    if c.random_h or c.random_s or c.random_l:
        ops.append(HlsJitter(c.random_h, c.random_s, c.random_l))
    if c.pca_noise > 0:
        ops.append(Lighting(c.pca_noise))
    if c.rand_gray > 0:
        ops.append(RandomGray(c.rand_gray))
    if g.mirror or g.rand_mirror:
        ops.append(Mirror(random=not g.mirror))
    if c.max_random_contrast or c.max_random_illumination:
        ops.append(Exposure(c.max_random_contrast, c.max_random_illumination))
    ops += label_ops
    return checked(Plan(tuple(ops), shape, output.dtype, output.layout, normalization))


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


_COLORS = ("brightness", "contrast", "saturation", "random_h", "random_s", "random_l", "pca_noise",
           "rand_gray")  # fmt: skip


def _aspect(o: ImageGeometry) -> tuple[float, float]:
    if o.min_aspect_ratio is None:
        return 1 - o.max_aspect_ratio, 1 + o.max_aspect_ratio
    low, high = o.min_aspect_ratio, o.max_aspect_ratio
    # The same number given for both may have been read as two neighbouring float32.
    return low, low if abs(high - low) < _ONE_BIT * low else high


def _affine(o: ImageGeometry) -> Sequence[Op]:
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


def _crop(o: ImageGeometry, shape: tuple[int, int]) -> Op:
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


def _shortest(o: ImageGeometry) -> int:
    """Pixels that the shorter side of an image can have at most when it is cropped."""
    side = float("inf") if o.resize == -1 else o.resize
    side = max(min(side * o.max_random_scale, o.max_img_size), o.min_img_size)
    return int(side) + 2 * max(o.pad, 0)
