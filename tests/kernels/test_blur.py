"""Blur: NumPy's convolution in float32, whole pictures and windows of them, CPU and device."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuio.kernels.resample import lend_memory, resample
from gpuio.kernels.steps import STEP, StepKind
from gpuio.testing import draw

F32 = np.float32
SIZES = [(30, 41), (24, 24), (7, 50), (1, 9), (9, 1), (1, 1), (2, 3)]
CHANNELS = pytest.mark.parametrize("channels", [1, 3, 4])


def gaussian(taps, sigma):
    """(taps,) float32 weights that sum to 1."""
    with np.errstate(under="ignore"):
        weights = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / sigma) ** 2)
    return (weights / weights.sum()).astype(F32)


def convolved(image, weights, axis):
    """(H, W, C) float32 `image` along an axis, rounded after each product and each sum."""
    radius, count = len(weights) // 2, image.shape[axis]
    pad = [(radius, radius) if k == axis else (0, 0) for k in range(3)]
    padded, total = np.pad(image, pad, mode="reflect"), None
    for k, weight in enumerate(weights):
        term = np.take(padded, np.arange(k, k + count), axis) * weight
        total = term if total is None else total + term
    return total


def reference(image, across, down):
    """What a blur makes of (H, W, C) uint8."""
    sums = convolved(convolved(image.astype(F32), across, 1), down, 0)
    return np.clip(np.rint(sums), 0, 255).astype(np.uint8)


def blurred(image, across, down, box=None):
    """The window `box`, (y, x, rows, cols), of what the kernel makes of (H, W, C) uint8."""
    image = np.ascontiguousarray(image)
    height, width, channels = image.shape
    y, x, rows, cols = (0, 0, height, width) if box is None else box
    out, weights = np.full((rows, cols, channels), 0x77, np.uint8), np.stack([across, down])
    step = np.zeros(1, STEP)
    step["kind"], step["margin"] = StepKind.BLUR, len(across) // 2
    step["weights"] = weights.ctypes.data
    step["src"], step["src_pitch"] = image.ctypes.data, image.strides[0]
    step["dst"], step["dst_pitch"] = out.ctypes.data, out.strides[0]
    step["src_height"] = step["dst_height"] = height
    step["src_width"] = step["dst_width"] = width
    step["y"], step["x"], step["rows"], step["cols"] = y, x, rows, cols
    lent = lend_memory(step, channels)
    resample(1, 1, step.ctypes.data, channels)
    del lent
    return out


def picture(size, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)


@CHANNELS
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("taps", [3, 5, 11, 23])
@pytest.mark.parametrize("sigma", [1e-3, 0.4, 2, 1e6])
def test_a_blur_is_numpys_convolution(size, channels, taps, sigma):
    image, weights = picture(size, channels), gaussian(taps, sigma)
    npt.assert_array_equal(blurred(image, weights, weights), reference(image, weights, weights))


def test_both_axes_have_weights_of_their_own():
    image, across, down = draw(30, 40), gaussian(9, 0.7), gaussian(9, 3)
    npt.assert_array_equal(blurred(image, across, down), reference(image, across, down))


def test_pictures_of_one_level_stay_as_they_are():
    for value in (0, 1, 254, 255):
        image = np.full((20, 30, 3), value, np.uint8)
        weights = gaussian(23, 5)
        npt.assert_array_equal(blurred(image, weights, weights), image)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_window_is_the_cut_of_the_whole_result(data):
    height, width = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, cols = data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x))
    weights = gaussian(2 * data.draw(st.integers(1, 11)) + 1, data.draw(st.floats(0.1, 20)))
    image = picture((height, width), 3, height)
    whole = blurred(image, weights, weights)
    npt.assert_array_equal(
        blurred(image, weights, weights, (y, x, rows, cols)), whole[y : y + rows, x : x + cols]
    )


@pytest.mark.parametrize("taps", [3, 23])
@pytest.mark.parametrize("box", [(0, 0, 4, 5), (11, 13, 4, 5), (26, 36, 4, 5)], ids=str)
def test_only_pixels_within_its_reach_are_read(box, taps):
    """All others may be anything: the result is that of the whole picture."""
    y, x, rows, cols = box
    image, weights, radius = picture((30, 41), 3), gaussian(taps, 4), taps // 2
    expected = reference(image, weights, weights)[y : y + rows, x : x + cols]
    there = np.zeros((30, 41), bool)
    there[max(y - radius, 0) : y + rows + radius, max(x - radius, 0) : x + cols + radius] = True
    image[~there] = 0xFF - image[~there]
    npt.assert_array_equal(blurred(image, weights, weights, box), expected)
