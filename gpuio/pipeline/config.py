"""How a loader is set up: small groups of options, each of which checks its own values.

Fields are called as the keywords of the iterators, so that messages name what the user wrote. The
description of an option stands beside it, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from functools import partial
from typing import ClassVar, Final, Literal, get_args

from gpuio.core import parameters as p
from gpuio.core.options import option, optional
from gpuio.pipeline.cache.limit import CacheLimit
from gpuio.pipeline.error_policy import POLICIES, OnError
from gpuio.samplers import SamplingConfig
from gpuio.sources.base import RecordSource
from gpuio.sources.registry import open_source
from gpuio.storage import paths
from gpuio.storage.location import Storage
from gpuio.storage.paths import PathLike
from gpuio.transforms.normalize import OUTPUTS

Layout = Literal["NCHW", "NHWC"]
_MAX_THREADS: Final = 1024
_SCALING_DECODERS: Final = ("auto", "jpeg")
_DTYPE: Final = partial(p.dtype_name, allowed=tuple(OUTPUTS))


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Which files are read, and how.

    Attributes:
        storage: How files at URLs are opened; made of the last three options.
    """

    section: ClassVar[str] = "Source"
    path_imgrec: PathLike | Sequence[PathLike] = option(MISSING, "A .rec file. Several files make "
        'one data set: joined with ";", in a list, as braces '
        "(`train-{00000..00127}-of-00128.rec`), as a glob pattern, or as a folder. A folder of "
        "images, with a folder for each class, and files that `gpuio.register_source` knows are "
        "read, too.")
    path_imgidx: PathLike | Sequence[PathLike] = option("", "The .idx files, in the same forms as "
        "`path_imgrec`, or one for all .rec files. By default the .idx beside each .rec file is "
        "used, and a .rec file whose .idx is missing or does not name all records is scanned once. "
        "Records that a given .idx does not name are left out.")
    path_imglist: PathLike = option("", "A .lst file whose labels replace those in the records; "
        "lines and records are matched by id.")
    storage_options: Mapping[str, object] | None = option(None, "Options for paths that are URLs, "
        "such as credentials and endpoint, as fsspec takes them.",
        reader=p.mapping)
    cache_dir: PathLike = option("", "A folder on a local disk that keeps the data read from URLs, "
        "and decoded images that `cache` has no RAM for; several processes may share it.")
    cache_size: int | None = option(None, "The size limit of `cache_dir` in bytes, at least 1 GiB, "
        "of data and as much of decoded images. The data that was not used for the longest time is "
        "deleted first. None sets no limit.")
    storage: Storage = field(init=False)

    def __post_init__(self) -> None:
        paths.check_paths("path_imgrec", self.path_imgrec, required=True)
        paths.check_paths("path_imgidx", self.path_imgidx)
        paths.check_optional_path("path_imglist", self.path_imglist)
        paths.check_optional_path("cache_dir", self.cache_dir)
        options = {} if self.storage_options is None else self.storage_options
        object.__setattr__(self, "storage", Storage(options, self.cache_dir, self.cache_size))

    def open(self, on_error: OnError = "raise") -> RecordSource:
        """The records of the files; damaged ones are left out unless `on_error` is "raise"."""
        recs, idxs = self.storage.locate(self.path_imgrec), self.storage.locate(self.path_imgidx)
        return open_source(recs, idxs, on_error=on_error)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """The form of the batches."""

    section: ClassVar[str] = "Output"
    data_shape: tuple[int, int, int] = option(MISSING, "Channels (1 gray, 3 RGB, 4 RGBA), height "
        "and width of an output image, in pixels.")
    dtype: str = option("float32", "The type of the output: float32, float16, bfloat16, int8 or "
        "uint8. None is float32, int8 for `ImageRecordInt8Iter` and uint8 for "
        "`ImageRecordUInt8Iter`.", reader=_DTYPE)
    layout: Layout = option("NCHW", 'The order of axes, "NCHW" or "NHWC": N images, C '
        "channels, H rows, W columns.")
    data_name: str = option("data", "The name of the images in `provide_data`.")
    label_name: str = option("softmax_label", "The name of the labels in `provide_label`.")

    def __post_init__(self) -> None:
        channels, height, width = self.data_shape
        if channels not in (1, 3, 4) or height < 1 or width < 1:
            raise ValueError(
                "data_shape must be (channels, height, width) with 1, 3 or 4 channels and sides of "
                f"at least 1, got {self.data_shape}"
            )
        p.choice("dtype", self.dtype, tuple(OUTPUTS))
        p.choice("layout", self.layout, get_args(Layout))


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """What does the work, and what happens where it fails.

    Attributes:
        cache_limit: What `cache` stands for.
    """

    section: ClassVar[str] = "Running"
    device: str | None = option(None, 'Where batches are made: "cpu", "cuda" for the current GPU, '
        '"cuda:N", or a `torch.device`. None takes the current GPU if one can be used, and the CPU '
        "otherwise.", reader=p.device_name)
    preprocess_threads: int | None = option(None, "The number of CPU threads, from 1 to 1024. None "
        "takes all cores that this process may use.")
    prefetch_buffer: int = option(2, "The number of finished batches that may wait for the "
        "consumer, at least 1.")
    decoder: str = option("auto", 'The image decoder: "auto", "jpeg" (gpuio\'s own, on the CPU, '
        'for baseline JPEGs; "nvimgcodec" or "portable" for other images), "nvimgcodec", "dali", '
        '"portable" (simplejpeg and Pillow), or a name that `gpuio.register_decoder` was given.')
    scaled_decode: bool = option(False, "Decode baseline JPEGs that are at least twice as large as "
        "`resize` needs to 1/2, 1/4 or 1/8 of their size, and resize from there: on the CPU, with "
        'decoder "auto" or "jpeg". Pixels are those of libjpeg-turbo\'s scaled output, not of '
        "MXNet.")
    deterministic: bool = option(False, "On a GPU, use only decoders that give the same pixels in "
        "every run; the GPU's JPEG engines are not among them.")
    engine_share: float | None = option(None, "The part that a GPU's JPEG engines decode of "
        "the pixels of baseline JPEGs, from 0 to 1; 0 or None with `deterministic`. None shares "
        "images out by the rates at which engines, CUDA and CPU cores are seen to work.",
        reader=optional(p.number))
    decode_threads: int | None = option(None, "The number of CPU threads that decode whole images "
        "beside a GPU, from 0 to 1024. Half of them are for each of the two batches in flight, so "
        "an odd number counts as one more. With 0 the CPU decodes only what the GPU cannot. None "
        "takes up to 16.")
    on_error: OnError = option("raise", "What becomes of an image that could not be read or "
        'decoded. "raise" raises the error, "skip" leaves the image out and fills up the batch, '
        '"replace" puts another image of the batch in its place, and "zero" sets its pixels to 0. '
        'All but "raise" also leave out what cannot be found in a damaged or truncated .rec file.')
    tolerate: Literal["warnings"] | None = option(None, '"warnings" accepts the pixels that '
        "libjpeg makes up where a JPEG is damaged, as MXNet does. By default, such an image is an "
        "error.", reader=optional(p.text))
    cache: str | None = option(None, "Keep decoded images, so that later epochs do not read and "
        'decode them again: "8GB" of RAM, which the processes of a machine share, or "gpu:20GB" '
        "of the memory of the GPU that makes the batches. Images are kept after "
        "the resize that a plan begins with, or else as they are decoded, and what does not fit is "
        "decoded in every epoch. Pixels, order and random numbers are those without a cache.",
        reader=optional(p.text))
    cache_limit: CacheLimit | None = field(init=False)

    def __post_init__(self) -> None:
        if (threads := self.preprocess_threads) is not None:
            p.integer("preprocess_threads", threads, least=1, most=_MAX_THREADS)
        if (threads := self.decode_threads) is not None:
            p.integer("decode_threads", threads, least=0, most=_MAX_THREADS)
        if self.engine_share is not None and not 0 <= self.engine_share <= 1:
            raise ValueError(f"engine_share must be in [0, 1], got {self.engine_share}")
        if self.engine_share and self.deterministic:
            raise ValueError("deterministic=True does without the JPEG engines; engine_share must "
                f"be 0 or None then, got {self.engine_share}")
        if self.scaled_decode and self.decoder not in _SCALING_DECODERS:
            raise ValueError("scaled_decode=True needs gpuio's own JPEG decoder: decoder must be "
                f'"auto" or "jpeg" then, got {self.decoder!r}')
        p.integer("prefetch_buffer", self.prefetch_buffer, least=1)
        p.choice("on_error", self.on_error, POLICIES)
        if self.tolerate not in (None, "", "warnings"):
            raise ValueError(f"tolerate must be 'warnings' or None, got {self.tolerate!r}")
        limit = CacheLimit.parse(self.cache) if self.cache else None
        object.__setattr__(self, "cache_limit", limit)
# fmt: on


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """All options of a loader but those of its labels and augmentation."""

    source: SourceConfig
    sampling: SamplingConfig
    output: OutputConfig
    runtime: RuntimeConfig
