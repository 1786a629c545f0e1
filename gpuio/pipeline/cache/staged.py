"""Pixels that a device makes for a cache in RAM: they are in its own memory first."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Array, Device
from gpuio.pipeline.cache.store import spaced

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """Pixels of a batch that are on a device first, from where they go to the cache.

    Attributes:
        device: The device.
        memory: (bytes,) uint8 on it, the pixels of all images.
        starts: (N,) where those of each image begin, in bytes.
        nbytes: (N,) how many they are; 0 where an image is not put into the cache.
        targets: (N,) uint64, addresses in the cache.
    """

    device: Device
    memory: Array
    starts: Int64s
    nbytes: Int64s
    targets: UInt64s

    @classmethod
    def of(cls, device: Device, nbytes: Int64s, targets: UInt64s) -> Staged:
        """Memory for (N,) `nbytes` of pixels.

        Raises:
            MemoryError: The device has none.
        """
        sizes = spaced(nbytes)
        memory = device.empty((int(sizes.sum()),), np.uint8)
        return cls(device, memory, np.cumsum(sizes) - sizes, nbytes, targets)

    def keep(self, places: Int64s) -> None:
        """Copy the pixels of the images at `places` to the cache, once they are made."""
        if not len(places):
            return
        start = self.device.download(self.memory).ctypes.data
        for place in places.tolist():
            at = start + int(self.starts[place])
            ctypes.memmove(int(self.targets[place]), at, int(self.nbytes[place]))
