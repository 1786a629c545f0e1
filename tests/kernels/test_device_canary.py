"""Canaries: there where nothing was written, gone where pixels came, in images of any size."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from device_code import CAPABILITIES, Memory, check_code, guarded, noise

pytest.importorskip("numba.cuda")

from gpuio.kernels import simulated
from gpuio.kernels.device_canary import (
    CANARY,
    CHECK_CANARIES,
    SPOT_BYTES,
    SPOTS,
    WRITE_CANARIES,
    canary_grid,
)

SIZES = [0, 1, 3, 7, 8, 9, 15, 30, 32, 33, 100, 1001]


class Images:
    """Images in memory that is watched, one of each of SIZES."""

    def __init__(self):
        self.memory = Memory()
        kernels = simulated.load(self.memory).modules["gpuio.kernels.device_canary"]
        self._write, self._check = kernels.WRITE_CANARIES, kernels.CHECK_CANARIES
        self.pixels, self.guards = zip(*map(guarded, SIZES), strict=True)
        self.table = self.memory.add(np.zeros(len(SIZES), CANARY))
        for row, pixels in zip(self.table, self.pixels, strict=True):
            if pixels.size:
                self.memory.add(pixels, writable=True)
            row["start"], row["nbytes"] = pixels.ctypes.data, pixels.nbytes
        self.table["word"] = np.random.default_rng(1).integers(0, 2**64, len(SIZES), np.uint64)
        self.count = SPOTS * len(SIZES)
        self.flags = self.memory.add(np.full(self.count, 9, np.uint8), writable=True)

    def write(self):
        args = (self.table.ctypes.data, self.count)
        simulated.simulate(self._write, canary_grid(self.count), args)

    def check(self):
        """(N, SPOTS) whether each canary is there."""
        args = (self.table.ctypes.data, self.count, self.flags.ctypes.data)
        simulated.simulate(self._check, canary_grid(self.count), args)
        return self.flags.reshape(-1, SPOTS)


def test_canaries_are_there_in_all_images_that_have_bytes():
    images = Images()
    images.write()
    npt.assert_array_equal(images.check().all(axis=1), np.array(SIZES) > 0)
    assert not images.check()[0].any()
    for size, memory in zip(SIZES, images.guards, strict=True):
        beside = np.delete(memory, np.s_[64 : 64 + size])
        assert (beside == 0x77).all()


def test_canaries_are_gone_once_all_pixels_are_written():
    images = Images()
    images.write()
    for seed, pixels in enumerate(images.pixels):
        pixels[:] = noise(pixels.shape, seed)
    assert not images.check().any()


@pytest.mark.parametrize("missing", [SPOT_BYTES, 30])
def test_the_last_canary_is_there_where_the_end_is_missing(missing):
    images = Images()
    images.write()
    for seed, pixels in enumerate(images.pixels):
        pixels[: max(0, pixels.size - missing)] = noise(max(0, pixels.size - missing), seed)
    npt.assert_array_equal(images.check()[:, -1], np.array(SIZES) > 0)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
@pytest.mark.parametrize("kernel", [WRITE_CANARIES, CHECK_CANARIES], ids=lambda kernel: kernel.name)
def test_their_code_is_small(kernel, capability):
    check_code(kernel, capability, registers=32)
