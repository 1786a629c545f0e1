"""The keywords of MXNet's iterators over .rec files: one table of types, defaults and help.

`ImageRecordIter` and `ImageDetRecordIter` read their arguments by it. Their docstrings, the options
of `gpuio bench` and `gpuio show`, and the page of parameters are made from it.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Final, NamedTuple, Self, TypeVar, cast

from gpuio.core import parameters as p
from gpuio.pipeline.config import (
    LoaderConfig,
    OutputConfig,
    RuntimeConfig,
    SamplingConfig,
    SourceConfig,
)
from gpuio.transforms.normalize import OUTPUTS

T = TypeVar("T")

IMAGE: Final = "ImageRecordIter"
DET: Final = "ImageDetRecordIter"
REQUIRED: Final = "required"
"""What stands in the table for the default of a keyword that has none."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value.

    Attributes:
        text: The type, as the documentation shows it.
        read: Takes a keyword and its value, which may be text as in MXNet's scripts, and returns
            the value in its type. Raises a ValueError that names the keyword.
    """

    text: str
    read: Callable[[str, Any], Any] = lambda _, value: value


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword of one or both iterators.

    Attributes:
        name: The keyword.
        kind: The type of its value.
        default: Its default, or `REQUIRED`.
        help: What it means, in sentences.
        iterators: Names of the classes that take it.
        section: The heading under which the documentation shows it.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    iterators: tuple[str, ...] = (IMAGE, DET)
    section: str = ""


class Parameter(NamedTuple):
    """A row of the documentation's table of parameters."""

    section: str
    name: str
    type: str
    default: str
    help: str
    iterators: tuple[str, ...]


def _optional(kind: Kind) -> Kind:
    return Kind(f"{kind.text} or None", lambda name, v: None if v is None else kind.read(name, v))


_image = partial(Keyword, iterators=(IMAGE,))
_det = partial(Keyword, iterators=(DET,))

_BOOL: Final = Kind("bool", p.boolean)
_INT: Final = Kind("int", p.integer)
_AMOUNT: Final = Kind("int", p.amount)
_INTS: Final = Kind("list of int", p.integers)
_FLOAT: Final = Kind("float", p.number)
_MXNET_FLOAT: Final = Kind("float", p.single)
_FLOATS: Final = Kind("float or list of float", p.numbers)
_TEXT: Final = Kind("str", p.text)
_DTYPE: Final = _optional(Kind("dtype", partial(p.dtype_name, allowed=tuple(OUTPUTS))))
_PATH: Final = Kind("path")
_PATHS: Final = Kind("path or list of paths")
_ANY: Final = Kind("any")

