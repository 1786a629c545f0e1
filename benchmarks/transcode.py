"""What transcoding JPEGs without loss costs and buys: bytes, and CPU time of decoding and loading.

    python benchmarks/transcode.py
    python benchmarks/transcode.py --rec train.rec --jpegtran jpegtran --out transcode.json

Each image is decoded and encoded once, progressive and with the usual tables, so that there is a
file to begin with. CPU time counts: in decoding and transcoding that of one thread, with turns
image by image; in loading that of the process, with turns epoch by epoch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import machine
import numpy as np
import records
import simplejpeg

import gpuio
from gpuio.formats.codec import decode_rgb
from gpuio.pack.transcode import transcode_jpeg
from gpuio.testing import encode, write_rec

QUALITY = 95
SHAPE, BATCH = (3, 224, 224), 32
LARGE = 40  # images that are joined for jpegtran, so that starting it does not count


@dataclass(frozen=True)
class Case:
    """One way of transcoding.

    Attributes:
        name: For the table.
        source: Makes the file to begin with, of pixels.
        options: Of `transcode_jpeg`.
    """

    name: str
    source: Callable[..., bytes]
    options: dict[str, bool]


def progressive(pixels) -> bytes:
    return encode(pixels, "JPEG", quality=QUALITY, progressive=True)


def usual_tables(pixels) -> bytes:
    return encode(pixels, "JPEG", quality=QUALITY)


CASES = (
    Case("progressive, --baseline", progressive, {"baseline": True}),
    Case("usual tables, --optimize", usual_tables, {"optimize": True}),
)


def cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def loading_ratio(files: tuple[list[bytes], list[bytes]], rounds: int) -> float:
    """CPU time of epochs of the files before / after, cropped to SHAPE: a median of rounds."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        loaders = []
        for name, images in zip(("before", "after"), files, strict=True):
            rec = Path(folder) / f"{name}.rec"
            write_rec(rec, images)
            loader = gpuio.ImageRecordIter(rec, SHAPE, BATCH, resize=records.EDGE, device="cpu")
            loaders.append(stack.enter_context(loader))
        ratios = []
        for number in range(rounds + 1):
            spent = []
            for loader in loaders:
                loader.reset()
                begin = time.process_time()
                for _ in loader:
                    pass
                spent.append(time.process_time() - begin)
            if number:  # the first one compiles
                ratios.append(spent[0] / spent[1])
    return median(ratios)


def measure(case: Case, images: list, rounds: int) -> dict[str, float]:
    """Figures of one case, medians of the rounds."""
    before = [case.source(pixels) for pixels in images]
    after = [transcode_jpeg(data, **case.options) for data in before]
    speeds, ratios = [], []
    for _ in range(rounds):
        spent = [0.0, 0.0, 0.0]  # decoding before and after, and transcoding
        for old, new in zip(before, after, strict=True):
            spent[0] += cpu_seconds(lambda data=old: simplejpeg.decode_jpeg(data))
            spent[1] += cpu_seconds(lambda data=new: simplejpeg.decode_jpeg(data))
            spent[2] += cpu_seconds(lambda data=old: transcode_jpeg(data, **case.options))
        ratios.append(spent[0] / spent[1])
        speeds.append(sum(map(len, before)) / spent[2] / 1e6)
    return {
        "bytes": sum(map(len, after)) / sum(map(len, before)),
        "decoding": median(ratios),
        "loading": loading_ratio((before, after), rounds),
        "megabytes_per_second": median(speeds),
    }


def beside_jpegtran(case: Case, image, jpegtran: str, rounds: int) -> dict[str, float]:
    """Megabytes a second of `jpegtran -optimize`, and our speed beside it, on one large image."""
    data = case.source(image)
    theirs, ratios = [], []
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(data)
        file.flush()
        for _ in range(rounds):
            begin = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [jpegtran, "-optimize", "-copy", "all", file.name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            end = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = end.ru_utime - begin.ru_utime + end.ru_stime - begin.ru_stime
            theirs.append(len(data) / spent / 1e6)
            ratios.append(spent / cpu_seconds(lambda: transcode_jpeg(data, **case.options)))
    return {"jpegtran": median(theirs), "beside_jpegtran": median(ratios)}


def joined(images: list):
    """One large picture of the top left corners of some."""
    some = images[:LARGE]
    side = min(min(pixels.shape[:2]) for pixels in some)
    return np.concatenate([pixels[:side, :side] for pixels in some])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--jpegtran", metavar="PROGRAM", help="libjpeg-turbo's, to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = records.load(args.rec, Path(folder))
    sets = {
        "as they are": [decode_rgb(picture.data, 3) for picture in pictures],
        "shorter edge 256": [decode_rgb(records.shrink(p).data, 3) for p in pictures],
    }
    device, figures = machine.describe(), {}
    print(f"{device['cpu']}, {len(pictures)} images, {args.rounds} rounds")
    print(f"{'':44} {'bytes':>6} {'decoding':>9} {'loading':>8} {'MB/s':>6} {'/ jpegtran':>11}")
    for name, images in sets.items():
        for case in CASES:
            found = measure(case, images, args.rounds)
            if args.jpegtran:
                found |= beside_jpegtran(case, joined(images), args.jpegtran, args.rounds)
            figures[f"{name}, {case.name}"] = found
            beside = f"{found['beside_jpegtran']:11.2f}" if args.jpegtran else f"{'-':>11}"
            print(
                f"{name + ', ' + case.name:44} {found['bytes']:6.3f} {found['decoding']:8.2f}x "
                f"{found['loading']:7.2f}x "
                f"{found['megabytes_per_second']:6.1f} {beside}",
                flush=True,
            )
    if args.out:
        args.out.write_text(json.dumps({"machine": device, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
