"""What `scaled_decode` buys for large photographs, and what it does to their pixels.

    python benchmarks/scaled.py
    python benchmarks/scaled.py --rec train.rec --out scaled.json

Photographs of 1, 4 and 12 megapixels are put together from pictures enlarged twice, and encoded
with 4:2:0 and quality 90. Two iterators take turns, an epoch each: both resize to 256 and crop
224 x 224, one of them from whole images. Figures are CPU times of all cores for an image, and PSNR
of either's pixels against those of area averaging of the whole image.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import machine
import numpy as np
import numpy.typing as npt
import records
import simplejpeg
from PIL import Image

import gpuio
from gpuio.formats.codec import decode_rgb

SIZES = {1: (870, 1160), 4: (1730, 2310), 12: (3000, 4000)}
TARGETS = {1: 1.5, 4: 2.5, 12: 4.0}
PIXELS = 96_000_000  # of all photographs of a size
ENLARGED = 2
QUALITY = 90
SHAPE = (3, 224, 224)
AREA = 3  # an `inter_method`
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """Figures of photographs of one size.

    Attributes:
        megapixels: About their size.
        bits: Of the file for a pixel.
        whole: CPU milliseconds of an image that is decoded whole.
        scaled: The same of one that is decoded to a smaller size.
        ratio: Of their speeds, the median of the rounds.
        whole_psnr: In dB, against area averaging.
        scaled_psnr: The same.
    """

    megapixels: int
    bits: float
    whole: float
    scaled: float
    ratio: float
    whole_psnr: float
    scaled_psnr: float


def photograph(pictures: list[Pixels], height: int, width: int, rng: np.random.Generator) -> bytes:
    """A JPEG of pictures side by side."""
    image = Image.new("RGB", (width, height))
    y = 0
    while y < height:
        x, below = 0, height
        while x < width:
            pixels = pictures[rng.integers(len(pictures))]
            tile = Image.fromarray(pixels)
            tile = tile.resize((ENLARGED * tile.width, ENLARGED * tile.height), Image.LANCZOS)
            image.paste(tile, (x, y))
            x, below = x + tile.width, min(below, y + tile.height)
        y = below
    return simplejpeg.encode_jpeg(np.array(image), QUALITY, colorsubsampling="420")


def run(it: gpuio.ImageRecordIter) -> tuple[float, Pixels]:
    """CPU milliseconds of an image in an epoch, and the pixels of its last batch."""
    start, images = time.process_time(), 0
    for batch in it:
        images += len(batch.data[0]) - batch.pad
        last = batch.data[0]
    return 1000 * (time.process_time() - start) / images, last.asnumpy()


def psnr(pixels: Pixels, wanted: Pixels) -> float:
    error = np.square(pixels.astype(np.float64) - wanted).mean()
    return float(10 * np.log10(255**2 / error))


def measure(path: Path, megapixels: int, bits: float, count: int, rounds: int) -> Row:
    """Let both iterators take turns."""

    def opened(**options: object) -> gpuio.ImageRecordIter:
        common = {"resize": records.EDGE, "dtype": "uint8", "device": "cpu", "round_batch": False}
        return gpuio.ImageRecordIter(path, SHAPE, min(count, 8), **common | options)

    with opened() as whole, opened(scaled_decode=True) as scaled, opened(inter_method=AREA) as area:
        _, wanted = run(area)
        levels = [psnr(run(it)[1], wanted) for it in (whole, scaled)]  # compiles what is needed
        pairs = [(run(whole)[0], run(scaled)[0]) for _ in range(rounds)]
    times = [median(column) for column in zip(*pairs, strict=True)]
    ratio = median(one / other for one, other in pairs)
    return Row(megapixels, bits, times[0], times[1], ratio, levels[0], levels[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each (default: 5)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    print(f"{machine.cpu_model()}; resized to {records.EDGE}, quality {QUALITY}")
    print(f"{'MP':>3} {'bits':>5} {'whole ms':>9} {'scaled ms':>9} {'ratio':>6} target", end="")
    print(f" {'whole dB':>9} {'scaled dB':>9}")
    rows, rng = [], np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = [decode_rgb(each.data, 3) for each in records.load(options.rec, folder)]
        for megapixels, (height, width) in SIZES.items():
            count = PIXELS // (height * width)
            files = [photograph(pictures, height, width, rng) for _ in range(count)]
            made = [records.Picture(data, height, width) for data in files]
            stored = records.save(f"{megapixels}", made, count, folder)
            bits = 8 * stored.nbytes / (height * width)
            row = measure(Path(stored.path), megapixels, bits, count, options.rounds)
            rows.append(row)
            print(
                f"{megapixels:3} {row.bits:5.2f} {row.whole:9.2f} {row.scaled:9.2f} "
                f"{row.ratio:6.2f} {TARGETS[megapixels]:6} {row.whole_psnr:9.1f} "
                f"{row.scaled_psnr:9.1f}",
                flush=True,
            )
    if options.out:
        figures = {"machine": machine.describe(), "rows": [asdict(row) for row in rows]}
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
