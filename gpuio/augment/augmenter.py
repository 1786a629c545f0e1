"""The third room: images that are ready to be decoded in, one dense batch out."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.augment.faults import FaultLog, OnError, settle
from gpuio.augment.geometry import Boxes, Sizes, Step
from gpuio.augment.normalise import OUTPUTS
from gpuio.augment.op import Column, Sketch
from gpuio.augment.plan import Plan
from gpuio.augment.random import Draws
from gpuio.backends.base import Array, Backend, Event, Link, Running
from gpuio.backends.pool import OutputPool
from gpuio.backends.ring import Ring
from gpuio.decode.base import Decoder, ImageBatch, Windows
from gpuio.errors import GpuioError
from gpuio.kernels.resample import SKIP, STEP, finish, resample
from gpuio.kernels.taps import COPY, TAPS, WARP_CUBIC, WARP_LANCZOS
from gpuio.kernels.warp import weight_table
from gpuio.reader.reader import Samples

_ALIGNMENT = 64
_COLORS = ("jitter", "hls", "multiply", "lighting", "gray")


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
        faults: By place in the batch as it was read, samples that could not be had.
        masks: (N, H, W) uint8 on the device, where masks go with the images.
    """

    data: Array
    labels: npt.NDArray[np.float32]
    keys: npt.NDArray[np.int64]
    pad: int
    drawn: dict[str, Column]
    ready: Event
    faults: Mapping[int, GpuioError] = field(default_factory=dict)
    masks: Array | None = None


