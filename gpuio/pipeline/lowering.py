"""From what happens to each image of a batch to the kernels that do it, in the same order.

Steps are fused where one kernel can do several: crops are windows of the step before, colours are
changed where pixels are written, and the last step goes straight into the batch. An image of which
pixels must be in memory in between costs one `resample` for each such point. Nothing is reordered.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gpuio.core.parameters import as_dtype
from gpuio.devices.base import KernelCall, Work
from gpuio.kernels.resample import finish, resample
from gpuio.kernels.steps import COLOR_STEP, STEP, STEPS, ColorKind, StepKind, table_bytes
from gpuio.pipeline.cache.image_cache import CachedBatch
from gpuio.pipeline.decode.jobs import aligned
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import PlannedBatch
from gpuio.transforms.geometry import Boxes, Sizes, Step, whole
from gpuio.transforms.normalize import OUTPUTS, Normalization

Rows = npt.NDArray[np.int64]
"""(M,) rows of the tables."""
Values = npt.NDArray[np.void] | npt.NDArray[np.float32] | npt.NDArray[np.float64]
"""(N, ...) what kernels read, one row for each image."""


class Program:
    """What makes some images of a batch of decoded pixels; steps are added in their order.

    Scratch memory of an image holds the decoded window, behind that the results of `resample`, and
    behind those what a kernel needs for itself. Each image has a row in the table of the kernel
    that is still to be called.

    Args:
        plan: What the output is.
        work: Takes the tables.
        planned: The batch.
        places: (N,) which of its images.
        weights_of: Gives the address of the weights of a kind of warp.

    Attributes:
        calls: The kernels so far, in the order in which they run.
        nbytes: (N,) int64, bytes of scratch memory that each image takes.
    """

    def __init__(
        self,
        plan: Plan,
        work: Work,
        planned: PlannedBatch,
        places: Rows,
        weights_of: Callable[[StepKind], int],
    ) -> None:
        jobs, self._batch = planned.jobs, planned.batch_plan
        self.calls: list[KernelCall] = []
        self.nbytes = jobs.nbytes[places]
        self._used = self.nbytes.copy()  # bytes of scratch memory that are still needed
        self._plan, self._work, self._places, self._weights_of = plan, work, places, weights_of
        origin = jobs.origin[places]
        on_host = [number for number, place in enumerate(places) if int(place) in jobs.pixels]
        if on_host:
            pixels = [jobs.pixels[place] for place in places[on_host].tolist()]
            origin[on_host] = work.upload_all(pixels)
        self._table = _copies(origin, jobs.pitch[places], self._batch.geometry.window[places])
        self._table["src_in_scratch"] = jobs.in_scratch[places]
        later = jobs.headers.later - jobs.pixels.keys()
        self._valid = ~np.isin(places, [*planned.samples.faults, *later])
        self._shift = np.zeros((len(places), 2), np.int64)  # y and x, by crops since `_table`
        count = sum(len(step.colors) for step in self._batch.geometry.steps)
        self._colors = np.zeros((len(places), count), COLOR_STEP)  # that follow `_table`
        self._color_count = 0
        self._colored = np.zeros(len(places), bool)
        self._cached: Step | None = None  # what the pixels in the cache are the result of
        self._in_cache = np.zeros(len(places), bool)
        if planned.cached is not None:
            self._use_cache(planned.cached)

    def add(self, step: Step) -> None:
        """Add a step of the images, behind those that were added before."""
        places, table = self._places, self._table
        self._shift += step.offset[places]
        moves = step.moves[places] & self._valid
        if step is self._cached:
            moves &= ~self._in_cache
        if self._color_count:
            self._cut(step.needed[places], self._colored & ~moves)
        if moves.any():
            busy = moves & (self._colored | (table["kind"] != StepKind.COPY.value))
            if busy.any():
                self._resample(np.flatnonzero(busy))
            self._move(np.flatnonzero(moves), step)
        for color in step.colors:
            own = color[places]
            self._colors[:, self._color_count] = own
            self._color_count += 1
            self._colored |= self._valid & (own["kind"] != ColorKind.NONE.value)

    def add_finish(self, data: int, mean_image: int) -> None:
        """Add the kernel that makes the batch.

        Args:
            data: Address of the batch.
            mean_image: Address of the mean image, or 0.
        """
        plan, table, places, batch = self._plan, self._table, self._places, self._batch
        norm = plan.normalization.table(plan.dtype, batch.gain[places], batch.offset[places])
        table["norm"] = self._addresses(norm)
        table["mean_image"] = mean_image
        table["mirror"] = batch.geometry.mirror[places]
        table["kind"][~self._valid] = StepKind.SKIP
        self._paint(table, self._colored)
        size = math.prod(plan.shape)
        nbytes = np.uint64(size * as_dtype(plan.dtype).itemsize)
        table["dst"] = np.uint64(data) + places.astype(np.uint64) * nbytes
        table["scratch"] = self._used
        table["taps"] = self._reserve(table, self._used + aligned(np.array([size])))
        args = (plan.shape[0], OUTPUTS[plan.dtype], plan.layout == "NHWC")
        self.calls.append(KernelCall(finish, table, args))

    def _use_cache(self, cached: CachedBatch) -> None:
        """Put pixels into the cache that are to be there, and go on from those in the cache."""
        places, geometry = self._places, self._batch.geometry
        self._cached, address = cached.step, cached.address[places]
        self._in_cache = address != 0
        fill = cached.fill[places] & self._valid
        if fill.any():
            self._fill(address, fill, cached.size[places])
        box = (geometry.window if cached.step is None else cached.step.box)[places]
        pitch = cached.size[places, 1] * self._plan.shape[0]
        if cached.on_host:
            hits = np.flatnonzero(self._in_cache & ~cached.fill[places])
            address[hits] = self._upload_rows(address[hits], pitch[hits], box[hits])
        there = _copies(address, pitch, box)
        self._table[self._in_cache] = there[self._in_cache]

    def _upload_rows(
        self, address: npt.NDArray[np.uint64], pitch: npt.NDArray[np.int64], box: Boxes
    ) -> npt.NDArray[np.uint64]:
        """(M,) addresses of pictures on the device; of those on the host rows of `box` are sent."""
        skipped, nbytes = (box[:, 0] * pitch).astype(np.uint64), box[:, 2] * pitch
        rows = [
            np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(at))
            for at, size in zip((address + skipped).tolist(), nbytes.tolist(), strict=True)
        ]
        return self._work.upload_all(rows) - skipped if rows else address

    def _fill(
        self, address: npt.NDArray[np.uint64], where: npt.NDArray[np.bool_], size: Sizes
    ) -> None:
        """Add the kernel that puts decoded images, or what their first step makes, into the cache.

        Args:
            address: (N,) where the pixels of an image go.
            where: (N,) images that are put there.
            size: (N, 2) their heights and widths there.
        """
        places, channels, table = self._places, self._plan.shape[0], self._table
        original = whole(self._batch.geometry.original[places])
        decoded = _copies(table["src"], table["src_pitch"], original)
        decoded["src_in_scratch"] = table["src_in_scratch"]
        if self._cached is not None:
            _set_step(decoded, self._cached, places, whole(size))
        decoded["kind"][~where] = StepKind.SKIP
        one, none = np.ones(len(places), np.float32), np.zeros(len(places), np.float32)
        decoded["norm"] = self._addresses(Normalization().table("uint8", one, none))
        decoded["dst"], decoded["scratch"] = address, self._used
        nbytes = np.where(where, aligned(size.prod(axis=1) * channels), 0)
        decoded["taps"] = self._reserve(decoded, self._used + nbytes)
        self.calls.append(KernelCall(finish, decoded, (channels, OUTPUTS["uint8"], True)))

    def _cut(self, needed: Boxes, where: npt.NDArray[np.bool_]) -> None:
        """Leave the windows `needed` of coloured images, `where` that is less than they have now.

        Colours may have taken the mean of a whole picture, of which a crop leaves a part.
        """
        table = self._table
        less = (needed[:, 2] != table["rows"]) | (needed[:, 3] != table["cols"])
        rows = np.flatnonzero(where & less)
        if len(rows):
            self._resample(rows)
            table["y"][rows], table["x"][rows] = (needed[rows, :2] + self._shift[rows]).T
            table["rows"][rows], table["cols"][rows] = needed[rows, 2:].T

    def _move(self, rows: Rows, step: Step) -> None:
        """Let `rows` of the table say what `step` does to their images."""
        channels, places = self._plan.shape[0], self._places[rows]
        part, shift = self._table[rows], self._shift[rows]
        skipped = shift[:, 0] * part["src_pitch"] + shift[:, 1] * channels
        part["src"] += skipped.astype(np.uint64)
        _set_step(part, step, places, step.box[places])
        if step.matrix is not None:
            matrix = np.ascontiguousarray(step.matrix[places])
            part["matrix"] = _each(self._work.keep(matrix), matrix)
            for kind in map(StepKind, np.unique(part["kind"]).tolist()):
                if STEPS[kind].weighs:
                    part["weights"][part["kind"] == kind] = self._weights_of(kind)
        if step.weights is not None:
            part["weights"] = self._addresses(step.weights[places])
        self._table[rows] = part
        self._shift[rows] = 0

    def _resample(self, rows: Rows) -> None:
        """Add the kernel that puts the pixels of `rows` into memory; they go on from there."""
        channels, table = self._plan.shape[0], self._table
        where = np.zeros(len(table), bool)
        where[rows] = True
        mine = table.copy()
        mine["kind"][~where] = StepKind.SKIP
        self._paint(mine, self._colored & where)
        self._colors["kind"][where] = ColorKind.NONE
        self._colored[where] = False
        pitch = table["cols"].astype(np.int64) * channels
        mine["dst"], mine["dst_pitch"] = self._used, pitch
        nbytes = np.where(where, aligned(pitch * table["rows"]), 0)
        mine["taps"] = self._reserve(mine, self._used + nbytes)
        self.calls.append(KernelCall(resample, mine, (channels,)))
        part, pitch = table[rows], pitch[rows]
        box = np.stack([part[name] for name in ("y", "x", "rows", "cols")], axis=1)
        skipped = box[:, 0] * pitch + box[:, 1].astype(np.int64) * channels
        result = _copies((self._used[rows] - skipped).astype(np.uint64), pitch, box)
        result["src_in_scratch"] = 1
        table[rows] = result
        self._used += nbytes

    def _paint(self, table: npt.NDArray[np.void], where: npt.NDArray[np.bool_]) -> None:
        """Let the images `where` have the colours that are to come."""
        if where.any():
            colors = self._colors[:, : self._color_count].copy()
            table["color"][where] = self._addresses(colors)[where]
            table["color_count"][where] = self._color_count

    def _reserve(
        self, table: npt.NDArray[np.void], start: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Reserve scratch memory, from offsets `start` on, for the tables of kernels; `start`."""
        needed = start + table_bytes(table, self._plan.shape[0])
        self.nbytes = np.maximum(self.nbytes, needed)
        return start

    def _addresses(self, values: Values) -> npt.NDArray[np.uint64]:
        """(N,) addresses, for kernels, of the N rows of `values`."""
        return _each(self._work.upload(values), values)


