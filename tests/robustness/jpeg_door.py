"""gpuio's own JPEG decoder, with memory that ends at pages without access."""

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from fences import Fences
from jpeg_alone import Bytes, JpegAlone, Window

from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.kernels.jpeg.header import RGB
from gpuio.kernels.jpeg.reduced import reduced_samples

from .case import Case, Door, Wrong
from .jpeg_damage import damage_jpeg
from .jpeg_seeds import jpeg_seeds

if TYPE_CHECKING:
    from pathlib import Path

_SIZES = {
    "data": 1 << 20,
    "pixels": 1 << 23,
    "scratch": 1 << 25,
    "state": 1 << 18,
    "checkpoints": 1 << 18,
}
_POISON, _BESIDE = 0xA5, 256
_LARGE = 1 << 21
"""Pixels of pictures of which only a part is decoded, and that libjpeg does not decode."""


class FencedMemory:
    """Memory for a decoder, and whether anything beside it was written.

    Attributes:
        at_end: Whether it ends at a fence, or begins there.
    """

    def __init__(self) -> None:
        self.at_end = True
        self._fences = {what: Fences(nbytes) for what, nbytes in _SIZES.items()}
        self._taken: dict[str, Bytes] = {}

    def take(self, what: str, nbytes: int) -> Bytes:
        """A `jpeg_alone.Place`. What was taken for the same before is lost."""
        fences = self._fences[what]
        at_end = self.at_end or what == "state"
        around = fences.at(min(nbytes + _BESIDE, fences.inner), at_end=at_end)
        around[:] = _POISON
        self._taken[what] = around[:-nbytes] if at_end else around[nbytes:]
        return fences.at(nbytes, at_end=at_end)

    def check(self) -> None:
        """Raise Wrong if a byte was written on the side where there is no fence."""
        for what, beside in self._taken.items():
            if (beside != _POISON).any():
                raise Wrong(f"bytes beside the {what} were written")


class JpegKernels(Door):
    """What the decoder takes has libjpeg-turbo's pixels; nothing outside its memory is touched."""

    name = "jpeg"
    count = 64

    def prepare(self, folder: Path) -> None:
        self._memory, self._decoder = _fenced_decoder()
        jpeg_seeds()

    def make(self, seed: int, rng: random.Random) -> Case:
        seeds = jpeg_seeds()
        clean = tuple(rng.choices(seeds, k=self.count))
        parts = tuple(
            image if rng.random() < 0.03 else damage_jpeg(rng, image, seeds) for image in clean
        )
        return Case(self.name, seed, parts, clean, {"at_end": rng.random() < 0.7})

    def run(self, case: Case, folder: Path) -> None:
        self._memory.at_end = case.choices["at_end"]
        self._decoder.forget()
        for number, part in enumerate(case.parts):
            rng = random.Random(f"{case.seed} {number}")
            try:
                taken = self._check(part, rng)
            except Wrong as error:
                raise Wrong(f"part {number}: {error}") from None
            if part == case.clean[number] and not taken:
                raise Wrong(f"part {number}: a sound picture was declined")

    def _check(self, data: bytes, rng: random.Random) -> bool:
        """Raise Wrong if a picture is decoded otherwise than by libjpeg; whether it is decoded."""
        job = self._decoder.open(data)
        if job is None:
            return False
        channels, reverse = rng.choice((3, 3, 1)), rng.random() < 0.2
        if channels == 1 and job["color"][0] == RGB:
            channels = 3
        height, width = int(job["height"][0]), int(job["width"][0])
        large = height * width > _LARGE
        window = _part_of(rng, height, width) if large or rng.random() < 0.3 else None
        saves = rng.random() < 0.5
        pixels = self._decoder.decode(job, window, channels, reverse=reverse, saves=saves)
        self._memory.check()
        if pixels is None or large:
            return pixels is not None
        try:
            wanted = codec.decode_rgb(data, channels)
        except DecodeError as error:
            raise Wrong(f"{height} x {width} pixels were decoded, but libjpeg: {error}") from None
        wanted = wanted[..., ::-1] if reverse else wanted
        _compare(pixels, wanted, window)
        for _ in range(2):
            other = _part_of(rng, height, width)
            part = self._decoder.decode(job, other, channels, reverse=reverse, saves=saves)
            self._memory.check()
            if part is not None:
                _compare(part, wanted, other)
            elif window is None:
                raise Wrong(f"window {other} was declined, and all of the picture was not")
        if height > 8 and width > 8 and rng.random() < 0.3:  # each scale has a size of its own
            self._check_scaled(data, job, channels, rng, whole=window is None)
        if job["known"][0] and rng.random() < 0.5:
            self._read_from_damaged_checkpoints(job, rng)
        return True

    def _check_scaled(
        self, data: bytes, job: np.ndarray, channels: int, rng: random.Random, *, whole: bool
    ) -> None:
        """Raise Wrong if a picture is decoded to a smaller size otherwise than by libjpeg.

        Args:
            data: The picture.
            job: Its JOB.
            channels: 1 or 3.
            rng: Decides.
            whole: Whether all of it was decoded before.
        """
        scale = rng.choice((4, 2, 1))
        height, width = (-(-int(job[side][0]) * scale // 8) for side in ("height", "width"))
        job["scale"], job["reduced"] = scale, reduced_samples.address
        order = "RGB" if channels == 3 else "GRAY"
        options = {"min_height": height, "min_width": width, "strict": False}
        try:
            wanted = simplejpeg.decode_jpeg(data, order, **options)
        except ValueError:  # it does not scale a picture with a damaged profile of colours
            wanted = None
        for window in ((0, 0, height, width), _part_of(rng, height, width)):
            pixels = self._decoder.decode(job, window, channels)
            self._memory.check()
            if pixels is not None:
                if wanted is not None:
                    _compare(pixels, wanted, window)
            elif whole and scale > 1:  # means of blocks are not as large as coefficients may be
                raise Wrong(f"{scale}/8 of a picture that was decoded before was declined")
        job["scale"] = 8

    def _read_from_damaged_checkpoints(self, job: np.ndarray, rng: random.Random) -> None:
        """Raise Wrong if memory beside its own is written; pixels may be any."""
        stored = self._decoder.checkpoints
        for _ in range(rng.choice((1, 2, 9))):
            stored[rng.randrange(len(stored))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        size = int(job["height"][0]), int(job["width"][0])
        self._decoder.decode(job, _part_of(rng, *size))
        self._memory.check()


@cache
def _fenced_decoder() -> tuple[FencedMemory, JpegAlone]:
    memory = FencedMemory()
    return memory, JpegAlone(memory.take)


def _part_of(rng: random.Random, height: int, width: int) -> Window:
    rows, cols = rng.randrange(1, min(height, 1024) + 1), rng.randrange(1, min(width, 1024) + 1)
    return rng.randrange(height - rows + 1), rng.randrange(width - cols + 1), rows, cols


def _compare(pixels: Bytes, wanted: Bytes, window: Window | None) -> None:
    y, x, rows, cols = window or (0, 0, *wanted.shape[:2])
    part = wanted[y : y + rows, x : x + cols]
    if part.shape != pixels.shape:
        raise Wrong(f"{pixels.shape} is not {part.shape}, the shape of libjpeg's pixels")
    if not np.array_equal(pixels, part):
        share = (pixels != part).any(axis=-1).mean()
        raise Wrong(f"window {window}: {share:.0%} of the pixels are not libjpeg's")


DOORS = (JpegKernels,)