@dataclass(slots=True)
class _Launched:
    """A batch that is being made.

    Attributes:
        images: Where it comes from.
        data: Where it goes.
        running: The kernels at work, and the tables that they read.
        joined: Whether they were waited for.
    """

    images: ImageBatch
    data: Array
    running: tuple[Running, list[Array]]
    joined: bool = False


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
        self.batch_size = batch_size
        self.faults = FaultLog()
        self._seed = seed
        self._on_error: OnError = on_error
        self._backend = backend
        self._pool = OutputPool(backend, plan.output_shape(batch_size), plan.dtype, keep)
        image = plan.normalisation.mean_image(plan.dtype)
        self._mean_image = None if image is None else backend.upload(image)
        self._weights: dict[int, Array] = {}
        self.decoding = self.augmenting = 0  # nanoseconds, of all threads

    def sketch(
        self,
        samples: Samples,
        size: npt.NDArray[np.int32],
        *,
        epoch: int,
        given: Mapping[str, Column] | None = None,
    ) -> Windows:
        """Decide everything about images of (N, 2) `size`; the windows that this takes.

        Args:
            samples: Whose images they are.
            size: Heights and widths, in pixels.
            epoch: From 0.
            given: By name, (N, ...) values to use instead of random ones.
        """
        draws = Draws(samples.ids, seed=self._seed, epoch=epoch)
        sketch = Sketch.of(size, draws, given)
        sketch.labels, sketch.widths = samples.labels, samples.widths
        sketch.drawn["record"] = samples.ids
        for op in self.plan.ops:
            op(sketch)
        if (sketch.crop[:, 2:] > self.plan.shape[1:]).any():
            found = sketch.crop[:, 2:].max(axis=0).tolist()
            raise ValueError(
                f"the ops of the plan end in windows of up to {found} pixels, and the output has "
                f"{self.plan.shape[1:]}: let the last one that moves pixels be a crop"
            )
        sketch.frame.finish(sketch.crop)
        refused = {place: reason for place, reason in sketch.refused.items() if size[place].all()}
        return Windows(sketch.frame.window.astype(np.int32), refused, sketch)

    def __call__(
        self, batches: Iterable[ImageBatch], decoder: Decoder, host: Ring
    ) -> Generator[Batch, None, None]:
        """Decode and augment: one output for each batch, on the current stream.

        Args:
            batches: Ready to be decoded.
            decoder: Where they come from.
            host: The ring of their encoded images, which are given back.
        """
        waiting: deque[_Launched] = deque()
        try:
            for images in batches:
                waiting.append(self._launch(images))
                if len(waiting) == self._backend.lanes:
                    yield self._complete(waiting.popleft(), decoder, host)
            while waiting:
                yield self._complete(waiting.popleft(), decoder, host)
        finally:
            for launched in waiting:
                self._end(launched, decoder, host)

    def _launch(self, images: ImageBatch) -> _Launched:
        places = np.arange(len(images.origin))
        data = self._pool.take()[: len(places)]
        return _Launched(images, data, self._start(images, data, places, images.links))

    def _complete(self, launched: _Launched, decoder: Decoder, host: Ring) -> Batch:
        """Wait for a batch, and decode in another way what failed."""
        images, data = launched.images, launched.data
        try:
            self._join(launched.running, len(images.links))
            launched.joined = True
            again = decoder.retry(images)
            if again:
                self._join(self._start(images, data, np.array(again), []), 0)
        finally:
            self._end(launched, decoder, host)
        return self._deliver(images, data)

    def _end(self, launched: _Launched, decoder: Decoder, host: Ring) -> None:
        """Wait for a batch, wanted or not, and give back what it holds."""
        if not launched.joined:
            launched.running[0].join()
        decoder.finish(launched.images.opened)
        host.release(launched.images.records.slot, after=self._backend.record())

    def _join(self, running: tuple[Running, list[Array]], links: int) -> None:
        spent = running[0].join()
        self.decoding += int(spent[:links].sum())
        self.augmenting += int(spent[links:].sum())

    def _deliver(self, images: ImageBatch, data: Array) -> Batch:
        """The batch, with faults settled."""
        samples = images.samples
        drawn = images.sketch.drawn
        places, pad = settle(samples, self._on_error)
        if samples.faults:
            self.faults.add([samples.faults[place] for place in sorted(samples.faults)])
            data[:] = data[places]
            data[places < 0] = 0
            places = np.where(places < 0, np.arange(len(places)), places)
            drawn = {name: column[places] for name, column in drawn.items()}
        labels, keys = images.sketch.labels[places], samples.keys[places]
        return Batch(data, labels, keys, pad, drawn, self._backend.record(), samples.faults)

    def _start(
        self,
        images: ImageBatch,
        data: Array,
        places: npt.NDArray[np.int64],
        links: Sequence[Link],
    ) -> tuple[Running, list[Array]]:
        """Start `links`, then every pass, for the images at `places`; and what must live as long.

        Steps that others follow write into the item's memory, behind the decoded window; the last
        one goes into the batch. An image whose steps all do nothing is copied as it was decoded.
        """
        backend, plan, sketch = self._backend, self.plan, images.sketch
        frame = sketch.frame
        table = _rows(images.origin[places], images.pitch[places], frame.window[places])
        table["local"] = images.local[places]
        faults = np.isin(places, list(images.samples.faults))
        last = np.full(len(places), -1)
        for number, step in enumerate(frame.steps):
            last[step.active[places]] = number
        chain, used = list(links), images.nbytes
        keep: list[Array] = []  # what the tables point to
        colors = np.zeros_like(table)
        if any(sketch.color[name].any() for name in _COLORS):
            self._point(colors, "color", sketch.color[places], keep)
        shift = np.zeros((len(places), 2), np.int64)  # by steps that only crop
        for number, step in enumerate(frame.steps):
            shift += step.offset[places]
            rows = np.flatnonzero(step.active[places] & ~faults)
            if not len(rows):
                continue
            self._fill(table, rows, places[rows], step, shift, keep)
            shift[rows] = 0
            again = rows[last[rows] > number]
            if len(again):
                painted = [] if step.paint is None else again[step.paint[places[again]]]
                table["color"][painted] = colors["color"][painted]
                colors["color"][painted] = 0
                link, nbytes = self._resample(table, again, used, keep)
                chain.append(link)
                used += nbytes
        norm = plan.normalisation.table(plan.dtype, sketch.gain[places], sketch.offset[places])
        self._point(table, "norm", norm, keep)
        table["color"] = colors["color"]
        if self._mean_image is not None:
            table["mean_image"] = backend.address(self._mean_image)
        table["mirror"] = sketch.mirror[places]
        table["kind"][faults] = SKIP
        table["scratch"] = used
        nbytes = data.itemsize * int(np.prod(plan.shape))
        starts = places.astype(np.uint64) * np.uint64(nbytes)
        table["dst"] = np.uint64(backend.address(data)) + starts
        keep.append(table := backend.upload(table))
        output, interleaved = OUTPUTS[plan.dtype], plan.layout == "NHWC"
        words = (backend.address(table), plan.shape[0], output, interleaved)
        chain.append((finish, words))
        return backend.start(chain, len(places), used + int(np.prod(plan.shape))), keep

    def _fill(
        self,
        table: npt.NDArray[np.void],
        rows: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        step: Step,
        shift: Sizes,
        keep: list[Array],
    ) -> None:
        """Make `rows` of a STEP table say what `step` does to the images at `places`."""
        channels = self.plan.shape[0]
        part = table[rows]
        skipped = shift[rows, 0] * part["src_pitch"] + shift[rows, 1] * channels
        part["src"] += skipped.astype(np.uint64)
        part["kind"], part["margin"], part["fill"] = step.kind[places], step.margin, step.fill
        part["src_height"], part["src_width"] = step.source[places].T
        part["dst_height"], part["dst_width"] = step.size[places].T
        part["y"], part["x"], part["rows"], part["cols"] = step.box[places].T
        if step.matrix is not None:
            self._point(part, "matrix", np.ascontiguousarray(step.matrix[places]), keep)
            for kind in (WARP_CUBIC, WARP_LANCZOS):
                if (part["kind"] == kind).any():
                    part["weights"][part["kind"] == kind] = self._weights_of(kind)
        table[rows] = part

    def _resample(
        self,
        table: npt.NDArray[np.void],
        rows: npt.NDArray[np.int64],
        used: int,
        keep: list[Array],
    ) -> tuple[Link, int]:
        """A pass for `rows` into the item's memory from `used` on, and the bytes it takes.

        Those rows of `table` then start from its result.
        """
        channels = self.plan.shape[0]
        mine = table.copy()
        mine["kind"][np.setdiff1d(np.arange(len(table)), rows)] = SKIP
        mine["dst"], mine["dst_pitch"] = used, table["cols"].astype(np.int64) * channels
        keep.append(mine := self._backend.upload(mine))
        part = table[rows]
        pitch = part["cols"].astype(np.int64) * channels
        box = np.stack([part[name] for name in ("y", "x", "rows", "cols")], axis=1)
        skipped = box[:, 0] * pitch + box[:, 1].astype(np.int64) * channels
        result = _rows(np.uint64(used) - skipped.astype(np.uint64), pitch, box)
        result["local"] = 1
        table[rows] = result
        link = (resample, (self._backend.address(mine), channels))
        nbytes = int((pitch * part["rows"]).max())
        return link, -(-nbytes // _ALIGNMENT) * _ALIGNMENT

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
    origin: npt.NDArray[np.uint64], pitch: npt.NDArray[np.int64], box: Boxes
) -> npt.NDArray[np.void]:
    """(N,) STEP rows that copy the window `box` of pictures whose pixel (0, 0) is at `origin`."""
    table = np.zeros(len(origin), STEP)
    table["kind"], table["src"], table["src_pitch"] = COPY, origin, pitch
    end = box[:, :2] + box[:, 2:]
    table["src_height"], table["src_width"] = end.T
    table["dst_height"], table["dst_width"] = end.T
    table["y"], table["x"], table["rows"], table["cols"] = box.T
    return table
