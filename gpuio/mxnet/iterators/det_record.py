"""An iterator over pictures with the objects in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.formats.object_label import faults_of
from gpuio.mxnet.advice import advise_det
from gpuio.mxnet.det_options import DetOptions, det_normalization, make_det_plan
from gpuio.mxnet.iterators.record_iter import Labels, RecordIter
from gpuio.samplers import LastBatch
from gpuio.sources.base import RecordSource
from gpuio.sources.labels import ragged_list_labels
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.storage import paths
from gpuio.storage.location import PathLike
from gpuio.transforms.normalize import OUTPUTS

_HEADER = 4  # channels, rows, columns and count, in front of every row of labels
Numbers = float | Sequence[float] | str


class ImageDetRecordIter(RecordIter):
    """Batches of augmented images whose objects move with the pixels, with MXNet's parameters.

    A record's label is `[A, B, extra header..., objects...]`: A numbers of header with these two,
    then B numbers for each object, `[class, xmin, ymin, xmax, ymax, extra...]`, relative to the
    picture. A row of `batch.label` is `[channels, rows, columns, L, labels..., filler...]`: the
    size of the picture in the batch, and the L numbers that its label has now.

    In this order: resize, colours, mirror, pad, crop, resize to the output. An iterator is at the
    start of an epoch, inside one, or at its end, as `ImageRecordIter` is.

    Args:
        path_imgrec: A .rec file; or several, as one data set: joined with ";", in a list, as
            braces (`train-{00000..00127}-of-00128.rec`), as a glob or a folder.
        data_shape: Channels (1 gray, 3 RGB, 4 RGBA), height, width of the output, in pixels.
        batch_size: N, images in a batch.
        path_imgidx: The .idx files, given the same way, or one for all; by default those beside
            the .rec files. Where one has none, or does not name all records, the .rec files are
            gone through once. One that is given may leave records out.
        path_imglist: A .lst whose labels replace those in the records, by id; its last column is
            the path.
        label_width: Labels that every record must have; -1 for any number.
        label_pad_width: Labels that a row has room for; the most that any record has where that
            is 0 or -1.
        label_pad_value: What fills rows up.
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
        resize_mode: "force" to the size of the output; "shrink", in proportion, what is larger;
            or "fit", in proportion, to the largest that fits. Beside a smaller picture, which is
            in the top left corner, all is black.
        max_random_hue: Hue plus -v to v, in half degrees, for `random_hue_prob` of the images.
        random_hue_prob: See `max_random_hue`.
        max_random_saturation: HLS saturation plus -v to v, in levels.
        random_saturation_prob: See `max_random_saturation`.
        max_random_illumination: Lightness plus -v to v, in levels.
        random_illumination_prob: See `max_random_illumination`.
        max_random_contrast: Levels times 1 - v to 1 + v.
        random_contrast_prob: See `max_random_contrast`.
        rand_mirror_prob: Which part of the images is mirrored left to right.
        rand_pad_prob: Which part gets a border, so that it is smaller in the output.
        max_pad_scale: Largest side of picture and border, in sides of the picture.
        fill_value: Of the border; the fourth channel gets 0.
        rand_crop_prob: Which part is cropped.
        num_crop_sampler: Ways of drawing crops. They take their turns in random order until one
            finds a crop. What follows has one number for all, or one for each.
        min_crop_scales: Smallest side of a crop, in sides of the picture.
        max_crop_scales: Largest side.
        min_crop_aspect_ratios: Least width over height of a crop.
        max_crop_aspect_ratios: Largest.
        min_crop_overlaps: Least intersection over union of the crop with one of the objects.
        max_crop_overlaps: Largest, for the same object.
        min_crop_sample_coverages: Least intersection over the area of the crop.
        max_crop_sample_coverages: Largest.
        min_crop_object_coverages: Least intersection over the area of the object.
        max_crop_object_coverages: Largest.
        max_crop_trials: Crops that a sampler draws before it gives up.
        crop_emit_mode: Objects that a crop keeps: "center", those whose centre is inside;
            "overlap", those of whose area more than `emit_overlap_thresh` is. One at least.
        emit_overlap_thresh: See `crop_emit_mode`.
        mean_img: File with a (C, H, W) mean image; made by one pass over the data if missing.
            Not used where one of the means is above 0.
        mean_r: Mean of red, or gray, of 0 to 255; `mean_g`, `mean_b` and `mean_a` likewise. Not
            used where none is above 0.
        std_r: Standard deviation of red, or gray; `std_g`, `std_b` and `std_a` likewise. Not used
            where it is 0 or less.
        scale: Multiplies the normalized values.
        data_name: In `provide_data`.
        label_name: In `provide_label`.
        aug_seq: "det_aug_default".
        verbose: Accepted for MXNet's scripts, without effect; so are `ctx`, `device_id` and
            `shuffle_chunk_size`, `shuffle_chunk_seed` (a shuffle is always over all records).

    Attributes:
        label_pad_width: Labels that a row of `batch.label` has room for.

    Raises:
        ValueError: A parameter has a wrong value.
        TypeError: A parameter has an unknown name.
        FileNotFoundError: A file is missing.
        FormatError: A file is not what it should be.
    """

    @p.suggest
    def __init__(
        self,
        path_imgrec: PathLike | Sequence[PathLike],
        data_shape: Sequence[int],
        batch_size: int,
        *,
        path_imgidx: PathLike | Sequence[PathLike] = "",
        path_imglist: PathLike = "",
        label_width: int = -1,
        label_pad_width: int = 0,
        label_pad_value: float = -1,
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
        resize_mode: str = "force",
        max_random_hue: int = 0,
        random_hue_prob: float = 0,
        max_random_saturation: int = 0,
        random_saturation_prob: float = 0,
        max_random_illumination: int = 0,
        random_illumination_prob: float = 0,
        max_random_contrast: float = 0,
        random_contrast_prob: float = 0,
        rand_mirror_prob: float = 0,
        rand_pad_prob: float = 0,
        max_pad_scale: float = 1,
        fill_value: int = 127,
        rand_crop_prob: float = 0,
        num_crop_sampler: int = 1,
        min_crop_scales: Numbers = 0,
        max_crop_scales: Numbers = 1,
        min_crop_aspect_ratios: Numbers = 1,
        max_crop_aspect_ratios: Numbers = 1,
        min_crop_overlaps: Numbers = 0,
        max_crop_overlaps: Numbers = 1,
        min_crop_sample_coverages: Numbers = 0,
        max_crop_sample_coverages: Numbers = 1,
        min_crop_object_coverages: Numbers = 0,
        max_crop_object_coverages: Numbers = 1,
        max_crop_trials: int | Sequence[int] | str = 25,
        crop_emit_mode: str = "center",
        emit_overlap_thresh: float = 0.3,
        mean_img: PathLike = "",
        mean_r: float = 0,
        mean_g: float = 0,
        mean_b: float = 0,
        mean_a: float = 0,
        std_r: float = 0,
        std_g: float = 0,
        std_b: float = 0,
        std_a: float = 0,
        scale: float = 1,
        data_name: str = "data",
        label_name: str = "softmax_label",
        aug_seq: str = "det_aug_default",
        shuffle_chunk_size: int = 0,
        shuffle_chunk_seed: int = 0,
        ctx: str = "gpu",
        device_id: int = 0,
        verbose: bool = True,
    ) -> None:
        given: dict[str, Any] = dict(locals())
        paths.check_several("path_imgrec", path_imgrec, needed=True)
        paths.check_several("path_imgidx", path_imgidx)
        for name in ("path_imglist", "mean_img", "cache_dir"):
            paths.check_optional(name, given[name])
        p.choice("aug_seq", aug_seq, ("det_aug_default",))
        given["dtype"] = p.dtype_name("dtype", dtype, tuple(OUTPUTS))
        mean, std = p.channels("mean", given), p.channels("std", given)
        if max(mean) > 0:
            given["mean_img"] = ""
        options, factor = p.fields_of(DetOptions, given), p.number("scale", scale)
        normalization = det_normalization(mean, std, factor)
        make_det_plan(options, normalization, 0)  # before files are opened
        advise_det(options, normalization)
        width = p.integer("label_width", label_width)
        room = p.integer("label_pad_width", label_pad_width)
        storage = paths.storage_of(given)
        dataset = RecordIOSource.open(
            storage.locate(path_imgrec), storage.locate(path_imgidx), on_error=on_error
        )
        path_imglist = storage.locate_one(path_imglist)
        labels = _labels(dataset, path_imglist, width, room, strict=on_error == "raise")
        self.label_pad_width = labels.shape[0] - _HEADER
        super().__init__(
            given,
            dataset,
            labels,
            lambda image: make_det_plan(
                options, det_normalization(mean, std, factor, image), self.label_pad_width
            ),
        )


def _labels(
    dataset: RecordSource, path_imglist: PathLike, width: int, room: int, *, strict: bool
) -> Labels:
    """The labels of a data set, `width` (or any number) for each, in rows with some `room`.

    Unless `strict`, records with more labels than there is room for are faults of their own.
    """
    relabel, most = ragged_list_labels(path_imglist) if path_imglist else (None, width)
    widest = f" (in {path_imglist})" if path_imglist else ""
    if relabel is None and width <= 0:
        counts = dataset.label_counts()
        most = int(counts.max(initial=1))
        widest = f" ({dataset.where(int(counts.argmax()))})"
        if room > 0 and not strict:
            most = min(most, room)
    if 0 < room < most:
        raise ValueError(
            f"label_pad_width must be at least {most}, the widest label{widest}, got {room}"
        )

    def check(labels: npt.NDArray[np.float32], widths: npt.NDArray[np.int64]) -> dict[int, str]:
        faults = faults_of(labels, widths)
        if width > 0:
            for place in np.flatnonzero(widths != width).tolist():
                faults[place] = f"it has {widths[place]} labels, not label_width={width}"
        return faults

    return Labels(most, (_HEADER + max(room, most),), relabel, check)
