"""What tests of a device's kernels have in common: memory that is watched, and compiled code."""

from __future__ import annotations

import re

import numpy as np

POISON = 0x77
GUARD = 64
CAPABILITIES = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]


class Memory:
    """Arrays that a kernel may read, and bytes of arrays that it may write, by their addresses."""

    def __init__(self):
        self.arrays = {}

    def add(self, array, *, writable=False):
        """The array, whose memory kernels may use from now on."""
        self.arrays[array.ctypes.data] = array.reshape(-1).view(np.uint8), writable
        return array

    def _find(self, address, nbytes, *, write):
        for start, (array, writable) in self.arrays.items():
            if start <= address and address + nbytes <= start + array.nbytes:
                assert writable or not write, f"{address:#x} is not to be written"
                assert address % nbytes == 0, f"{nbytes} bytes at {address:#x} are not aligned"
                return array, address - start
        raise IndexError(f"{nbytes} bytes at {address:#x} are nobody's")

    def load(self, address, nbytes):
        array, at = self._find(address, nbytes, write=False)
        return array[at : at + nbytes].tobytes()

    def store(self, address, data):
        array, at = self._find(address, len(data), write=True)
        array[at : at + len(data)] = np.frombuffer(data, np.uint8)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def guarded(nbytes):
    """(nbytes,) uint8 between bytes that must stay as they are; and all of it."""
    memory = np.full(nbytes + 2 * GUARD, POISON, np.uint8)
    return memory[GUARD : GUARD + nbytes], memory


def check_code(kernel, capability, *, registers):
    """Compile a kernel: it rounds each operation to float32, calls nothing and spills nothing.

    Args:
        kernel: A DeviceKernel.
        capability: Compute capability, as (9, 0).
        registers: The most that a thread may take.
    """
    from gpuio.kernels import device

    text = device.ptx(kernel, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in text
    assert ".f64" not in text
    assert not re.search(r"\bfma\.|\bmad\.\w*\.?f32|div\.(approx|full)|\.ftz", text)
    assert not re.search(r"\bcall\b|\.local\b", text)
    _, told = device.machine_code(kernel, capability)
    assert " 0 bytes spill stores, 0 bytes spill loads" in told
    used = re.search(r"Used (\d+) registers", told)
    assert used
    assert int(used[1]) <= registers
