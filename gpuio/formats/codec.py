"""Decode one image on the host.

Pixels are OpenCV's, whose conventions MXNet's files and functions follow:

* Flag 1 gives 3 channels, 0 gray, -1 the stored channels. Flags 1 and 0 apply the EXIF orientation,
  drop alpha and keep the upper 8 of 16 bits; -1 does none of that.
* The gray of a JPEG is its stored luma. For other formats it is computed from the colours, with the
  rounding of the library that OpenCV uses for that format.

JPEG, PNG, BMP, WebP, GIF and PNM equal OpenCV bit for bit, except for 16-bit colour PNGs: their
gray is within one level, and flag -1 gives 8 bits, as Pillow reads no more. TIFF: 16-bit colour and
CMYK are within one level, colours are not multiplied by alpha, and Pillow converts Lab.

One difference from OpenCV is intended: damaged pixel data is an error. In a JPEG, damage is
whatever libjpeg-turbo warns about, except where no pixel depends on it: a missing end marker, bytes
behind the pixels, oddities of the header. `tolerant` keeps the pixels that libjpeg-turbo invents
for the damaged part, as OpenCV and MXNet do.

simplejpeg (libjpeg-turbo) decodes JPEGs. Pillow decodes all other formats, CMYK JPEGs with
subsampled colours, and every JPEG where simplejpeg is missing; Pillow does not report libjpeg's
warnings.

Source: OpenCV 4.8, modules/imgcodecs; libpng, pngrtran.c (png_do_rgb_to_gray).
"""

from __future__ import annotations

import io
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np

from gpuio.core.extras import explained
from gpuio.errors import DecodeError
from gpuio.formats.exif import jpeg_orientation, orient, tiff_orientation
from gpuio.formats.jpeg import is_harmless, mended

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from _typeshed import ReadableBuffer
    from PIL import Image, ImageFile

    Gray = tuple[int, int, int, int, int]
    Data = ReadableBuffer | npt.NDArray[np.uint8]
    Pixels = npt.NDArray[Any]

Order = Literal["BGR", "RGB"]

MAX_IMAGE_PIXELS: int | None = 178_956_970
"""Largest number of pixels that any decoder of gpuio accepts, as in Pillow: a damaged or malicious
header may claim any number. Set `gpuio.formats.codec.MAX_IMAGE_PIXELS` for larger images,
before the iterators are made; None is no limit."""

_WHOLE: Final = 8  # eighths of the size of a JPEG
_JPEG: Final = b"\xff\xd8\xff"
_JPEG_KINDS: Final = ("JPEG", "MPO")
_FORMATS: Final = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")

_MENDS: Final = 3  # a head and an end; and one to see that there is no more
_START_NBYTES: Final = 16  # from which a plugin sees whether a file is its own

# Red, green, blue, rounding, shift. PNG: as libpng cuts 0.299 and 0.587 to 15 bits.
_PNG_GRAY: Final = (9797, 19234, 3737, 0, 15)
_WEBP_GRAY: Final = (9798, 19235, 3735, 1 << 14, 15)
_OTHER_GRAY: Final = (4899, 9617, 1868, 1 << 13, 14)


def check_size(height: int, width: int, kind: str = "image") -> None:
    """Refuse an image before memory is taken for it.

    Args:
        height: Height by its header, in pixels.
        width: Width by its header, in pixels.
        kind: Name of its format, for the message.

    Raises:
        DecodeError: The image has no pixels, or more than `MAX_IMAGE_PIXELS`.
    """
    if height <= 0 or width <= 0:
        raise DecodeError(f"{kind}: its header claims {width} x {height} pixels")
    if MAX_IMAGE_PIXELS is not None and height * width > MAX_IMAGE_PIXELS:
        raise DecodeError(
            f"{kind}: its header claims {width} x {height} pixels, and at most {MAX_IMAGE_PIXELS} "
            "are decoded: if that is right, set gpuio.formats.codec.MAX_IMAGE_PIXELS to more"
        )


