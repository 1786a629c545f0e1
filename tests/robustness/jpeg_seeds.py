"""JPEGs that gpuio's own decoder takes: all ways of sampling, 1 to 64 pixels a side, restarts."""

from __future__ import annotations

import itertools
import random
from functools import cache
from pathlib import Path

import simplejpeg

from gpuio.testing import draw, encode

_SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")
_WITH_PILLOW = (
    {"subsampling": 0, "restart_marker_blocks": 1},
    {"subsampling": 1, "restart_marker_blocks": 3},
    {"subsampling": 2, "restart_marker_rows": 1},
    {"subsampling": 2, "restart_marker_blocks": 7, "optimize": True},
    {"subsampling": 0, "optimize": True},
    {"subsampling": 2, "orientation": 1},
    {"keep_rgb": True},
)


@cache
def jpeg_seeds() -> tuple[bytes, ...]:
    """Small JPEGs, and two photographs of some 400 x 600 pixels."""
    rng = random.Random(0)
    made = []
    for number, kind in itertools.product(range(14), (*_SAMPLINGS, *_WITH_PILLOW)):
        sides = (rng.choice((rng.randrange(1, 18), rng.randrange(1, 65))) for _ in range(2))
        quality = rng.choice((5, 30, 75, 90, 98))
        gray = kind == "Gray" or rng.random() < 0.1
        image = draw(*sides, 1 if gray else 3, seed=number)
        if isinstance(kind, dict):
            made.append(encode(image, "JPEG", quality=quality, **({} if gray else kind)))
        else:
            made.append(
                simplejpeg.encode_jpeg(
                    image,
                    quality=quality,
                    colorspace="GRAY" if gray else "RGB",
                    colorsubsampling="Gray" if gray else kind,
                )
            )
    return (*made, *_photographs())


def _photographs() -> list[bytes]:
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    return [(folder / name).read_bytes() for name in ("china.jpg", "flower.jpg")]
