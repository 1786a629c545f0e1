"""The JPEG decoder by itself, beside simplejpeg (libjpeg-turbo with SIMD), on one core.

    python benchmarks/jpeg.py
    python benchmarks/jpeg.py --rec train.rec --images 180 --out jpeg.json

Pictures are encoded anew in each way of subsampling. Both decoders write to memory that they keep,
and take turns image by image; times are CPU times of the thread. The table has the medians of some
rounds, and how many images differ: none should. "codes alone" reads all Huffman codes and makes one
pixel; "windows" are those of a random resized crop, of images that were decoded before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import machine
import numpy as np
import numpy.typing as npt
import records
import simplejpeg

from gpuio.kernels.jpeg import decode as kernels
from gpuio.kernels.jpeg.header import JOB
from gpuio.kernels.jpeg.scan import CHECKPOINT
from gpuio.kernels.parallel import run_program

SAMPLINGS = {"4:4:4": "444", "4:2:2": "422", "4:2:0": "420", "4:4:0": "440", "4:1:1": "411"}
Pixels = npt.NDArray[np.uint8]
TARGETS = {"4:4:4": 1.4, "4:2:0": 1.3, "gray": 1.4}


class Job:
    """An image to decode, whole or a window, with its checkpoints."""

    def __init__(self, data: bytes, memory: Memory, channels: int) -> None:
        self.data, self._memory, self._channels = data, memory, channels
        self._encoded = np.frombuffer(data, np.uint8)
        self._table = table = np.zeros(1, JOB)
        table["data"], table["nbytes"] = self._encoded.ctypes.data, len(data)
        run_program([(kernels.probe, (table.ctypes.data,))], 1, 1)
        self.taken = bool(table["taken"][0])
        self.size = int(table["height"][0]), int(table["width"][0])
        table["rows"], table["cols"] = self.size
        self._checkpoints = np.zeros(self.size[0] // 8 + 1, CHECKPOINT)

    def last_pixel(self) -> None:
        """Read all codes, and make no more than the last pixel, from now on."""
        table = self._table
        table["y"], table["x"] = self.size[0] - 1, self.size[1] - 1
        table["rows"] = table["cols"] = 1

    def window(self, y: int, x: int, rows: int, cols: int) -> None:
        """Decode all once for its checkpoints, and this window from now on."""
        table = self._table
        table["checkpoints"] = self._checkpoints.ctypes.data
        self()
        table["y"], table["x"], table["rows"], table["cols"] = y, x, rows, cols

    def __call__(self) -> Pixels:
        table, memory = self._table, self._memory
        table["dst"], table["scratch"] = memory.pixels.ctypes.data, memory.scratch.ctypes.data
        args = (table.ctypes.data, memory.states.ctypes.data, self._channels, 0)
        run_program([(kernels.decode, args)], 1, 1)
        if table["status"][0] != kernels.SUCCESS:
            raise SystemExit("an image could not be decoded")
        shape = int(table["rows"][0]), int(table["cols"][0]), self._channels
        return memory.pixels[: shape[0] * shape[1] * shape[2]].reshape(shape)


class Memory:
    """Memory that both decoders keep."""

    def __init__(self, nbytes: int) -> None:
        self.pixels, self.other = np.zeros(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
        self.scratch = np.zeros(2 * nbytes + (1 << 20), np.uint8)
        self.states = kernels.new_states(1)


@dataclass(frozen=True)
class Row:
    """Figures of one kind of images.

    Attributes:
        name: For the table.
        nbytes: Of an encoded image, on average.
        theirs: CPU milliseconds of simplejpeg for an image.
        ours: The same of gpuio.
        ratio: Of speeds.
        differ: Images of which the pixels are not equal.
        target: What the ratio should be, if anything.
    """

    name: str
    nbytes: int
    theirs: float
    ours: float
    ratio: float
    differ: int
    target: float | None


def clock(call: Callable[[], object]) -> int:
    """Nanoseconds of CPU time that a call takes."""
    start = time.thread_time_ns()
    call()
    return time.thread_time_ns() - start


def measure(
    name: str, jobs: list[Job], space: str, rounds: int, other: Pixels, *, whole: bool = True
) -> Row:
    """Let both decoders take turns."""
    turbo = simplejpeg.decode_jpeg
    differ = sum(not np.array_equal(job(), turbo(job.data, space)) for job in jobs if whole)
    pairs = []
    for _ in range(rounds):
        theirs = ours = 0
        for job in jobs:
            theirs += clock(lambda job=job: turbo(job.data, space, buffer=other))  # type: ignore[misc]
            ours += clock(job)
        pairs.append((theirs / len(jobs) / 1e6, ours / len(jobs) / 1e6))
    nbytes = sum(len(job.data) for job in jobs) // len(jobs)
    times = [median(column) for column in zip(*pairs, strict=True)]
    ratio = median(theirs / ours for theirs, ours in pairs)
    return Row(name, nbytes, times[0], times[1], ratio, differ, TARGETS.get(name))


def crop(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """y, x, rows and columns of a random resized crop."""
    for _ in range(10):
        area, ratio = height * width * rng.uniform(0.08, 1), np.exp(rng.uniform(-0.288, 0.288))
        rows, cols = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if 0 < rows <= height and 0 < cols <= width:
            y, x = rng.integers(0, height - rows + 1), rng.integers(0, width - cols + 1)
            return int(y), int(x), rows, cols
    return 0, 0, height, width


def rows_of(pictures: list[records.Picture], quality: int, rounds: int) -> list[Row]:
    """All rows of the table."""
    pixels = [simplejpeg.decode_jpeg(picture.data, "RGB") for picture in pictures]
    memory = Memory(max(each.nbytes for each in pixels))
    encode = simplejpeg.encode_jpeg
    found = []
    for name, sampling in SAMPLINGS.items():
        files = [encode(p, quality=quality, colorsubsampling=sampling) for p in pixels]
        found.append(measure(name, [Job(f, memory, 3) for f in files], "RGB", rounds, memory.other))
    luma = [np.ascontiguousarray(p[..., :1]) for p in pixels]
    kind = {"colorspace": "GRAY", "colorsubsampling": "Gray"}
    gray = [Job(encode(p, quality=quality, **kind), memory, 1) for p in luma]
    found.append(measure("gray", gray, "GRAY", rounds, memory.other))
    stored = [job for p in pictures if (job := Job(p.data, memory, 3)).taken]
    found.append(measure("as stored", stored, "RGB", rounds, memory.other))
    for job in stored:
        job.last_pixel()
    found.append(measure("codes alone", stored, "RGB", rounds, memory.other, whole=False))
    stored = [Job(job.data, memory, 3) for job in stored]
    rng = np.random.default_rng(1)
    for job in stored:
        job.window(*crop(*job.size, rng))
    found.append(measure("windows", stored, "RGB", rounds, memory.other, whole=False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--images", type=int, default=90, help="(default: %(default)s)")
    parser.add_argument("--quality", type=int, default=90, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = records.load(options.rec, Path(folder))[: options.images]
    print(f"{machine.cpu_model()}; {len(pictures)} images, quality {options.quality}")
    print(f"{'':11} {'bytes':>8} {'simplejpeg ms':>14} {'gpuio ms':>9} {'ratio':>6} target differ")
    found = rows_of(pictures, options.quality, options.rounds)
    for row in found:
        target = "" if row.target is None else row.target
        times = f"{row.theirs:14.3f} {row.ours:9.3f} {row.ratio:6.2f}"
        print(f"{row.name:11} {row.nbytes:8} {times} {target:6} {row.differ:6}")
    if options.out:
        figures = {"machine": machine.describe(), "rows": [asdict(row) for row in found]}
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
