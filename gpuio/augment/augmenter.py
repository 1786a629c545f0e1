"""The third room: decoded windows in, one dense batch out."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.augment.faults import FaultLog, OnError, settle
from gpuio.augment.geometry import Boxes, Sizes, Step
from gpuio.augment.normalise import OUTPUTS
from gpuio.augment.op import Column, Sketch
from gpuio.augment.plan import Plan
from gpuio.augment.random import Draws
from gpuio.backends.base import Array, Backend, Event
from gpuio.backends.pool import OutputPool
from gpuio.backends.ring import Ring, Slot
from gpuio.decode.base import ImageBatch, Windows
from gpuio.kernels.resample import BLANK, STEP, finish, resample
from gpuio.kernels.taps import COPY, TAPS, WARP_CUBIC, WARP_LANCZOS
from gpuio.kernels.warp import weight_table
from gpuio.reader.reader import Samples


@dataclass(frozen=True, slots=True)
class Batch:
    """What the iterators hand on.

    Attributes:
        data: (N, C, H, W) or (N, H, W, C) on the device.
        labels: (N, W) float32, on the host.
        keys: (N,) int64 record keys.
        pad: How many at the end only fill the batch up.
        drawn: By name of an augmentation, (N,) what each image got.
        ready: When `data` is written.
    """

    data: Array
    labels: npt.NDArray[np.float32]
    keys: npt.NDArray[np.int64]
    pad: int
    drawn: dict[str, Column]
    ready: Event


class Augmenter:
    """Decides what each image gets, then does it to whole batches.

    Args:
        plan: What is done.
        batch_size: N, the largest batch.
        backend: Where images and batches live.
        seed: Of all random numbers.
        on_error: What happens to samples that cannot be had.
        keep: Output batches kept for use again.
    """

    def __init__(
        self,
        plan: Plan,
        batch_size: int,
        backend: Backend,
        *,
        seed: int = 0,
        on_error: OnError = "raise",
        keep: int = 4,
    ) -> None:
        self.plan = plan
        self.faults = FaultLog()
        self._seed = seed
        self._on_error: OnError = on_error
        self._backend = backend
        self._pool = OutputPool(backend, plan.output_shape(batch_size), plan.dtype, keep)
        image = plan.normalisation.mean_image(plan.dtype)
        self._mean_image = None if image is None else backend.upload(image)
        self._weights: dict[int, Array] = {}
        self._scratch: list[Slot] = []

    def sketch(self, samples: Samples, size: npt.NDArray[np.int32], *, epoch: int) -> Windows:
        """Decide everything about images of (N, 2) `size`; the windows that this takes."""
        sketch = Sketch.of(size, Draws(samples.ids, seed=self._seed, epoch=epoch))
        for op in self.plan.ops:
            op(sketch)
        sketch.frame.finish(sketch.crop)
        refused = {place: reason for place, reason in sketch.refused.items() if size[place].all()}
        return Windows(sketch.frame.window.astype(np.int32), refused, sketch)

    def __call__(self, batches: Iterable[ImageBatch], arena: Ring) -> Generator[Batch, None, None]:
        """One output for each batch, on the current stream; slots go back to `arena`."""
        for images in batches:
            samples = images.samples
            self.faults.add([samples.faults[place] for place in sorted(samples.faults)])
            places, pad = settle(samples, self._on_error)
            data = self._pool.take()[: len(places)]
            self._launch(images, places, data)
            ready = self._backend.record()
            arena.release(images.slot, after=ready)
            known = np.where(places < 0, np.arange(len(places)), places)
            drawn = {name: column[known] for name, column in images.sketch.drawn.items()}
            yield Batch(data, samples.labels[known], samples.keys[known], pad, drawn, ready)

    def _launch(self, images: ImageBatch, places: npt.NDArray[np.int64], data: Array) -> None:
        """Run every pass: steps that others follow into scratch memory, then the last one.

        An image whose steps all do nothing is copied from the arena.
        """
        backend, plan, sketch = self._backend, self.plan, images.sketch
        steps, count = sketch.frame.steps, len(images.origin)
        table = _rows(count, images.origin, images.pitch, sketch.frame.window)
        sound = np.ones(count, bool)
        sound[list(images.samples.faults)] = False
        last = np.full(count, -1)
        for number, step in enumerate(steps):
            last[step.kind != COPY] = number
        keep: list[Array] = []
        shift = np.zeros((count, 2), np.int64)  # of the image in hand, by steps that only crop
        for number, step in enumerate(steps):
            shift += step.offset
            rows = np.flatnonzero((step.kind != COPY) & (last >= number) & sound)
            if not len(rows):
                continue
            self._fill(table, rows, step, shift, keep)
            shift[rows] = 0
            again = rows[last[rows] > number]
            if len(again):
                table[again] = self._resample(table[again], number)
        norm = plan.normalisation.table(plan.dtype, sketch.gain, sketch.offset)
        self._point(table, "norm", norm, keep)
        if any(sketch.color[name].any() for name in ("jitter", "hls", "lighting", "gray")):
            self._point(table, "color", sketch.color, keep)
        if self._mean_image is not None:
            table["mean_image"] = backend.address(self._mean_image)
        table["mirror"] = sketch.mirror
        table = table[places]
        blank = places < 0
        table["kind"][blank] = BLANK
        table["rows"][blank], table["cols"][blank] = plan.shape[1:]  # it had no size of its own
        nbytes = data.itemsize * int(np.prod(plan.shape))
        at = np.arange(len(places), dtype=np.uint64) * np.uint64(nbytes)
        table["dst"] = np.uint64(backend.address(data)) + at
        keep.append(table := backend.upload(table))
        backend.launch(
            finish, len(places), backend.address(table), len(places), plan.shape[0],
            OUTPUTS[plan.dtype], data.itemsize, plan.layout == "NHWC",
        )  # fmt: skip

    def _fill(
        self,
        table: npt.NDArray[np.void],
        rows: npt.NDArray[np.int64],
        step: Step,
        shift: Sizes,
        keep: list[Array],
    ) -> None:
        """Make `rows` of a STEP table say what `step` does."""
        channels = self.plan.shape[0]
        part = table[rows]
        skipped = shift[rows, 0] * part["src_pitch"] + shift[rows, 1] * channels
        part["src"] += skipped.astype(np.uint64)
        part["kind"], part["margin"], part["fill"] = step.kind[rows], step.margin, step.fill
        part["src_height"], part["src_width"] = step.source[rows].T
        part["dst_height"], part["dst_width"] = step.size[rows].T
        part["y"], part["x"], part["rows"], part["cols"] = step.box[rows].T
        if step.matrix is not None:
            self._point(part, "matrix", np.ascontiguousarray(step.matrix[rows]), keep)
            for kind in (WARP_CUBIC, WARP_LANCZOS):
                if (part["kind"] == kind).any():
                    part["weights"][part["kind"] == kind] = self._weights_of(kind)
        table[rows] = part

    def _resample(self, table: npt.NDArray[np.void], number: int) -> npt.NDArray[np.void]:
        """Run one pass into scratch memory; the rows, their source now the result."""
        backend = self._backend
        table["dst_pitch"] = table["cols"].astype(np.int64) * self.plan.shape[0]
        nbytes = table["dst_pitch"] * table["rows"]
        while len(self._scratch) <= number:
            self._scratch.append(Slot(backend.empty_bytes))
        memory = self._scratch[number].reserve(int(nbytes.sum()))
        starts = np.uint64(backend.address(memory))
        table["dst"] = starts + (np.cumsum(nbytes) - nbytes).astype(np.uint64)
        uploaded = backend.upload(table)
        words = (backend.address(uploaded), len(table), self.plan.shape[0])
        backend.launch(resample, len(table), *words)
        box = np.stack([table[name] for name in ("y", "x", "rows", "cols")], axis=1)
        skipped = box[:, 0] * table["dst_pitch"] + box[:, 1].astype(np.int64) * self.plan.shape[0]
        origin = table["dst"] - skipped.astype(np.uint64)
        return _rows(len(table), origin, table["dst_pitch"], box)

    def _point(
        self,
        table: npt.NDArray[np.void],
        name: str,
        values: npt.NDArray[Any],
        keep: list[Array],
    ) -> None:
        """Give each row the address of its row of `values`, which `keep` keeps alive."""
        keep.append(device := self._backend.upload(values))
        at = np.arange(len(values), dtype=np.uint64) * np.uint64(values.strides[0])
        table[name] = np.uint64(self._backend.address(device)) + at

    def _weights_of(self, kind: int) -> int:
        if kind not in self._weights:
            self._weights[kind] = self._backend.upload(weight_table(int(TAPS[kind])))
        return self._backend.address(self._weights[kind])


def _rows(
    count: int,
    origin: npt.NDArray[np.uint64],
    pitch: npt.NDArray[np.int64],
    box: Boxes,
) -> npt.NDArray[np.void]:
    """(N,) STEP rows that copy the window `box` of pictures whose pixel (0, 0) is at `origin`."""
    table = np.zeros(count, STEP)
    table["kind"], table["src"], table["src_pitch"] = COPY, origin, pitch
    end = box[:, :2] + box[:, 2:]
    table["src_height"], table["src_width"] = end.T
    table["dst_height"], table["dst_width"] = end.T
    table["y"], table["x"], table["rows"], table["cols"] = box.T
    return table
