"""Encode one image on the host: JPEGs and PNGs as OpenCV does, other formats with Pillow."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpuio.core.extras import explained
from gpuio.formats import png
from gpuio.formats.codec import Order, swapped

if TYPE_CHECKING:
    from typing import BinaryIO

    from PIL import Image

    from gpuio.formats.codec import Pixels

_SAVE_OPTIONS: Final[dict[str, dict[str, Any]]] = {"WEBP": {"lossless": True}}


def imencode(ext: str, image: Pixels, quality: int = 95, *, order: Order = "BGR") -> bytes:
    """An image as bytes.

    A JPEG is equal to OpenCV's byte for byte (4:2:0, slow DCT), a PNG to its pixels.

    Args:
        ext: `.jpg`, `.jpeg`, `.png` or the extension of a format that Pillow can write, in any
            case.
        image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8; uint16 too for PNG. A JPEG drops
            alpha.
        quality: JPEG: 1 to 100, the best. PNG: compression level, at most 9. Others ignore it.
        order: Order of the colours in `image`.

    Raises:
        ValueError: The format is unknown, or it cannot hold such an image.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(f"image must be (H, W) or (H, W, 1|3|4), got shape {image.shape}")
    name = ext.lower()
    if image.dtype != np.uint8 and (name != ".png" or image.dtype != np.uint16):
        kinds = "uint8 or uint16" if name == ".png" else "uint8"
        raise ValueError(f"image must be {kinds} for {ext}, got {image.dtype}")
    if name == ".png":
        colors = swapped(image) if order == "BGR" and image.shape[2] > 1 else image
        return png.encode(colors, min(max(quality, 0), 9))
    picture = _picture(image, order)
    if name in (".jpg", ".jpeg"):
        return _encode_jpeg(picture.convert("RGB") if picture.mode == "RGBA" else picture, quality)
    return _encode_other(name, picture)


def _picture(image: Pixels, order: Order) -> Image.Image:
    """(H, W, 1|3|4) uint8 as a Pillow image L, RGB or RGBA."""
    with explained("encoding images"):
        from PIL import Image

    size = image.shape[1], image.shape[0]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[image.shape[2]]
    raw = mode if mode == "L" or order == "RGB" else f"BGR{mode[3:]}"
    return Image.frombuffer(mode, size, np.ascontiguousarray(image), "raw", raw, 0, 1)


def _encode_jpeg(picture: Image.Image, quality: int) -> bytes:
    # simplejpeg would be faster by a third, but takes the fast, less exact DCT below quality 96.
    # Into a file with a descriptor Pillow writes without holding the interpreter lock.
    if _local.scratch is None:
        _local.scratch = _Scratch()
    file = _local.scratch.file
    file.seek(0)
    subsampling = "4:4:4" if picture.mode == "L" else "4:2:0"
    picture.save(file, "JPEG", quality=min(max(quality, 1), 100), subsampling=subsampling)
    nbytes = file.tell()
    file.seek(0)
    return file.read(nbytes)


def _encode_other(ext: str, picture: Image.Image) -> bytes:
    from PIL import Image

    kind = Image.registered_extensions().get(ext)
    if kind is None or kind not in Image.SAVE:
        raise ValueError(f"ext must be that of an image format, such as .jpg or .png, got {ext!r}")
    file = io.BytesIO()
    try:
        picture.save(file, kind, **_SAVE_OPTIONS.get(kind, {}))
    except OSError as error:
        raise ValueError(f"{ext} cannot hold a {picture.mode} image: {error}") from error
    return file.getvalue()


class _Scratch:
    """A file in memory, closed when its thread ends and drops it."""

    def __init__(self) -> None:
        self.file: BinaryIO
        if hasattr(os, "memfd_create"):
            self.file = os.fdopen(os.memfd_create("gpuio"), "w+b", buffering=0)
        else:
            self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  see __del__

    def __del__(self) -> None:
        self.file.close()


class _Local(threading.local):
    """The scratch file of each thread."""

    scratch: _Scratch | None = None


_local = _Local()
