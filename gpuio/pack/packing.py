"""Pack a .lst and its images into a .rec and a .idx, as MXNet's im2rec does.

Records that are passed through or encoded as JPEG equal im2rec's byte for byte; records encoded as
PNG have the same pixels. Three things differ from im2rec:

* An image that cannot be read is left out and reported; im2rec with one process crashed.
* Files appear under their names when they are complete, and one process at a time writes them.
* An empty .rec never replaces another one, and a .rec with fewer than half of the images does so
  only with `overwrite`: the cause is most likely a wrong ROOT or a wrong list.

Source: MXNet 1.9.1, tools/im2rec.py.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.core.extras import explained
from gpuio.core.parallel_map import in_order
from gpuio.core.threads import available_cores
from gpuio.errors import DecodeError, FormatError
from gpuio.formats.image_list import ImageList
from gpuio.formats.image_record import IRHeader, pack
from gpuio.formats.index import Index
from gpuio.formats.index_fit import check_fit
from gpuio.formats.recordio import frame, verify
from gpuio.storage.atomic import committed
from gpuio.storage.opening import read_bytes
from gpuio.storage.paths import is_url
from gpuio.storage.shards import beside, exist

Path_ = str | os.PathLike[str]

_WRITE_NBYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How images are stored in records.

    Attributes:
        pass_through: Store the bytes of the file as they are; only `pack_label`, `baseline` and
            `optimize` apply then.
        baseline: Turn progressive JPEGs into baseline ones without loss; see `transcode_jpeg`.
        optimize: Make Huffman tables for each JPEG, where that saves bytes; see `transcode_jpeg`.
        center_crop: Cut to a square, before resizing.
        resize: Length of the shorter side in pixels; 0 leaves the size.
        color: 1 stores colour, 0 gray, -1 the channels of the file.
        encoding: `.jpg` or `.png`.
        quality: For JPEG, 1 to 100; for PNG, the compression level, 0 to 9 (more means 9).
        pack_label: Store all labels of a line, not only the first.
    """

    pass_through: bool = False
    baseline: bool = False
    optimize: bool = False
    center_crop: bool = False
    resize: int = 0
    color: int = 1
    encoding: str = ".jpg"
    quality: int = 95
    pack_label: bool = False

    def __post_init__(self) -> None:
        if (self.baseline or self.optimize) and not self.pass_through:
            name = "baseline" if self.baseline else "optimize"
            raise ValueError(
                f"{name} is for files that are stored without decoding: it needs pass_through "
                "(--pass-through)"
            )
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
    """An image that was left out of the .rec: its path and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class NotTranscoded:
    """A JPEG that was to be transcoded and was stored as it is: its path and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class PackReport:
    """The result of packing a list.

    Attributes:
        packed: Number of records that were written.
        nbytes: Size of the .rec in bytes.
        skipped: The images that were left out, in the order of the list.
        transcoded: Number of JPEGs whose coefficients were coded anew.
        not_transcoded: JPEGs of which that was not possible, in the order of the list.
    """

    packed: int
    nbytes: int
    skipped: list[Skipped]
    transcoded: int = 0
    not_transcoded: list[NotTranscoded] = field(default_factory=list)


class NothingPackedError(FormatError):
    """None of the images of a list could be packed, so nothing was written.

    Attributes:
        report: The result, with the reason for each image.
    """

    report: PackReport


def encode_image(path: Path_, options: PackOptions) -> bytes:
    """The bytes to store for the image file at `path`, before JPEGs are transcoded.

    Raises:
        OSError: The file cannot be read.
        DecodeError: The file is no image or is damaged.
        ValueError: The image cannot be resized or encoded as `options` say.
    """
    data = read_bytes(os.fspath(path))
    if options.pass_through:
        return data
    from gpuio.formats.codec import imdecode
    from gpuio.formats.encoding import imencode

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
    options: PackOptions | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    overwrite: bool = False,
    lock: bool = True,
) -> PackReport:
    """Pack listed images into `prefix`.rec and `prefix`.idx, in the order of the list.

    Args:
        images: The list; ids become those of the records and the keys of the index.
        root: The folder that paths in the list start from.
        prefix: Path of the output without suffix; files of those names are replaced.
        options: How images are stored; JPEG of quality 95 by default.
        threads: Threads that read, decode and encode; one for each core if None. The output does
            not depend on the number.
        progress: Called with the number of lines that were done since the last call.
        overwrite: Allow the new .rec to have fewer than half of the images of the old one.
        lock: See `committed`.

    Raises:
        BusyError: Another process is writing the same files.
        FileExistsError: The .rec exists and has more than twice as many images.
        FileNotFoundError: `root`, or the folder of `prefix`, does not exist.
        NothingPackedError: None of the images could be packed.
        OSError: The files cannot be written.
    """
    check_root(root)
    options = options or PackOptions()
    rec, idx = f"{os.fspath(prefix)}.rec", f"{os.fspath(prefix)}.idx"
    keys, offsets = array("q"), array("q")
    skipped: list[Skipped] = []
    transcoded, not_transcoded = 0, list[NotTranscoded]()
    with committed(rec, idx, lock=lock) as (partial_rec, partial_idx):
        old = 0 if overwrite else count_images(rec)
        check_enough(rec, old, len(images))
        work = partial(_record, root=os.fspath(root), options=options)
        threads = threads or available_cores()
        ready = in_order(work, _lines(images), threads=threads, name="gpuio-pack")
        with closing(ready) as records, partial_rec.open(_WRITE_NBYTES) as file:
            for number, record in zip(images.ids.tolist(), records, strict=True):
                if isinstance(record, Skipped):
                    skipped.append(record)
                else:
                    keys.append(number)
                    offsets.append(file.tell())
                    file.write(record.framed)
                    transcoded += record.transcoded
                    if record.reason:
                        not_transcoded.append(NotTranscoded(record.path, record.reason))
                progress(1)
            nbytes = file.tell()
        report = PackReport(len(keys), nbytes, skipped, transcoded, not_transcoded)
        check_some(rec, root, report)
        check_enough(rec, old, len(keys))
        with partial_idx.open() as file:
            Index(np.array(keys, np.int64), np.array(offsets, np.int64)).write(file)
    return report


