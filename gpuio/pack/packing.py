"""Packing: a .lst and its images to a .rec and a .idx, as mxnet's im2rec does it.

Records passed through and records encoded as JPEG are equal to im2rec's byte for byte; pixels of
those encoded as PNG are. Unlike im2rec:

* An image that cannot be read is left out and reported; im2rec crashed on it with one process.
* Output appears under its name when it is complete, and one process at a time writes it.
* A .rec is not replaced by one that holds nothing, nor, unless asked for, by one with fewer than
  half of its images: that is a wrong ROOT or a wrong list.

Source: MXNet 1.9.1, tools/im2rec.py.
"""

from __future__ import annotations

import os
import struct
from array import array
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpuio.core.parallel_map import in_order
from gpuio.errors import DecodeError, FormatError
from gpuio.formats.image_list import ImageList
from gpuio.formats.image_record import IRHeader, pack
from gpuio.formats.index import Index
from gpuio.formats.recordio import frame, verify
from gpuio.storage.atomic import committed, remove_unfinished
from gpuio.storage.location import is_url
from gpuio.storage.plain_file import open_plain
from gpuio.storage.shards import beside, exists, shard_name
from gpuio.storage.write_lock import write_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

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


class NothingPackedError(FormatError):
    """None of the images of a list could be packed, so nothing was written.

    Attributes:
        report: What became of the list.
    """

    report: Report


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
    from gpuio.formats.codec import imdecode, imencode

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
    overwrite: bool = False,
    lock: bool = True,
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
        overwrite: Replace a .rec also by one with fewer than half of its images.
        lock: See `committed`.

    Raises:
        BusyError: Another process is writing the same files.
        FileExistsError: There is a .rec with more than twice as many images.
        FileNotFoundError: `root`, or the folder of `prefix`, does not exist.
        NothingPackedError: None of the images could be packed.
        OSError: The files cannot be written.
    """
    check_root(root)
    options = options or Options()
    rec, idx = f"{os.fspath(prefix)}.rec", f"{os.fspath(prefix)}.idx"
    keys, offsets = array("q"), array("q")
    skipped: list[Skipped] = []
    with committed(rec, idx, lock=lock) as (partial_rec, partial_idx):
        old = 0 if overwrite else count_images(rec)
        _check_enough(rec, old, len(images))
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
        report = Report(len(keys), nbytes, skipped)
        _check_some(rec, root, report)
        _check_enough(rec, old, len(keys))
        with partial_idx.open("wb") as file:
            Index(np.array(keys, np.int64), np.array(offsets, np.int64)).write(file)
    return report


def pack_shards(
    images: ImageList,
    root: Path_,
    prefix: Path_,
    count: int,
    options: Options | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    overwrite: bool = False,
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
        overwrite: As for `pack_list`, for each shard.

    Raises:
        ValueError: There are fewer images than shards; and as for `pack_list`.
    """
    check_root(root)
    reports: dict[str, Report] = {}
    parts = shards(images, prefix, count)
    with lock_shards(prefix, count):
        for name, part in parts:
            reports[name] = pack_shard(
                part,
                root,
                name,
                options,
                threads=threads,
                progress=progress,
                overwrite=overwrite,
                lock=False,
            )
        return complete_shards(reports, root, overwrite=overwrite)


def pack_shard(images: ImageList, root: Path_, prefix: Path_, *args: Any, **kwargs: Any) -> Report:
    """`pack_list`, which leaves a shard without any image to `complete_shards`."""
    try:
        return pack_list(images, root, prefix, *args, **kwargs)
    except NothingPackedError as error:
        return error.report


