"""Functions on single images: decode, resize, crop, add a border, rotate, normalize.

Images are (H, W, C), RGB unless asked otherwise; sizes are (width, height), as in MXNet. Results
are `gpuio.nd.NDArray`, which is a NumPy array. Random values are drawn from Python's `random`, in
MXNet's order, so that equal seeds give equal results.

Unlike MXNet 1.9.1 on purpose: a JPEG or PNG that cannot be decoded is an error at the call, not
when its pixels are first read; GIF, WebP, JPEG 2000 and AVIF are decoded too; `color_normalize`
refuses integer images with a TypeError, where MXNet cuts the mean to whole numbers.

Source: MXNet 1.9.1, python/mxnet/image/image.py and src/io/image_io.cc.
"""

from __future__ import annotations

import functools
import math
import os
import random
import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.extras import explained
from gpuio.core.signatures import suggest
from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.mxnet.image import single_image
from gpuio.mxnet.image.arrays import as_ndarray, by_channel, floating, image_array, store
from gpuio.mxnet.ndarray import NDArray
from gpuio.storage.paths import check_path
from gpuio.storage.plain_file import read_plain

Image = npt.NDArray[Any]
Box = tuple[int, int, int, int]
Size = Sequence[int]
Range = Sequence[float]

_TRIES: Final = 10
_BYTES: Final = (bytes, bytearray, memoryview, np.ndarray)
_JFIF_START, _JFIF_MARK = b"\xff\xd8\xff\xe0", b"JFIF\0"
_ISOLATED: Final = 16
_BORDER_MODES: Final[Any] = ("constant", "edge", "symmetric", "wrap", "reflect")  # of numpy.pad
_NEAREST, _LINEAR, _CUBIC, _AREA, _LANCZOS = range(5)
_BY_SIZE, _RANDOM = 9, 10
_DTYPES: Final = (np.uint8, np.float32, np.float64)


def imdecode(
    buf: bytes | bytearray | memoryview | Image,
    flag: int = 1,
    to_rgb: bool = True,
    out: Image | None = None,
) -> NDArray:
    """The image in an encoded file.

    The EXIF orientation is applied, except to a JPEG that begins with a JFIF segment, as most do
    that no camera wrote: MXNet reads the size of such a JPEG before it decodes it, and so does not
    turn it.

    Args:
        buf: The bytes of a JPEG, PNG, BMP, TIFF, GIF (first picture), WebP, PNM or AVIF.
        flag: 1 for colours, gray repeated and alpha dropped; 0 for gray.
        to_rgb: Whether red comes first; blue does otherwise.
        out: The array to write to and return.

    Returns:
        (H, W, 3) uint8, or (H, W, 1) for flag 0.

    Raises:
        DecodeError: `buf` is no image, or damaged.
        ValueError: An argument has a wrong value or type.
    """
    if not isinstance(buf, _BYTES):
        raise ValueError(f"buf must be bytes or an array of them, got {type(buf).__name__}")  # noqa: TRY004  as in mxnet
    if flag not in (0, 1):
        raise ValueError(f"flag must be 0 or 1, got {flag}")
    data = buf if isinstance(buf, bytes) else np.ascontiguousarray(buf).tobytes()
    order: codec.Order = "RGB" if to_rgb else "BGR"
    pixels = single_image.imdecode(data, flag, order=order, turn=not is_jfif(data))
    if not flag:
        pixels = pixels[..., None]
    return store(out, pixels)


def is_jfif(data: bytes) -> bool:
    """Whether an encoded image is a JPEG that begins with a JFIF segment."""
    return data[:4] == _JFIF_START and data[6:11] == _JFIF_MARK


def imread(
    filename: str | os.PathLike[str],
    flag: int = 1,
    to_rgb: bool = True,
    out: Image | None = None,
) -> NDArray:
    """The image in a file; see `imdecode`.

    Raises:
        OSError: The file cannot be read.
        DecodeError: It is no image, or damaged.
    """
    check_path("filename", filename)
    data = read_plain(filename)
    try:
        return imdecode(data, flag, to_rgb, out)
    except DecodeError as error:
        raise DecodeError(f"{os.fspath(filename)}: {error}") from error


