"""Kernels read and write inside of what they are given: outside is memory that cannot be touched.

Windows of images end, or begin, at pages without access, where a read too far ends the process; so
all of it runs in one of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_FENCE = 64 * mmap.PAGESIZE  # pixel (0, 0), which is not there, may lie far before a window
_NO_ACCESS = 0


class Fenced:
    """Puts windows into pages between two that nobody may touch; as `conftest.surrounded`."""

    def __init__(self, *, at_end):
        self.at_end = at_end
        self.held = []

    def __call__(self, image, box, poison):
        y, x, height, width = box
        window = image[y : y + height, x : x + width]
        memory, used = self._pages(window.size)
        start = memory.size - used if self.at_end else 0
        memory[:] = poison
        memory[start : start + window.size] = window.reshape(-1)
        pitch = width * image.shape[2]
        return memory, memory.ctypes.data + start - y * pitch - x * image.shape[2], pitch

    def _pages(self, nbytes):
        """Memory of whole pages between two fences, and how much of it is asked for."""
        page = mmap.PAGESIZE
        inner = -(-nbytes // page) * page
        pages = mmap.mmap(-1, inner + 2 * _FENCE)
        whole = np.frombuffer(pages, np.uint8)
        self.held.append(pages)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for start in (whole.ctypes.data, whole.ctypes.data + _FENCE + inner):
            length = ctypes.c_size_t(_FENCE)
            assert protect(ctypes.c_void_p(start), length, _NO_ACCESS) == 0, ctypes.get_errno()
        return whole[_FENCE : _FENCE + inner], nbytes


def touch(what):
    """Read one byte behind, or before, a fenced window, to see that this ends the process."""
    image = np.zeros((4, 5, 3), np.uint8)
    _, start, _ = Fenced(at_end=what == "behind")(image, (0, 0, 4, 5), 0)
    ctypes.string_at(start + image.size if what == "behind" else start - 1, 1)


def load():
    """Any plan on any images, with fences on both sides."""
    from conftest import plan_of, run
    from hypothesis import assume, given, settings
    from hypothesis import strategies as st
    from test_properties import SLOW, fits, normalization, parameters, pictures

    @given(data=st.data())
    @settings(SLOW, max_examples=250, database=None)
    def reads_and_writes_inside(data):
        o = data.draw(parameters())
        images = data.draw(pictures(o["data_shape"][0]))
        assume(fits(o, images))
        plan = plan_of(normalization(o), **o)
        for at_end in (True, False):
            run(plan, images, seed=3, place=Fenced(at_end=at_end))

    reads_and_writes_inside()


def in_a_process(*arguments):
    command = [sys.executable, "-X", "faulthandler", __file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize("what", ["behind", "before"])
def test_the_fences_hold(what):
    assert "Segmentation fault" in in_a_process(what).stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_no_byte_outside_of_a_window_is_touched():
    found = in_a_process()
    assert found.returncode == 0, found.stderr[-3000:]


if __name__ == "__main__":
    sys.path[:0] = map(str, Path(__file__).parents[:2])
    touch(sys.argv[1]) if sys.argv[1:] else load()
