"""The third room: decoded windows in, one dense batch out."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuio.augment import geometry
from gpuio.augment.faults import FaultLog, OnError, settle
from gpuio.augment.random import Draw, Draws
from gpuio.backends.base import Array, Backend, Event
from gpuio.backends.pool import OutputPool
from gpuio.backends.ring import Ring, Slot
from gpuio.decode.base import ImageBatch, Windows
from gpuio.kernels.output import FLOAT16, FLOAT32, INT8, NORM, UINT8
from gpuio.kernels.resample import BLANK, STEP, finish, resample
from gpuio.kernels.taps import COPY
from gpuio.reader.reader import Samples

OUTPUTS = {"float32": FLOAT32, "float16": FLOAT16, "int8": INT8, "uint8": UINT8}
"""Output types, by name of the dtype."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """`(v - mean) * gain`, for each of R, G, B, A (or gray) of 0 to 255.

    Attributes:
        mean: Four means.
        std: Four standard deviations.
        scale: Multiplies the result.
        image: (C, H, W) float32 that replaces the means, or None.
    """

    mean: tuple[float, float, float, float] = (0, 0, 0, 0)
    std: tuple[float, float, float, float] = (1, 1, 1, 1)
    scale: float = 1
    image: npt.NDArray[np.float32] | None = None

    def table(self, dtype: str) -> npt.NDArray[np.float32]:
        """(NORM,) float32 as kernels take it; for int8 the means are rounded, halves away from 0.

        Source: MXNet 1.9.1, src/io/iter_normalize.h and iter_image_recordio_2.cc.
        """
        mean = np.array(self.mean, np.float32)
        gain = np.float32(self.scale) / np.array(self.std, np.float32)
        if dtype == "int8":
            mean = _round(mean)
        norm = np.concatenate([mean, gain, np.zeros(4, np.float32)])
        assert norm.shape == (NORM,)
        return norm

    def mean_image(self, dtype: str) -> npt.NDArray[np.float32] | None:
        """`image` as kernels take it."""
        if self.image is None:
            return None
        image = _round(self.image) if dtype == "int8" else self.image
        return np.ascontiguousarray(image, np.float32)


def _round(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.trunc(values + np.copysign(np.float32(0.5), values)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """What is done to every image, with MXNet's names and meanings.

    Attributes:
        data_shape: Channels (1, 3 or 4), height and width of the output, in pixels.
        dtype: float32, float16, int8 or uint8.
        layout: NCHW or NHWC.
        resize: Length of the shorter edge, in pixels, before anything else; -1 leaves it.
        inter_method: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos, 9 by size, 10 random.
        rand_crop: Crop at a random place, not in the middle.
        mirror: Mirror every image.
        rand_mirror: Mirror one half of them.
        normalisation: Of the output.
        on_error: What happens to samples that cannot be had.
        seed: Of all random numbers.
    """

    data_shape: tuple[int, int, int]
    dtype: str = "float32"
    layout: str = "NCHW"
    resize: int = -1
    inter_method: int = 1
    rand_crop: bool = False
    mirror: bool = False
    rand_mirror: bool = False
    normalisation: Normalisation = Normalisation()
    on_error: OnError = "raise"
    seed: int = 0

    def __post_init__(self) -> None:
        channels, height, width = self.data_shape
        if channels not in (1, 3, 4) or height < 1 or width < 1:
            raise ValueError(
                "data_shape must be (channels, height, width) with 1, 3 or 4 channels and sides "
                f"of at least 1, got {self.data_shape}"
            )
        if self.dtype not in OUTPUTS:
            raise ValueError(f"dtype must be one of {', '.join(OUTPUTS)}, got {self.dtype!r}")
        if self.layout not in ("NCHW", "NHWC"):
            raise ValueError(f"layout must be NCHW or NHWC, got {self.layout!r}")
        if self.resize < 1 and self.resize != -1:
            raise ValueError(f"resize must be at least 1, or -1 for none, got {self.resize}")
        if self.inter_method not in geometry.INTER_METHODS:
            raise ValueError(
                f"inter_method must be one of {geometry.INTER_METHODS}, got {self.inter_method}"
            )
        image = self.normalisation.image
        if image is not None and image.shape != self.data_shape:
            raise ValueError(f"mean_img must be of shape {self.data_shape}, got {image.shape}")

    def output_shape(self, count: int) -> tuple[int, int, int, int]:
        """Of a batch of `count` images."""
        channels, height, width = self.data_shape
        if self.layout == "NHWC":
            return count, height, width, channels
        return count, channels, height, width


@dataclass(frozen=True, slots=True)
class Batch:
    """What the iterators hand on.

    Attributes:
        data: (N, C, H, W) or (N, H, W, C) on the device.
        labels: (N, W) float32, on the host.
        keys: (N,) int64 record keys.
        pad: How many at the end only fill the batch up.
        ready: When `data` is written.
    """

    data: Array
    labels: npt.NDArray[np.float32]
    keys: npt.NDArray[np.int64]
    pad: int
    ready: Event


class Augmenter:
    """Plans what each image gets, then does it to whole batches.

    Args:
        options: What is done.
        batch_size: N, the largest batch.
        backend: Where images and batches live.
        keep: Output batches kept for use again.
    """

    def __init__(
        self, options: AugmentOptions, batch_size: int, backend: Backend, *, keep: int
    ) -> None:
        self.options = options
        self.faults = FaultLog()
        self._backend = backend
        self._pool = OutputPool(backend, options.output_shape(batch_size), options.dtype, keep)
        self._norm = backend.upload(options.normalisation.table(options.dtype))
        image = options.normalisation.mean_image(options.dtype)
        self._mean_image = None if image is None else backend.upload(image)
        self._scratch: list[Slot] = []

    def plan(self, samples: Samples, size: npt.NDArray[np.int32], *, epoch: int) -> Windows:
        """Decide everything about images of (N, 2) `size`; the windows that this takes."""
        options = self.options
        draws = Draws(samples.ids, seed=options.seed, epoch=epoch)
        now = size.astype(np.int64)
        resizes = []
        if options.resize != -1:
            goal = geometry.shorter_edge(now, options.resize)
            method = self._choose(now, goal, draws, Draw.RESIZE_INTERPOLATION)
            resizes.append(geometry.resize(now, goal, method))
            now = goal
        shape = options.data_shape[1:]
        if (now < shape).any():
            goal = np.broadcast_to(np.array(shape), now.shape)
            method = self._choose(now, goal, draws, Draw.CROP_INTERPOLATION)
            high, wide = geometry.at_least(now, shape)
            resizes += [geometry.resize(now, high, method), geometry.resize(high, wide, method)]
            now = wide
        crop = np.empty((len(now), 4), np.int64)
        crop[:, 2:] = shape
        spare = np.maximum(now - shape, 0)
        if options.rand_crop:
            crop[:, 0] = draws.integers(Draw.CROP_Y, 0, spare[:, 0])
            crop[:, 1] = draws.integers(Draw.CROP_X, 0, spare[:, 1])
        else:
            crop[:, :2] = spare // 2
        mirror = np.full(len(now), options.mirror)
        if options.rand_mirror:
            mirror |= draws.coin(Draw.MIRROR)
        plan = geometry.plan(size.astype(np.int64), resizes, crop)
        return Windows(plan.window.astype(np.int32), {}, (plan, mirror))

    def _choose(
        self, source: geometry.Sizes, size: geometry.Sizes, draws: Draws, draw: Draw
    ) -> geometry.Kinds:
        return geometry.choose(self.options.inter_method, source, size, draws, draw)

    def __call__(self, batches: Iterable[ImageBatch], arena: Ring) -> Generator[Batch, None, None]:
        """One output for each batch, on the current stream; slots go back to `arena`."""
        for images in batches:
            samples = images.samples
            self.faults.add([samples.faults[place] for place in sorted(samples.faults)])
            places, pad = settle(samples, self.options.on_error)
            data = self._pool.take()[: len(places)]
            self._launch(images, places, data)
            ready = self._backend.record()
            arena.release(images.slot, after=ready)
            known = np.where(places < 0, np.arange(len(places)), places)
            yield Batch(data, samples.labels[known], samples.keys[known], pad, ready)

    def _launch(self, images: ImageBatch, places: npt.NDArray[np.int64], data: Array) -> None:
        """Run every pass: resizes that others follow into scratch memory, then the last one."""
        plan, mirror = images.geometry
        count = len(images.origin)
        origin, pitch = images.origin.copy(), images.pitch.copy()
        pending = np.ones(count, bool)  # images that can be had
        pending[list(images.samples.faults)] = False
        last = np.full(count, -1)
        for number, step in enumerate(plan.resizes):
            last[step.kind != COPY] = number
        kind = np.full(count, COPY)
        source, size = plan.size.copy(), plan.size.copy()
        for number, step in enumerate(plan.resizes):
            active = (step.kind != COPY) & pending
            rows = np.flatnonzero(active & (last > number))
            if len(rows):
                origin[rows], pitch[rows] = self._resample(step, rows, origin, pitch, number)
            final = active & (last == number)
            kind[final] = step.kind[final]
            source[final], size[final] = step.source[final], step.size[final]
        table = _steps(kind, source, size, plan.crop, origin, pitch)[places]
        table["kind"][places < 0] = BLANK
        table["mirror"] = mirror[places]
        nbytes = data.itemsize * int(np.prod(self.options.data_shape))
        start = self._backend.address(data)
        table["dst"] = np.uint64(start) + np.arange(len(places), dtype=np.uint64) * np.uint64(
            nbytes
        )
        table["norm"] = self._backend.address(self._norm)
        if self._mean_image is not None:
            table["mean_image"] = self._backend.address(self._mean_image)
        table = self._backend.upload(table)
        self._backend.launch(
            finish, len(places), self._backend.address(table), len(places),
            self.options.data_shape[0], OUTPUTS[self.options.dtype], data.itemsize,
            self.options.layout == "NHWC",
        )  # fmt: skip

    def _resample(
        self,
        step: geometry.Resize,
        rows: npt.NDArray[np.int64],
        origin: npt.NDArray[np.uint64],
        pitch: npt.NDArray[np.int64],
        number: int,
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Resize some images into scratch memory; origin and pitch of the results."""
        channels = self.options.data_shape[0]
        places = origin[rows], pitch[rows]
        table = _steps(step.kind[rows], step.source[rows], step.size[rows], step.box[rows], *places)
        table["dst_pitch"] = table["cols"].astype(np.int64) * channels
        nbytes = table["dst_pitch"] * table["rows"]
        while len(self._scratch) <= number:
            self._scratch.append(Slot(self._backend.empty_bytes))
        memory = self._scratch[number].reserve(int(nbytes.sum()))
        starts = np.uint64(self._backend.address(memory))
        table["dst"] = starts + (np.cumsum(nbytes) - nbytes).astype(np.uint64)
        skipped = table["y"] * table["dst_pitch"] + table["x"].astype(np.int64) * channels
        result = table["dst"] - skipped.astype(np.uint64), table["dst_pitch"].copy()
        table = self._backend.upload(table)
        words = (self._backend.address(table), len(rows), channels)
        self._backend.launch(resample, len(rows), *words)
        return result


def _steps(
    kind: geometry.Kinds,
    source: geometry.Sizes,
    size: geometry.Sizes,
    box: geometry.Boxes,
    origin: npt.NDArray[np.uint64],
    pitch: npt.NDArray[np.int64],
) -> npt.NDArray[np.void]:
    """(N,) STEP rows, but for what only one of the kernels needs."""
    table = np.zeros(len(kind), STEP)
    table["kind"], table["src"], table["src_pitch"] = kind, origin, pitch
    table["src_height"], table["src_width"] = source.T
    table["dst_height"], table["dst_width"] = size.T
    table["y"], table["x"], table["rows"], table["cols"] = box.T
    return table
