"""gpuio info: what is in .rec files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.cli import files
from gpuio.cli.headers import Headers, read_headers
from gpuio.errors import GpuioError
from gpuio.formats.codec import opened
from gpuio.formats.image_record import unpack
from gpuio.formats.index import Index
from gpuio.formats.label_hint import face_keys
from gpuio.formats.object_label import HEADER_WIDTH, OBJECT_WIDTH, holds_objects, unpack_objects
from gpuio.formats.recordio import RecordFile
from gpuio.observe.slow_images import SlowImages
from gpuio.storage.shards import beside, exist, sizes_of

Numbers = npt.NDArray[Any]

_BAR: Final = 40  # columns of the longest bar
_BINS: Final = 10
_SAMPLE: Final = 2000  # images whose width and height are read
_HEAD_NBYTES: Final = 64 << 10  # bytes of an image file that are enough to find its size
_PERCENTILES: Final = (0, 10, 50, 90, 100)
_FORMATS: Final = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\x93NUM": "NumPy array",
}
_EPILOG: Final = f"""\
All headers are read, but no image is decoded; `gpuio verify` decodes them all. Widths, heights,
objects and slow images come from {_SAMPLE} images that are spread over the file.

JSON has for each file: file and error, or
  file, bytes, records, without_image, no_image_records; damage, a number of places
  index: file and entries, or null if there is none
  faces, of an InsightFace set: images and identities, their first and last keys; else null
  and of the images, or null if there are none
  ids: the least and largest; label_widths: records by width; formats: images by format
  classes, by the first label: count, least, largest, fewest_images, most_images, not_finite
  objects, of a detection set: images (looked at), count, classes, least_class, largest_class,
    fewest and most (in an image); else null
  image_bytes, width, height: min, 10 %, median, 90 %, max; sizes: images that were measured
  slow: images looked_at, and of them the numbers that take long to load for being progressive,
    cmyk, turned by EXIF, other than JPEG and PNG, or huge

Exit status: 0, or 2 if a FILE cannot be read or is no RecordIO file.
"""
_OF_IMAGES: Final = (
    "ids",
    "label_widths",
    "classes",
    "objects",
    "formats",
    "image_bytes",
    "histogram",
    "sizes",
    "width",
    "height",
    "slow",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    files.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is in the files and return the exit status."""

    def report(path: str) -> tuple[dict[str, Any], int]:
        offsets, damages = files.scan(path)
        facts = inspect(path, offsets) | {"damage": len(damages)}
        if not args.json:
            print("\n".join(describe(facts)))
        del facts["histogram"]
        if facts["slow"]:
            facts["slow"] = facts["slow"].to_dict()
        return facts, 0

    return files.run(args, report)


