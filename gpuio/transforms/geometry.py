"""Where every output pixel comes from: steps in a row, then a crop, for a whole batch at once.

An op that moves pixels appends a `Step` to the `ResampleChain`: for each image a kind of resize,
warp or border, and the sizes before and after; kind COPY does nothing. When all ops have spoken,
`finish` goes back from the crop, and each step learns which window of its result is wanted, and
asks for the window that this takes from the step before it; the first one asks the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from gpuio.kernels.steps import NEAREST_OF, REACH, StepKind, resize_kinds
from gpuio.transforms.random import Draw, Draws

Sizes = npt.NDArray[np.int64]
"""(N, 2) heights and widths, in pixels."""
Boxes = npt.NDArray[np.int64]
"""(N, 4) windows: y, x, height, width, in pixels."""
Kinds = npt.NDArray[np.int64]
"""(N,) StepKinds."""
Matrices = npt.NDArray[np.float64]
"""(N, 6) canvas (x, y, 1) to source x and y, in pixels."""

LARGEST = 1 << 20
"""Side of a picture, in pixels, most of which need never be there: places in 1/1024 fit 32 bits."""
MOST_PIXELS = 1 << 28
"""Of the part of a picture that a step makes: one odd image must not take all memory."""
INTER_METHODS = (0, 1, 2, 3, 4, 9, 10)
_AUTO, _RANDOM = 9, 10


@dataclass(slots=True)
class Step:
    """One step of every image of a batch.

    Attributes:
        kind: (N,) kinds; COPY where an image skips this step.
        source: (N, 2) sizes before; for a crop that is resized, of the crop.
        size: (N, 2) sizes after.
        offset: (N, 2) y and x of `source` in the result of the step before.
        matrix: For warps.
        margin: Width of a border, in pixels.
        fill: Value of what lies outside, for warps and borders.
        box: (N, 4) window of the result that is wanted; known after `ResampleChain.finish`.
        paint: (N,) bool, images that get their colours here, not at the end; None for none.
    """

    kind: Kinds
    source: Sizes
    size: Sizes
    offset: Sizes
    matrix: Matrices | None = None
    margin: int = 0
    fill: int = 0
    box: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    paint: npt.NDArray[np.bool_] | None = None

    @property
    def active(self) -> npt.NDArray[np.bool_]:
        """(N,) bool, images to which it does anything."""
        moves = self.kind != StepKind.COPY
        return moves if self.paint is None else moves | self.paint


@dataclass(slots=True)
class ResampleChain:
    """The way of every image of a batch so far.

    Attributes:
        size: (N, 2) sizes now.
        steps: In the order they apply.
        window: (N, 4) what all of this reads of the image; known after `finish`.
        original: (N, 2) sizes of the images.
    """

    size: Sizes
    steps: list[Step] = field(default_factory=list)
    window: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    original: Sizes = field(init=False)

    def __post_init__(self) -> None:
        self.original = self.size

    def resize(self, size: Sizes, method: Kinds, crop: Boxes | None = None) -> None:
        """Resize each image, or its `crop`, by interpolations 0 to 4."""
        source = self.size if crop is None else crop[:, 2:]
        offset = np.zeros_like(source) if crop is None else crop[:, :2]
        self.steps.append(Step(resize_kinds(source, size, method), source, size, offset))
        self.size = size

    def warp(self, size: Sizes, kind: Kinds, matrix: Matrices, fill: int) -> None:
        """Warp each image onto a canvas of `size`."""
        offset = np.zeros_like(size)
        self.steps.append(Step(kind, self.size, size, offset, matrix=matrix, fill=fill))
        self.size = size

    def border(self, margin: int, fill: int) -> None:
        """Put a border around each image."""
        size, kind = self.size + 2 * margin, np.full(len(self.size), StepKind.BORDER)
        offset = np.zeros_like(size)
        self.steps.append(Step(kind, self.size, size, offset, margin=margin, fill=fill))
        self.size = size

    def paint(self, where: npt.NDArray[np.bool_]) -> None:
        """Let the images `where`, (N,) bool, have their colours now, before what follows."""
        if not self.steps:
            still, offset = np.full(len(self.size), StepKind.COPY), np.zeros_like(self.size)
            self.steps.append(Step(still, self.size, self.size, offset))
        self.steps[-1].paint = where

    def finish(self, crop: Boxes) -> None:
        """Go back from (N, 4) windows of the last step's result to those of the image."""
        box = crop
        for step in reversed(self.steps):
            step.box = box
            needed = np.where((step.kind == StepKind.COPY)[:, None], box, _support(step))
            box = needed + np.concatenate([step.offset, np.zeros_like(step.offset)], axis=1)
        self.window = box

    def for_masks(self, fill: int, crop: Boxes) -> ResampleChain:
        """The same steps for masks, whose pixels are labels: the nearest ones, and no colours.

        Args:
            fill: Label of what lies outside of a picture.
            crop: (N, 4) windows of the last step's result.
        """
        steps = [
            replace(step, kind=NEAREST_OF[step.kind], fill=fill, paint=None) for step in self.steps
        ]
        chain = ResampleChain(self.original, steps)
        chain.size = self.size
        chain.finish(crop)
        return chain


def choose(method: int, source: Sizes, size: Sizes, draws: Draws, draw: Draw) -> Kinds:
    """(N,) interpolations 0 to 4 that `inter_method` means for resizes from `source` to `size`."""
    if method == _AUTO:
        grows, shrinks = (size > source).all(axis=1), (size < source).all(axis=1)
        return np.where(grows, 2, np.where(shrinks, 3, 1))
    if method == _RANDOM:
        return draws.integers(draw, 0, 4)
    return np.full(len(source), method)


def _support(step: Step) -> Boxes:
    """The window of its source that a step reads for `box` of its result."""
    begin, end = step.box[:, :2], step.box[:, :2] + step.box[:, 2:]
    # One pixel more, for the rounding of places to float32 or to 1/32.
    reach = (REACH[step.kind] + 1)[:, None]
    if step.matrix is not None:
        low, high = _warped(step.matrix, begin, end - 1)
        first = np.floor(low).astype(np.int64) - reach
        last = np.floor(high).astype(np.int64) + reach + 1
    elif step.margin:
        first, last = begin - step.margin, end - step.margin
    else:
        scale = step.source / np.maximum(step.size, 1)
        first = np.floor(begin * scale - 0.5).astype(np.int64) - reach
        last = np.ceil(end * scale + 0.5).astype(np.int64) + reach
    first = np.clip(first, 0, np.maximum(step.source - 1, 0))
    last = np.clip(last, first + 1, np.maximum(step.source, 1))
    return np.concatenate([first, last - first], axis=1)


def _warped(
    matrix: Matrices, begin: Sizes, end: Sizes
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Smallest and largest (N, 2) y, x of the source over boxes of the canvas, ends included."""
    ys = np.stack([begin[:, 0], begin[:, 0], end[:, 0], end[:, 0]], axis=1)
    xs = np.stack([begin[:, 1], end[:, 1], begin[:, 1], end[:, 1]], axis=1)
    x = matrix[:, 0:1] * xs + matrix[:, 1:2] * ys + matrix[:, 2:3]
    y = matrix[:, 3:4] * xs + matrix[:, 4:5] * ys + matrix[:, 5:6]
    limit = 1e9  # far outside of any picture, and still an integer
    places = np.clip(np.stack([y, x], axis=2), -limit, limit)
    return places.min(axis=1), places.max(axis=1)
