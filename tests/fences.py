"""Memory between pages that nobody may touch: what is read or written outside ends the process."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import numpy.typing as npt

_PAGE = mmap.PAGESIZE


class Fences:
    """Memory between pages without access, used again and again. Needs mprotect.

    Args:
        nbytes: Most bytes that are wanted at a time.
        fence: Bytes without access on both sides; pixel (0, 0) may lie far before a window.
    """

    def __init__(self, nbytes: int, fence: int = 256 * _PAGE) -> None:
        self.inner = -(-nbytes // _PAGE) * _PAGE
        self.pages = mmap.mmap(-1, self.inner + 2 * fence)
        whole = np.frombuffer(self.pages, np.uint8)
        for part in (whole[:fence], whole[fence + self.inner :]):
            address = ctypes.c_void_p(part.ctypes.data)
            assert ctypes.CDLL(None).mprotect(address, ctypes.c_size_t(fence), 0) == 0
        self.memory = whole[fence : fence + self.inner]

    def at(self, nbytes: int, *, at_end: bool) -> npt.NDArray[np.uint8]:
        """(nbytes,) uint8 that end, or begin, at a fence."""
        assert nbytes <= self.inner
        return self.memory[self.inner - nbytes :] if at_end else self.memory[:nbytes]
