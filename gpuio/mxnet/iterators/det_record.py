"""`ImageDetRecordIter`: batches of images and of the objects in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core.options import make
from gpuio.formats.object_label import faults_of
from gpuio.mxnet.advice import DET_RULES, advise
from gpuio.mxnet.det_keywords import DetColor, DetGeometry, DetLabels, DetNormalization
from gpuio.mxnet.det_plan import make_det_plan
from gpuio.mxnet.iterators.record_iter import RecordIter
from gpuio.mxnet.keywords import Ignored, loader_config, takes_keywords
from gpuio.pipeline.builder import Labels
from gpuio.pipeline.config import OutputConfig, RuntimeConfig, SourceConfig
from gpuio.samplers import LastBatch, SamplingConfig
from gpuio.sources.base import RecordSource
from gpuio.sources.labels import ragged_list_labels
from gpuio.storage.paths import PathLike

_HEADER = 4  # channels, rows, columns and count, in front of every row of labels
Numbers = float | Sequence[float] | str


@takes_keywords(
    SourceConfig, DetLabels, SamplingConfig, OutputConfig, RuntimeConfig,
    DetGeometry, DetColor, DetNormalization, Ignored,
)  # fmt: skip
class ImageDetRecordIter(RecordIter):
    """Batches of augmented images whose objects move with the pixels, with MXNet's parameters.

    The label of a record is `[A, B, extra header..., objects...]`: a header of A numbers, which
    begins with A and B, then B numbers for each object, `[class, xmin, ymin, xmax, ymax, extra...]`
    with positions from 0 to 1 in the picture. A row of `batch.label` is `[channels, rows, columns,
    L, labels..., filler...]`: the size of the picture in the batch, and the L numbers that are left
    of its label.

    Images are resized, recoloured, mirrored, padded, cropped and resized to the output, in this
    order. Epochs are those of `ImageRecordIter`.

    Attributes:
        label_pad_width: The number of labels that a row of `batch.label` has space for.

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
        label_pad_value: float = -1, label_width: int = -1, label_pad_width: int = 0,
        shuffle: bool = False, seed: int = 0, seed_aug: int | None = None, round_batch: bool = True,
        last_batch: LastBatch | None = None, num_parts: int | str = 1, part_index: int | None = 0,
        dtype: npt.DTypeLike | None = None, layout: str = "NCHW", data_name: str = "data",
        label_name: str = "softmax_label",
        device: str | None = None, preprocess_threads: int | None = None, prefetch_buffer: int = 2,
        decoder: str = "auto", scaled_decode: bool = False, deterministic: bool = False,
        engine_share: float | None = None, decode_threads: int | None = None,
        on_error: str = "raise", tolerate: str | None = None, cache: str | None = None,
        resize: int = -1, inter_method: int = 1, aug_seq: str = "det_aug_default",
        rand_mirror_prob: float = 0, rand_pad_prob: float = 0, max_pad_scale: float = 1,
        fill_value: int = 127, rand_crop_prob: float = 0, num_crop_sampler: int = 1,
        min_crop_scales: Numbers = (0,), max_crop_scales: Numbers = (1,),
        min_crop_aspect_ratios: Numbers = (1,), max_crop_aspect_ratios: Numbers = (1,),
        min_crop_overlaps: Numbers = (0,), max_crop_overlaps: Numbers = (1,),
        min_crop_sample_coverages: Numbers = (0,), max_crop_sample_coverages: Numbers = (1,),
        min_crop_object_coverages: Numbers = (0,), max_crop_object_coverages: Numbers = (1,),
        max_crop_trials: int | Sequence[int] | str = (25,), resize_mode: str = "force",
        max_random_hue: int = 0, random_hue_prob: float = 0, max_random_saturation: int = 0,
        random_saturation_prob: float = 0, max_random_illumination: int = 0,
        random_illumination_prob: float = 0, max_random_contrast: float = 0,
        random_contrast_prob: float = 0,
        mean_img: PathLike = "", mean_r: float = 0, mean_g: float = 0, mean_b: float = 0,
        mean_a: float = 0, scale: float = 1, std_r: float = 0, std_g: float = 0, std_b: float = 0,
        std_a: float = 0,
        shuffle_chunk_size: int = 0, shuffle_chunk_seed: int = 0, ctx: str = "gpu",
        device_id: int = 0, verbose: bool = True,
    ) -> None:
        ...
    # fmt: on

    def _open(self, given: Mapping[str, Any]) -> None:
        config, labels = loader_config(given), make(DetLabels, **given)
        geometry, color = make(DetGeometry, **given), make(DetColor, **given)
        levels = make(DetNormalization, **given)
        normalization = levels.normalization()
        plan_of = partial(make_det_plan, config.output, labels, geometry, color, normalization)
        plan_of(0)  # what is wrong with the keywords is found before files are opened
        advise(DET_RULES, (labels, geometry, color), config.output.dtype, normalization)
        on_error = config.runtime.on_error
        dataset = config.source.open(on_error=on_error)
        path_imglist = config.source.storage.locate_one(config.source.path_imglist)
        stored = _labels(dataset, path_imglist, labels, strict=on_error == "raise")
        self.label_pad_width = stored.shape[0] - _HEADER
        plan = plan_of(self.label_pad_width)
        super().__init__(config, dataset, stored, plan, mean_img=levels.mean_image)


def _labels(
    dataset: RecordSource, path_imglist: PathLike, labels: DetLabels, *, strict: bool
) -> Labels:
    """The labels of a data set, from its records or from a list.

    Unless `strict`, a record with more labels than `label_pad_width` is a fault of that record.
    """
    width, space = labels.label_width, labels.label_pad_width
    relabel, most = ragged_list_labels(path_imglist) if path_imglist else (None, width)
    widest = f" (in {path_imglist})" if path_imglist else ""
    if relabel is None and width <= 0:
        counts = dataset.label_counts()
        most = int(counts.max(initial=1))
        widest = f" ({dataset.where(int(counts.argmax()))})"
        if space > 0 and not strict:
            most = min(most, space)
    if 0 < space < most:
        raise ValueError(
            f"label_pad_width must be at least {most}, the widest label{widest}, got {space}"
        )

    def check(labels: npt.NDArray[np.float32], widths: npt.NDArray[np.int64]) -> dict[int, str]:
        faults = faults_of(labels, widths)
        if width > 0:
            for place in np.flatnonzero(widths != width).tolist():
                faults[place] = f"it has {widths[place]} labels, not label_width={width}"
        return faults

    return Labels(most, (_HEADER + max(space, most),), relabel, check)
