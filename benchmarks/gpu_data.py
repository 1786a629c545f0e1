"""The images that gpu.py reads: those of a .rec, or drawn ones that are like ImageNet's to a codec.

nvImageCodec takes another way for pictures of one chroma subsampling than for a mixture, and
ImageNet is a mixture, so drawn pictures are one, too.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import records
import simplejpeg
from PIL import Image

SIZES = ((375, 500), (500, 375), (333, 500), (375, 500), (500, 334), (240, 320), (375, 500))
"""Height and width of pictures, in turn: those that most of ImageNet's have, and a small one."""

MIX = {"444": 0.74, "420": 0.21, "422": 0.03, "Gray": 0.02}
"""Parts of the subsamplings: those of ImageNet, as 180 of its JPEGs have them."""

QUALITY = 92  # of the JPEGs: some 0.55 bytes a pixel, as ImageNet's
_SPREAD = (44.0, 12.0, 12.0)  # levels: standard deviation of Y, Cb and Cr
_FALL = 1.3  # power by which the spectrum of a photograph falls with the frequency
_SUBSAMPLING = {"444": 0, "422": 1, "420": 2}  # Pillow's numbers


def load(rec: Path | None, count: int) -> list[records.Picture]:
    """The JPEGs of a .rec; without one, `count` drawn pictures."""
    if rec is not None:
        return records.load(rec, Path())
    kinds = subsamplings(count)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(drawn, range(count), kinds))


def subsamplings(count: int) -> list[str]:
    """One of `MIX` for each picture, spread so that any batch has its share of each."""
    given: Counter[str] = Counter()
    kinds = []
    for number in range(1, count + 1):
        kind = max(MIX, key=lambda kind: MIX[kind] * number - given[kind])
        given[kind] += 1
        kinds.append(kind)
    return kinds


def drawn(seed: int, subsampling: str) -> records.Picture:
    """A JPEG of noise whose spectrum is a photograph's."""
    height, width = SIZES[seed % len(SIZES)]
    rng = np.random.default_rng(seed)
    gray, *colors = [Image.fromarray(_noise(rng, height, width, spread)) for spread in _SPREAD]
    file = io.BytesIO()
    if subsampling == "Gray":
        gray.save(file, "JPEG", quality=QUALITY)
    else:
        picture = Image.merge("YCbCr", [gray, *colors])
        picture.save(file, "JPEG", quality=QUALITY, subsampling=_SUBSAMPLING[subsampling])
    return records.Picture(file.getvalue(), height, width)


def _noise(
    rng: np.random.Generator, height: int, width: int, spread: float
) -> npt.NDArray[np.uint8]:
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    frequency = np.hypot(y, x)
    frequency[0, 0] = 1
    shape = frequency.shape
    waves = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / frequency**_FALL
    waves[0, 0] = 0
    plane = np.fft.irfft2(waves, s=(height, width))
    return np.clip(128 + plane * (spread / plane.std()), 0, 255).astype(np.uint8)


def mixture(pictures: list[records.Picture]) -> dict[str, float]:
    """The part of each subsampling."""
    found = Counter(simplejpeg.decode_jpeg_header(picture.data)[3] for picture in pictures)
    return {kind: round(count / len(pictures), 3) for kind, count in sorted(found.items())}
