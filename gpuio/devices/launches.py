"""From the kernels of the CPU that a program names to what a GPU launches for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import KernelCall
from gpuio.devices.buffers import BatchBuffers
from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.device_color import BRIGHTEN, COLOR, color_grid
from gpuio.kernels.device_output import (
    PIXELS,
    PLANES,
    SCRATCH,
    own_window,
    window_grid,
)
from gpuio.kernels.device_resize import window_kernel
from gpuio.kernels.device_taps import TAPS, TAPS_ON_DEVICE, taps_grid
from gpuio.kernels.parallel import run_program
from gpuio.kernels.pixels import pixel_function
from gpuio.kernels.resample import finish, resample
from gpuio.kernels.steps import (
    COLOR_STEP,
    FIRST_PIXEL_STEP,
    PIXEL_STEPS,
    ColorKind,
    OutputType,
    StepKind,
)
from gpuio.kernels.tables import tabulate, tap_bytes

DeviceLaunch = tuple[DeviceKernel, tuple[int, int, int], tuple[int, ...]]
"""A kernel, its grid, its arguments."""

_RGB = 3  # channels


class Launches:
    """Makes launches, and puts their tables into those of a batch.

    Args:
        buffers: Memory of the batch; its tables are in pinned memory until they are sent.
        bases: (N,) addresses of the items' memory on the device.
        threads: CPU threads that may work at once.
        colors: Arrays of COLOR_STEP on the host, each with its address on the device.
    """

    def __init__(
        self,
        buffers: BatchBuffers,
        bases: npt.NDArray[np.uint64],
        threads: int,
        colors: Sequence[tuple[int, npt.NDArray[np.void]]],
    ) -> None:
        self._buffers, self._bases, self._threads = buffers, bases, threads
        self._colors = colors

    def of(self, call: KernelCall) -> list[DeviceLaunch]:
        """What the device runs for a kernel of the CPU: launches for each kind of step.

        Kernels that write to the batch change no colours: each thread has a few pixels, and
        contrast needs the mean of all of them. So images with colours, and those of the user's
        kinds, are put into their scratch memory first.
        """
        used = call.table["kind"] != StepKind.SKIP.value
        table, bases = call.table[used], self._bases[used]
        table["src"] += np.where(table["src_in_scratch"] != 0, bases, np.uint64(0))
        channels, *rest = call.args
        if call.kernel is resample:
            table["dst"] += bases
            return self._paint(table, channels)
        assert call.kernel is finish
        output, interleaved = rest
        launches: list[DeviceLaunch] = []
        apart = (table["color"] != 0) | (table["kind"] >= FIRST_PIXEL_STEP)
        if apart.any():
            painted = table[apart]
            pitch = painted["cols"].astype(np.int64) * channels
            painted["dst"], painted["dst_pitch"] = painted["scratch"] + bases[apart], pitch
            painted["mean_image"] = 0
            launches += self._paint(painted, channels)
            skipped = painted["y"] * pitch + painted["x"].astype(np.int64) * channels
            table["src"][apart] = painted["dst"] - skipped.astype(np.uint64)
            table["src_pitch"][apart], table["kind"][apart] = pitch, StepKind.COPY
        layout = PIXELS if interleaved else PLANES
        return [*launches, *self._windows(table, channels, OutputType(output), layout)]

    def _paint(self, table: npt.NDArray[np.void], channels: int) -> list[DeviceLaunch]:
        """Launches that make windows of pixels in scratch memory, then those for their colours."""
        launches = self._windows(table, channels, OutputType.UINT8, SCRATCH)
        colored = table[table["color"] != 0]
        if len(colored):
            address = self._buffers.tables.put(colored)
            kernel = COLOR if channels == _RGB else BRIGHTEN
            grid = color_grid(kernel, colored, channels)
            if kernel is COLOR:
                runs = 1 + contrasts(colored, self._colors)
                totals = self._buffers.tables.put(np.zeros((runs - 1, len(colored)), np.int64))
                launches += [(kernel, grid, (address, totals, run)) for run in range(runs)]
            else:
                launches.append((kernel, grid, (address, channels)))
        return launches

    def _windows(
        self, table: npt.NDArray[np.void], channels: int, output: OutputType, layout: int
    ) -> list[DeviceLaunch]:
        """Launches that make the tables of all rows, and one for the rows of each kind."""
        if not len(table):
            return []
        table = table[np.argsort(table["kind"], kind="stable")]
        mean_image = int(table["mean_image"][0] != 0)  # one for the whole batch
        by_device = self._place_taps(table, channels)
        address, launches = self._buffers.tables.put(table), list[DeviceLaunch]()
        if by_device:
            launches.append((TAPS, taps_grid(TAPS, table), (address, channels)))
        kinds, firsts = np.unique(table["kind"], return_index=True)
        for kind, rows in zip(kinds.tolist(), np.split(table, firsts[1:]), strict=True):
            args: tuple[int, ...] = (address,)
            if kind < FIRST_PIXEL_STEP:
                kernel = window_kernel(kind, channels, output, layout, mean_image)
            else:
                kernel, args = _own_kernel(kind), (*args, channels)
            launches.append((kernel, window_grid(kernel, rows), args))
            address += rows.nbytes
        return launches

    def _place_taps(self, table: npt.NDArray[np.void], channels: int) -> bool:
        """Give each row memory for its tables, and make those that only the host can make.

        Returns:
            Whether the device has some to make.
        """
        sizes = tap_bytes(table)
        by_device = np.isin(table["kind"], TAPS_ON_DEVICE)
        there, here = np.where(by_device, sizes, 0), np.where(by_device, 0, sizes)
        if by_device.any():
            address = self._buffers.scratch.reserve(int(there.sum()))
            table["taps"] = np.uint64(address) + (np.cumsum(there) - there).astype(np.uint64)
        if here.any():
            pinned, address = self._buffers.tables.reserve(int(here.sum()))
            places = np.uint64(address) + (np.cumsum(here) - here).astype(np.uint64)
            table["taps"] = np.where(by_device, table["taps"], places)
            rows = table[~by_device]
            args = (rows.ctypes.data, channels, pinned.ctypes.data - address)
            run_program([(tabulate, args)], len(rows), self._threads)
        return bool(by_device.any())


def contrasts(
    table: npt.NDArray[np.void], colors: Sequence[tuple[int, npt.NDArray[np.void]]]
) -> int:
    """The largest number of CONTRAST steps in a row of a table.

    Args:
        table: (N,) STEP, all of whose rows have colours.
        colors: Arrays of COLOR_STEP on the host, each with its address in the table.
    """
    most = 0
    for address, steps in colors:
        offset = table["color"] - np.uint64(address)
        here = offset < steps.nbytes  # others are in another array
        first = (offset[here] // np.uint64(COLOR_STEP.itemsize)).astype(np.int64)
        kinds = steps["kind"].reshape(-1)
        before = np.concatenate([[0], np.cumsum(kinds == ColorKind.CONTRAST.value)])
        counts = before[first + table["color_count"][here]] - before[first]
        most = max(most, int(counts.max(initial=0)))
    return most


@cache
def _own_kernel(kind: int) -> DeviceKernel:
    """The kernel of a kind of `PIXEL_STEPS`.

    Raises:
        ProgramError: Numba cannot compile the function of the step.
    """
    pixel_function(kind)  # its errors name the step
    own = own_window(kind, PIXEL_STEPS[kind - FIRST_PIXEL_STEP].pixel)
    assert isinstance(own, DeviceKernel)
    return own
