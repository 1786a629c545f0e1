"""What a cache of decoded images buys: an epoch from it beside an epoch without it.

    python benchmarks/cache.py
    python benchmarks/cache.py --rec train.rec --out cache.json

Two iterators over one shuffled .rec take turns, an epoch each: one decodes, the other one has all
images in RAM. Both crop at random and mirror. Ratios are taken within a round, and the table has
their medians; it also has the milliseconds of all cores that an image took, which other programs
disturb less. The epoch that fills the cache is measured once; it is the first one of its iterator,
which also takes all other memory then.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import machine
import records

import gpuio

SHAPE = (3, 224, 224)
SPARE = 1.2  # times the bytes of the pixels that the cache may have
NORMALIZED = {"mean_r": 123.68, "mean_g": 116.78, "mean_b": 103.94}
NORMALIZED |= {"std_r": 58.4, "std_g": 57.12, "std_b": 57.38}


@dataclass(frozen=True)
class Case:
    """One kind of images, and what is made of them.

    Attributes:
        name: For the table.
        small: Whether their shorter edge is 256 already.
        options: Of the iterators.
    """

    name: str
    small: bool
    options: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("256 pixels, float32", True, NORMALIZED),
    Case("256 pixels, float16", True, {"dtype": "float16"} | NORMALIZED),
    Case("256 pixels, uint8", True, {"dtype": "uint8", "layout": "NHWC"}),
    Case("resized to 256, float32", False, {"resize": records.EDGE} | NORMALIZED),
    Case("random resized crop, float32", False, {"random_resized_crop": True} | NORMALIZED),
)


@dataclass(frozen=True)
class Epoch:
    """How long an epoch took.

    Attributes:
        rate: Images per second.
        cpu: Milliseconds of all cores for an image.
    """

    rate: float
    cpu: float


def run(it: gpuio.ImageRecordIter) -> Epoch:
    """Go through an epoch."""
    wall, cpu, images = time.perf_counter(), time.process_time(), 0
    for batch in it:
        images += len(batch.data[0]) - batch.pad
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Epoch(images / wall, 1000 * cpu / images)


def measure(case: Case, data: records.Records, rounds: int, batch_size: int) -> dict[str, Any]:
    """All figures of a case."""
    options = {"shuffle": True, "rand_mirror": True, "device": "cpu"} | case.options
    if not case.options.get("random_resized_crop"):
        options["rand_crop"] = True
    height, width = data.size
    limit = int(SPARE * data.count * 3 * height * width / 1e6)
    plain = gpuio.ImageRecordIter(data.path, SHAPE, batch_size, **options)
    cached = gpuio.ImageRecordIter(data.path, SHAPE, batch_size, cache=f"{limit}MB", **options)
    with plain, cached:
        run(plain)  # compiles what is needed
        filling = run(cached)
        if cached.stats()["cache"]["entries"] < data.count:
            raise SystemExit(f"{limit} MB of shared memory are needed for {data.count} images")
        epochs: list[tuple[Epoch, Epoch]] = []
        for number in range(rounds):
            first, second = (plain, cached) if number % 2 == 0 else (cached, plain)
            one, other = run(first), run(second)
            epochs.append((one, other) if first is plain else (other, one))
    return {
        "name": case.name,
        "images": {"count": data.count, "nbytes": data.nbytes, "size": data.size},
        "filling": asdict(filling),
        "without": [asdict(without) for without, _ in epochs],
        "with": [asdict(with_) for _, with_ in epochs],
        "ratio": median(with_.rate / without.rate for without, with_ in epochs),
        "cpu_ratio": median(without.cpu / with_.cpu for without, with_ in epochs),
    }


def show(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    rates = [median(epoch["rate"] for epoch in row[side]) for side in ("without", "with")]
    cpus = [median(epoch["cpu"] for epoch in row[side]) for side in ("without", "with")]
    print(
        f"{row['name']:30} {rates[0]:8.0f} {row['filling']['rate']:8.0f} {rates[1]:8.0f} "
        f"{row['ratio']:7.2f} {cpus[0]:9.3f} {row['filling']['cpu']:7.3f} {cpus[1]:7.3f} "
        f"{row['cpu_ratio']:7.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each (default: 5)")
    parser.add_argument("--batch-size", type=int, default=128, help="(default: 128)")
    parser.add_argument("--records", type=int, default=2048, help="in an epoch (default: 2048)")
    args = parser.parse_args()
    device = machine.describe()
    print(f"{device['cpu']}, {device['cores']} cores; batch {args.batch_size}")
    print(f"{'':30} {'images per second':^26} {'':7} {'ms of CPU an image':^25}")
    print(
        f"{'':30} {'without':>8} {'filling':>8} {'cached':>8} {'ratio':>7} {'without':>9} ", end=""
    )
    print(f"{'cached':>7} {'ratio':>7}")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        pictures = records.load(args.rec, Path(name))
        small = [records.shrink(picture) for picture in pictures]
        for case in CASES:
            chosen = small if case.small else pictures
            data = records.save(f"{case.small}", chosen, args.records, Path(name))
            rows.append(measure(case, data, args.rounds, args.batch_size))
            show(rows[-1])
    if args.out:
        args.out.write_text(json.dumps({"machine": device, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
