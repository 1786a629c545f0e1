"""gpuio show: draw images of a .rec on one sheet, as stored or as a training loop gets them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gpuio.cli import arguments, loader
from gpuio.errors import CorruptRecordError, DecodeError, FormatError
from gpuio.formats.object_label import holds_objects, unpack_objects
from gpuio.mxnet.image.single_image import imdecode
from gpuio.mxnet.iterators.image_record import ImageRecordIter
from gpuio.observe import contact_sheet, gallery
from gpuio.sources.base import RecordSource
from gpuio.sources.registry import open_source

_SHAPE: Final = (3, 224, 224)
_BATCH: Final = 128  # images of one batch at most, as FILE may have fewer than --count
_LABELS: Final = 3  # labels of an image that are written under it
_BOX: Final = 5  # numbers in a box: class, xmin, ymin, xmax, ymax


class Tile(NamedTuple):
    """An image, or None if it cannot be shown, and the text under it."""

    image: npt.NDArray[np.uint8] | None
    caption: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Under each image stand its key and its labels. The boxes of a detection set are drawn, "
        "and their classes stand in place of the labels. Without loader options, images from all "
        "over FILE are drawn as they are stored. With loader options, the first images of the "
        "epoch are drawn after augmentation: as uint8 unless --dtype is given (then the least "
        f"value is drawn black and the greatest white), of shape {_SHAPE} unless --data-shape is "
        "given. --gallery draws one row of images for each augmentation and one for all of them "
        "together: those among the loader options, or all that exist. Example: gpuio show "
        "train.rec -o sheet.png --resize 256 --rand-crop --rand-mirror. Exit status: 0, or 2 for "
        "a wrong parameter or a file that cannot be used."
    )
    parser.usage = "%(prog)s FILE [-o PATH] [--count N] [--columns N] [--gallery] [loader options]"
    loader.configure(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="sheet.png",
        metavar="PATH",
        type=arguments.path,
        help="the file to write (default: sheet.png)",
    )
    parser.add_argument(
        "--count", type=int, default=32, metavar="N", help="number of images (default: 32)"
    )
    parser.add_argument(
        "--columns", type=int, metavar="N", help="images in a row (default: 8, or 5 with --gallery)"
    )
    parser.add_argument(
        "--gallery", action="store_true", help="draw a row of images for each augmentation"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the sheet and return the exit status."""
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
    """Up to `count` stored images, evenly spread over the file.

    A record that cannot be shown becomes an empty frame; the reason goes to standard error.
    """
    source = open_source(file)
    numbers = np.linspace(0, len(source) - 1, min(count, len(source)))
    for number in np.rint(numbers).astype(int).tolist():
        yield _stored(source, number)


def _stored(source: RecordSource, number: int) -> Tile:
    key = None if source.keys is None else int(source.keys[number])
    try:
        found = source.read(number)
    except FormatError as error:
        place = f"{source.where(number)}: " if isinstance(error, CorruptRecordError) else ""
        reason = error.reason if isinstance(error, CorruptRecordError) else error
        print(f"gpuio: {place}{reason}", file=sys.stderr)
        return Tile(None, f"{'-' if key is None else key}: damaged")
    label = found.labels
    objects = unpack_objects(label) if holds_objects(label) else None
    caption = _caption(found.id if key is None else key, label if objects is None else objects)
    try:
        image = imdecode(found.image, 1, order="RGB")
    except DecodeError as error:
        if found.image:  # face recognition sets begin and end with records that hold labels only
            print(f"gpuio: {source.where(number)}: {error}", file=sys.stderr)
        return Tile(None, f"{caption} (no image)")
    return Tile(image if objects is None else contact_sheet.with_boxes(image, objects), caption)


def augmented(file: str, options: dict[str, Any], count: int) -> Iterator[Tile]:
    """The first `count` images of epoch 0, from an iterator with these parameters."""
    defaults = {"data_shape": _SHAPE, "batch_size": min(count, _BATCH), "dtype": "uint8"}
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
    """Text of a record: its key and its labels, or the classes of its objects."""
    if labels.ndim == 2:
        labels = labels[:, 0]
    words = [f"{label:g}" for label in labels[:_LABELS].tolist()]
    return f"{key}: {', '.join(words)}{', ...' if len(labels) > _LABELS else ''}"
