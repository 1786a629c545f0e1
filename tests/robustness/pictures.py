"""Small valid images in every format that Pillow writes, drawn and encoded once."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image, features

from gpuio.testing import draw, encode


@cache
def images() -> dict[str, tuple[bytes, ...]]:
    """By format, encoded images of 1 to 300 pixels a side."""
    made = {
        "JPEG": _jpegs(),
        "PNG": _pngs(),
        "BMP": _simple("BMP", "RGB", "L", "P", "1", "RGBA"),
        "PPM": _simple("PPM", "RGB", "L", "1"),
        "GIF": _simple("GIF", "L", "P", "RGB"),
        "TIFF": _tiffs(),
    }
    if features.check("webp"):
        made["WEBP"] = (
            encode(draw(41, 37, seed=60), "WEBP", quality=80),
            encode(draw(30, 52, seed=61), "WEBP", lossless=True),
            encode(draw(40, 33, 4, seed=62), "WEBP", quality=70),
        )
    if features.check("jpg_2000"):
        made["JPEG2000"] = (
            encode(draw(40, 37, seed=70), "JPEG2000"),
            encode(draw(33, 48, 1, seed=71), "JPEG2000"),
            encode(draw(48, 40, seed=72), "JPEG2000", irreversible=True, quality_layers=[20]),
            encode(draw(48, 40, seed=73), "JPEG2000", no_jp2=True, tile_size=(32, 32)),
        )
    if features.check("avif"):
        made["AVIF"] = (encode(draw(40, 37, seed=80), "AVIF", quality=60, speed=10),)
    return made


@cache
def mixed(count: int) -> tuple[bytes, ...]:
    """So many images, of all formats in turn; every second one is a JPEG."""
    others = [image for kind, made in images().items() if kind != "JPEG" for image in made]
    jpegs = images()["JPEG"]
    pairs = ((jpegs[k % len(jpegs)], others[k % len(others)]) for k in range(count))
    return tuple(image for pair in pairs for image in pair)[:count]


@cache
def distinct(count: int) -> tuple[bytes, ...]:
    """So many images, no two of which give the same pixels."""
    kinds = ("JPEG", "PNG", "BMP")
    return tuple(encode(draw(36 + k % 9, 50 - k % 11, seed=k), kinds[k % 3]) for k in range(count))


def kind_of(image: bytes) -> str:
    """The format of one of `images()`."""
    return _kinds()[image]


@cache
def _kinds() -> dict[bytes, str]:
    return {image: kind for kind, made in images().items() for image in made}


def _jpegs() -> tuple[bytes, ...]:
    colours, gray = draw(48, 56, seed=1), draw(45, 39, 1, seed=2)
    return (
        encode(colours, "JPEG", quality=90),
        encode(draw(61, 40, seed=3), "JPEG", quality=75, progressive=True),
        encode(gray, "JPEG", quality=85),
        encode(draw(37, 64, seed=4), "JPEG", quality=90, subsampling="4:4:4"),
        encode(draw(40, 41, seed=5), "JPEG", quality=70, subsampling="4:2:2"),
        encode(draw(56, 48, seed=6), "JPEG", quality=80, restart_marker_blocks=2),
        encode(draw(56, 48, seed=7), "JPEG", quality=80, restart_marker_rows=1, progressive=True),
        encode(draw(40, 40, seed=8), "JPEG", mode="CMYK", quality=85),
        encode(draw(44, 52, seed=9), "JPEG", quality=80, orientation=6),
        encode(gray, "JPEG", quality=85, progressive=True, optimize=True),
        encode(draw(12, 300, seed=10), "JPEG", quality=80),
        encode(draw(1, 1, seed=11), "JPEG", quality=80),
    )


def _pngs() -> tuple[bytes, ...]:
    colours, alpha = draw(41, 37, seed=20), draw(30, 45, 4, seed=21)
    wide = (draw(30, 30, 1, seed=22)[..., 0].astype(np.uint16) << 8) | 5
    return (
        encode(colours, "PNG"),
        encode(colours, "PNG", mode="L"),
        encode(colours, "PNG", mode="P"),
        encode(colours, "PNG", mode="1"),
        encode(alpha, "PNG"),
        encode(alpha, "PNG", mode="LA"),
        encode(colours, "PNG", mode="P", transparency=3),
        encode(draw(8, 200, seed=23), "PNG", orientation=8),
        _saved(Image.fromarray(wide), "PNG"),
    )


def _tiffs() -> tuple[bytes, ...]:
    colours = draw(38, 44, seed=50)
    return (
        encode(colours, "TIFF"),
        encode(colours, "TIFF", mode="L"),
        *(
            encode(colours, "TIFF", compression=name)
            for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        ),
    )


def _simple(kind: str, *modes: str) -> tuple[bytes, ...]:
    return tuple(
        encode(draw(35 + n, 43 - n, 4 if mode == "RGBA" else 3, seed=30 + n), kind, mode=mode)
        for n, mode in enumerate(modes)
    )


def _saved(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()
