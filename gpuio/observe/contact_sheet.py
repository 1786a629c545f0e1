"""Contact sheets: many images on one sheet, each with a caption, and sheets side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gpuio.storage.atomic import write_file

_PAPER: Final = (255, 255, 255)
_INK: Final = (32, 32, 32)
_FRAME: Final = (200, 200, 200)
_GAP: Final = 6  # pixels between tiles, and around the sheet
_LINE: Final = 14  # height of a caption
_LINES: Final = 80  # part of an image's side that a line of a box is wide: still seen when shrunk
_HUES: Final = 137  # degrees between the colours of two classes: all of the first ones differ


def draw(
    images: Sequence[npt.NDArray[np.uint8] | None],
    captions: Sequence[str],
    *,
    columns: int = 8,
    tile: int = 160,
    title: str = "",
) -> Image.Image:
    """A sheet of images in rows, from left to right.

    Args:
        images: (H, W, C) or (H, W) of any size, 1 to 4 channels; None leaves an empty frame.
        captions: One for each image; text that does not fit is cut off.
        columns: Images in a row.
        tile: Length in pixels to which the longer side of an image is shrunk. Small images keep
            their size.
        title: A line above the images; "" for none.

    Raises:
        ValueError: There is no image, or the numbers of images and captions differ.
    """
    if not images:
        raise ValueError("there are no images to draw")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    step = np.array([tile + _GAP, tile + _GAP + _LINE])
    head = _LINE if title else 0
    width, height = (step * (columns, rows) + (_GAP, _GAP + head)).tolist()
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    pen.text((_GAP, _GAP // 2), _fitted(title, font, width - 2 * _GAP), _INK, font)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        place = step * (number % columns, number // columns) + (_GAP, _GAP + head)
        x, y = place.tolist()
        if image is None:
            pen.rectangle((x, y, x + tile - 1, y + tile - 1), outline=_FRAME)
        else:
            picture = _picture(image)
            picture.thumbnail((tile, tile))
            left, top = x + (tile - picture.width) // 2, y + (tile - picture.height) // 2
            sheet.paste(picture, (left, top))
        pen.text((x, y + tile + 1), _fitted(caption, font, tile), _INK, font)
    return sheet


def stack(sheets: Sequence[Image.Image], columns: int) -> Image.Image:
    """Sheets of one size in `columns`, filled from top to bottom, the first one first."""
    rows = -(-len(sheets) // columns)
    width, height = sheets[0].size
    whole = Image.new("RGB", (columns * width, rows * height), _PAPER)
    for number, sheet in enumerate(sheets):
        whole.paste(sheet, (number // rows * width, number % rows * height))
    return whole


def with_boxes(
    image: npt.NDArray[np.uint8], objects: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """An image with the boxes of its objects, in the colour of their class.

    Args:
        image: (H, W, 3).
        objects: (K, 5) or wider: class, xmin, ymin, xmax, ymax, coordinates from 0 to 1; rows of a
            negative class are skipped.

    Returns:
        (H, W, 3), a copy.
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    pen, (width, height) = ImageDraw.Draw(picture), picture.size
    line = max(1, max(width, height) // _LINES)
    for kind, *place in objects[:, :5].tolist():
        if kind < 0:
            continue
        ends = np.rint(np.clip(place, 0, 1) * ((width - 1, height - 1) * 2)).astype(int)
        (left, right), (top, bottom) = sorted(ends[0::2].tolist()), sorted(ends[1::2].tolist())
        hue = int(kind) * _HUES % 360
        pen.rectangle((left, top, right, bottom), outline=f"hsl({hue}, 100%, 50%)", width=line)
    return np.asarray(picture)


def save(sheet: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a sheet, in the format of the file name's extension.

    Raises:
        ValueError: The extension is that of no image format.
    """
    suffix = Path(path).suffix.lower()
    kind = Image.registered_extensions().get(suffix)
    if kind is None:
        raise ValueError(
            f"{path}: no image format ends with {suffix!r}; give it a name such as sheet.png"
        )
    data = BytesIO()
    sheet.save(data, kind)
    write_file(path, data.getvalue())


def as_pixels(data: npt.NDArray[Any], layout: str) -> npt.NDArray[np.uint8]:
    """A batch as displayable images.

    Args:
        data: (N, C, H, W) or (N, H, W, C). Unless it is uint8, its least value becomes black and
            its greatest white.
        layout: NCHW or NHWC.

    Returns:
        (N, H, W, C) uint8.
    """
    images = data.transpose(0, 2, 3, 1) if layout == "NCHW" else data
    if images.dtype == np.uint8:
        return images
    values = images.astype(np.float32)
    low, high = values.min(), values.max()
    return np.rint((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)


def _picture(image: npt.NDArray[np.uint8]) -> Image.Image:
    pixels = np.ascontiguousarray(image[..., 0] if image.shape[2:] == (1,) else image)
    picture = Image.fromarray(pixels)
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    paper = Image.new("RGBA", picture.size, (*_PAPER, 255))
    return Image.alpha_composite(paper, picture).convert("RGB")


def _fitted(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """As much of `text` as is no longer than `width`, pixels."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