# fmt: off
_CHANNELS: Final = {
    "r": "red (or gray) channel", "g": "green channel", "b": "blue channel", "a": "fourth channel",
}
_SOURCE: Final = (
    Keyword("path_imgrec", _PATHS, REQUIRED, "A .rec file. Several files make one data set: joined "
        'with ";", in a list, as braces (`train-{00000..00127}-of-00128.rec`), as a glob pattern, '
        "or as a folder."),
    Keyword("data_shape", Kind("(int, int, int)", partial(p.shape, length=3)), REQUIRED, "Channels "
        "(1 gray, 3 RGB, 4 RGBA), height and width of an output image, in pixels."),
    Keyword("batch_size", _INT, REQUIRED, "N, the number of images in a batch, at least 1."),
    Keyword("path_imgidx", _PATHS, "", "The .idx files, in the same forms as `path_imgrec`, or one "
        "for all .rec files. By default the .idx beside each .rec file is used, and a .rec file "
        "whose .idx is missing or does not name all records is scanned once. Records that a given "
        ".idx does not name are left out."),
    Keyword("path_imglist", _PATH, "", "A .lst file whose labels replace those in the records; "
        "lines and records are matched by id."),
    Keyword("num_parts", Kind('int or "auto"'), 1, "The number of readers that share the data set; "
        'each reads its own part. "auto" takes both this number and `part_index` from the '
        "launcher: torchrun, JAX, Ray Train, Open MPI or Slurm."),
    Keyword("part_index", _optional(_INT), 0, "The index of this reader, from 0 to num_parts - 1."),
    Keyword("storage_options", Kind("dict or None"), None, "Options for paths that are URLs, such "
        "as credentials and endpoint, as fsspec takes them."),
    Keyword("cache_dir", _PATH, "", "A folder on a local disk in which data read from URLs is "
        "kept. Several processes may share it."),
    Keyword("cache_size", _optional(_INT), None, "The size limit of `cache_dir` in bytes, at least "
        "1 GiB. The data that was not used for the longest time is deleted first. None sets no "
        "limit."),
)
_LABELS: Final = (
    _image("label_width", _INT, 1, "W, the number of labels of an image. For boxes and points, -1 "
        "takes the largest number that any record has."),
    _det("label_width", _INT, -1, "The number of labels that every record must have; -1 allows any "
        "number."),
    _image("label_kind", Kind('"values", "boxes" or "points"', p.text), "values", "What labels "
        'are. "values" stay as they are. "boxes", [class, xmin, ymin, xmax, ymax] each, and '
        '"points", [x, y] each, are positions in the picture, from 0 to 1, and move with the '
        "pixels. Boxes are clipped to the picture, and boxes outside it are dropped. Points keep "
        "their place in the label and may lie outside the picture."),
    _det("label_pad_width", _INT, 0, "The number of labels that a row of the batch has space for. "
        "0 and -1 stand for the largest number that any record has."),
    Keyword("label_pad_value", _MXNET_FLOAT, -1, "The value that fills up the labels of images "
        "with fewer boxes, points or objects than there is space for."),
    Keyword("crop_emit_mode", Kind('"center" or "overlap"', p.text), "center", "Which boxes or "
        'objects are kept: "center" keeps those whose centre stays in the picture, "overlap" those '
        "of whose area more than `emit_overlap_thresh` stays in it. A crop of `ImageDetRecordIter` "
        "keeps at least one object."),
    Keyword("emit_overlap_thresh", _MXNET_FLOAT, 0.3, "The fraction of a box or object, from 0 to "
        '1, that `crop_emit_mode="overlap"` compares with.'),
    _image("masks", _PATHS, "", "A .rec file of masks, given as `path_imgrec` is: PNGs of one "
        "channel, in the order of the images, as many as these and of the same sizes. Masks move "
        "with the pixels, with nearest interpolation, into `batch.masks`."),
    _image("mask_fill", _INT, 255, "The label, from 0 to 255, of mask pixels that lie outside the "
        "picture."),
)
_SAMPLING: Final = (
    Keyword("shuffle", _BOOL, False, "Draw a new permutation of all records for each epoch. False "
        "keeps the order of the files."),
    Keyword("seed", _INT, 0, "Seed for the permutation, and for augmentation unless `seed_aug` is "
        "given."),
    Keyword("seed_aug", _optional(_INT), None, "Seed for augmentation."),
    Keyword("round_batch", _BOOL, True, "Fill up the last batch of an epoch with other records of "
        "this part; `batch.pad` counts them. False leaves the last batch short."),
    Keyword("last_batch", Kind('"pad", "short", "drop" or None'), None, "What becomes of an "
        "incomplete last batch: it is filled up, left short or dropped. None leaves the choice to "
        "`round_batch`."),
)
_OUTPUT: Final = (
    Keyword("dtype", _DTYPE, None, "The type of the output: float32, float16, "
        "bfloat16, int8 or uint8. None is float32, int8 for `ImageRecordInt8Iter` and uint8 for "
        "`ImageRecordUInt8Iter`."),
    Keyword("layout", Kind('"NCHW" or "NHWC"', p.text), "NCHW", "The order of the axes of a batch: "
        "N images, C channels, H rows, W columns."),
    Keyword("data_name", _TEXT, "data", "The name of the images in `provide_data`."),
    Keyword("label_name", _TEXT, "softmax_label", "The name of the labels in `provide_label`."),
)
_RUNNING: Final = (
    Keyword("device", _optional(Kind("str or torch.device", p.device)), None, "Where batches are "
        'made: "cpu", "cuda" for the current GPU, "cuda:N", or a `torch.device`. None takes the '
        "current GPU if one can be used, and the CPU otherwise."),
    Keyword("preprocess_threads", _optional(_INT), None, "The number of CPU threads, from 1 to "
        "1024. None takes all cores that this process may use."),
    Keyword("prefetch_buffer", _INT, 2, "The number of finished batches that may wait for the "
        "consumer, at least 1."),
    Keyword("decoder", _TEXT, "auto", 'The image decoder: "auto", "nvimgcodec", "dali", "portable" '
        "(simplejpeg and Pillow), or a name that `gpuio.register_decoder` was given."),
    Keyword("deterministic", _BOOL, False, "On a GPU, use only decoders that give the same pixels "
        "in every run; the GPU's JPEG engines are not among them."),
    Keyword("on_error", Kind('"raise", "skip", "replace" or "zero"'), "raise", "What becomes of an "
        'image that could not be read or decoded. "raise" raises the error, "skip" leaves the '
        'image out and fills up the batch, "replace" puts another image of the batch in its place, '
        'and "zero" sets its pixels to 0. All but "raise" also leave out what cannot be found in a '
        "damaged or truncated .rec file."),
    Keyword("tolerate", Kind('"warnings" or None'), None, '"warnings" accepts the pixels that '
        "libjpeg makes up where a JPEG is damaged, as MXNet does. By default, such an image is an "
        "error."),
)
_GEOMETRY: Final = (
    _image("aug_seq", _TEXT, "aug_default", 'The sequence of steps; "aug_default" is the only '
        "one."),
    _det("aug_seq", _TEXT, "det_aug_default", 'The sequence of steps; "det_aug_default" is the '
        "only one."),
    Keyword("resize", _AMOUNT, -1, "Length of the shorter edge, in pixels, to which images are "
        "resized before any other step. -1 keeps their size."),
    Keyword("inter_method", _AMOUNT, 1, "Interpolation: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 "
        "Lanczos, 9 area to shrink and cubic to enlarge, 10 drawn for each image."),
    _image("max_rotate_angle", _AMOUNT, 0, "The largest random rotation, in either direction, in "
        "whole degrees."),
    _image("rotate", _AMOUNT, -1, "Rotate all images by this angle, in degrees, counter-clockwise; "
        "-1 and 0 are off."),
    _image("rotate_list", _INTS, "", "Angles, in degrees, one of which each image is rotated by."),
    _image("max_shear_ratio", _MXNET_FLOAT, 0, "The largest random shear, in either direction."),
    _image("max_aspect_ratio", _MXNET_FLOAT, 0, "The largest aspect ratio of a random stretch. If "
        "`min_aspect_ratio` is None, the ratio is drawn from 1 - v to 1 + v, where v is this "
        "value."),
    _image("min_aspect_ratio", _optional(Kind("float", p.nearest_single)), None, "The smallest "
        "aspect ratio of a random stretch; see `max_aspect_ratio`."),
    _image("max_random_scale", _MXNET_FLOAT, 1, "The largest factor of a random scaling."),
    _image("min_random_scale", _MXNET_FLOAT, 1, "The smallest factor of a random scaling."),
    _image("max_img_size", _MXNET_FLOAT, 1e10, "The longest side, in pixels, that random scaling "
        "may give an image."),
    _image("min_img_size", _MXNET_FLOAT, 0, "The shortest side, in pixels, that random scaling may "
        "give an image."),
    _image("pad", _AMOUNT, 0, "The width of a border added on every side, in pixels."),
    _image("fill_value", _AMOUNT, 255, "The level, from 0 to 255, of the border and of pixels that "
        "a rotation or shear brings in from outside the picture. The fourth channel gets 0."),
    _det("fill_value", _AMOUNT, 127, "The level, from 0 to 255, of the border. The fourth channel "
        "gets 0."),
    _image("rand_crop", _BOOL, False, "Crop at a random position instead of the centre. Images "
        "smaller than the crop are enlarged first."),
    _image("max_crop_size", _AMOUNT, -1, "The largest side, in pixels, of a square crop of random "
        "size, which is resized to the output; -1 is off."),
    _image("min_crop_size", _AMOUNT, -1, "The smallest side, in pixels, of that crop; see "
        "`max_crop_size`."),
    _image("random_resized_crop", _BOOL, False, "Crop a window of random area and aspect ratio, "
        "and resize it to the output."),
    _image("max_random_area", _MXNET_FLOAT, 1, "The largest fraction of an image's area that "
        "`random_resized_crop` crops."),
    _image("min_random_area", _MXNET_FLOAT, 1, "The smallest fraction of an image's area that "
        "`random_resized_crop` crops."),
    _image("mirror", _BOOL, False, "Mirror all images left to right."),
    _image("rand_mirror", _BOOL, False, "Mirror each image left to right with probability 0.5."),
    _det("rand_mirror_prob", _MXNET_FLOAT, 0, "The probability that an image is mirrored left to "
        "right."),
    _det("rand_pad_prob", _MXNET_FLOAT, 0, "The probability that an image gets a border."),
    _det("max_pad_scale", _MXNET_FLOAT, 1, "The largest side of an image with its border, as a "
        "multiple of the image's side."),
    _det("rand_crop_prob", _MXNET_FLOAT, 0, "The probability that an image is cropped."),
    _det("num_crop_sampler", _AMOUNT, 1, "The number of crop samplers, which are tried in random "
        "order until one finds a crop. The keywords of samplers, `min_crop_scales` to "
        "`max_crop_trials`, take one value for all samplers or a list with one for each."),
    _det("min_crop_scales", _FLOATS, 0, "The smallest side of a crop, as a fraction of the image's "
        "side."),
    _det("max_crop_scales", _FLOATS, 1, "The largest side of a crop, as a fraction of the image's "
        "side."),
    _det("min_crop_aspect_ratios", _FLOATS, 1, "The smallest ratio of a crop's width to its "
        "height."),
    _det("max_crop_aspect_ratios", _FLOATS, 1, "The largest ratio of a crop's width to its "
        "height."),
    _det("min_crop_overlaps", _FLOATS, 0, "The smallest intersection over union of a crop and one "
        "of the objects."),
    _det("max_crop_overlaps", _FLOATS, 1, "The largest intersection over union of a crop and the "
        "same object."),
    _det("min_crop_sample_coverages", _FLOATS, 0, "The smallest intersection of crop and object, "
        "as a fraction of the area of the crop."),
    _det("max_crop_sample_coverages", _FLOATS, 1, "The largest intersection of crop and object, as "
        "a fraction of the area of the crop."),
    _det("min_crop_object_coverages", _FLOATS, 0, "The smallest intersection of crop and object, "
        "as a fraction of the object's area."),
    _det("max_crop_object_coverages", _FLOATS, 1, "The largest intersection of crop and object, as "
        "a fraction of the object's area."),
    _det("max_crop_trials", _FLOATS, 25, "The number of crops that a sampler draws before it gives "
        "up."),
    _det("resize_mode", Kind('"force", "shrink" or "fit"', p.text), "force", "How images get the "
        'size of the output: "force" resizes all to it; "shrink" resizes larger images, and "fit" '
        "all images, to the largest size of their aspect ratio that fits. Smaller images lie in "
        "the top left corner of a black output."),
)
_COLOUR: Final = (
    _image("brightness", _MXNET_FLOAT, 0, "Strength v of a random change of brightness: levels are "
        "multiplied by a factor from 1 - v to 1 + v. Brightness, contrast and saturation change in "
        "random order."),
    _image("contrast", _MXNET_FLOAT, 0, "Strength v of a random change of contrast: distances from "
        "the mean gray of the image are multiplied by a factor from 1 - v to 1 + v."),
    _image("saturation", _MXNET_FLOAT, 0, "Strength v of a random change of saturation: distances "
        "from the gray of each pixel are multiplied by a factor from 1 - v to 1 + v."),
    _image("random_h", _AMOUNT, 0, "The largest random change of hue, in either direction, in "
        "units of 2 degrees."),
    _image("random_s", _AMOUNT, 0, "The largest random change of HLS saturation, in either "
        "direction, in levels of 0 to 255."),
    _image("random_l", _AMOUNT, 0, "The largest random change of HLS lightness, in either "
        "direction, in levels of 0 to 255."),
    _image("pca_noise", _MXNET_FLOAT, 0, "Standard deviation of the noise along the principal "
        "components of ImageNet's colours."),
    _image("rand_gray", _MXNET_FLOAT, 0, "The probability that an image is made gray."),
    _det("max_random_hue", _AMOUNT, 0, "The largest random change of hue, in either direction, in "
        "units of 2 degrees."),
    _det("random_hue_prob", _MXNET_FLOAT, 0, "The probability that the hue of an image changes."),
    _det("max_random_saturation", _AMOUNT, 0, "The largest random change of HLS saturation, in "
        "either direction, in levels of 0 to 255."),
    _det("random_saturation_prob", _MXNET_FLOAT, 0, "The probability that the saturation of an "
        "image changes."),
    _det("max_random_illumination", _AMOUNT, 0, "The largest random change of HLS lightness, in "
        "either direction, in levels of 0 to 255."),
    _det("random_illumination_prob", _MXNET_FLOAT, 0, "The probability that the lightness of an "
        "image changes."),
    _det("max_random_contrast", _MXNET_FLOAT, 0, "Strength v of a random change of contrast: "
        "levels are multiplied by a factor from 1 - v to 1 + v."),
    _det("random_contrast_prob", _MXNET_FLOAT, 0, "The probability that the contrast of an image "
        "changes."),
)
_NORMALIZATION: Final = (
    Keyword("mean_img", _PATH, "", "A file with a (C, H, W) mean image, which replaces the four "
        "means. A missing file is made by one pass over the data. `ImageDetRecordIter` uses the "
        "image only if none of the four means is above 0."),
    *(Keyword(f"mean_{c}", _FLOAT, 0, f"Mean of the {name}, in levels of 0 to 255.")
        for c, name in _CHANNELS.items()),
    *(_image(f"std_{c}", _FLOAT, 1, f"Standard deviation of the {name}, in levels; not 0.")
        for c, name in _CHANNELS.items()),
    *(_det(f"std_{c}", _FLOAT, 0, f"Standard deviation of the {name}, in levels; 1 if it is 0 or "
        "less.") for c, name in _CHANNELS.items()),
    Keyword("scale", _FLOAT, 1, "The factor in `(value - mean) * scale / std`, which gives the "
        "output. For int8 only the rounded means are subtracted; uint8 is not normalized."),
    _image("max_random_contrast", _MXNET_FLOAT, 0, "Strength v of a random change of contrast: "
        "normalized values are multiplied by a factor from 1 - v to 1 + v."),
    _image("max_random_illumination", _MXNET_FLOAT, 0, "The largest random change of brightness, "
        "in either direction, in levels of 0 to 255, added before values are normalized."),
)
_IGNORED: Final = (
    Keyword("shuffle_chunk_size", _ANY, 0, "Without effect: all records are shuffled."),
    Keyword("shuffle_chunk_seed", _ANY, 0, "Without effect: see `seed`."),
    Keyword("ctx", _ANY, "gpu", "Without effect: see `device`."),
    Keyword("device_id", _ANY, 0, "Without effect: see `device`."),
    Keyword("verbose", _ANY, True, "Without effect."),
)
# fmt: on
TABLE: Final = tuple(
    replace(row, section=section)
    for section, rows in {
        "Source": _SOURCE,
        "Labels and masks": _LABELS,
        "Sampling": _SAMPLING,
        "Output": _OUTPUT,
        "Running": _RUNNING,
        "Geometry": _GEOMETRY,
        "Colour": _COLOUR,
        "Normalization": _NORMALIZATION,
        "Accepted without effect": _IGNORED,
    }.items()
    for row in rows
)
"""All keywords; one whose default or meaning differs between the iterators has two rows."""


