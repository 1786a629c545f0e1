"""Pictures and .rec files for tests, also for those of your own decoders and sources.

Pictures are drawn with NumPy and encoded with Pillow, so a test needs no data files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


def draw(height: int, width: int, channels: int = 3, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(height, width, channels) smooth waves with some noise: a photograph, to a codec."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        128 + 90 * np.sin(x / rng.uniform(5, 30) + y / rng.uniform(5, 30) + channel)
        for channel in range(channels)
    ]
    noise = rng.integers(-20, 21, (height, width, channels))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def encode(pixels: Pixels, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """An image file, written by Pillow.

    Args:
        pixels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        kind: Pillow's name of the format.
        mode: Pillow's name of the colour space to convert to first.
        options: Options of Pillow's `save`; `orientation` is that of EXIF, 1 to 8.
    """
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    if "orientation" in options:
        exif = Image.Exif()
        exif[0x0112] = options.pop("orientation")
        options["exif"] = exif
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def write_rec(
    path: Path,
    images: Sequence[bytes],
    *,
    labels: Sequence[Any] | None = None,
    ids: Sequence[int] | None = None,
) -> list[int]:
    """Write image records and, beside them, a .idx with their ids as keys.

    Args:
        path: The .rec.
        images: Encoded images, or any bytes.
        labels: A number or a sequence of numbers for each; 0, 1, 2, ... if None.
        ids: 0, 1, 2, ... if None.

    Returns:
        Where each record starts, and where the file ends.
    """
    from gpuio.formats.image_record import pack
    from gpuio.formats.recordio import frame

    labels = range(len(images)) if labels is None else labels
    ids = range(len(images)) if ids is None else ids
    frames = [
        frame(pack((0, label, number, 0), image))
        for label, number, image in zip(labels, ids, images, strict=True)
    ]
    path.write_bytes(b"".join(frames))
    starts = [0, *np.cumsum([len(record) for record in frames]).tolist()]
    lines = [f"{number}\t{start}\n" for number, start in zip(ids, starts[:-1], strict=True)]
    path.with_suffix(".idx").write_text("".join(lines))
    return starts
