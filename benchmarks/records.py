"""The images that are read: a .rec of whole batches, as it is, made small, and for windows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpuio.formats.codec import decode_rgb, opened
from gpuio.formats.encoding import imencode
from gpuio.formats.exif import jpeg_orientation
from gpuio.formats.image_record import IRHeader, pack, unpack
from gpuio.kernels.resample import resize
from gpuio.recordio import MXIndexedRecordIO, MXRecordIO

DEMO = Path(__file__).parents[1] / "examples" / "make_demo_images.py"
DEMO_COUNT = 240
EDGE = 256  # shorter edge, in pixels, of the small version
QUALITY = 95  # of its JPEGs
AREA = 0.6  # of a picture, that is cropped from it
AREAS = 0.5, 0.7  # of pictures taken for that


@dataclass(frozen=True)
class Records:
    """One .rec with its .idx beside it.

    Attributes:
        name: For tables.
        path: Of the .rec.
        count: Records.
        nbytes: Of an encoded image, on average.
        size: Height and width of the images, on average, in pixels.
    """

    name: str
    path: str
    count: int
    nbytes: float
    size: tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """An encoded image, and its height and width in pixels."""

    data: bytes
    height: int
    width: int


def load(rec: Path | None, folder: Path) -> list[Picture]:
    """The JPEGs of a .rec; without one, pieces of photographs that come with Python packages."""
    if rec is None:
        target = folder / "images"
        command = [sys.executable, str(DEMO), str(target), "--count", str(DEMO_COUNT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = [path.read_bytes() for path in sorted(target.rglob("*.jpg"))]
    else:
        with MXRecordIO(rec, "r") as records:
            found = [bytes(unpack(record)[1]) for record in records]
    pictures = [measure(data) for data in found if data[:2] == b"\xff\xd8"]
    if not pictures:
        raise SystemExit("there are no JPEGs to be read")
    return pictures


def measure(data: bytes) -> Picture:
    """A picture whose header was read: the size is that of the picture as it is shown."""
    with opened(data) as picture:
        width, height = picture.size
    if jpeg_orientation(data) >= 5:
        height, width = width, height
    return Picture(data, height, width)


def shrink(picture: Picture) -> Picture:
    """As `gpuio im2rec --resize 256` stores it."""
    short, long = sorted((picture.height, picture.width))
    longer = EDGE * long // short
    high, wide = (longer, EDGE) if picture.height > picture.width else (EDGE, longer)
    pixels = resize(decode_rgb(picture.data, 3), high, wide)
    return Picture(imencode(".jpg", pixels, QUALITY, order="RGB"), high, wide)


def window(pictures: list[Picture]) -> tuple[list[Picture], tuple[int, int], float]:
    """Pictures of about one size, a crop that is about 0.6 of each, and its mean part of them."""
    wide = [p for p in pictures if p.width > p.height]
    if not wide:
        return [], (0, 0), 0.0
    sides = np.median([(p.height, p.width) for p in wide], axis=0) * AREA**0.5
    height, width = (int(side) for side in sides.round())
    fits = [
        p
        for p in wide
        if p.height >= height
        and p.width >= width
        and AREAS[0] <= height * width / (p.height * p.width) <= AREAS[1]
    ]
    total = sum(p.height * p.width for p in fits)
    return fits, (height, width), height * width * len(fits) / max(total, 1)


def save(name: str, pictures: list[Picture], count: int, folder: Path) -> Records:
    """`count` records, of the pictures in turn."""
    path = folder / f"{name}.rec"
    with MXIndexedRecordIO(path.with_suffix(".idx"), path, "w") as records:
        for key in range(count):
            data = pictures[key % len(pictures)].data
            records.write_idx(key, pack(IRHeader(0, float(key % 1000), key, 0), data))
    used = [pictures[key % len(pictures)] for key in range(count)]
    sizes = np.array([(p.height, p.width) for p in used])
    height, width = sizes.mean(axis=0).round(1).tolist()
    nbytes = float(np.mean([len(p.data) for p in used]).round(1))
    return Records(name, str(path), count, nbytes, (height, width))