def keywords_of(iterator: str) -> dict[str, Keyword]:
    """The keywords of an iterator, by name.

    Args:
        iterator: `IMAGE` or `DET`.
    """
    return {row.name: row for row in TABLE if iterator in row.iterators}


def parameter_table() -> list[Parameter]:
    """All keywords of `ImageRecordIter` and `ImageDetRecordIter`, in the order of sections.

    A keyword with another default or meaning in each iterator has two rows.
    """
    return [
        Parameter(
            row.section,
            row.name,
            row.kind.text,
            row.default if row.default == REQUIRED else repr(row.default),
            row.help,
            row.iterators,
        )
        for row in TABLE
    ]


class Values(dict[str, Any]):
    """The arguments of an iterator by keyword, each in its type."""

    @classmethod
    def read(cls, iterator: str, arguments: Mapping[str, Any]) -> Self:
        """The arguments of a call as the table reads them, and defaults for those left out.

        Args:
            iterator: `IMAGE` or `DET`.
            arguments: By keyword, as the user gave them.

        Raises:
            ValueError: A value is not of the keyword's type.
        """
        rows = keywords_of(iterator)
        given = {name: row.default for name, row in rows.items() if row.default != REQUIRED}
        given.update(arguments)
        return cls((name, rows[name].kind.read(name, value)) for name, value in given.items())

    def group(self, group: type[T]) -> T:
        """A dataclass made of the keywords that its fields are called after."""
        names = {field.name for field in fields(cast("Any", group)) if field.init}
        return group(**{name: self[name] for name in names & self.keys()})

    def config(self) -> LoaderConfig:
        """The options that are not about augmentation."""
        return LoaderConfig(
            self.group(SourceConfig),
            self.group(SamplingConfig),
            self.group(OutputConfig),
            self.group(RuntimeConfig),
        )

    def channels(self, kind: str) -> tuple[float, ...]:
        """The four values of "mean" or "std": red, green, blue, alpha."""
        return tuple(self[f"{kind}_{channel}"] for channel in "rgba")


