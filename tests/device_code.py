"""What tests of a device's kernels have in common: memory that is watched, and compiled code."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

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


def check_code(kernel, capability, folder, *, registers):
    """Compile a kernel: it rounds each operation to float32, calls nothing and spills nothing.

    Args:
        kernel: A DeviceKernel.
        capability: Compute capability, as (9, 0).
        folder: An empty one.
        registers: The most that a thread may take.
    """
    from gpuio.kernels import device

    text = device.ptx(kernel, capability)
    arch = f"sm_{capability[0]}{capability[1]}"
    assert f".target {arch}" in text
    assert ".f64" not in text
    assert not re.search(r"\bfma\.|\bmad\.\w*\.?f32|div\.(approx|full)|\.ftz", text)
    assert not re.search(r"\bcall\b|\.local\b", text)
    ptxas = shutil.which("ptxas")
    if ptxas is None:
        pytest.skip("without ptxas, spills are not looked for")
    source = folder / "kernel.ptx"
    # What compiled it may be newer than ptxas; of what that brought, nothing is used.
    source.write_text(re.sub(r"\.version \d+\.\d+", ".version 9.0", text))
    command = [ptxas, "-v", f"-arch={arch}", source, "-o", folder / "out"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert " 0 bytes spill stores, 0 bytes spill loads" in found
    used = re.search(r"Used (\d+) registers", found)
    assert used
    assert int(used[1]) <= registers