def complete_shards(reports: Mapping[str, Report], root: Path_, *, overwrite: bool) -> Report:
    """Write the shards that hold no image, so that none of the set is missing.

    Args:
        reports: What became of the shards, by their prefix, in their order.
        root: The folder of the images, for messages.
        overwrite: As for `pack_list`.

    Returns:
        What became of all of them.

    Raises:
        NothingPackedError: No shard has an image.
        FileExistsError: There is a shard with images where there would be none.
    """
    report = total(reports.values())
    _check_some(f"{next(iter(reports))}.rec", root, report)
    for name, part in reports.items():
        if part.skipped and not part.packed:
            rec = f"{name}.rec"
            _check_enough(rec, 0 if overwrite else count_images(rec), 0)
            with committed(rec, f"{name}.idx") as files:
                for file in files:
                    file.open().close()
    return report


@contextmanager
def lock_shards(prefix: Path_, count: int) -> Iterator[None]:
    """Hold the lock on a set of shards, of which nothing unfinished is left then.

    Sets at URLs have no lock.
    """
    prefix = os.fspath(prefix)
    if is_url(prefix):
        yield
        return
    with write_lock(f"{prefix}-of-{count:05d}") as held:
        if held:
            remove_unfinished_shards(prefix, count)
        yield


def remove_unfinished_shards(prefix: str, count: int) -> None:
    """Remove what killed processes left of a set of shards on disk."""
    names = (shard_name(prefix, number, count) for number in range(count))
    remove_unfinished(name + suffix for name in names for suffix in (".rec", ".idx"))


def check_root(root: Path_) -> None:
    """Find out whether the folder of the images is there; a URL is not asked about.

    Raises:
        FileNotFoundError: It is not.
        NotADirectoryError: It is no folder.
        ValueError: The name is empty.
    """
    if not os.fspath(root).strip():
        raise ValueError("root must be the folder of the images, got an empty name")
    if is_url(root) or Path(root).is_dir():
        return
    if Path(root).exists():
        raise NotADirectoryError(f"{root}: no folder, so it has none of the listed images")
    raise FileNotFoundError(f"{root}: no such folder, so it has none of the listed images")


def count_images(rec: str) -> int:
    """Records of a .rec that may be there, as its .idx says, or else by a walk through it."""
    if not exists(rec):
        return 0
    idx = beside(rec, ".idx")
    try:
        index = Index.load(idx)
        index.check(rec, idx=idx)
    except (OSError, FormatError):
        return len(verify(rec)[0])
    return len(index)


def _check_some(rec: str, root: Path_, report: Report) -> None:
    """Find out whether an image could be packed, of a list that is not empty."""
    if report.packed or not report.skipped:
        return
    first = report.skipped[0]
    error = NothingPackedError(
        f"{rec} was not written: none of {len(report.skipped)} listed images could be packed, "
        f"the first is {first.path}: {first.reason}; is {os.fspath(root)} their folder?"
    )
    error.report = report
    raise error


def _check_enough(rec: str, old: int, new: int) -> None:
    """Find out whether a .rec of `new` images may replace one of `old`."""
    if 2 * new < old:
        raise FileExistsError(
            f"{rec} was not replaced: it has {old} images, and the new one would have {new}; "
            "--overwrite (overwrite=True) replaces it, another PREFIX keeps both"
        )


def shards(images: ImageList, prefix: Path_, count: int) -> Iterator[tuple[str, ImageList]]:
    """The prefix of each shard, and its lines: neighbours, and as many in each, give or take one.

    Raises:
        ValueError: There are fewer images than shards.
    """
    if not 1 <= count <= max(1, len(images)):
        raise ValueError(f"{len(images)} images cannot be cut into {count} shards")
    bounds = [number * len(images) // count for number in range(count + 1)]
    return (
        (shard_name(prefix, number, count), images.part(start, stop))
        for number, (start, stop) in enumerate(pairwise(bounds))
    )


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
        with FileIO(open_plain(path, follow=True)) as file:
            return file.read()
    from gpuio.storage.remote.files import read_bytes

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
        return Skipped(full, error.strerror or str(error).removeprefix(f"{full}: "))
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
    from gpuio.formats.codec import check_resized
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