def inspect(path: str, offsets: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Facts about a .rec, as the JSON output has them; `slow` is a `SlowImages`.

    Args:
        path: The .rec.
        offsets: (N,) int64 byte offsets of its records.
    """
    headers = read_headers(path, offsets)
    images = headers["nbytes"] > 0
    facts: dict[str, Any] = {
        "file": path,
        "bytes": sizes_of([path])[0],
        "records": len(offsets),
        "without_image": int((headers["nbytes"] == 0).sum()),
        "no_image_records": int((headers["nbytes"] < 0).sum()),
        "index": _index(path),
        "faces": _faces(path, offsets, headers),
        **dict.fromkeys(_OF_IMAGES),
    }
    if images.any():
        ids, nbytes = headers["id"][images], headers["nbytes"][images]
        widths, counts = _counted(headers["flag"][images].clip(min=1))
        sizes, slow = _look(path, _sample(offsets[images]))
        facts |= {
            "ids": (int(ids.min()), int(ids.max())),
            "label_widths": dict(zip(widths, counts, strict=True)),
            "classes": _classes(headers["label"][images]),
            "objects": _objects(path, offsets[images], headers["flag"][images]),
            "formats": _formats(headers["start"][images]),
            "image_bytes": _spread(nbytes),
            "histogram": _histogram(nbytes),
            "sizes": len(sizes),
            "width": _spread(sizes[:, 0]) if len(sizes) else None,
            "height": _spread(sizes[:, 1]) if len(sizes) else None,
            "slow": slow,
        }
    return facts


def describe(facts: Mapping[str, Any]) -> Iterator[str]:
    """The lines that are printed for the facts of `inspect` and the number of damaged places."""
    path, records, bare = facts["file"], facts["records"], facts["without_image"]
    yield f"file      {path}"
    yield f"bytes     {facts['bytes']} ({_si(facts['bytes'])}B)"
    yield f"records   {records}" + (f", {bare} of them without an image" if bare else "")
    if facts["no_image_records"]:
        other = facts["no_image_records"]
        yield f"          {other} of them are no image records, and are left out below"
    if facts["index"]:
        entries = facts["index"]["entries"]
        yield f"index     {entries} entries" + (f", not {records}" if entries != records else "")
    else:
        yield f"index     none; make one with: gpuio rec2idx {path} {beside(path, '.idx')}"
    if facts["faces"]:
        images, people = facts["faces"]["images"], facts["faces"]["identities"]
        span = f"{people[0]} to {people[1]}"
        yield "faces     the first record is InsightFace's header, not an image. By it keys"
        yield f"          {images[0]} to {images[1]} are images and {span} are identities, records"
        yield "          without an image whose two labels are the range of keys of their images"
    if facts["ids"]:
        yield "ids       {} to {}".format(*facts["ids"])
        yield from _describe_labels(facts)
        ranked = sorted(facts["formats"].items(), key=lambda item: -item[1])
        yield f"formats   {', '.join(f'{name} {count}' for name, count in ranked)}"
        yield f"image B   {_written(facts['image_bytes'])}"
        yield from _bars(*facts["histogram"])
        images = sum(facts["label_widths"].values())
        some = f", of {facts['sizes']} images" if facts["sizes"] < images else ""
        for name in ("width", "height"):
            if facts[name]:
                yield f"{name:<10}{_written(facts[name])}{some}"
        for number, line in enumerate(facts["slow"].describe()):
            yield f"{'' if number else 'slow':<10}{line}"
    if facts["damage"]:
        places = "1 place" if facts["damage"] == 1 else f"{facts['damage']} places"
        yield f"damage    {places}; list them with: gpuio verify {path}"


def _index(path: str) -> dict[str, Any] | None:
    idx = beside(path, ".idx")
    return {"file": idx, "entries": len(Index.load(idx))} if exist([idx]) else None


def _faces(
    path: str, offsets: npt.NDArray[np.int64], headers: Headers
) -> dict[str, tuple[int, int]] | None:
    """First and last keys of images and of identities, from the first record of a face set."""
    if not len(offsets) or headers["flag"][0] != 2 or headers["nbytes"][0]:
        return None
    keys = face_keys(_labels(path, offsets[:1])[0], 0)
    if keys is None:
        return None
    return {"images": (1, keys[0] - 1), "identities": (keys[0], keys[1] - 1)}


def _classes(labels: Numbers) -> dict[str, Any]:
    """The distinct values of (N,) first labels: how many, least, largest, images for each."""
    values, counts = _counted(labels[np.isfinite(labels)])
    return {
        "count": len(values),
        "least": values[0] if values else None,
        "largest": values[-1] if values else None,
        "fewest_images": min(counts, default=0),
        "most_images": max(counts, default=0),
        "not_finite": int((~np.isfinite(labels)).sum()),
    }


def _objects(path: str, offsets: npt.NDArray[np.int64], flags: Numbers) -> dict[str, Any] | None:
    """The objects in the labels of a detection set; None for other sets."""
    some = flags >= HEADER_WIDTH + OBJECT_WIDTH  # images with a shorter label have no object
    if 2 * some.sum() < len(flags):
        return None
    labels = _labels(path, _sample(offsets[some]))
    if not all(map(holds_objects, labels)):
        return None
    objects = [unpack_objects(label) for label in labels]
    classes, _ = _counted(np.concatenate(objects)[:, 0])
    counts = [len(rows) for rows in objects]
    return {
        "images": len(objects),
        "count": sum(counts),
        "classes": len(classes),
        "least_class": classes[0],
        "largest_class": classes[-1],
        "fewest": min(counts) if some.all() else 0,
        "most": max(counts),
    }


def _describe_labels(facts: Mapping[str, Any]) -> Iterator[str]:
    widths = facts["label_widths"]
    text = [f"{width} ({count} records)" for width, count in widths.items()]
    yield f"labels    width {', '.join(text[:4]) if len(text) > 1 else next(iter(widths))}" + (
        f" and {len(text) - 4} other widths" if len(text) > 4 else ""
    )
    found = facts["objects"]
    if found:
        looked = found["images"]
        some = f", in {looked} images" if looked < sum(widths.values()) else ""
        yield (
            f"objects   {found['count']} of {found['classes']} classes, "
            f"{found['least_class']:g} to {found['largest_class']:g}; "
            f"{found['fewest']} to {found['most']} in an image{some}"
        )
        yield "          a detection set: read it with ImageDetRecordIter"
        return
    classes = facts["classes"]
    if classes["count"]:
        first = "first label " if max(widths) > 1 else ""
        low, high = classes["fewest_images"], classes["most_images"]
        each = f"{low} images each" if low == high else f"{low} to {high} images each"
        span = f"{first}{classes['least']:g} to {classes['largest']:g}"
        yield f"classes   {classes['count']} distinct, {span}, {each}"
    if classes["not_finite"]:
        yield f"          {classes['not_finite']} labels are no finite numbers"


def _counted(values: Numbers) -> tuple[list[Any], list[int]]:
    """Distinct values in ascending order, and how often each occurs."""
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()


def _labels(path: str, offsets: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
    """All labels of each image record at the byte `offsets`."""
    with RecordFile(path) as file:
        headers = [unpack(file.read(offset)[0])[0] for offset in offsets.tolist()]
    return [np.atleast_1d(np.asarray(header.label, np.float32)) for header in headers]


def _formats(starts: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Number of images of each format, from their first bytes."""
    totals: dict[str, int] = {}
    for word, count in zip(*_counted(starts.view("<u4")), strict=True):
        start = word.to_bytes(4, "little")
        name = next((name for head, name in _FORMATS.items() if start.startswith(head)), "unknown")
        totals[name] = totals.get(name, 0) + count
    return totals


def _sample(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return offsets[:: -(-len(offsets) // _SAMPLE)]


def _look(path: str, offsets: npt.NDArray[np.int64]) -> tuple[Numbers, SlowImages]:
    """What the headers of the images at the byte `offsets` say.

    Returns:
        (N, 2) widths and heights of the images whose headers are readable, none without Pillow;
        and how many images take long to load.
    """
    found: list[tuple[int, int]] = []
    slow, has_pillow = SlowImages(), find_spec("PIL") is not None
    with RecordFile(path) as file:
        for offset in offsets.tolist():
            try:
                _, image = unpack(file.read(offset)[0])
                slow.add(bytes(image))
                if has_pillow:
                    with opened(image[:_HEAD_NBYTES]) as picture:
                        found.append(picture.size)
            except (GpuioError, OSError):
                continue  # `gpuio verify` reports it
    return np.array(found, np.int64).reshape(-1, 2), slow


def _spread(values: Numbers) -> dict[str, int]:
    found = np.percentile(values, _PERCENTILES, method="nearest").astype(np.int64).tolist()
    return dict(zip(("min", "10 %", "median", "90 %", "max"), found, strict=True))


def _written(spread: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in spread.items())


def _histogram(values: Numbers) -> tuple[int, list[int]]:
    """Width of a bin and the counts, from 0 to the 99th percentile; the last bin is open."""
    top = max(int(np.percentile(values, 99, method="higher")), _BINS)
    step = -(-top // _BINS)
    counts: list[int] = np.bincount(np.minimum(values // step, _BINS - 1), minlength=_BINS).tolist()
    return step, counts


def _bars(step: int, counts: list[int]) -> Iterator[str]:
    for number, count in enumerate(counts):
        bar = "#" * round(_BAR * count / max(counts))
        more = "+" if number == _BINS - 1 else " "
        yield f"  {_si(number * step):>7}{more} {bar:{_BAR}} {count}"


def _si(number: int) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number} "
