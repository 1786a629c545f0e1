"""Iterators over batches of images: epochs, MXNet's interface, saved states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.mxnet.advice import advise, warn
from gpuio.mxnet.image_options import Options, make_plan, mask_plan
from gpuio.mxnet.iterators.record_iter import Labels, RecordIter
from gpuio.pipeline.masks import Masks, open_masks
from gpuio.samplers import LastBatch
from gpuio.sources.base import RecordSource
from gpuio.sources.labels import list_labels, ragged_list_labels
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.storage import paths
from gpuio.storage.location import PathLike
from gpuio.transforms.label_transforms import LABEL_KINDS
from gpuio.transforms.normalize import OUTPUTS, Normalization


class ImageRecordIter(RecordIter):
    """Batches of decoded, augmented images from .rec files, with MXNet's parameters.

    An iterator is at the start of an epoch, inside one, or at its end. `next` at the end raises
    StopIteration. A new `for` loop goes on with what is left of the epoch, and begins the next one
    where nothing is left; `reset` begins the next one anywhere. Any thread may call any method:
    threads that call `next` share the batches out, and `close` also ends the wait of another one.

    Args:
        path_imgrec: A .rec file; or several, as one data set: joined with ";", in a list, as
            braces (`train-{00000..00127}-of-00128.rec`), as a glob or a folder.
        data_shape: Channels (1 gray, 3 RGB, 4 RGBA), height, width of the output, in pixels.
        batch_size: N, images in a batch.
        path_imgidx: The .idx files, given the same way, or one for all; by default those beside
            the .rec files. Where one has none, or does not name all records, the .rec files are
            gone through once. One that is given may leave records out.
        path_imglist: A .lst whose labels replace those in the records, by id.
        label_width: W, labels of every image; -1, for boxes and points, the most that any record
            has.
        label_kind: "values"; or places that move with the pixels, relative to the picture from 0
            to 1: "boxes", [class, xmin, ymin, xmax, ymax] each, or "points", [x, y] each. Boxes
            are clipped to the picture, and those that leave it dropped; points keep their place
            in the label, and may have places outside the picture.
        crop_emit_mode: Boxes that are kept: "center", those whose centre stays in the picture;
            "overlap", those of whose area more than `emit_overlap_thresh` does.
        emit_overlap_thresh: See `crop_emit_mode`.
        label_pad_value: What fills labels up where there are fewer boxes or points.
        masks: A .rec of as many PNGs of one channel, in the order of the images, and as large as
            these; given as `path_imgrec` is. They move with the pixels, by the nearest one, into
            `batch.masks`.
        mask_fill: Label of what lies outside of a picture.
        storage_options: For paths that are URLs: credentials, endpoint and so on, as fsspec takes
            them.
        cache_dir: A folder on disk for copies of what was read from URLs, filled on the way.
            Processes may share it.
        cache_size: Bytes that it may take, at least 1 GiB; what was not used for longest gives
            way. None for any number.
        num_parts: Readers that share the data set, each with a part of it; "auto" finds these two
            (see `gpuio.core.shard`).
        part_index: This reader, in [0, num_parts).
        shuffle: A new exact permutation of all records in every epoch; False keeps file order.
        seed: Of the permutation, and of the augmentation unless `seed_aug` is given.
        seed_aug: Of the augmentation.
        round_batch: True fills the last batch up with records of this part, counted in `pad`;
            False leaves it short.
        last_batch: "pad", "short" or "drop"; replaces `round_batch`.
        preprocess_threads: CPU threads; all cores that this process may use when None.
        prefetch_buffer: Finished batches that may wait, at least 1.
        dtype: float32 (also None), float16, bfloat16, int8 or uint8.
        layout: "NCHW" or "NHWC".
        device: "cpu"; "cuda:N", or "cuda" for the current GPU; or a `torch.device`; None takes the
            current GPU where one can be used, else the CPU.
        decoder: "auto", "nvimgcodec", "dali" or "portable".
        deterministic: On a GPU, decode only with what gives the same pixels each time: without
            the hardware's JPEG engines.
        on_error: What happens to an image that could not be read or decoded: "raise"; "skip" it and
            fill the batch up; "replace" it by another one of the batch; "zero" its pixels. Records
            that cannot be found in a damaged or cut .rec are left out by all but "raise".
        tolerate: "warnings" takes the pixels that libjpeg makes up where a JPEG is damaged, as
            MXNet does; by default such an image is an error.
        resize: Length of the shorter edge, in pixels, before anything else; -1 leaves it.
        inter_method: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos, 9 by size, 10 random.
        max_rotate_angle: Turn by -v to v whole degrees.
        rotate: Turn by this angle, counter-clockwise; -1 and 0 are off.
        rotate_list: Turn by one of these angles.
        max_shear_ratio: Shear by -v to v.
        max_aspect_ratio: Stretch to a ratio from `min_aspect_ratio` to this; where that is None,
            from 1 - v to 1 + v.
        min_aspect_ratio: See `max_aspect_ratio`.
        max_random_scale: Scale by `min_random_scale` to this.
        min_random_scale: See `max_random_scale`.
        max_img_size: Longest side that scaling may give, in pixels.
        min_img_size: Shortest side that scaling may give.
        pad: Border on every side, in pixels.
        fill_value: Of the border, and of what is turned in; the fourth channel gets 0.
        rand_crop: Crop at a random place, not in the middle. Too small images are enlarged.
        max_crop_size: Crop a square of `min_crop_size` to this, and resize it to the output.
        min_crop_size: See `max_crop_size`.
        random_resized_crop: Crop a window of random area and aspect ratio, and resize it.
        max_random_area: Largest part of the area, for `random_resized_crop`.
        min_random_area: Smallest part of the area.
        brightness: Times 1 - v to 1 + v; with `contrast` and `saturation` in random order.
        contrast: About the mean gray, likewise.
        saturation: About each pixel's gray, likewise.
        random_h: Hue plus -v to v, in half degrees.
        random_s: HLS saturation plus -v to v, in levels.
        random_l: Lightness plus -v to v, in levels.
        pca_noise: Standard deviation of noise along the principal components of colour.
        rand_gray: Which part of the images become gray.
        mirror: Mirror every image.
        rand_mirror: Mirror one half of them.
        max_random_contrast: Multiply what is normalized by 1 - v to 1 + v.
        max_random_illumination: Add -v to v levels to what is normalized.
        aug_seq: "aug_default".
        mean_img: File with a (C, H, W) mean image; made by one pass over the data if missing.
        mean_r: Mean of red, or gray, of 0 to 255; `mean_g`, `mean_b` and `mean_a` likewise.
        std_r: Standard deviation of red, or gray; `std_g`, `std_b` and `std_a` likewise.
        scale: Multiplies the normalized values.
        data_name: In `provide_data`.
        label_name: In `provide_label`.
        verbose: Accepted for MXNet's scripts, without effect; so are `ctx`, `device_id` and
            `shuffle_chunk_size`, `shuffle_chunk_seed` (a shuffle is always over all records).

    Attributes:
        batch_size: As given.
        plan: What is done to every image; prints itself.
        provide_data: Description of `batch.data`.
        provide_label: Description of `batch.label`.
        provide_masks: Description of `batch.masks`; empty without masks.
        epoch: Number of the epoch under way, from 0.
        part: Which part of the data set this reads, and who says so.
        faults: Images that could not be had: how many, and the first errors.

    Raises:
        ValueError: A parameter has a wrong value.
        TypeError: A parameter has an unknown name.
        FileNotFoundError: A file is missing.
        FormatError: A file is not what it should be.
    """

    _dtype = "float32"

    @p.suggest
    def __init__(
        self,
        path_imgrec: PathLike | Sequence[PathLike],
        data_shape: Sequence[int],
        batch_size: int,
        *,
        path_imgidx: PathLike | Sequence[PathLike] = "",
        path_imglist: PathLike = "",
        label_width: int = 1,
        label_kind: str = "values",
        crop_emit_mode: str = "center",
        emit_overlap_thresh: float = 0.3,
        label_pad_value: float = -1,
        masks: PathLike | list[PathLike] = "",
        mask_fill: int = 255,
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: PathLike = "",
        cache_size: int | None = None,
        num_parts: int | str = 1,
        part_index: int | None = 0,
        shuffle: bool = False,
        seed: int = 0,
        seed_aug: int | None = None,
        round_batch: bool = True,
        last_batch: LastBatch | None = None,
        preprocess_threads: int | None = None,
        prefetch_buffer: int = 2,
        dtype: npt.DTypeLike | None = None,
        layout: str = "NCHW",
        device: str | None = None,
        decoder: str = "auto",
        deterministic: bool = False,
        on_error: str = "raise",
        tolerate: str | None = None,
        resize: int = -1,
        inter_method: int = 1,
        rand_crop: bool = False,
        mirror: bool = False,
        rand_mirror: bool = False,
        mean_img: PathLike = "",
        mean_r: float = 0,
        mean_g: float = 0,
        mean_b: float = 0,
        mean_a: float = 0,
        std_r: float = 1,
        std_g: float = 1,
        std_b: float = 1,
        std_a: float = 1,
        scale: float = 1,
        data_name: str = "data",
        label_name: str = "softmax_label",
        aug_seq: str = "aug_default",
        max_rotate_angle: int = 0,
        rotate: int = -1,
        rotate_list: Sequence[int] | str = "",
        max_shear_ratio: float = 0,
        max_aspect_ratio: float = 0,
        min_aspect_ratio: float | None = None,
        max_random_scale: float = 1,
        min_random_scale: float = 1,
        max_img_size: float = 1e10,
        min_img_size: float = 0,
        pad: int = 0,
        fill_value: int = 255,
        max_crop_size: int = -1,
        min_crop_size: int = -1,
        random_resized_crop: bool = False,
        max_random_area: float = 1,
        min_random_area: float = 1,
        brightness: float = 0,
        contrast: float = 0,
        saturation: float = 0,
        random_h: int = 0,
        random_s: int = 0,
        random_l: int = 0,
        pca_noise: float = 0,
        rand_gray: float = 0,
        max_random_contrast: float = 0,
        max_random_illumination: float = 0,
        shuffle_chunk_size: int = 0,
        shuffle_chunk_seed: int = 0,
        ctx: str = "gpu",
        device_id: int = 0,
        verbose: bool = True,
    ) -> None:
        given = dict(locals())
        paths.check_several("path_imgrec", path_imgrec, needed=True)
        for name in ("path_imgidx", "masks"):
            paths.check_several(name, given[name])
        for name in ("path_imglist", "mean_img", "cache_dir"):
            paths.check_optional(name, given[name])
        if isinstance(masks, str) and masks and not all(masks.split(";")):
            raise ValueError(f"masks must have no empty path in it, got {masks!r}")
        p.choice("aug_seq", aug_seq, ("aug_default",))
        dtype = self._dtype if dtype is None else dtype
        given["dtype"] = p.dtype_name("dtype", dtype, tuple(OUTPUTS))
        options, normalization = p.fields_of(Options, given), _normalization(given)
        make_plan(options, normalization)  # what is wrong with it is found before files are opened
        advise(options, normalization)
        width = _label_width(label_width, label_kind)
        fill = p.integer("mask_fill", mask_fill, least=0, most=255)
        if fill != 255 and not masks:
            warn(f"mask_fill={fill} has no effect without masks")
        storage = paths.storage_of(given)
        # What is left out of images or masks alone would shift one against the other.
        policy = "raise" if masks else on_error
        dataset = RecordIOSource.open(
            storage.locate(path_imgrec), storage.locate(path_imgidx), on_error=policy
        )
        path_imglist = storage.locate_one(path_imglist)
        if width < 0:
            labels = _places(dataset, path_imglist, label_kind)
        else:
            relabel = list_labels(path_imglist, width) if path_imglist else None
            labels = Labels(width, () if width == 1 else (width,), relabel)
        super().__init__(
            given,
            dataset,
            labels,
            lambda image: make_plan(options, replace(normalization, image=image)),
            Masks(open_masks(storage.locate(masks), dataset), mask_plan(options, fill), fill)
            if masks
            else None,
        )


class ImageRecordUInt8Iter(ImageRecordIter):
    """`ImageRecordIter` with dtype uint8, which is never normalized."""

    _dtype = "uint8"


class ImageRecordInt8Iter(ImageRecordIter):
    """`ImageRecordIter` with dtype int8: values less their rounded means."""

    _dtype = "int8"


def _normalization(given: Mapping[str, Any]) -> Normalization:
    mean, std = p.channels("mean", given), p.channels("std", given)
    for channel, value in zip("rgba", std, strict=True):
        if np.float32(value) == 0:
            raise ValueError(f"std_{channel} must not be 0, got {value}")
    return Normalization(mean, std, p.number("scale", given["scale"]))


def _label_width(value: Any, kind: str) -> int:
    """Labels of every image, in whole boxes or points; -1 for any number of these."""
    size, width = LABEL_KINDS[kind], p.integer("label_width", value)
    if width == -1 and size > 1:
        return width
    width = p.integer("label_width", width, least=1)
    if width % size:
        raise ValueError(f"label_width must be a multiple of {size} for {kind}, got {width}")
    return width


def _places(dataset: RecordSource, path_imglist: PathLike, kind: str) -> Labels:
    """Any number of boxes or points for every image."""
    size = LABEL_KINDS[kind]
    if path_imglist:
        relabel, most = ragged_list_labels(path_imglist)
    else:
        relabel, most = None, int(dataset.label_counts().max(initial=1))
    most = -(-most // size) * size

    def check(labels: npt.NDArray[np.float32], widths: npt.NDArray[np.int64]) -> dict[int, str]:
        wrong = np.flatnonzero((widths == 0) | (widths % size != 0)).tolist()
        return {n: f"its {widths[n]} labels are not {kind} of {size} numbers" for n in wrong}

    return Labels(most, (most,), relabel, check)