def takes_keywords(iterator: str) -> Callable[[type[T]], type[T]]:
    """Make an iterator that reads its arguments by the table, and document them.

    The class declares its signature in an `__init__` without statements. A call of it is checked
    against this signature, its arguments are read, and the `Values` go to the method `_open`.

    Args:
        iterator: `IMAGE` or `DET`.
    """

    def decorate(cls: type[T]) -> type[T]:
        declared: Callable[..., None] = cls.__init__
        signature = inspect.signature(declared)

        @functools.wraps(declared)
        def read(self: Any, *args: Any, **kwargs: Any) -> None:
            declared(self, *args, **kwargs)  # raises Python's own TypeError for a wrong call
            given = signature.bind(self, *args, **kwargs).arguments
            del given["self"]
            self._open(Values.read(iterator, given))

        cls.__init__ = p.suggest(read)  # type: ignore[method-assign]
        if cls.__doc__ is not None:
            before, mark, after = cls.__doc__.partition("    Attributes:")
            cls.__doc__ = f"{before}    Args:\n{_described(iterator)}\n\n{mark}{after}"
        return cls

    return decorate


def _described(iterator: str) -> str:
    """The lines of a docstring that describe the arguments."""
    return "\n".join(
        textwrap.fill(
            f"{row.name}: {row.help}", 100, initial_indent=" " * 8, subsequent_indent=" " * 12
        )
        for row in keywords_of(iterator).values()
    )
