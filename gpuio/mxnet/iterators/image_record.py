"""`ImageRecordIter`: batches of images and their labels; and its variants for uint8 and int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core.options import make
from gpuio.formats.label_hint import label_hint
from gpuio.mxnet.advice import IMAGE_RULES, advise
from gpuio.mxnet.image_keywords import (
    ImageColor,
    ImageGeometry,
    ImageLabels,
    ImageNormalization,
    MaskOptions,
)
from gpuio.mxnet.image_plan import make_plan
from gpuio.mxnet.iterators.record_iter import RecordIter
from gpuio.mxnet.keywords import Ignored, loader_config, takes_keywords
from gpuio.pipeline.builder import Labels
from gpuio.pipeline.config import OutputConfig, RuntimeConfig, SourceConfig
from gpuio.pipeline.masks import Masks, open_masks
from gpuio.samplers import LastBatch, SamplingConfig
from gpuio.sources.base import RecordSource
from gpuio.sources.labels import list_labels, ragged_list_labels
from gpuio.storage.paths import PathLike
from gpuio.transforms.label_transforms import LABEL_KINDS


@takes_keywords(
    SourceConfig, ImageLabels, MaskOptions, SamplingConfig, OutputConfig, RuntimeConfig,
    ImageGeometry, ImageColor, ImageNormalization, Ignored,
)  # fmt: skip
class ImageRecordIter(RecordIter):
    """Batches of decoded, augmented images from .rec files, with MXNet's parameters.

    An iterator is at the start of an epoch, inside one, or at its end. `next` at the end raises
    StopIteration. A new `for` loop goes through the batches that are left of the epoch; if none is
    left, it begins the next epoch. `reset` begins the next epoch at any time. Any thread may call
    any method: each batch goes to one of the threads that call `next`, and `close` ends the wait of
    all of them.

    Attributes:
        batch_size: The number of images in a batch.
        plan: The steps that every image goes through; `print(plan)` lists them.
        provide_data: Description of `batch.data`.
        provide_label: Description of `batch.label`.
        provide_masks: Description of `batch.masks`; empty without masks.
        epoch: The number of the current epoch, from 0.
        part: The part of the data set that this iterator reads, and where that was found.
        faults: Images that could not be read or decoded: how many, and the first errors.

    Raises:
        ValueError: A parameter has a wrong value.
        TypeError: A parameter has an unknown name.
        FileNotFoundError: A file is missing.
        FormatError: A file does not have the format that it should have.
    """

    # fmt: off
    def __init__(  # noqa: PLR0913  MXNet's signature
        self,
        path_imgrec: PathLike | Sequence[PathLike], data_shape: Sequence[int], batch_size: int,
        *,
        path_imgidx: PathLike | Sequence[PathLike] = "", path_imglist: PathLike = "",
        storage_options: Mapping[str, Any] | None = None, cache_dir: PathLike = "",
        cache_size: int | None = None,
        crop_emit_mode: str = "center", emit_overlap_thresh: float = 0.3,
        label_pad_value: float = -1, label_width: int = 1, label_kind: str = "values",
        masks: PathLike | list[PathLike] = "", mask_fill: int = 255,
        shuffle: bool = False, seed: int = 0, seed_aug: int | None = None, round_batch: bool = True,
        last_batch: LastBatch | None = None, num_parts: int | str = 1, part_index: int | None = 0,
        dtype: npt.DTypeLike | None = None, layout: str = "NCHW", data_name: str = "data",
        label_name: str = "softmax_label",
        device: str | None = None, preprocess_threads: int | None = None, prefetch_buffer: int = 2,
        decoder: str = "auto", scaled_decode: bool = False, deterministic: bool = False,
        engine_share: float | None = None, decode_threads: int | None = None,
        on_error: str = "raise", tolerate: str | None = None, cache: str | None = None,
        resize: int = -1, inter_method: int = 1, aug_seq: str = "aug_default",
        max_rotate_angle: int = 0, rotate: int = -1, rotate_list: Sequence[int] | str = (),
        max_shear_ratio: float = 0, max_aspect_ratio: float = 0,
        min_aspect_ratio: float | None = None, max_random_scale: float = 1,
        min_random_scale: float = 1, max_img_size: float = 1e10, min_img_size: float = 0,
        pad: int = 0, fill_value: int = 255, rand_crop: bool = False, max_crop_size: int = -1,
        min_crop_size: int = -1, random_resized_crop: bool = False, max_random_area: float = 1,
        min_random_area: float = 1, mirror: bool = False, rand_mirror: bool = False,
        brightness: float = 0, contrast: float = 0, saturation: float = 0, random_h: int = 0,
        random_s: int = 0, random_l: int = 0, pca_noise: float = 0, rand_gray: float = 0,
        max_random_contrast: float = 0, max_random_illumination: float = 0,
        mean_img: PathLike = "", mean_r: float = 0, mean_g: float = 0, mean_b: float = 0,
        mean_a: float = 0, scale: float = 1, std_r: float = 1, std_g: float = 1, std_b: float = 1,
        std_a: float = 1,
        shuffle_chunk_size: int = 0, shuffle_chunk_seed: int = 0, ctx: str = "gpu",
        device_id: int = 0, verbose: bool = True,
    ) -> None:
        ...
    # fmt: on

    def _open(self, given: Mapping[str, Any]) -> None:
        # What is wrong with the keywords is found before files are opened.
        config, labels, masks = loader_config(given), make(ImageLabels, **given), None
        geometry, mask_options = make(ImageGeometry, **given), make(MaskOptions, **given)
        color, levels = make(ImageColor, **given), make(ImageNormalization, **given)
        normalization = levels.normalization()
        plan = make_plan(config.output, geometry, color, normalization, labels.ops())
        groups = (labels, mask_options, geometry)
        advise(IMAGE_RULES, groups, config.output.dtype, normalization)
        # A record that is left out of images or masks alone would shift one against the other.
        policy = "raise" if mask_options.masks else config.runtime.on_error
        dataset = config.source.open(on_error=policy)
        storage = config.source.storage
        if mask_options.masks:
            found, fill = storage.locate(mask_options.masks), mask_options.mask_fill
            masks = Masks(open_masks(found, dataset), fill)
        path_imglist = storage.locate_one(config.source.path_imglist)
        stored = _labels(dataset, path_imglist, labels)
        super().__init__(config, dataset, stored, plan, mean_img=levels.mean_img, masks=masks)


class ImageRecordUInt8Iter(ImageRecordIter):
    """`ImageRecordIter` with dtype uint8, which is never normalized."""

    default_dtype = "uint8"


class ImageRecordInt8Iter(ImageRecordIter):
    """`ImageRecordIter` with dtype int8: values less their rounded means."""

    default_dtype = "int8"


def _labels(dataset: RecordSource, path_imglist: PathLike, labels: ImageLabels) -> Labels:
    """The labels of a data set, from its records or from a list."""
    width = labels.label_width
    if width < 0:
        return _ragged_labels(dataset, path_imglist, labels.label_kind)
    relabel = list_labels(path_imglist, width) if path_imglist else None
    return Labels(width, () if width == 1 else (width,), relabel)


def _ragged_labels(dataset: RecordSource, path_imglist: PathLike, kind: str) -> Labels:
    """Labels that are any number of boxes or points."""
    size = LABEL_KINDS[kind]
    if path_imglist:
        relabel, most = ragged_list_labels(path_imglist)
    else:
        relabel, most = None, int(dataset.label_counts().max(initial=1))
    most = -(-most // size) * size

    def check(labels: npt.NDArray[np.float32], widths: npt.NDArray[np.int64]) -> dict[int, str]:
        wrong = np.flatnonzero((widths == 0) | (widths % size != 0)).tolist()
        return {
            n: f"its {widths[n]} labels are not {kind} of {size} numbers"
            f"{label_hint(labels[n, : widths[n]], 1)}"
            for n in wrong
        }

    return Labels(most, (most,), relabel, check)
