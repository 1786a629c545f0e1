"""gpuio info: what is in a .rec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from gpuio.cli.headers import Headers

    Numbers = npt.NDArray[Any]

_BAR: Final = 40  # columns of the longest bar
_BINS: Final = 10
_SAMPLE: Final = 2000  # images whose width and height are looked up
_HEAD_NBYTES: Final = 64 << 10  # of an image file, enough for its size
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


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "All headers are read, but no image is decoded: `gpuio verify` does that. "
        f"Widths and heights come from {_SAMPLE} images spread over the file. "
        "Exit status: 0, or 2 if FILE cannot be read."
    )
    parser.add_argument("file", metavar="FILE", help="the .rec")


def run(args: argparse.Namespace) -> int:
    """Print what is in the file; the exit status."""
    from gpuio.cli.headers import read_headers
    from gpuio.format.recordio import verify

    offsets, damages = verify(args.file)
    headers = read_headers(args.file, offsets)
    for line in describe(args.file, offsets, headers):
        print(line)
    if damages:
        print(f"damage    {len(damages)} places; list them with: gpuio verify {args.file}")
    return 0


def describe(path: str, offsets: npt.NDArray[np.int64], headers: Headers) -> Iterator[str]:
    """The report, line by line.

    Args:
        path: The .rec.
        offsets: (N,) where its records start, in bytes.
        headers: Of these records.
    """
    from gpuio.shards import size_of

    nbytes = size_of(path)
    yield f"file      {path}"
    yield f"bytes     {nbytes} ({_si(nbytes)}B)"
    images = headers.nbytes > 0
    bare, other = int((headers.nbytes == 0).sum()), int((headers.nbytes < 0).sum())
    yield f"records   {len(offsets)}" + (f", {bare} of them without an image" if bare else "")
    if other:
        yield f"          {other} of them are no image records, and are left out below"
    yield _describe_index(path, len(offsets))
    if not len(offsets):
        return
    yield from _describe_faces(path, offsets, headers)
    if images.any():
        yield f"ids       {headers.ids[images].min()} to {headers.ids[images].max()}"
        yield from _describe_labels(headers.flags[images], headers.labels[images])
        yield f"formats   {_formats(headers.starts[images])}"
        yield f"image B   {_spread(headers.nbytes[images])}"
        yield from _histogram(headers.nbytes[images])
        yield from _describe_sizes(path, offsets[images])


def _describe_index(path: str, count: int) -> str:
    from gpuio.format.index import Index
    from gpuio.shards import beside, exists

    idx = beside(path, ".idx")
    if not exists(idx):
        return f"index     none; make one with: gpuio rec2idx {path} {idx}"
    entries = len(Index.load(idx))
    return f"index     {entries} entries" + (f", not {count}" if entries != count else "")


def _describe_faces(path: str, offsets: npt.NDArray[np.int64], headers: Headers) -> Iterator[str]:
    """What the first record of a face recognition set says about the others.

    Source: InsightFace, recognition/_datasets_/face2rec2.py.
    """
    from gpuio.format.image_record import unpack
    from gpuio.format.recordio import open_records

    if headers.flags[0] != 2 or headers.nbytes[0]:
        return
    import math

    with open_records(path) as file:
        label = unpack(file.read(int(offsets[0]))[0])[0].label.tolist()
    if not all(map(math.isfinite, label)):
        found = f"[{label[0]:g}, {label[1]:g}]"
        yield f"faces     the first record has no image, and its two labels {found} are no keys"
        return
    first, last = map(int, label)
    yield "faces     the first record is InsightFace's header, not an image. By it keys"
    yield f"          1 to {first - 1} are images and {first} to {last - 1} are identities, records"
    yield "          without an image whose two labels are the range of keys of their images"


def _describe_labels(flags: Numbers, labels: Numbers) -> Iterator[str]:
    import numpy as np

    widths, counts = np.unique(np.maximum(flags, 1), return_counts=True)
    text = [f"{w} ({n} records)" for w, n in zip(widths.tolist(), counts.tolist(), strict=True)]
    yield f"labels    width {', '.join(text[:4]) if len(text) > 1 else widths[0]}" + (
        f" and {len(text) - 4} other widths" if len(text) > 4 else ""
    )
    first = "first label " if widths[-1] > 1 else ""
    values, counts = np.unique(labels, return_counts=True)
    span = f"{first}{values[0]:g} to {values[-1]:g}"
    low, high = counts.min(), counts.max()
    each = f"{low} images each" if low == high else f"{low} to {high} images each"
    yield f"classes   {len(values)} distinct, {span}, {each}"


def _formats(starts: npt.NDArray[np.uint8]) -> str:
    import numpy as np

    words, counts = np.unique(starts.view("<u4"), return_counts=True)
    totals: dict[str, int] = {}
    for word, count in zip(words.tolist(), counts.tolist(), strict=True):
        start = word.to_bytes(4, "little")
        name = next((name for head, name in _FORMATS.items() if start.startswith(head)), "unknown")
        totals[name] = totals.get(name, 0) + count
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in ranked)


def _describe_sizes(path: str, offsets: npt.NDArray[np.int64]) -> Iterator[str]:
    """Widths and heights of a sample of the images at `offsets`, bytes."""
    import numpy as np

    sample = offsets[:: -(-len(offsets) // _SAMPLE)]
    sizes = np.array(list(_sizes(path, sample)), np.int64).reshape(-1, 2)
    if not len(sizes):
        return
    some = f", of {len(sizes)} images" if len(sizes) < len(offsets) else ""
    yield f"width     {_spread(sizes[:, 0])}{some}"
    yield f"height    {_spread(sizes[:, 1])}{some}"


def _sizes(path: str, offsets: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    import io

    from gpuio.errors import GpuioError
    from gpuio.format.image_record import unpack
    from gpuio.format.recordio import open_records

    try:
        from PIL import Image
    except ImportError:
        return
    with open_records(path) as file:
        for offset in offsets.tolist():
            try:
                _, image = unpack(file.read(offset)[0])
                with Image.open(io.BytesIO(image[:_HEAD_NBYTES])) as picture:
                    yield picture.size
            except (GpuioError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                continue  # no image, or damaged: `verify` tells


def _spread(values: Numbers) -> str:
    import numpy as np

    found = np.percentile(values, _PERCENTILES, method="nearest").tolist()
    names = ("min", "10 %", "median", "90 %", "max")
    return ", ".join(f"{name} {value:.0f}" for name, value in zip(names, found, strict=True))


def _histogram(values: Numbers) -> Iterator[str]:
    """Bars of equal width from 0 to the 99th percentile; the last one holds what is above."""
    import numpy as np

    top = max(int(np.percentile(values, 99, method="higher")), _BINS)
    step = -(-top // _BINS)
    counts = np.bincount(np.minimum(values // step, _BINS - 1), minlength=_BINS).tolist()
    for number, count in enumerate(counts):
        bar = "#" * round(_BAR * count / max(counts))
        more = "+" if number == _BINS - 1 else " "
        yield f"  {_si(number * step):>7}{more} {bar:{_BAR}} {count}"


def _si(number: int) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number} "
