"""Whether a decoder has written what it says it has: canaries in the memory of each image.

Engines may skip images and report them as decoded. Memory is used again and again, so the pixels of
another image would go out under this one's label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Device
from gpuio.kernels.device_canary import (
    CANARY,
    CHECK_CANARIES,
    SPOTS,
    WRITE_CANARIES,
    canary_grid,
)

if TYPE_CHECKING:
    from gpuio.devices.driver import Mark
    from gpuio.devices.lanes import Lane


class Canaries:
    """The canaries of one lane, in pinned memory that kernels read and write themselves.

    Args:
        device: Gives the memory.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._rows = device.empty_host(CANARY.itemsize).view(CANARY)
        self._flags = device.empty_host(SPOTS)
        self._random = np.random.default_rng()
        self._read: Mark = None

    def write(
        self, start: npt.NDArray[np.uint64], nbytes: npt.NDArray[np.int64], lane: Lane
    ) -> None:
        """Write canaries, and wait for them: engines write when they are called.

        Args:
            start: (M,) addresses of images.
            nbytes: (M,) bytes of their pixels.
            lane: The lane that decodes them.
        """
        if self._read is not None:  # by kernels of a batch that nobody has asked about
            lane.synchronize(self._read)
        if len(self._rows) < len(start):
            self._rows = self._device.empty_host(CANARY.itemsize * len(start)).view(CANARY)
            self._flags = self._device.empty_host(SPOTS * len(start))
        rows = self._rows[: len(start)]
        lane.host_writes(rows.ctypes.data)
        rows["start"], rows["nbytes"] = start, nbytes
        rows["word"] = self._random.integers(0, 2**64, len(rows), np.uint64)
        count = SPOTS * len(rows)
        lane.launch(WRITE_CANARIES, canary_grid(count), (rows.ctypes.data, count))
        lane.synchronize()

    def check(
        self, places: npt.NDArray[np.int64], elsewhere: npt.NDArray[np.bool_], lane: Lane
    ) -> CanaryCheck:
        """Look for the canaries after all work of the lane so far.

        Args:
            places: (M,) the images' places in their batch.
            elsewhere: (M,) whether an image was written elsewhere after all, so that its canary
                says nothing.
            lane: The lane that has decoded them.
        """
        rows, flags = self._rows[: len(places)], self._flags[: SPOTS * len(places)]
        lane.host_writes(flags.ctypes.data)
        args = (rows.ctypes.data, len(flags), flags.ctypes.data)
        lane.launch(CHECK_CANARIES, canary_grid(len(flags)), args)
        self._read = lane.record()
        return CanaryCheck(places, elsewhere, flags, lane, self._read)


class CanaryCheck:
    """The canaries of a batch that are still there; read it before its lane takes another batch.

    Args:
        places: (M,) places of images in the batch.
        elsewhere: (M,) bool, images that were written elsewhere.
        flags: (M * SPOTS,) pinned, whether a canary is still there.
        lane: The lane of the batch.
        event: The point at which the flags are written.
    """

    def __init__(
        self,
        places: npt.NDArray[np.int64],
        elsewhere: npt.NDArray[np.bool_],
        flags: npt.NDArray[np.uint8],
        lane: Lane,
        event: Mark,
    ) -> None:
        self._places, self._elsewhere, self._flags = places, elsewhere, flags
        self._lane, self._event = lane, event
        self._unwritten: npt.NDArray[np.int64] | None = None

    def unwritten(self) -> npt.NDArray[np.int64]:
        """Places of the images that were not written to their end; waits for the device."""
        if self._unwritten is None:
            self._lane.synchronize(self._event)
            there = self._flags.reshape(-1, SPOTS).any(axis=1)
            self._unwritten = self._places[there & ~self._elsewhere]
        return self._unwritten
