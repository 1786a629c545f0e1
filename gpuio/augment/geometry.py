"""Where every output pixel comes from: resizes in a row, then a crop, for a whole batch at once.

MXNet's augmenter resizes the shorter edge, then enlarges an image that is still too low, then one
that is still too narrow, each time rounding to pixels, and crops. Here each of these resizes is a
`Resize`: (N,) tables of sizes and kinds, COPY where it does nothing. Going back from the crop,
each gives the window that it needs from the one before it, the first from the decoder.

Source: MXNet 1.9.1, src/io/image_aug_default.cc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuio.augment.random import Draw, Draws
from gpuio.kernels.taps import COPY, kinds

Sizes = npt.NDArray[np.int64]
"""(N, 2) heights and widths, in pixels."""
Boxes = npt.NDArray[np.int64]
"""(N, 4) windows: y, x, height, width, in pixels."""
Kinds = npt.NDArray[np.int64]

INTER_METHODS = (0, 1, 2, 3, 4, 9, 10)
_AUTO, _RANDOM = 9, 10
_REACH = np.array([0, 0, 1, 2, 0, 4, 1, 0])
"""Pixels that a kind reads beyond its centre, by kind."""


@dataclass(frozen=True, slots=True)
class Resize:
    """One resize of every image of a batch.

    Attributes:
        source: (N, 2) sizes before.
        size: (N, 2) sizes after.
        kind: (N,) of kernels/taps.py; COPY where the sizes are equal.
        box: (N, 4) part of the result that is wanted.
    """

    source: Sizes
    size: Sizes
    kind: Kinds
    box: Boxes


@dataclass(frozen=True, slots=True)
class Geometry:
    """The way of every image of a batch, from decoded window to output.

    Attributes:
        resizes: In the order they apply.
        crop: (N, 4) boxes in the last of them, or in the image.
        window: (N, 4) boxes of the image that all of this reads.
        size: (N, 2) sizes of the images.
    """

    resizes: tuple[Resize, ...]
    crop: Boxes
    window: Boxes
    size: Sizes


def shorter_edge(size: Sizes, edge: int) -> Sizes:
    """Sizes whose shorter edge is `edge`, the longer one cut to a whole number."""
    height, width = size.T
    tall = height > width
    shortest = np.maximum(np.minimum(height, width), 1)
    longer = edge * np.maximum(height, width) // shortest
    return np.stack([np.where(tall, longer, edge), np.where(tall, edge, longer)], axis=1)


def at_least(size: Sizes, shape: tuple[int, int]) -> tuple[Sizes, Sizes]:
    """Sizes of images that are enlarged to cover `shape`: first in height, then in width."""
    (height, width), f32 = shape, np.float32
    first, second = size.copy(), size.copy()
    low = size[:, 0] < height
    ratio = f32(height) / np.maximum(size[low, 0], 1).astype(f32)
    first[low, 0] = height
    first[low, 1] = (ratio * size[low, 1].astype(f32)).astype(np.int64)
    second[:] = first
    narrow = first[:, 1] < width
    ratio = f32(width) / np.maximum(first[narrow, 1], 1).astype(f32)
    second[narrow, 0] = (ratio * first[narrow, 0].astype(f32)).astype(np.int64)
    second[narrow, 1] = width
    return first, second


def choose(method: int, source: Sizes, size: Sizes, draws: Draws, draw: Draw) -> Kinds:
    """(N,) interpolations 0 to 4 that `inter_method` means for resizes from `source` to `size`."""
    if method == _AUTO:
        grows, shrinks = (size > source).all(axis=1), (size < source).all(axis=1)
        return np.where(grows, 2, np.where(shrinks, 3, 1))
    if method == _RANDOM:
        return draws.integers(draw, 0, 4)
    return np.full(len(source), method)


def resize(source: Sizes, size: Sizes, method: Kinds) -> Resize:
    """A resize of every image by interpolations 0 to 4."""
    return Resize(source, size, kinds(source, size, method), np.zeros((len(source), 4), np.int64))


def plan(size: Sizes, resizes: list[Resize], crop: Boxes) -> Geometry:
    """Resizes and a crop with the window that each needs from the one before it."""
    box, placed = crop, []
    for step in reversed(resizes):
        placed.append(Resize(step.source, step.size, step.kind, box))
        box = np.where((step.kind == COPY)[:, None], box, _support(step, box))
    return Geometry(tuple(reversed(placed)), crop, box, size)


def _support(step: Resize, box: Boxes) -> Boxes:
    """The window of its source that a resize reads for `box` of its result."""
    scale = step.source / np.maximum(step.size, 1)
    reach = (_REACH[step.kind] + 1)[:, None]  # one more for the rounding of positions to float32
    begin, end = box[:, :2], box[:, :2] + box[:, 2:]
    first = np.floor(begin * scale - 0.5).astype(np.int64) - reach
    last = np.ceil(end * scale + 0.5).astype(np.int64) + reach
    first = np.clip(first, 0, np.maximum(step.source - 1, 0))
    last = np.clip(last, first + 1, np.maximum(step.source, 1))
    return np.concatenate([first, last - first], axis=1)
