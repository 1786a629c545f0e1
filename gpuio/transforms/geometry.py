"""Where every pixel of a result comes from: steps in a row, for a whole batch at once.

An op appends `Step`s to the `ResampleChain`: for each image a kind of resize, warp, border or blur,
and the sizes before and after; kind COPY leaves an image as it is, or cuts a window out of it.
Colour steps belong to the `Step` in whose result they change the colours. When all ops have
added theirs, `finish` goes back from the end of the chain: each step learns which window of its
result is wanted, and the window of its source that this takes is what the step before it must
make; the window that the first one takes is what the decoder must decode.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from gpuio.core.parameters import integer
from gpuio.errors import ProgramError
from gpuio.kernels.steps import (
    FIRST_PIXEL_STEP,
    NEAREST_OF,
    REACH,
    ColorKind,
    StepKind,
    check_kinds,
    name_of,
    resize_kinds,
)
from gpuio.transforms.random import Draw, Draws

Sizes = npt.NDArray[np.int64]
"""(N, 2) heights and widths, in pixels."""
Boxes = npt.NDArray[np.int64]
"""(N, 4) windows: y, x, height, width, in pixels."""
Kinds = npt.NDArray[np.int64]
"""(N,) StepKind."""
Matrices = npt.NDArray[np.float64]
"""(N, 6) maps from the canvas, (x, y, 1), to x and y of the source, in pixels."""
Mask = npt.NDArray[np.bool_]
"""(N,) images of a batch."""
ColorStep = npt.NDArray[np.void]
"""(N,) COLOR_STEP; NONE where an image has no such step."""

LARGEST = 1 << 20
"""Pixels of the longest side of any picture: places in 1/1024 pixels then fit 32 bits."""
MOST_PIXELS = 1 << 28
"""Pixels of the largest window that a step may make: one image must not take all memory."""
INTER_METHODS = (0, 1, 2, 3, 4, 9, 10)
_AUTO = 9
RANDOM = 10
"""The `inter_method` that is another one each time."""


@dataclass(slots=True)
class Step:
    """One step of every image of a batch.

    Attributes:
        kind: (N,) kinds; COPY where the pixels of an image do not change.
        source: (N, 2) sizes before; for a crop that is resized, of the crop.
        size: (N, 2) sizes after.
        offset: (N, 2) y and x of `source` in the result of the step before.
        matrix: For warps.
        mirrors: Images that are mirrored left to right; None where the step is no mirror.
        margin: Width of a border, in pixels; of others, how far they read to each side.
        weights: (N, 2 * (2 * margin + 1)) float32 for blurs: those along x, then those along y;
            for kinds of the user's own, (N, K) float32 parameters.
        fill: Value of what lies outside of the picture, for warps and borders.
        colors: What happens to the colours of the result, in this order.
        box: (N, 4) window of the result that is wanted; `ResampleChain.finish` computes it.
        needed: (N, 4) window of `source` that this takes; `ResampleChain.finish` computes it.
    """

    kind: Kinds
    source: Sizes
    size: Sizes
    offset: Sizes
    matrix: Matrices | None = None
    mirrors: Mask | None = None
    margin: int = 0
    weights: npt.NDArray[np.float32] | None = None
    fill: int = 0
    colors: list[ColorStep] = field(default_factory=list)
    box: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    needed: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.int64))

    def __post_init__(self) -> None:
        check_kinds(self.kind)

    @property
    def moves(self) -> Mask:
        """Images whose pixels it makes anew."""
        return self.kind != StepKind.COPY.value

    @property
    def active(self) -> Mask:
        """Images whose pixels or colours it changes."""
        active = self.moves
        for color in self.colors:
            active = active | (color["kind"] != ColorKind.NONE.value)
        return active

    def widen(self, box: Boxes) -> Mask:
        """Let `box` be all of the result where a colour step takes the mean of the picture.

        Returns:
            Images for which it was less.
        """
        grown = np.zeros(len(box), bool)
        less = (box[:, 2:] != self.size).any(axis=1)
        if less.any():
            for color in self.colors:
                grown |= less & (color["kind"] == ColorKind.CONTRAST.value)
            box[grown] = whole(self.size)[grown]
        return grown

    def plan_mirror(self, rewritten: Mask) -> Mask:
        """Decide where a mirror happens.

        Args:
            rewritten: Images of which later steps make pixels in memory: those are mirrored here,
                by a warp, the others on their way into the batch.

        Returns:
            The others.
        """
        assert self.mirrors is not None
        here = self.mirrors & rewritten
        self.kind = np.where(here, StepKind.WARP_NEAREST.value, StepKind.COPY.value)
        return self.mirrors & ~rewritten


@dataclass(slots=True)
class ResampleChain:
    """What happens to every image of a batch, step by step.

    Attributes:
        size: (N, 2) sizes after the last step.
        steps: In the order in which they apply.
        window: (N, 4) what all of this reads of the image; `finish` computes it.
        mirror: Images to be mirrored on their way into the batch; `finish` computes it.
        original: (N, 2) sizes of the images.
    """

    size: Sizes
    steps: list[Step] = field(default_factory=list)
    window: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    mirror: Mask = field(default_factory=lambda: np.zeros(0, bool))
    original: Sizes = field(init=False)

    def __post_init__(self) -> None:
        self.original = self.size

    def resize(self, size: Sizes, method: Kinds, crop: Boxes | None = None) -> None:
        """Resize each image, or its `crop`, by interpolations 0 to 4."""
        source = self.size if crop is None else crop[:, 2:]
        offset = np.zeros_like(source) if crop is None else crop[:, :2]
        self._append(Step(resize_kinds(source, size, method), source, size, offset))

    def crop(self, box: Boxes) -> None:
        """Cut a window out of each image."""
        copy = np.full(len(box), StepKind.COPY)
        self._append(Step(copy, box[:, 2:], box[:, 2:], box[:, :2]))

    def warp(self, size: Sizes, kind: Kinds, matrix: Matrices, fill: int) -> None:
        """Warp each image onto a canvas of `size`."""
        self._append(Step(kind, self.size, size, np.zeros_like(size), matrix, fill=fill))

    def mirror_images(self, where: Mask) -> None:
        """Mirror the images `where` left to right."""
        matrix = np.zeros((len(where), 6))
        matrix[:, 0], matrix[:, 2], matrix[:, 4] = -1, self.size[:, 1] - 1, 1
        kind = np.where(where, StepKind.WARP_NEAREST.value, StepKind.COPY.value)
        offset = np.zeros_like(self.size)
        self._append(Step(kind, self.size, self.size, offset, matrix, mirrors=where))

    def border(self, margin: int, fill: int) -> None:
        """Put a border around each image."""
        kind, offset = np.full(len(self.size), StepKind.BORDER), np.zeros_like(self.size)
        size = self.size + 2 * margin
        self._append(Step(kind, self.size, size, offset, margin=margin, fill=fill))

    def blur(self, weights: npt.NDArray[np.float32]) -> None:
        """Convolve each image along both axes, mirrored about its outermost pixels.

        Args:
            weights: (N, K) weights of an odd number of taps, the same along both axes.
        """
        kind, offset = np.full(len(self.size), StepKind.BLUR), np.zeros_like(self.size)
        step = Step(kind, self.size, self.size, offset, margin=weights.shape[1] // 2)
        step.weights = np.concatenate([weights, weights], axis=1)
        self._append(step)

    def pixel_step(
        self, kind: int | Kinds, values: npt.NDArray[np.float32], margin: int = 0
    ) -> None:
        """Make each pixel anew by a kind of the user's own.

        Args:
            kind: A number that `register_pixel_step` gave, one for all images or (N,); COPY leaves
                an image as it is.
            values: (N, K) parameters of each image, K at least 1.
            margin: How far from its place the kind reads pixels.

        Raises:
            ProgramError: A kind is neither COPY nor one that was registered.
            ValueError: `values` has another shape, or `margin` is less than 0.
        """
        count = len(self.size)
        kinds = np.broadcast_to(np.asarray(kind, np.int64), count).copy()
        check_kinds(kinds)
        others = np.flatnonzero((kinds != StepKind.COPY.value) & (kinds < FIRST_PIXEL_STEP))
        if len(others):
            found = name_of(int(kinds[others[0]]))
            raise ProgramError(
                f"item {others[0]}: a pixel step is a kind of register_pixel_step or COPY, not "
                f"{found}"
            )
        weights = np.ascontiguousarray(values, np.float32)
        if weights.ndim != 2 or len(weights) != count or not weights.shape[1]:
            found = f"got shape {np.shape(values)}"
            raise ValueError(f"values must be (N, K), a row for each of {count} images, {found}")
        margin = integer("margin", margin, least=0, most=LARGEST)
        offset = np.zeros_like(self.size)
        step = Step(kinds, self.size, self.size, offset, margin=margin, weights=weights)
        self._append(step)

    def add_color(self, color: ColorStep) -> None:
        """Change the colours of each image as it is at this point."""
        if not self.steps:
            self.crop(whole(self.size))
        self.steps[-1].colors.append(color)

    def finish(self, wanted: Boxes | None = None) -> None:
        """Compute the windows of all steps, and which images are mirrored at the end.

        Args:
            wanted: (N, 4) windows of the last step's result; None for all of it.
        """
        box = whole(self.size) if wanted is None else wanted.copy()
        self.mirror, rewritten = np.zeros(len(box), bool), np.zeros(len(box), bool)
        for step in reversed(self.steps):
            if step.colors:
                rewritten |= step.widen(box)
            step.box = step.needed = box
            if step.mirrors is not None:
                at_end = step.plan_mirror(rewritten)
                self.mirror ^= at_end
                step.needed = _mirrored(box, step.size, at_end)
            moves = step.moves
            if moves.any():
                step.needed = np.where(moves[:, None], _support(step), step.needed)
                rewritten |= moves
            box = step.needed.copy()
            box[:, :2] += step.offset
        self.window = box

    def for_masks(self, fill: int) -> ResampleChain:
        """The finished chain of masks, whose pixels are labels: no blend of pixels, no colours.

        Args:
            fill: Label of what lies outside of a picture.
        """
        steps = [
            replace(step, kind=NEAREST_OF[step.kind], fill=fill, colors=[]) for step in self.steps
        ]
        chain = ResampleChain(self.original, steps)
        chain.size = self.size
        chain.finish()
        return chain

    def _append(self, step: Step) -> None:
        self.steps.append(step)
        self.size = step.size


def whole(size: Sizes) -> Boxes:
    """Windows that are all of pictures of `size`."""
    return np.concatenate([np.zeros_like(size), size], axis=1)


def choose(method: int, source: Sizes, size: Sizes, draws: Draws, draw: Draw) -> Kinds:
    """(N,) interpolations 0 to 4 that `inter_method` means for resizes from `source` to `size`."""
    if method == _AUTO:
        grows, shrinks = (size > source).all(axis=1), (size < source).all(axis=1)
        return np.where(grows, 2, np.where(shrinks, 3, 1))
    if method == RANDOM:
        return draws.integers(draw, 0, 4)
    return np.full(len(source), method)


def _mirrored(box: Boxes, size: Sizes, where: Mask) -> Boxes:
    """Windows `box` of pictures of `size`, mirrored left to right for the images `where`."""
    mirrored = box.copy()
    mirrored[:, 1] = np.where(where, size[:, 1] - box[:, 1] - box[:, 3], box[:, 1])
    return mirrored


def _support(step: Step) -> Boxes:
    """The window of its source that a step reads for `box` of its result if it moves pixels."""
    begin, end = step.box[:, :2], step.box[:, :2] + step.box[:, 2:]
    # One pixel more, for the rounding of places to float32 or to 1/32.
    reach = (REACH[step.kind] + 1)[:, None]
    if step.matrix is not None:
        low, high = _warped(step.matrix, begin, end - 1)
        first = np.floor(low).astype(np.int64) - reach
        last = np.floor(high).astype(np.int64) + reach + 1
    elif step.weights is not None:
        first, last = begin - step.margin, end + step.margin
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