def _set_step(table: npt.NDArray[np.void], step: Step, places: Rows, box: Boxes) -> None:
    """Let (M,) STEP rows make windows `box` of what `step` makes of the images at `places`."""
    table["kind"], table["margin"], table["fill"] = step.kind[places], step.margin, step.fill
    table["src_height"], table["src_width"] = step.source[places].T
    table["dst_height"], table["dst_width"] = step.size[places].T
    table["y"], table["x"], table["rows"], table["cols"] = box.T


def _each(address: int, values: Values) -> npt.NDArray[np.uint64]:
    """(N,) addresses of the N rows of `values`, which start at `address`."""
    at = np.arange(len(values), dtype=np.uint64) * np.uint64(values.strides[0])
    return np.uint64(address) + at


def _copies(
    origin: npt.NDArray[np.uint64], pitch: npt.NDArray[np.int64], box: Boxes
) -> npt.NDArray[np.void]:
    """(N,) STEP rows that copy the window `box` of pictures whose pixel (0, 0) is at `origin`."""
    table = np.zeros(len(origin), STEP)
    table["kind"], table["src"], table["src_pitch"] = StepKind.COPY, origin, pitch
    end = box[:, :2] + box[:, 2:]
    table["src_height"], table["src_width"] = end.T
    table["dst_height"], table["dst_width"] = end.T
    table["y"], table["x"], table["rows"], table["cols"] = box.T
    return table
