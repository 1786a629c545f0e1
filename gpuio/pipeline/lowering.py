"""From what a batch gets to the kernels that do it: one table of steps for each pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core.parameters import element
from gpuio.devices.base import KernelCall, Work
from gpuio.kernels.resample import finish, resample
from gpuio.kernels.steps import STEP, STEPS, ColorKind, StepKind, table_bytes
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import PlannedBatch
from gpuio.transforms.geometry import Boxes, Sizes, Step
from gpuio.transforms.normalize import OUTPUTS

_ALIGNMENT = 64


class Passes:
    """The kernels for some images of a batch.

    Steps that others follow write into the item's memory, behind the decoded window; the last one
    goes into the batch. An image whose steps all do nothing is copied as it was decoded. What a
    kernel needs besides lies behind that, as kernels allocate nothing.

    Args:
        plan: What is done.
        work: Takes the tables.
        planned: The batch.
        places: (N,) which of its images.
        weights_of: Gives the address of the weights of a kind of warp.

    Attributes:
        program: The kernels, in the order in which they run.
        nbytes: (N,) int64, memory that each item takes.
    """

    def __init__(
        self,
        plan: Plan,
        work: Work,
        planned: PlannedBatch,
        places: npt.NDArray[np.int64],
        weights_of: Callable[[int], int],
    ) -> None:
        self.program: list[KernelCall] = []
        jobs = planned.jobs
        self.nbytes = jobs.nbytes[places]
        self._used = self.nbytes.copy()  # by what is still needed
        self._plan, self._work, self._places, self._weights_of = plan, work, places, weights_of
        self._sketch = planned.batch_plan
        origin = jobs.origin[places]
        for number, place in enumerate(places.tolist()):
            if place in jobs.pixels:
                origin[number] = work.upload(jobs.pixels[place])
        chain = self._sketch.geometry
        self._table = _rows(origin, jobs.pitch[places], chain.window[places])
        self._table["src_in_scratch"] = jobs.in_scratch[places]
        later = jobs.headers.later - jobs.pixels.keys()
        self._faults = np.isin(places, [*planned.samples.faults, *later])
        self._colors = np.zeros(len(places), np.uint64)  # addresses of lists of colour steps
        if self._sketch.colors:
            colors = np.stack([step[places] for step in self._sketch.colors], axis=1)
            changed = (colors["kind"] != ColorKind.NONE).any(axis=1)
            if changed.any():
                self._colors = np.where(changed, self._addresses(colors), np.uint64(0))
                self._table["color_count"] = colors.shape[1]

    def add_steps(self) -> None:
        """The passes before the last one of each image."""
        steps, places = self._sketch.geometry.steps, self._places
        last = np.full(len(places), -1)
        for number, step in enumerate(steps):
            last[step.active[places]] = number
        shift = np.zeros((len(places), 2), np.int64)  # by steps that only crop
        for number, step in enumerate(steps):
            shift += step.offset[places]
            rows = np.flatnonzero(step.active[places] & ~self._faults)
            if not len(rows):
                continue
            self._fill(rows, step, shift)
            shift[rows] = 0
            again = rows[last[rows] > number]
            if len(again):
                painted = again[:0] if step.paint is None else again[step.paint[places[again]]]
                self._table["color"][painted] = self._colors[painted]
                self._colors[painted] = 0
                self._resample(again)

    def add_finish(self, data: int, mean_image: int) -> None:
        """The last pass.

        Args:
            data: Address of the batch.
            mean_image: Address of the mean image, or 0.
        """
        plan, table, places, sketch = self._plan, self._table, self._places, self._sketch
        norm = plan.normalization.table(plan.dtype, sketch.gain[places], sketch.offset[places])
        table["norm"], table["color"] = self._addresses(norm), self._colors
        table["mean_image"], table["mirror"] = mean_image, sketch.mirror[places]
        table["kind"][self._faults] = StepKind.SKIP
        size = int(np.prod(plan.shape))
        nbytes = np.uint64(size * element(plan.dtype).itemsize)
        table["dst"] = np.uint64(data) + places.astype(np.uint64) * nbytes
        table["scratch"] = self._used
        table["taps"] = self._reserve(table, self._used + _aligned(size))
        args = (plan.shape[0], OUTPUTS[plan.dtype], plan.layout == "NHWC")
        self.program.append(KernelCall(finish, table, args))

    def _fill(self, rows: npt.NDArray[np.int64], step: Step, shift: Sizes) -> None:
        """Make `rows` of the table say what `step` does to their images."""
        channels, places = self._plan.shape[0], self._places[rows]
        part = self._table[rows]
        skipped = shift[rows, 0] * part["src_pitch"] + shift[rows, 1] * channels
        part["src"] += skipped.astype(np.uint64)
        part["kind"], part["margin"], part["fill"] = step.kind[places], step.margin, step.fill
        part["src_height"], part["src_width"] = step.source[places].T
        part["dst_height"], part["dst_width"] = step.size[places].T
        part["y"], part["x"], part["rows"], part["cols"] = step.box[places].T
        if step.matrix is not None:
            matrix = np.ascontiguousarray(step.matrix[places])
            part["matrix"] = _each(self._work.keep(matrix), matrix)
            for kind in np.unique(part["kind"]).tolist():
                if STEPS[kind].weighs:
                    part["weights"][part["kind"] == kind] = self._weights_of(kind)
        self._table[rows] = part

    def _resample(self, rows: npt.NDArray[np.int64]) -> None:
        """A pass for `rows` into the item's memory; they then start from its result."""
        channels, table = self._plan.shape[0], self._table
        mine = table.copy()
        mine["kind"][np.setdiff1d(np.arange(len(table)), rows)] = StepKind.SKIP
        pitch = table["cols"].astype(np.int64) * channels
        mine["dst"], mine["dst_pitch"] = self._used, pitch
        nbytes = np.where(mine["kind"] == StepKind.SKIP, 0, _aligned(pitch * table["rows"]))
        mine["taps"] = self._reserve(mine, self._used + nbytes)
        self.program.append(KernelCall(resample, mine, (channels,)))
        part, pitch = table[rows], pitch[rows]
        box = np.stack([part[name] for name in ("y", "x", "rows", "cols")], axis=1)
        skipped = box[:, 0] * pitch + box[:, 1].astype(np.int64) * channels
        result = _rows((self._used[rows] - skipped).astype(np.uint64), pitch, box)
        result["src_in_scratch"], result["color_count"] = 1, table["color_count"][rows]
        table[rows] = result
        self._used += nbytes

    def _reserve(
        self, table: npt.NDArray[np.void], start: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Room in the items' memory, from `start` on, for what a kernel's rows need; `start`."""
        needed = start + table_bytes(table, self._plan.shape[0])
        self.nbytes = np.maximum(self.nbytes, needed)
        return start

    def _addresses(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
        """(N,) addresses, for kernels, of the N rows of `values`."""
        return _each(self._work.upload(values), values)


def _aligned(nbytes: Any) -> Any:
    """Bytes, rounded up to a multiple of `_ALIGNMENT`."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _each(address: int, values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """(N,) addresses of the N rows of `values`, which start at `address`."""
    at = np.arange(len(values), dtype=np.uint64) * np.uint64(values.strides[0])
    return np.uint64(address) + at


def _rows(
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
