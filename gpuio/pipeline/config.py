"""How a loader is set up: small groups of options, each of which checks its own values.

Fields are called as the keywords of the iterators, so that messages name what the user wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from gpuio.core import parameters as p
from gpuio.core.shard import Shard, resolve_shard
from gpuio.pipeline.error_policy import POLICIES, OnError
from gpuio.samplers import LastBatch, Order
from gpuio.storage import paths
from gpuio.storage.location import Storage
from gpuio.storage.paths import PathLike
from gpuio.transforms.normalize import OUTPUTS

_LAYOUTS: Final = ("NCHW", "NHWC")
_MAX_THREADS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Which files are read, and how.

    Attributes:
        path_imgrec: The .rec files: one path, or several.
        path_imgidx: Their .idx files; "" for those beside the .rec files.
        path_imglist: A .lst whose labels replace those in the records; "" for none.
        masks: The .rec files of the masks; "" for none.
        storage_options: Options for paths that are URLs, as fsspec takes them.
        cache_dir: A folder for copies of data read from URLs; "" for none.
        cache_size: Size limit of that folder in bytes; None for no limit.
        storage: How URLs are opened, from the three options above.
    """

    path_imgrec: PathLike | Sequence[PathLike]
    path_imgidx: PathLike | Sequence[PathLike] = ""
    path_imglist: PathLike = ""
    masks: PathLike | Sequence[PathLike] = ""
    storage_options: Mapping[str, Any] | None = None
    cache_dir: PathLike = ""
    cache_size: int | None = None
    storage: Storage = field(init=False)

    def __post_init__(self) -> None:
        paths.check_paths("path_imgrec", self.path_imgrec, required=True)
        paths.check_paths("path_imgidx", self.path_imgidx)
        paths.check_paths("masks", self.masks, blanks=False)
        paths.check_optional_path("path_imglist", self.path_imglist)
        paths.check_optional_path("cache_dir", self.cache_dir)
        options = {} if self.storage_options is None else self.storage_options
        object.__setattr__(self, "storage", Storage(options, self.cache_dir, self.cache_size))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """Which records make a batch, and in which order.

    Attributes:
        batch_size: N, the number of images in a batch.
        shuffle: Draw a new permutation for each epoch; False keeps the order of the files.
        seed: Seed for the permutation, and for augmentation unless `seed_aug` is given.
        seed_aug: Seed for augmentation, or None.
        round_batch: Fill up the last batch of an epoch, or leave it short.
        last_batch: What becomes of an incomplete last batch; None leaves it to `round_batch`.
        num_parts: The number of readers that share the data set, or "auto".
        part_index: The index of this reader.
        shard: The part of this reader, which the two options above give.
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    seed_aug: int | None = None
    round_batch: bool = True
    last_batch: LastBatch | None = None
    num_parts: int | str = 1
    part_index: int | None = 0
    shard: Shard = field(init=False)

    def __post_init__(self) -> None:
        p.integer("batch_size", self.batch_size, least=1)
        if self.last_batch is not None:
            p.choice("last_batch", self.last_batch, get_args(LastBatch))
        object.__setattr__(self, "shard", resolve_shard(self.num_parts, self.part_index))

    @property
    def augmentation_seed(self) -> int:
        """The seed that augmentation draws with."""
        return self.seed if self.seed_aug is None else self.seed_aug

    def order(self, count: int) -> Order:
        """The order of `count` records in every epoch."""
        return Order(
            count,
            self.batch_size,
            shuffle=self.shuffle,
            seed=self.seed,
            num_parts=self.shard.count,
            part_index=self.shard.index,
            last_batch=self.last_batch or ("pad" if self.round_batch else "short"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """The form of the batches.

    Attributes:
        data_shape: Channels, height and width of an image, in pixels.
        dtype: float32, float16, bfloat16, int8 or uint8.
        layout: "NCHW" or "NHWC".
        data_name: The name of the images in `provide_data`.
        label_name: The name of the labels in `provide_label`.
    """

    data_shape: tuple[int, int, int]
    dtype: str = "float32"
    layout: str = "NCHW"
    data_name: str = "data"
    label_name: str = "softmax_label"

    def __post_init__(self) -> None:
        channels, height, width = self.data_shape
        if channels not in (1, 3, 4) or height < 1 or width < 1:
            raise ValueError(
                "data_shape must be (channels, height, width) with 1, 3 or 4 channels and sides of "
                f"at least 1, got {self.data_shape}"
            )
        p.choice("dtype", self.dtype, tuple(OUTPUTS))
        p.choice("layout", self.layout, _LAYOUTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """What does the work, and what happens when it fails.

    Attributes:
        device: "cpu", "cuda" or "cuda:N"; None for the current GPU if one can be used.
        preprocess_threads: The number of CPU threads; None for all cores of this process.
        prefetch_buffer: The number of finished batches that may wait for the consumer.
        decoder: The name of the image decoder.
        deterministic: Use only decoders that give the same pixels in every run.
        on_error: What becomes of an image that could not be read or decoded.
        tolerate: "warnings" accepts what libjpeg makes of damaged JPEGs; None or "" does not.
    """

    device: str | None = None
    preprocess_threads: int | None = None
    prefetch_buffer: int = 2
    decoder: str = "auto"
    deterministic: bool = False
    on_error: OnError = "raise"
    tolerate: str | None = None

    def __post_init__(self) -> None:
        if (threads := self.preprocess_threads) is not None:
            p.integer("preprocess_threads", threads, least=1, most=_MAX_THREADS)
        p.integer("prefetch_buffer", self.prefetch_buffer, least=1)
        p.choice("on_error", self.on_error, POLICIES)
        if self.tolerate not in (None, "", "warnings"):
            raise ValueError(f"tolerate must be 'warnings' or None, got {self.tolerate!r}")


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """All options of a loader but those of its augmentation."""

    source: SourceConfig
    sampling: SamplingConfig
    output: OutputConfig
    runtime: RuntimeConfig