def scale_down(src_size: Size, size: Size) -> tuple[int, int]:
    """`size`, shrunk until it fits into `src_size`; its aspect ratio stays.

    All are (width, height): a `src_size` of (640, 480) and a `size` of (720, 120) give (640, 106).
    """
    width, height = float(size[0]), float(size[1])
    if src_size[1] < height:
        width, height = width * src_size[1] / height, src_size[1]
    if src_size[0] < width:
        width, height = src_size[0], height * src_size[0] / width
    return int(width), int(height)


def resolve_interp(interp: int, sizes: Sequence[int] = ()) -> int:
    """The interpolation that `interp` stands for, 0 to 4.

    Args:
        interp: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos; 9 cubic if both sides grow, area
            if both shrink, otherwise bilinear; 10 one of the five, drawn with `random`.
        sizes: Height and width before and after, in pixels; without them 9 is cubic.

    Raises:
        ValueError: `interp` is another number.
    """
    if interp == _BY_SIZE:
        if not sizes:
            return _CUBIC
        height, width, new_height, new_width = sizes
        if new_height > height and new_width > width:
            return _CUBIC
        return _AREA if new_height < height and new_width < width else _LINEAR
    if interp == _RANDOM:
        return random.randint(_NEAREST, _LANCZOS)
    if interp not in range(_LANCZOS + 1):
        raise ValueError(f"Unknown interp method {interp}: it must be 0 to 4, 9 or 10")
    return interp


@functools.cache
def _resizers() -> tuple[Callable[..., Image], Callable[..., Image]]:
    """The kernels that resize bytes and floating-point numbers, imported when first needed."""
    with explained("resizing"):
        from gpuio.kernels.float_resize import resize as resize_float
        from gpuio.kernels.resample import resize

    return resize, resize_float


def imresize(
    src: npt.NDArray[Any], w: int, h: int, interp: int = 1, out: npt.NDArray[Any] | None = None
) -> NDArray:
    """An image of another size.

    Args:
        src: (H, W, C) uint8, float32 or float64.
        w: Width of the result, in pixels.
        h: Height of the result.
        interp: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos.
        out: The (h, w, C) array of the dtype of `src` to write to and return.

    Raises:
        TypeError: `src` has another dtype.
        ValueError: An argument has a wrong value.
    """
    image = image_array(src)
    w, h = p.integer("w", w, least=1), p.integer("h", h, least=1)
    if interp not in range(_LANCZOS + 1):
        raise ValueError(f"interp must be 0 to 4, got {interp}")
    if image.dtype not in _DTYPES:
        raise TypeError(f"src must be uint8, float32 or float64 to be resized, got {image.dtype}")
    if not image.size:
        raise ValueError(f"src must not be empty, got shape {image.shape}")
    if image.shape[:2] == (h, w):
        return store(out, image.copy())
    resize, resize_float = _resizers()
    if image.dtype != np.uint8:
        return store(out, resize_float(image, h, w, interp))
    if interp == _CUBIC and image.shape[2] > 1:
        # At the end of a row the kernel rounds as MXNet's iterators do, whose colours are BGR.
        return store(out, resize(image[..., ::-1], h, w, interp)[..., ::-1])
    return store(out, resize(image, h, w, interp))


def resize_short(src: Image, size: int, interp: int = 2) -> NDArray:
    """The image resized so that its shorter side is `size` pixels long.

    Args:
        src: (H, W, C).
        size: Length in pixels.
        interp: As for `imresize`; or 9, by size; or 10, random.

    Raises:
        DecodeError: The result would have more than `gpuio.formats.codec.MAX_IMAGE_PIXELS` pixels.
    """
    height, width, _ = src.shape
    return resize_to(src, *short_size(height, width, size), interp)


