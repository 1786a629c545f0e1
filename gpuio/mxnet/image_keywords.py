"""The keywords of `ImageRecordIter` that are not about loading: labels, masks, augmentation.

Groups like those of `gpuio.pipeline.config`: each checks its own values, and the description of a
keyword stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, get_args

import numpy as np

from gpuio.core import parameters as p
from gpuio.core.options import Bounded, Float32, option
from gpuio.storage import paths
from gpuio.storage.paths import PathLike
from gpuio.transforms.geometry import INTER_METHODS
from gpuio.transforms.label_transforms import LABEL_KINDS, MoveBoxes, MovePoints
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.object_crop import EmitMode, check_emit
from gpuio.transforms.op import Op

MOST_LABELS: Final = 2**31 - 1
"""Labels that an image can have."""
LabelKind = Literal["values", "boxes", "points"]


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class BoxOptions:
    """Which boxes and objects are kept, and what fills up labels."""

    section: ClassVar[str] = "Labels and masks"
    crop_emit_mode: EmitMode = option("center", 'Which boxes or objects are kept: "center" keeps '
        'those whose centre stays in the picture, "overlap" those of whose area more than '
        "`emit_overlap_thresh` stays in it. A crop of `ImageDetRecordIter` keeps at least one "
        "object.")
    emit_overlap_thresh: Float32 = option(0.3, "The fraction of its area, from 0 to 1, above which "
        '`crop_emit_mode="overlap"` keeps a box.')
    label_pad_value: Float32 = option(-1, "The value that fills up labels where an image has fewer "
        "boxes, points or objects than others.")

    def __post_init__(self) -> None:
        check_emit(self.crop_emit_mode, self.emit_overlap_thresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLabels(BoxOptions):
    """The kind of labels, and how many an image has."""

    label_width: int = option(1, "W, the number of labels of an image. For boxes and points, -1 "
        "takes the largest number that any record has.")
    label_kind: LabelKind = option("values", 'What labels are. "values" stay as they are. "boxes", '
        '[class, xmin, ymin, xmax, ymax] each, and "points", [x, y] each, are positions in the '
        "picture, from 0 to 1, and move with the pixels. Boxes are clipped to the picture, and "
        "boxes outside it are dropped. Points keep their place in the label and may lie outside "
        "the picture.")

    def __post_init__(self) -> None:
        BoxOptions.__post_init__(self)
        kind, width = self.label_kind, self.label_width
        p.choice("label_kind", kind, get_args(LabelKind))
        if width == -1:
            if kind == "values":
                raise ValueError("label_width=-1 needs label_kind='boxes' or label_kind='points'")
            return
        p.integer("label_width", width, least=1, most=MOST_LABELS)
        if width % (size := LABEL_KINDS[kind]):
            raise ValueError(
                f"label_width must be a multiple of {size} for {kind}, got {width}; -1 takes as "
                "many as any record has"
            )

    def ops(self) -> list[Op]:
        """The steps that move labels with the pixels."""
        if self.label_kind == "boxes":
            emit, threshold = self.crop_emit_mode, self.emit_overlap_thresh
            return [MoveBoxes(emit, threshold, self.label_pad_value)]
        return [MovePoints(self.label_pad_value)] if self.label_kind == "points" else []


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions:
    """Segmentation masks."""

    section: ClassVar[str] = "Labels and masks"
    masks: PathLike | Sequence[PathLike] = option("", "A .rec file of masks, in the same forms as "
        "`path_imgrec`: PNGs of one channel, as many as the images, in their order and of their "
        "sizes. Masks move with the pixels, with nearest interpolation, into `batch.masks`.")
    mask_fill: int = option(255, "The label of mask pixels outside the picture, from 0 to 255.")

    def __post_init__(self) -> None:
        paths.check_paths("masks", self.masks, blanks=False)
        p.integer("mask_fill", self.mask_fill, least=0, most=255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The steps that move pixels in both iterators."""

    section: ClassVar[str] = "Geometry"
    resize: Bounded = option(-1, "Length of the shorter edge, in pixels, to which images are "
        "resized before all other steps; -1 keeps their size.")
    inter_method: Bounded = option(1, "Interpolation: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 "
        "Lanczos, 9 area to shrink and cubic to enlarge, 10 a random one of these for each image.")

    def __post_init__(self) -> None:
        if self.inter_method not in INTER_METHODS:
            wanted = ", ".join(map(str, INTER_METHODS))
            raise ValueError(f"inter_method must be one of {wanted}, got {self.inter_method}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGeometry(Geometry):
    """The steps that move pixels."""

    aug_seq: str = option("aug_default", 'The sequence of steps; "aug_default" is the only one.')
    max_rotate_angle: Bounded = option(0, "The largest random rotation, either way, in whole "
        "degrees.")
    rotate: Bounded = option(-1, "The angle by which all images are rotated counter-clockwise, in "
        "degrees; -1 and 0 are off.")
    rotate_list: tuple[int, ...] = option((), "Angles, in degrees, of which one is drawn for each "
        "image.")
    max_shear_ratio: Float32 = option(0, "The largest random shear, either way.")
    max_aspect_ratio: Float32 = option(0, "The largest aspect ratio, width / height, of "
        "`random_resized_crop` or, without it, of a random stretch. If `min_aspect_ratio` is None, "
        "the ratio is drawn from 1 - v to 1 + v, where v is this value.")
    min_aspect_ratio: Float32 | None = option(None, "The smallest aspect ratio; see "
        "`max_aspect_ratio`.")
    max_random_scale: Float32 = option(1, "The largest factor of a random scaling.")
    min_random_scale: Float32 = option(1, "The smallest factor of a random scaling.")
    max_img_size: Float32 = option(1e10, "The largest side that random scaling gives, in pixels.")
    min_img_size: Float32 = option(0, "The smallest side that random scaling gives, in pixels.")
    pad: Bounded = option(0, "The width of a border added on every side, in pixels.")
    fill_value: Bounded = option(255, "The level, from 0 to 255, of the border and of pixels that "
        "a rotation or shear brings in from outside the picture. The fourth channel gets 0.")
    rand_crop: bool = option(False, "Crop at a random position instead of the centre. Images "
        "smaller than the crop are enlarged first.")
    max_crop_size: Bounded = option(-1, "The largest side, in pixels, of a square crop of random "
        "size, which is resized to the output; -1 is off.")
    min_crop_size: Bounded = option(-1, "The smallest side of a square crop; see `max_crop_size`.")
    random_resized_crop: bool = option(False, "Crop a window of random area and aspect ratio, and "
        "resize it to the output. Both are 1 by default, so give `min_random_area`, "
        "`min_aspect_ratio` and `max_aspect_ratio`, too.")
    max_random_area: Float32 = option(1, "The largest area of `random_resized_crop`, as a fraction "
        "of the image's.")
    min_random_area: Float32 = option(1, "The smallest area of `random_resized_crop`, as a "
        "fraction of the image's.")
    mirror: bool = option(False, "Mirror all images left to right.")
    rand_mirror: bool = option(False, "Mirror each image left to right with probability 0.5.")

    def __post_init__(self) -> None:
        Geometry.__post_init__(self)
        p.choice("aug_seq", self.aug_seq, ("aug_default",))
        p.integer("max_rotate_angle", self.max_rotate_angle, least=0)
        p.integer("fill_value", self.fill_value, least=0, most=255)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageColor:
    """The steps that change colours."""

    section: ClassVar[str] = "Colour"
    brightness: Float32 = option(0, "Strength v of a random change of brightness: levels are "
        "multiplied by a factor from 1 - v to 1 + v. Brightness, contrast and saturation change in "
        "random order.")
    contrast: Float32 = option(0, "Strength v of a random change of contrast: distances from the "
        "mean gray of the image are multiplied by a factor from 1 - v to 1 + v.")
    saturation: Float32 = option(0, "Strength v of a random change of saturation: distances from "
        "the gray of each pixel are multiplied by a factor from 1 - v to 1 + v.")
    random_h: Bounded = option(0, "The largest change of hue, either way, in units of 2 degrees.")
    random_s: Bounded = option(0, "The largest change of saturation in HLS, either way, in levels.")
    random_l: Bounded = option(0, "The largest change of lightness in HLS, either way, in levels.")
    pca_noise: Float32 = option(0, "Standard deviation of noise along the principal components of "
        "colour.")
    rand_gray: Float32 = option(0, "The probability that an image is made gray.")
    max_random_contrast: Float32 = option(0, "Strength v of a random change of contrast: "
        "normalized values are multiplied by a factor from 1 - v to 1 + v.")
    max_random_illumination: Float32 = option(0, "The largest change of brightness, either way, in "
        "levels, which are added before values are normalized.")

    def __post_init__(self) -> None:
        for name in ("max_random_contrast", "max_random_illumination"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanOptions:
    """The means and the factor of `(value - mean) * scale / std`."""

    section: ClassVar[str] = "Normalization"
    mean_img: PathLike = option("", "A file with a (C, H, W) mean image, which replaces the four "
        "means. A missing file is made by one pass over the data. `ImageDetRecordIter` uses the "
        "image only if no mean is above 0.")
    mean_r: float = option(0, "Mean of the red (or gray) channel, in levels of 0 to 255.")
    mean_g: float = option(0, "Mean of the green channel, in levels of 0 to 255.")
    mean_b: float = option(0, "Mean of the blue channel, in levels of 0 to 255.")
    mean_a: float = option(0, "Mean of the fourth channel, in levels of 0 to 255.")
    scale: float = option(1, "The factor in `(value - mean) * scale / std`, which gives the "
        "output. For int8 only the rounded means are subtracted; uint8 is not normalized.")

    def __post_init__(self) -> None:
        paths.check_optional_path("mean_img", self.mean_img)

    @property
    def mean(self) -> tuple[float, float, float, float]:
        """The means of the four channels."""
        return self.mean_r, self.mean_g, self.mean_b, self.mean_a


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNormalization(MeanOptions):
    """How levels become values: with standard deviations that must not be 0."""

    std_r: float = option(1, "Standard deviation of the red (or gray) channel, in levels; not 0.")
    std_g: float = option(1, "Standard deviation of the green channel, in levels; not 0.")
    std_b: float = option(1, "Standard deviation of the blue channel, in levels; not 0.")
    std_a: float = option(1, "Standard deviation of the fourth channel, in levels; not 0.")

    def __post_init__(self) -> None:
        MeanOptions.__post_init__(self)
        for name in ("std_r", "std_g", "std_b", "std_a"):
            if np.float32(value := getattr(self, name)) == 0:
                raise ValueError(f"{name} must not be 0, got {value}")

    def normalization(self) -> Normalization:
        """The normalization, without a mean image."""
        std = self.std_r, self.std_g, self.std_b, self.std_a
        return Normalization(self.mean, std, self.scale)
# fmt: on
