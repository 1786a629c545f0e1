"""gpuio bench: measure how fast a .rec is loaded, and which stage limits that."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from typing import Any, Final

import numpy as np

from gpuio import __version__
from gpuio.cli import arguments, loader
from gpuio.mxnet.iterators.image_record import ImageRecordIter
from gpuio.observe.profile import profile
from gpuio.observe.report import Report
from gpuio.observe.slow_images import SlowImages
from gpuio.sources.registry import open_source
from gpuio.storage.atomic import write_file

_SHAPE: Final = (3, 224, 224)
_BATCH: Final = 128
_SAMPLE: Final = 1000  # images whose headers are looked at
_LOOK_SECONDS: Final = 1.0  # that this may take: records of a remote file come slowly


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        f"The default of --data-shape is {_SHAPE}, that of --batch-size {_BATCH}. Batches are "
        "dropped at once, so the rate is the most that a training loop can get. Files that the "
        "system has cached are read from memory. A stage is starved while the stage before it "
        "has nothing ready, and blocked while the stage after it takes nothing more. Up to "
        f"{_SAMPLE} images are looked at as well: how many take long to load, and what makes them "
        "faster. Example: "
        "gpuio bench train.rec --shuffle --resize 256 --rand-crop --rand-mirror. Exit status: 0, "
        "or 2 for a wrong parameter or a file that cannot be used."
    )
    parser.usage = "%(prog)s FILE [--seconds S] [--json PATH] [loader options]"
    loader.configure(parser)
    parser.add_argument(
        "--seconds", type=float, default=10, metavar="S", help="how long to measure (default: 10)"
    )
    parser.add_argument(
        "--json",
        metavar="PATH",
        type=arguments.path,
        help="also write the figures to this file",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the figures and return the exit status."""
    if args.seconds <= 0:
        raise ValueError(f"--seconds must be above 0, got {args.seconds}")
    parameters = {"data_shape": _SHAPE, "batch_size": _BATCH, **loader.chosen(args)}
    report, first_batch, faults = measure(args.file, parameters, args.seconds)
    print(f"first batch after {first_batch:.2f} s")
    if faults:
        print(f"{faults} images could not be read or decoded")
    slow = look_for_slow_images(args.file, parameters.get("path_imgidx", ""))
    for line in slow.describe():
        print(f"slow images: {line}")
    print(report)
    if args.json:
        figures = {
            "gpuio": __version__,
            "python": platform.python_version(),
            "machine": platform.platform(),
            "cpus": os.cpu_count(),
            "file": args.file,
            "parameters": parameters,
            "first_batch": first_batch,
            "faults": faults,
            "slow_images": slow.to_dict(),
            **report.to_dict(),
        }
        write_file(args.json, json.dumps(figures, indent=1).encode())
    return 0


def measure(file: str, parameters: dict[str, Any], seconds: float) -> tuple[Report, float, int]:
    """Load `file` for `seconds`, epoch after epoch, after one batch to warm up.

    Returns:
        Where the time went after the first batch; the seconds from the start of the iterator to
        its first batch; and the number of images that could not be read or decoded.

    Raises:
        ValueError: An epoch has no batch.
    """
    start = time.perf_counter()
    with ImageRecordIter(file, **parameters) as batches:
        if not len(batches):
            raise ValueError("an epoch has no batch: batch_size is above the number of records")
        next(batches)
        first_batch = time.perf_counter() - start
        with profile(batches, ranges=()) as report:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                batches.reset()
                while batches.iter_next() and time.perf_counter() < end:
                    pass
        return report, first_batch, batches.faults.count


def look_for_slow_images(file: str, path_imgidx: str) -> SlowImages:
    """Look at the headers of some images, spread over the records, for a second at most.

    Args:
        file: As for `measure`.
        path_imgidx: As for ImageRecordIter.
    """
    source, slow = open_source(file, path_imgidx, on_error="skip"), SlowImages()
    places = np.linspace(0, len(source) - 1, min(len(source), _SAMPLE)).astype(np.int64)
    end = time.perf_counter() + _LOOK_SECONDS
    for record in np.random.default_rng(0).permutation(places).tolist():
        if time.perf_counter() > end:
            break
        try:
            slow.add(source.read(record).image)
        except (OSError, ValueError):
            continue  # a fault, which is counted apart
    return slow
