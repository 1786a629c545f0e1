"""MXNet's `MNISTIter`: batches of the MNIST files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.options import make
from gpuio.core.signatures import suggest
from gpuio.errors import FormatError
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc
from gpuio.mxnet.iterators.epochs import FileIter
from gpuio.mxnet.ndarray import NDArray
from gpuio.samplers import Int64s, SamplingConfig, Selection
from gpuio.storage.paths import PathLike, check_path
from gpuio.storage.plain_file import read_plain

_BYTES: Final = 8  # code of uint8 in the magic, above the number of axes
_WORDS: Final = 1 << 32


class MNISTIter(FileIter):
    """Full batches of the images and labels in MNIST's idx files, which must not be compressed.

    Values are divided by 256. The order is drawn once, with MXNet's generator: the same in every
    epoch, and as in MXNet for the same `seed`. Samples after the last full batch are dropped.

    Unlike in MXNet: every part has the same number of batches; a part that is a sample short
    repeats its first, counted in `pad`; `index` has the numbers of the images in the file.

    Args:
        image: File of the images.
        label: File of the labels.
        batch_size: N, images in a batch.
        shuffle: Shuffle the images of this part.
        flat: Images are (height * width,), not (1, height, width).
        seed: Seed of the order.
        num_parts: Readers that share the data set, each with a contiguous part of it; "auto" asks
            the launcher for this number and `part_index`.
        part_index: This reader, in [0, num_parts).
        prefetch_buffer: Finished batches that may wait, at least 1.
        dtype: float32 (also None).
        data_name: Name in `provide_data`.
        label_name: Name in `provide_label`.
        silent: Accepted for MXNet's scripts, without effect.
        ctx: Accepted for MXNet's scripts, without effect.

    Raises:
        ValueError: A parameter has a wrong value.
        TypeError: A parameter has an unknown name.
        FileNotFoundError: A file is missing.
        FormatError: A file is not an idx file, or the files have different numbers of samples.
    """

    @suggest
    def __init__(  # noqa: PLR0913  MXNet's signature
        self,
        image: PathLike = "./train-images-idx3-ubyte",
        label: PathLike = "./train-labels-idx1-ubyte",
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        flat: bool = False,
        seed: int = 0,
        silent: bool = False,
        num_parts: int | str = 1,
        part_index: int | None = 0,
        prefetch_buffer: int = 4,
        dtype: npt.DTypeLike | None = None,
        data_name: str = "data",
        label_name: str = "softmax_label",
        ctx: str = "gpu",
    ) -> None:
        sampling = make(
            SamplingConfig,
            batch_size=batch_size,
            seed=seed,
            num_parts=num_parts,
            part_index=part_index,
            last_batch="drop",
        )
        depth = p.integer("prefetch_buffer", prefetch_buffer, least=1)
        p.dtype_name("dtype", dtype, ("float32",))
        check_path("image", image)
        check_path("label", label)
        images, labels = _load(image, ndim=3), _load(label, ndim=1)
        if len(images) != len(labels):
            raise FormatError(f"{label}: {len(labels)} labels for {len(images)} images of {image}")
        place = np.arange(len(images))
        if p.boolean("shuffle", shuffle):
            index, parts = sampling.shard.index, sampling.shard.count
            begin, end = (part * len(images) // parts for part in (index, index + 1))
            place[begin:end] = begin + shuffled(end - begin, sampling.seed)
        height, width = images.shape[1:]
        shape = (height * width,) if p.boolean("flat", flat) else (1, height, width)
        size = sampling.batch_size
        super().__init__(
            sampling.order(len(images)),
            partial(_batch, images, labels, place, shape),
            depth,
            data=DataDesc(data_name, (size, *shape), np.float32),
            label=DataDesc(label_name, (size,), np.float32),
        )


def _batch(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    place: Int64s,
    shape: tuple[int, ...],
    selection: Selection,
) -> DataBatch:
    ids = place[selection.ids]
    data = images[ids].reshape(len(ids), *shape).astype(np.float32) / np.float32(256)
    label = labels[ids].astype(np.float32)
    return DataBatch([data.view(NDArray)], [label.view(NDArray)], selection.pad, ids)


def _load(path: PathLike, ndim: int) -> npt.NDArray[np.uint8]:
    """The bytes in an idx file of `ndim` axes.

    Raises:
        FormatError: The file is damaged, or has another number of axes.
    """
    data = read_plain(path)
    magic = _BYTES << 8 | ndim
    start = 4 * (ndim + 1)
    if len(data) < start:
        raise FormatError(f"{path}: {len(data)} bytes are too few for an idx file")
    found, *shape = np.frombuffer(data, ">u4", ndim + 1).tolist()
    if found != magic:
        raise FormatError(f"{path}: magic is {found:#010x}, not {magic:#010x}")
    count = math.prod(shape)
    if len(data) - start != count:
        raise FormatError(f"{path}: {len(data) - start} bytes of data, not {count} for {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def shuffled(count: int, seed: int) -> Int64s:
    """(count,) int64, the numbers from 0 in the order of std::shuffle with std::mt19937(seed).

    Source: libstdc++ 4.8, bits/stl_algo.h (shuffle) and bits/random.tcc (uniform_int_distribution:
    scaled, and drawn again where it is not fair).
    """
    words = _mt19937(seed)
    order = list(range(count))
    for place in range(1, count):
        limit = place + 1
        scale = (_WORDS - 1) // limit
        other = next(words) // scale
        while other >= limit:
            other = next(words) // scale
        order[place], order[other] = order[other], order[place]
    return np.array(order, np.int64)


def _mt19937(seed: int) -> Iterator[int]:
    """Numbers of std::mt19937, which NumPy's older generator is."""
    generator = np.random.RandomState(seed % _WORDS)
    while True:
        yield from generator.randint(0, _WORDS, 1 << 12, np.uint64).tolist()
