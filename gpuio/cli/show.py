"""gpuio show: images of a .rec on one sheet, as stored or as a training loop gets them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gpuio.cli import arguments, loader
from gpuio.errors import CorruptRecordError
from gpuio.mxnet.iterators.image_record import ImageRecordIter
from gpuio.observe import contact_sheet, gallery

if TYPE_CHECKING:
    from gpuio.sources.dataset import Dataset

_SHAPE: Final = (3, 224, 224)
_LABELS: Final = 3  # of one image that are written out
_BOX: Final = 5  # numbers of a box of ImageRecordIter


class Tile(NamedTuple):
    """An image, or None where there is none, and what is written under it."""

    image: npt.NDArray[np.uint8] | None
    caption: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Under each image stand its key and its labels; the boxes of a detection set are drawn, "
        "and their classes stand there. Without loader options, images spread over FILE are drawn "
        "as they are stored; with any, the first ones of the epoch after augmentation: uint8, "
        "unless --dtype is given (then the least value is drawn black, the greatest white), and "
        f"{_SHAPE} if there is no --data-shape. "
        "--gallery draws a row of images for each augmentation alone, and one for all together: of "
        "those among the loader options, or of all that there are. "
        "Example: gpuio show train.rec -o sheet.png --resize 256 --rand-crop --rand-mirror. "
        "Exit status: 0, or 2 for a wrong parameter or a file that cannot be used."
    )
    parser.usage = "%(prog)s FILE [-o PATH] [--count N] [--columns N] [--gallery] [loader options]"
    loader.configure(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="sheet.png",
        metavar="PATH",
        type=arguments.path,
        help="to write (default: sheet.png)",
    )
    parser.add_argument("--count", type=int, default=32, metavar="N", help="images (default: 32)")
    parser.add_argument(
        "--columns", type=int, metavar="N", help="images in a row (default: 8; of a gallery: 5)"
    )
    parser.add_argument(
        "--gallery", action="store_true", help="a row of images for each augmentation"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the sheet; the exit status."""
    columns = (5 if args.gallery else 8) if args.columns is None else args.columns
    for name, value in (("--count", args.count), ("--columns", columns)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    options = loader.chosen(args)
    if args.gallery:
        sheet = gallery.draw(partial(ImageRecordIter, args.file), options, columns)
        what = f"{columns} images of each augmentation"
    else:
        some = augmented(args.file, options, args.count)
        tiles = list(some if options else stored(args.file, args.count))
        images, captions = zip(*tiles, strict=True)
        sheet, what = contact_sheet.draw(images, captions, columns=columns), f"{len(tiles)} images"
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    contact_sheet.save(sheet, args.output)
    print(f"{args.output}: {what}, {sheet.width} x {sheet.height} pixels")
    return 0


def stored(file: str, count: int) -> Iterator[Tile]:
    """Up to `count` images, evenly spread over the file, as they are in it.

    A record that cannot be shown is an empty frame, and the reason goes to standard error.
    """
    from gpuio.sources.dataset import Dataset

    dataset = Dataset.open(file)
    numbers = np.linspace(0, len(dataset) - 1, min(count, len(dataset)))
    for number in np.rint(numbers).astype(int).tolist():
        yield _stored(dataset, number)


def _stored(dataset: Dataset, number: int) -> Tile:
    from gpuio.errors import DecodeError, FormatError
    from gpuio.formats.codec import imdecode
    from gpuio.formats.image_record import unpack
    from gpuio.formats.object_label import holds_objects, unpack_objects

    key = None if dataset.keys is None else int(dataset.keys[number])
    try:
        header, data = unpack(dataset.payload(number))
    except FormatError as error:
        reason = error.reason if isinstance(error, CorruptRecordError) else error
        print(f"gpuio: {dataset.where(number)}: {reason}", file=sys.stderr)
        return Tile(None, f"{'-' if key is None else key}: damaged")
    label = np.atleast_1d(np.asarray(header.label, np.float32))
    objects = unpack_objects(label) if holds_objects(label) else None
    caption = _caption(header.id if key is None else key, label if objects is None else objects)
    try:
        image = imdecode(data, 1, order="RGB")
    except DecodeError as error:
        print(f"gpuio: {dataset.where(number)}: {error}", file=sys.stderr)
        return Tile(None, f"{caption} (no image)")
    return Tile(image if objects is None else contact_sheet.with_boxes(image, objects), caption)


def augmented(file: str, options: dict[str, Any], count: int) -> Iterator[Tile]:
    """The first `count` images of epoch 0, as an iterator with these parameters gives them."""
    defaults = {"data_shape": _SHAPE, "batch_size": count, "dtype": "uint8"}
    with ImageRecordIter(file, **{**defaults, **options}) as batches:
        boxes = options.get("label_kind") == "boxes"
        tiles = _tiles(batches, options.get("layout", "NCHW"), boxes=boxes)
        yield from islice(tiles, count)


def _tiles(batches: ImageRecordIter, layout: str, *, boxes: bool) -> Iterator[Tile]:
    while batches.iter_next():
        images = contact_sheet.as_pixels(batches.getdata()[0], layout)
        own = len(images) - batches.getpad()
        labels = batches.getlabel()[0].reshape(len(images), -1)
        for image, key, label in zip(images[:own], batches.getindex(), labels, strict=False):
            if boxes:
                objects = label.reshape(-1, _BOX)
                objects = objects[objects[:, 0] >= 0]
                if image.shape[2] == 3:
                    image = contact_sheet.with_boxes(image, objects)
                yield Tile(image, _caption(int(key), objects))
            else:
                yield Tile(image, _caption(int(key), label))


def _caption(key: int, labels: npt.NDArray[np.float32]) -> str:
    """The key of a record and its labels; of objects, their classes."""
    if labels.ndim == 2:
        labels = labels[:, 0]
    words = [f"{label:g}" for label in labels[:_LABELS].tolist()]
    return f"{key}: {', '.join(words)}{', ...' if len(labels) > _LABELS else ''}"