def resize_to(src: Image, new_height: int, new_width: int, interp: int) -> NDArray:
    """`imresize`, with all of `resolve_interp`, to at most `codec.MAX_IMAGE_PIXELS` pixels."""
    sizes = *src.shape[:2], new_height, new_width
    codec.check_resized(*sizes)
    return imresize(src, new_width, new_height, resolve_interp(interp, sizes))


def short_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width once the shorter of them is `size`."""
    if height > width:
        return size * height // width, size
    return size, size * width // height


def fixed_crop(  # noqa: PLR0917  MXNet's signature
    src: Image, x0: int, y0: int, w: int, h: int, size: Size | None = None, interp: int = 2
) -> NDArray:
    """A window of an image, resized to `size` if that is given.

    Args:
        src: (H, W, C). The result shares its memory if the window is as wide as the image.
        x0: First column.
        y0: First row.
        w: Width of the window, in pixels; the part beyond the image is left out.
        h: Height of the window.
        size: (width, height) of the result.
        interp: As for `resize_short`.

    Raises:
        ValueError: The window begins outside the image, or has a negative size.
    """
    image = image_array(src)
    if not (0 <= x0 < image.shape[1] and 0 <= y0 < image.shape[0]):
        found = f"({x0}, {y0}) in {image.shape[1]} x {image.shape[0]} pixels"
        raise ValueError(f"x0 and y0 must be inside the image, got {found}")
    if w < 0 or h < 0:
        raise ValueError(f"w and h must not be negative, got {w} and {h}")
    window = image[y0 : y0 + h, x0 : x0 + w]
    if size is not None and (w, h) != tuple(size):
        return imresize(window, size[0], size[1], resolve_interp(interp, (h, w, size[1], size[0])))
    return as_ndarray(window)


def random_crop(src: Image, size: Size, interp: int = 2) -> tuple[NDArray, Box]:
    """A window with the aspect ratio of `size` at a random place, enlarged where it is smaller.

    Args:
        src: (H, W, C).
        size: (width, height) of the result.
        interp: As for `resize_short`.

    Returns:
        The image, and the window (x0, y0, width, height).
    """
    height, width, _ = src.shape
    box = random_box(height, width, size)
    return fixed_crop(src, *box, size, interp), box


def random_box(height: int, width: int, size: Size) -> Box:
    """The window of `random_crop` in an image of a height and width."""
    w, h = scale_down((width, height), size)
    x0 = random.randint(0, width - w)
    y0 = random.randint(0, height - h)
    return x0, y0, w, h


def center_crop(src: Image, size: Size, interp: int = 2) -> tuple[NDArray, Box]:
    """`random_crop` with the window in the middle."""
    height, width, _ = src.shape
    box = center_box(height, width, size)
    return fixed_crop(src, *box, size, interp), box


def center_box(height: int, width: int, size: Size) -> Box:
    """The window of `center_crop` in an image of a height and width."""
    w, h = scale_down((width, height), size)
    return (width - w) // 2, (height - h) // 2, w, h


@suggest
def random_size_crop(
    src: Image,
    size: Size,
    area: float | Range,
    ratio: Range,
    interp: int = 2,
    *,
    min_area: float | None = None,
) -> tuple[NDArray, Box]:
    """A window of random area and aspect ratio at a random place, resized to `size`.

    After ten windows that do not fit, the window is that of `center_crop`.

    Args:
        src: (H, W, C).
        size: (width, height) of the result.
        area: Smallest and largest area, as fractions of the image; one number is the smallest, and
            1 the largest.
        ratio: Smallest and largest width / height.
        interp: As for `resize_short`.
        min_area: The former name of `area`.

    Returns:
        The image, and the window (x0, y0, width, height).
    """
    height, width, _ = src.shape
    area = renamed_min_area(area, min_area)
    box = random_size_box(height, width, size, area, ratio)
    return fixed_crop(src, *box, size, interp), box


def renamed_min_area(area: Any, min_area: float | None) -> Any:
    """`area`; or `min_area`, its former name, with a warning."""
    if min_area is None:
        return area
    warnings.warn("min_area is deprecated: use area", DeprecationWarning, stacklevel=4)
    return min_area


def random_size_box(height: int, width: int, size: Size, area: float | Range, ratio: Range) -> Box:
    """The window of `random_size_crop` in an image of a height and width."""
    low, high = [*np.ravel(area).tolist(), 1.0][:2]  # one number is the smallest
    log_ratio = np.log(ratio[0]), np.log(ratio[1])
    for _ in range(_TRIES):
        target = random.uniform(low, high) * (height * width)
        drawn = np.exp(random.uniform(*log_ratio))
        w, h = round(np.sqrt(target * drawn)), round(np.sqrt(target / drawn))
        if w <= width and h <= height:
            x0 = random.randint(0, width - w)
            y0 = random.randint(0, height - h)
            return x0, y0, w, h
    return center_box(height, width, size)


def color_normalize(src: Any, mean: Any, std: Any = None) -> NDArray:
    """(`src` - `mean`) / `std`, in the memory of `src`.

    Args:
        src: (..., C) floating-point.
        mean: An array that broadcasts to `src`; None for 0.
        std: An array that broadcasts to `src`; None for 1.

    Raises:
        TypeError: `src` holds integers.
    """
    image = floating(src)
    if mean is not None:
        by_channel(np.subtract, image, mean)
    if std is not None:
        by_channel(np.divide, image, std)
    return image.view(NDArray)


def copyMakeBorder(  # noqa: PLR0913, PLR0917  MXNet's signature
    src: Image,
    top: int,
    bot: int,
    left: int,
    right: int,
    type: int = 0,
    value: float = 0.0,
    values: Sequence[float] = (),
    out: Image | None = None,
) -> NDArray:
    """An image with a border around it.

    Args:
        src: (H, W, C).
        top: Rows above, in pixels.
        bot: Rows below.
        left: Columns to the left.
        right: Columns to the right.
        type: The kind of border, by OpenCV's numbers: 0 constant; 1 edge (aaa|abc|ccc);
            2 reflected (cba|abc|cba); 3 wrapped (abc|abc|abc); 4 reflected without the edge
            (cb|abc|ba). 16 may be added. (MXNet's documentation has other numbers, its code these.)
        value: Constant of the first three channels; further ones are 0.
        values: Constants of up to four channels instead of `value`; 0 for channels without one.
        out: The array to write to and return.

    Raises:
        ValueError: `type` is another number, or a side is negative.
    """
    image = image_array(src)
    names, lengths = ("top", "bot", "left", "right"), (top, bot, left, right)
    above, below, before, after = (
        p.integer(name, length, least=0) for name, length in zip(names, lengths, strict=True)
    )
    kind = p.integer("type", type) & ~_ISOLATED
    if kind not in range(5):
        raise ValueError(f"type must be 0 to 4, or 16 more, got {type}")
    if kind:
        sides = (above, below), (before, after), (0, 0)
        return store(out, np.pad(image, sides, _BORDER_MODES[kind]))
    height, width, channels = image.shape
    framed = np.empty((height + above + below, width + before + after, channels), image.dtype)
    framed[...] = _border_constants(list(values) if len(values) else [value] * 3, framed)
    framed[above : above + height, before : before + width] = image
    return store(out, framed)


def _border_constants(given: list[float], image: Image) -> Image:
    """(C,) constants for the channels of an image, rounded and limited to what its type holds."""
    channels = image.shape[2]
    constants = np.array((given + [0] * channels)[:channels], np.float64)
    if image.dtype.kind in "iu":
        limits = np.iinfo(image.dtype)
        constants = np.clip(np.rint(constants), limits.min, limits.max)
    return constants.astype(image.dtype)


def imrotate(
    src: Any, rotation_degrees: Any, zoom_in: bool = False, zoom_out: bool = False
) -> NDArray:
    """Images rotated counter-clockwise about their centre, bilinearly; 0 outside of the image.

    Args:
        src: (C, H, W) or (N, C, H, W) float32.
        rotation_degrees: One angle; or, for several images, (N,) angles.
        zoom_in: Enlarge until no pixel of the result lies outside of the image.
        zoom_out: Shrink until the whole image is in the result.

    Raises:
        TypeError: `src` is not float32, or one image is given several angles.
        ValueError: Both zooms are asked for, `src` has other axes, or angles and images differ in
            number.
    """
    if zoom_in and zoom_out:
        raise ValueError("zoom_in and zoom_out cannot both be True")
    images = np.asarray(src)
    if images.dtype != np.float32:
        raise TypeError(f"src must be float32, got {images.dtype}")
    if images.ndim not in (3, 4):
        raise ValueError(f"src must be (C, H, W) or (N, C, H, W), got shape {images.shape}")
    one = images.ndim == 3
    if one:
        if not isinstance(rotation_degrees, Real):
            raise TypeError("rotation_degrees of a single image must be a number")
        images = images[None]
    degrees = np.asarray(rotation_degrees, np.float64)
    if degrees.shape not in ((), (len(images),)):
        raise ValueError(f"{len(images)} images need as many angles, got shape {degrees.shape}")
    degrees = np.broadcast_to(degrees, len(images))
    out = np.empty_like(images)
    for image, angle, result in zip(images, np.deg2rad(degrees).tolist(), out, strict=True):
        _rotate(image, angle, _zoom(image.shape[1:], abs(angle), zoom_in, zoom_out), result)
    return (out[0] if one else out).view(NDArray)


def _zoom(shape: tuple[int, ...], angle: float, zoom_in: bool, zoom_out: bool) -> float:
    """The factor of the distance between the pixels of a rotated image that are read."""
    if not (zoom_in or zoom_out):
        return 1.0
    height, width = shape
    reach, corner = math.hypot(height, width), math.atan(height / width)
    x = max(abs(reach * math.cos(corner + turn)) for turn in (angle, -angle))
    y = max(abs(reach * math.sin(corner + turn)) for turn in (angle, -angle))
    return max(x / width, y / height) if zoom_out else min(width / x, height / y)


def _rotate(image: Image, angle: float, zoom: float, out: Image) -> None:
    """One (C, H, W) image, rotated by `angle` in radians, into `out`."""
    _, height, width = image.shape
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y, x = np.arange(height)[:, None] - middle_y, np.arange(width) - middle_x
    cosine, sine = math.cos(angle) * zoom, math.sin(angle) * zoom
    source_x = (x * cosine - y * sine + middle_x).astype(np.float32)
    source_y = (x * sine + y * cosine + middle_y).astype(np.float32)
    left, above = np.floor(source_x).astype(np.int64), np.floor(source_y).astype(np.int64)
    right_part, lower_part = source_x - left, source_y - above
    out[...] = 0
    for row, row_weight in ((above, 1 - lower_part), (above + 1, lower_part)):
        for column, column_weight in ((left, 1 - right_part), (left + 1, right_part)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = np.where(inside, row_weight * column_weight, 0).astype(np.float32)
            places = np.where(inside, row * width + column, 0)
            out += image.reshape(len(image), -1)[:, places] * weight


def random_rotate(
    src: Any, angle_limits: Range, zoom_in: bool = False, zoom_out: bool = False
) -> NDArray:
    """`imrotate` by an angle for each image, drawn with `numpy.random.uniform`.

    Args:
        src: (C, H, W) or (N, C, H, W) float32.
        angle_limits: Smallest and largest angle, in degrees.
        zoom_in: As for `imrotate`.
        zoom_out: As for `imrotate`.
    """
    low, high = angle_limits
    count = None if np.ndim(src) == 3 else len(src)
    angles = np.random.uniform(low, high, count)  # noqa: NPY002  the generator of MXNet's scripts
    return imrotate(src, angles, zoom_in, zoom_out)