def check_root(root: Path_) -> None:
    """Check that the folder of the images exists; URLs are not checked.

    Raises:
        FileNotFoundError: The folder does not exist.
        NotADirectoryError: `root` is a file.
        ValueError: `root` is empty.
    """
    if not os.fspath(root).strip():
        raise ValueError("root must be the folder of the images, got an empty name")
    if is_url(root) or Path(root).is_dir():
        return
    if Path(root).exists():
        raise NotADirectoryError(f"{root}: no folder, so it has none of the listed images")
    raise FileNotFoundError(f"{root}: no such folder, so it has none of the listed images")


def count_images(rec: str) -> int:
    """Number of records in a .rec, from its .idx or else by a scan; 0 if there is no .rec."""
    if not exist([rec]):
        return 0
    idx = beside(rec, ".idx")
    try:
        index = Index.load(idx)
        check_fit(index, rec, idx)
    except (OSError, FormatError):
        return len(verify(rec)[0])
    return len(index)


def check_some(rec: str, root: Path_, report: PackReport) -> None:
    """Raise NothingPackedError if every image of the list was skipped."""
    if report.packed or not report.skipped:
        return
    first = report.skipped[0]
    error = NothingPackedError(
        f"{rec} was not written: none of {len(report.skipped)} listed images could be packed, "
        f"the first is {first.path}: {first.reason}; is {os.fspath(root)} their folder?"
    )
    error.report = report
    raise error


def check_enough(rec: str, old: int, new: int) -> None:
    """Raise FileExistsError if a .rec of `old` images would shrink to less than half of them."""
    if 2 * new < old:
        raise FileExistsError(
            f"{rec} was not replaced: it has {old} images, and the new one would have {new}; "
            "--overwrite (overwrite=True) replaces it, another PREFIX keeps both"
        )


def _lines(images: ImageList) -> Iterator[tuple[int, npt.NDArray[np.float32], str]]:
    """Id, (n,) float32 labels and path of each line."""
    starts = images.starts.tolist()
    for line, path in enumerate(images.paths):
        yield int(images.ids[line]), images.values[starts[line] : starts[line + 1]], path


@dataclass(frozen=True, slots=True)
class _Record:
    """A framed record, of which file, and whether its JPEG was transcoded or why it was not."""

    framed: bytes
    path: str
    transcoded: bool
    reason: str


def _record(
    line: tuple[int, npt.NDArray[np.float32], str], root: str, options: PackOptions
) -> _Record | Skipped:
    """The framed record of one line, or the reason why there is none."""
    number, labels, path = line
    full = os.path.join(root, path)  # noqa: PTH118  a Path takes ten times as long
    label = labels if options.pack_label and len(labels) > 1 else float(labels[0])
    try:
        read = encode_image(full, options)
        data, reason = _transcoded(read, options)
        framed = frame(pack(IRHeader(0, label, number, 0), data))
    except OSError as error:
        return Skipped(full, error.strerror or str(error).removeprefix(f"{full}: "))
    except (DecodeError, ValueError, struct.error) as error:
        return Skipped(full, str(error))
    return _Record(framed, full, data is not read, reason)


def _transcoded(data: bytes, options: PackOptions) -> tuple[bytes, str]:
    """The bytes to store for those of a file, and why a JPEG was not transcoded if it was not."""
    if not (options.baseline or options.optimize):
        return data, ""
    with explained("transcoding JPEGs"):
        from gpuio.pack.transcode import transcode_jpeg
    try:
        return transcode_jpeg(data, baseline=options.baseline, optimize=options.optimize), ""
    except DecodeError as error:
        return data, str(error)
    except MemoryError:
        return data, "there is not enough memory to transcode it"


def _center(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The largest square in the middle of an (H, W) or (H, W, C) image."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _resized(image: npt.NDArray[Any], shorter: int) -> npt.NDArray[Any]:
    """The image with a shorter side of `shorter` pixels, resized with OpenCV's bilinear weights."""
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
