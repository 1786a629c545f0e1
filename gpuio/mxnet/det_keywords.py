"""The keywords of `ImageDetRecordIter` that are not about loading: labels and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np

from gpuio.core import parameters as p
from gpuio.core.options import Bounded, Float32, option
from gpuio.mxnet.image_keywords import MOST_LABELS, BoxOptions, Geometry, MeanOptions
from gpuio.storage.paths import PathLike
from gpuio.transforms.detection import ResizeMode
from gpuio.transforms.normalize import Normalization


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class DetLabels(BoxOptions):
    """How many labels an image has, and which objects are kept."""

    label_width: int = option(-1, "The number of labels that every record must have; -1 allows "
        "any.")
    label_pad_width: int = option(0, "The number of labels that a row of the batch has space for; "
        "0 and -1 stand for the largest number that any record has.")

    def __post_init__(self) -> None:
        BoxOptions.__post_init__(self)
        p.integer("label_width", self.label_width, most=MOST_LABELS)
        p.integer("label_pad_width", self.label_pad_width, most=MOST_LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetGeometry(Geometry):
    """The steps that move pixels and objects."""

    aug_seq: str = option("det_aug_default", 'The sequence of steps: only "det_aug_default".')
    rand_mirror_prob: Float32 = option(0, "The probability of mirroring an image left to right.")
    rand_pad_prob: Float32 = option(0, "The probability of adding a border to an image.")
    max_pad_scale: Float32 = option(1, "The largest side of image and border, in sides of the "
        "image.")
    fill_value: Bounded = option(127, "The level of the border, from 0 to 255; a fourth channel "
        "gets 0.")
    rand_crop_prob: Float32 = option(0, "The probability of cropping an image.")
    num_crop_sampler: Bounded = option(1, "The number of crop samplers, which are tried in random "
        "order until one finds a crop. The keywords of samplers, `min_crop_scales` to "
        "`max_crop_trials`, take one value for all samplers or a list with one for each.")
    min_crop_scales: tuple[float, ...] = option((0,), "The smallest side of a crop, in sides of "
        "the image.")
    max_crop_scales: tuple[float, ...] = option((1,), "The largest side of a crop, in sides of the "
        "image.")
    min_crop_aspect_ratios: tuple[float, ...] = option((1,), "The smallest width / height of a "
        "crop.")
    max_crop_aspect_ratios: tuple[float, ...] = option((1,), "The largest width / height of a "
        "crop.")
    min_crop_overlaps: tuple[float, ...] = option((0,), "The smallest intersection over union of a "
        "crop and one of the objects.")
    max_crop_overlaps: tuple[float, ...] = option((1,), "The largest intersection over union of a "
        "crop and the same object.")
    min_crop_sample_coverages: tuple[float, ...] = option((0,), "The smallest intersection of crop "
        "and object, as a fraction of the area of the crop.")
    max_crop_sample_coverages: tuple[float, ...] = option((1,), "The largest intersection of crop "
        "and object, as a fraction of the area of the crop.")
    min_crop_object_coverages: tuple[float, ...] = option((0,), "The smallest intersection of crop "
        "and object, as a fraction of the object's area.")
    max_crop_object_coverages: tuple[float, ...] = option((1,), "The largest intersection of crop "
        "and object, as a fraction of the object's area.")
    max_crop_trials: tuple[float, ...] = option((25,), "The number of crops that a sampler tries.")
    resize_mode: ResizeMode = option("force", 'How images get the size of the output: "force" '
        'resizes all to it; "shrink" resizes larger images, and "fit" all images, to the largest '
        "size of their aspect ratio that fits. Smaller images lie in the top left corner of a "
        "black output.")

    def __post_init__(self) -> None:
        Geometry.__post_init__(self)
        p.choice("aug_seq", self.aug_seq, ("det_aug_default",))
        p.choice("resize_mode", self.resize_mode, get_args(ResizeMode))
        p.integer("fill_value", self.fill_value, least=0, most=255)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetColor:
    """The steps that change colours."""

    section: ClassVar[str] = "Colour"
    max_random_hue: Bounded = option(0, "The largest change of hue, either way, in units of 2 "
        "degrees.")
    random_hue_prob: Float32 = option(0, "The probability of changing the hue of an image.")
    max_random_saturation: Bounded = option(0, "The largest change of saturation in HLS, either "
        "way, in levels.")
    random_saturation_prob: Float32 = option(0, "The probability of changing the saturation of an "
        "image.")
    max_random_illumination: Bounded = option(0, "The largest change of lightness in HLS, either "
        "way, in levels.")
    random_illumination_prob: Float32 = option(0, "The probability of changing the lightness of an "
        "image.")
    max_random_contrast: Float32 = option(0, "Strength v of a random change of contrast: levels "
        "are multiplied by a factor from 1 - v to 1 + v.")
    random_contrast_prob: Float32 = option(0, "The probability of changing the contrast of an "
        "image.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetNormalization(MeanOptions):
    """How levels become values: a standard deviation of 0 is unused."""

    std_r: float = option(0, "Standard deviation of the red (or gray) channel, in levels; above 0, "
        "or unused.")
    std_g: float = option(0, "Standard deviation of the green channel, in levels; above 0, or "
        "unused.")
    std_b: float = option(0, "Standard deviation of the blue channel, in levels; above 0, or "
        "unused.")
    std_a: float = option(0, "Standard deviation of the fourth channel, in levels; above 0, or "
        "unused.")

    def normalization(self) -> Normalization:
        """The normalization, without a mean image.

        MXNet uses the means if one is above 0, and a standard deviation if it is above 0.
        """
        mean = self.mean if max(self.mean) > 0 else (0, 0, 0, 0)
        stds = self.std_r, self.std_g, self.std_b, self.std_a
        std = tuple(value if np.float32(value) > 0 else 1 for value in stds)
        return Normalization(mean, std, self.scale)

    @property
    def mean_image(self) -> PathLike:
        """The file of the mean image, which MXNet uses if no mean is above 0; "" for none."""
        return "" if max(self.mean) > 0 else self.mean_img
# fmt: on