def check_resized(height: int, width: int, new_height: int, new_width: int) -> None:
    """Raise DecodeError if a resized image would have more pixels than `MAX_IMAGE_PIXELS`."""
    if MAX_IMAGE_PIXELS is not None and new_height * new_width > MAX_IMAGE_PIXELS:
        raise DecodeError(
            f"image of {width} x {height} pixels would become one of {new_width} x {new_height}, "
            f"and at most {MAX_IMAGE_PIXELS} are made (gpuio.formats.codec.MAX_IMAGE_PIXELS)"
        )


def imdecode(
    data: Data,
    flag: int = 1,
    *,
    order: Order = "BGR",
    turn: bool = True,
    tolerant: bool = False,
    scale: int = 8,
) -> Pixels:
    """An image as OpenCV decodes it.

    Args:
        data: A whole JPEG, PNG, BMP, GIF (first picture), TIFF, WebP, PNM, JPEG 2000 or AVIF.
        flag: 1 for (H, W, 3) uint8, 0 for (H, W) uint8, -1 for what is stored: (H, W), (H, W, 3)
            or (H, W, 4), uint16 where gray has 16 bits.
        order: Order of the colours. Alpha comes last.
        turn: False leaves a JPEG as it is stored, whatever its EXIF orientation.
        tolerant: Accept the pixels that libjpeg-turbo invents where a JPEG is damaged.
        scale: Eighths of its size to which libjpeg-turbo decodes a JPEG: 8, 4, 2 or 1.

    Raises:
        DecodeError: `data` is not an image, of an unsupported format, damaged, or claims more
            pixels than `MAX_IMAGE_PIXELS`.
        ValueError: `flag` or `order` has another value.
    """
    if flag not in (-1, 0, 1):
        raise ValueError(f"flag must be -1, 0 or 1, got {flag}")
    if order not in ("BGR", "RGB"):
        raise ValueError(f"order must be 'BGR' or 'RGB', got {order!r}")
    view = memoryview(cast("ReadableBuffer", data)).cast("B")
    if not view:
        raise DecodeError("image of 0 bytes")
    if bytes(view[:3]) != _JPEG:
        return _decode_with_pillow(view, flag, order)
    pixels = _decode_jpeg(view, flag, order, tolerant=tolerant, scale=scale)
    return orient(pixels, jpeg_orientation(view)) if turn and flag >= 0 else pixels


def decode_rgb(
    data: Data, channels: int, *, tolerant: bool = False, scale: int = 8
) -> npt.NDArray[np.uint8]:
    """(H, W, channels) uint8 for training: RGB, gray or RGBA.

    4 channels come as stored, without the EXIF orientation; they are never made from fewer.
    `tolerant` and `scale` are as for `imdecode`.

    Raises:
        DecodeError: As in `imdecode`; or `channels` is 4 and the image has fewer.
        ValueError: `channels` is not 1, 3 or 4.
    """
    flag = {1: 0, 3: 1, 4: -1}.get(channels)
    if flag is None:
        raise ValueError(f"channels must be 1, 3 or 4, got {channels}")
    pixels = imdecode(data, flag, order="RGB", tolerant=tolerant, scale=scale)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] != channels:
        raise DecodeError(f"image has {pixels.shape[2]} channels, not {channels}")
    return pixels


def _decode_jpeg(
    data: memoryview, flag: int, order: Order, *, tolerant: bool, scale: int
) -> Pixels:
    turbo = _simplejpeg()
    if turbo is None:
        return _decode_with_pillow(data, flag, order, scale)
    try:
        height, width, stored, _ = turbo.decode_jpeg_header(data, strict=False)
    except KeyError:  # a subsampling that it has no name for: 4:4:1
        return _decode_with_pillow(data, flag, order, scale)
    except ValueError as error:
        if "subsampling" in str(error):  # nor has libjpeg-turbo, such as for 4:2:0 of CMYK
            return _decode_with_pillow(data, flag, order, scale)
        raise DecodeError(f"JPEG: damaged header: {error}") from error
    check_size(height, width, "JPEG")
    decode: Callable[..., Pixels] = turbo.decode_jpeg
    if scale < _WHOLE:  # the smallest size that is at least
        height, width = _scaled(height, scale), _scaled(width, scale)
        decode = partial(decode, min_height=height, min_width=width)
    if stored in ("CMYK", "YCCK"):
        colorspace = "CMYK"
    else:
        colorspace = "GRAY" if flag == 0 or (flag < 0 and stored == "Gray") else order
    try:
        pixels = _turbo(decode, data, colorspace, (height, width), tolerant=tolerant)
    except MemoryError as error:
        raise DecodeError(f"JPEG: no memory for its {width} x {height} pixels") from error
    _check_delivered(pixels, height, width, "JPEG")
    if colorspace == "CMYK":
        return _converted(_rgb_of_cmyk(pixels), flag, order, _OTHER_GRAY)
    return pixels[..., 0] if colorspace == "GRAY" else pixels


