"""Packing: a .lst and its images to a .rec and a .idx, as mxnet's im2rec does it.

Records passed through and records encoded as JPEG are equal to im2rec's byte for byte; pixels of
those encoded as PNG are. Unlike im2rec:

* An image that cannot be read is left out and reported; im2rec crashed on it with one process.
* Output appears under its name when it is complete. Until then it is called `.partial`.

Source: MXNet 1.9.1, tools/im2rec.py.
"""

from __future__ import annotations

import os
import struct
from array import array
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpuio.committed import committed
from gpuio.errors import DecodeError
from gpuio.format.image_list import ImageList
from gpuio.format.image_record import IRHeader, pack
from gpuio.format.index import Index
from gpuio.format.recordio import frame
from gpuio.location import is_url
from gpuio.ordered import in_order
from gpuio.shards import shard_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    Path_ = str | os.PathLike[str]

_WRITE_NBYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """What becomes of an image on its way into a record.

    Attributes:
        pass_through: Store the file's bytes; all but `pack_label` is ignored then.
        center_crop: Cut to a square, before resizing.
        resize: Length of the shorter side in pixels; 0 leaves the size.
        color: 1 for colour, 0 for gray, -1 for what is stored.
        encoding: `.jpg` or `.png`.
        quality: JPEG: 1 to 100. PNG: compression level, 9 where it is more.
        pack_label: Store all labels of a line, not only the first.
    """

    pass_through: bool = False
    center_crop: bool = False
    resize: int = 0
    color: int = 1
    encoding: str = ".jpg"
    quality: int = 95
    pack_label: bool = False

    def __post_init__(self) -> None:
        if self.resize < 0:
            raise ValueError(f"resize must be 0 or a number of pixels, got {self.resize}")
        if self.color not in (-1, 0, 1):
            raise ValueError(f"color must be -1, 0 or 1, got {self.color}")
        if self.encoding not in (".jpg", ".png"):
            raise ValueError(f"encoding must be .jpg or .png, got {self.encoding!r}")
        if not 0 <= self.quality <= 100:
            raise ValueError(f"quality must be in [0, 100], got {self.quality}")


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image that is not in the .rec: its path, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a list.

    Attributes:
        packed: Number of records written.
        nbytes: Size of the .rec.
        skipped: What was left out, in the order of the list.
    """

    packed: int
    nbytes: int
    skipped: list[Skipped]


def encode_image(path: Path_, options: Options) -> bytes:
    """The image file at `path` as it is to be stored.

    Raises:
        OSError: The file cannot be read.
        DecodeError: It is no image, or damaged.
        ValueError: It cannot be resized or encoded as `options` ask.
    """
    data = _read(os.fspath(path))
    if options.pass_through:
        return data
    from gpuio.codec import imdecode, imencode

    image = imdecode(data, options.color, order="RGB")
    if options.center_crop:
        image = _center(image)
    if options.resize:
        image = _resized(image, options.resize)
    return imencode(options.encoding, image, options.quality, order="RGB")


def pack_list(
    images: ImageList,
    root: Path_,
    prefix: Path_,
    options: Options | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    tag: str = "",
) -> Report:
    """Pack listed images into `prefix`.rec and `prefix`.idx, in the order of the list.

    Args:
        images: The list; ids become those of the records and the keys of the index.
        root: The folder that paths in the list start from.
        prefix: Path of the output without suffix; files of those names are replaced.
        options: What becomes of each image; by default all are encoded as JPEG of quality 95.
        threads: That read, decode and encode; as many as there are cores if None. The output is
            the same for any number.
        progress: Called with the number of lines done since the last call.
        tag: Part of the names of unfinished files; see `committed`.
    """
    options = options or Options()
    rec, idx = f"{os.fspath(prefix)}.rec", f"{os.fspath(prefix)}.idx"
    keys, offsets = array("q"), array("q")
    skipped: list[Skipped] = []
    with committed(rec, idx, tag=tag) as (partial_rec, partial_idx):
        work = partial(_record, root=os.fspath(root), options=options)
        threads = threads or default_threads()
        ready = in_order(work, _lines(images), threads=threads, name="gpuio-pack")
        with closing(ready) as records, partial_rec.open("wb", _WRITE_NBYTES) as file:
            for number, record in zip(images.ids.tolist(), records, strict=True):
                if isinstance(record, Skipped):
                    skipped.append(record)
                else:
                    keys.append(number)
                    offsets.append(file.tell())
                    file.write(record)
                progress(1)
            nbytes = file.tell()
        with partial_idx.open("wb") as file:
            Index(np.array(keys, np.int64), np.array(offsets, np.int64)).write(file)
    return Report(len(keys), nbytes, skipped)


def pack_shards(
    images: ImageList,
    root: Path_,
    prefix: Path_,
    count: int,
    options: Options | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Report:
    """Pack listed images into shards, `prefix`-00000-of-00128.rec and .idx and so on.

    Args:
        images: As for `pack_list`.
        root: As for `pack_list`.
        prefix: Path of the shards without number and suffix.
        count: Number of shards.
        options: As for `pack_list`.
        threads: As for `pack_list`.
        progress: As for `pack_list`.

    Raises:
        ValueError: There are fewer images than shards.
    """
    return total(
        pack_list(part, root, name, options, threads=threads, progress=progress)
        for name, part in shards(images, prefix, count)
    )


def shards(images: ImageList, prefix: Path_, count: int) -> Iterator[tuple[str, ImageList]]:
    """The prefix of each shard, and its lines: neighbours, and as many in each, give or take one.

    Raises:
        ValueError: There are fewer images than shards.
    """
    if not 1 <= count <= max(1, len(images)):
        raise ValueError(f"{len(images)} images cannot be cut into {count} shards")
    bounds = [number * len(images) // count for number in range(count + 1)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        yield shard_name(prefix, number, count), images.part(start, stop)


def total(reports: Iterable[Report]) -> Report:
    """What became of several lists."""
    every = list(reports)
    skipped = [image for report in every for image in report.skipped]
    return Report(sum(r.packed for r in every), sum(r.nbytes for r in every), skipped)


def default_threads() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lines(images: ImageList) -> Iterator[tuple[int, npt.NDArray[np.float32], str]]:
    """Id, (n,) labels and path of each line."""
    starts = images.starts.tolist()
    for line, path in enumerate(images.paths):
        yield int(images.ids[line]), images.values[starts[line] : starts[line + 1]], path


def _read(path: str) -> bytes:
    if not is_url(path):
        return Path(path).read_bytes()
    from gpuio.remote.files import read_bytes

    return read_bytes(path)


def _record(
    line: tuple[int, npt.NDArray[np.float32], str], root: str, options: Options
) -> bytes | Skipped:
    """The frame of one line, or why there is none."""
    number, labels, path = line
    full = os.path.join(root, path)  # noqa: PTH118  a Path takes ten times as long
    label = labels if options.pack_label and len(labels) > 1 else float(labels[0])
    try:
        return frame(pack(IRHeader(0, label, number, 0), encode_image(full, options)))
    except OSError as error:
        return Skipped(full, error.strerror or str(error))
    except (DecodeError, ValueError, struct.error) as error:
        return Skipped(full, str(error))


def _center(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The square in the middle, of a gray or colour image."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _resized(image: npt.NDArray[Any], shorter: int) -> npt.NDArray[Any]:
    """An image whose shorter side has `shorter` pixels, with OpenCV's bilinear weights."""
    from gpuio.codec import check_resized
    from gpuio.kernels.resample import resize

    if image.dtype != np.uint8:
        raise ValueError("16-bit image: resizing takes 8 bits; use color 0 or 1")
    height, width = image.shape[:2]
    if height > width:
        size = height * shorter // width, shorter
    else:
        size = shorter, width * shorter // height
    check_resized(height, width, *size)
    return resize(image, *size)