def _scaled(side: int, scale: int) -> int:
    """The pixels of a side that libjpeg-turbo decodes to so many eighths."""
    return -(-side * scale // _WHOLE)


def _turbo(
    decode: Callable[..., Pixels],
    data: memoryview | bytes,
    colorspace: str,
    size: tuple[int, int],
    *,
    tolerant: bool,
) -> Pixels:
    """Decode with libjpeg-turbo, which only warns, of a stray byte as of a file cut in half."""
    for _ in range(_MENDS):
        try:
            return decode(data, colorspace=colorspace)
        except (ValueError, KeyError) as error:
            reason = str(error)
        if is_harmless(reason):
            return _turbo_in_spite_of(reason, decode, data, colorspace, size)
        better = mended(bytes(data), reason)
        if better is None:
            break
        data = better
    if tolerant:
        return _turbo_in_spite_of(reason, decode, data, colorspace, size)
    raise DecodeError(f"JPEG: {reason}")


def _turbo_in_spite_of(
    warning: str,
    decode: Callable[..., Pixels],
    data: memoryview | bytes,
    colorspace: str,
    size: tuple[int, int],
) -> Pixels:
    """The pixels that libjpeg-turbo makes in spite of a warning.

    simplejpeg does not tell an error after a warning from the warning; the error leaves memory
    unwritten. Decoding twice, into memory with different values, shows that.

    Raises:
        DecodeError: Not all pixels were written.
    """
    nbytes = size[0] * size[1] * {"GRAY": 1, "CMYK": 4}.get(colorspace, 3)
    first, second = (np.full(nbytes, value, np.uint8) for value in (0, 255))
    try:
        pixels = decode(data, colorspace=colorspace, strict=False, buffer=first)
        decode(data, colorspace=colorspace, strict=False, buffer=second)
    except (ValueError, KeyError) as error:
        raise DecodeError(f"JPEG: {error}") from error
    if not np.array_equal(first, second):
        raise DecodeError(f"JPEG: {warning}; and not all pixels could be made")
    return pixels


def _decode_with_pillow(data: memoryview, flag: int, order: Order, scale: int = 8) -> Pixels:
    exif = b""
    with opened(data) as picture:
        kind, (width, height) = picture.format or "image", picture.size
        try:
            if kind in _JPEG_KINDS:
                least = width * scale // _WHOLE, height * scale // _WHOLE
                picture.draft("L" if flag == 0 else None, least)  # the luma itself
                width, height = _scaled(width, scale), _scaled(height, scale)
            picture.load()
            if kind in ("PNG", "WEBP"):  # a TIFF is turned by Pillow, a JPEG by imdecode
                exif = picture.info.get("exif", b"")
            pixels, gray = _unpack(picture)
        except DecodeError:
            raise
        except MemoryError as error:
            raise DecodeError(f"{kind}: no memory for its {width} x {height} pixels") from error
        except Exception as error:  # whatever a plugin's parser stumbles over
            raise DecodeError(f"{kind}: {described(error)}") from error
    if picture.size != (width, height):  # Pillow has turned a TIFF
        height, width = width, height
    _check_delivered(pixels, height, width, kind)
    pixels = _converted(pixels, flag, order, gray)
    return pixels if flag < 0 else orient(pixels, tiff_orientation(exif))


def opened(data: bytes | memoryview, formats: Sequence[str] | None = None) -> ImageFile.ImageFile:
    """An image whose header Pillow has read, of a size that may be decoded.

    `Image.open` would report any fault as an unknown format, and has a limit of its own.

    Args:
        data: The encoded image.
        formats: Pillow's names of the formats that are allowed; all known ones if None.

    Raises:
        DecodeError: The format is another one, the header is damaged, or the size is not allowed.
    """
    with explained("decoding other images than JPEG"):
        from PIL import Image

    start = bytes(data[:_START_NBYTES])
    reasons = []
    for kind in _formats():
        if formats is not None and kind not in formats:
            continue
        plugin, accept = Image.OPEN[kind]
        if accept is not None and not accept(start):
            continue
        try:
            picture = plugin(io.BytesIO(data), "")
        except Exception as error:  # whatever a plugin's parser stumbles over
            reasons.append(f"{kind}: damaged header: {described(error)}")
        else:
            check_size(picture.height, picture.width, kind)
            return picture
    if reasons:
        raise DecodeError("; ".join(reasons))
    raise DecodeError(f"no known image format starts with {start[:8].hex(' ')}")


def _check_delivered(pixels: Pixels, height: int, width: int, kind: str) -> None:
    """Raise DecodeError if the pixels have another size than the header claimed."""
    if pixels.shape[:2] != (height, width):
        high, wide = pixels.shape[:2]
        raise DecodeError(
            f"{kind}: its header claims {width} x {height} pixels, and it has {wide} x {high}"
        )


def described(error: Exception) -> str:
    """The name of an exception, and its message if it has one."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _unpack(picture: Image.Image) -> tuple[Pixels, Gray]:
    """Pixels as stored, (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, and how to make them gray."""
    mode, kind = picture.mode, picture.format
    gray = {"PNG": _PNG_GRAY, "WEBP": _WEBP_GRAY}.get(kind or "", _OTHER_GRAY)
    if mode in ("1", "L"):
        return np.asarray(picture.convert("L")), gray
    if mode == "I" or mode.startswith("I;16"):
        wide = np.asarray(picture)
        if wide.min() < 0 or wide.max() > 0xFFFF:
            raise DecodeError(f"{kind} of 32 bits per pixel")
        return wide.astype(np.uint16), gray
    if mode == "F":
        raise DecodeError(f"{kind} of floating-point pixels")
    if mode == "CMYK" and kind in _JPEG_KINDS:  # stored inverted, and inverted again by Pillow
        return _rgb_of_cmyk(255 - np.asarray(picture)), gray
    alpha = mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    return np.asarray(picture.convert("RGBA" if alpha and kind != "BMP" else "RGB")), gray


def _converted(pixels: Pixels, flag: int, order: Order, gray: Gray) -> Pixels:
    """Stored pixels, RGB or RGBA if not gray, as `flag` and `order` ask for them."""
    if flag >= 0 and pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if flag == 0 and pixels.ndim == 3:
        red, green, blue, rounding, shift = gray
        wide = pixels.astype(np.int32)
        luma = wide[..., 0] * red + wide[..., 1] * green + wide[..., 2] * blue
        return (luma + rounding >> shift).astype(np.uint8)
    if flag == 1 and pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if flag == 1:
        pixels = pixels[..., :3]
    if pixels.ndim == 3 and order == "BGR":
        pixels = swapped(pixels)
    return np.require(pixels, requirements=("C", "W"))  # Pillow's own memory is read-only


def _rgb_of_cmyk(stored: Pixels) -> npt.NDArray[np.uint8]:
    """(H, W, 4) as in a JPEG, which holds CMYK inverted, to (H, W, 3), as OpenCV does it."""
    wide = stored.astype(np.int32)
    black = wide[..., 3:]
    return (black - ((255 - wide[..., :3]) * black >> 8)).astype(np.uint8)


def swapped(pixels: Pixels) -> Pixels:
    """BGR to RGB or back; alpha stays last."""
    out = pixels.copy()
    out[..., 0] = pixels[..., 2]
    out[..., 2] = pixels[..., 0]
    return out


@cache
def _simplejpeg() -> types.ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


@cache
def _formats() -> list[str]:
    """Those of `_FORMATS` that this Pillow reads. Others, such as EPS, would start programs."""
    from PIL import Image

    Image.init()
    return [kind for kind in _FORMATS if kind in Image.OPEN]
