"""Warps and borders: OpenCV's fixed-point rule, written a second time for whole arrays."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuio.kernels.resample import lend_memory, resample
from gpuio.kernels.steps import STEP, StepKind
from gpuio.kernels.warp import weight_table

F32 = np.float32
KINDS = {
    "nearest": StepKind.WARP_NEAREST,
    "linear": StepKind.WARP_LINEAR,
    "cubic": StepKind.WARP_CUBIC,
    "Lanczos": StepKind.WARP_LANCZOS,
}
KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
CHANNELS = pytest.mark.parametrize("channels", [1, 3, 4])
TAPS = {StepKind.WARP_LINEAR: 2, StepKind.WARP_CUBIC: 4, StepKind.WARP_LANCZOS: 8}


def rotation(degrees, scale=1.0, shift=(0.0, 0.0)):
    """Canvas to source: turned, shrunk and moved."""
    turn = np.deg2rad(degrees)
    a, b = np.cos(turn) / scale, np.sin(turn) / scale
    return np.array([a, b, shift[0], -b, a, shift[1]])


MATRICES = {
    "identity": rotation(0),
    "by halves": rotation(0, shift=(0.5, -0.5)),
    "turned": rotation(27, shift=(-9.3, 21.7)),
    "enlarged": rotation(-160, 2.7, (40.0, 33.0)),
    "shrunk": rotation(45, 0.31, (-20.0, 5.0)),
    "sheared": np.array([1.1, 0.7, -12.0, -0.02, 0.8, 3.3]),
    "far outside": rotation(10, shift=(5000.0, -7000.0)),
}
MATRIX = pytest.mark.parametrize("matrix", MATRICES.values(), ids=list(MATRICES))


def noise(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def place(image, kind, size, *, matrix=None, fill=77, margin=0, box=None, poison=0):
    """The window `box` (all if None) of the canvas, with `poison` around image and window."""
    (height, width, channels), box = image.shape, box or (0, 0, *size)
    rows, cols = box[2:]
    source = np.full((height + 6, width * channels + 29), poison, np.uint8)
    source[3:-3, 13 : 13 + width * channels] = image.reshape(height, -1)
    out = np.full((rows + 6, cols * channels + 23), poison, np.uint8)
    step = np.zeros(1, STEP)
    step["src"], step["src_pitch"] = source[3:, 13:].ctypes.data, source.strides[0]
    step["dst"], step["dst_pitch"] = out[3:, 11:].ctypes.data, out.strides[0]
    step["kind"], step["fill"], step["margin"] = kind, fill, margin
    step["src_height"], step["src_width"] = height, width
    step["dst_height"], step["dst_width"] = size
    step["y"], step["x"], step["rows"], step["cols"] = box
    if matrix is not None:
        matrix = np.ascontiguousarray(matrix, np.float64)
        step["matrix"] = matrix.ctypes.data
        if kind in (StepKind.WARP_CUBIC, StepKind.WARP_LANCZOS):
            step["weights"] = weight_table(TAPS[kind]).ctypes.data
    lent = lend_memory(step, channels)
    resample(1, 1, step.ctypes.data, channels)
    del lent
    got = out[3:-3, 11 : 11 + cols * channels].copy()
    out[3:-3, 11 : 11 + cols * channels] = poison
    assert (out == poison).all(), "written beside the window"
    return got.reshape(rows, cols, channels)


def line(t, taps):
    """(taps,) float32 weights of the taps around fraction `t`."""
    if taps == 2:
        return np.array([1 - t, t], F32)
    if taps == 4:
        a, u, v = F32(-0.75), t + F32(1), F32(1) - t
        outer = ((a * u - 5 * a) * u + 8 * a) * u - 4 * a
        inner = [((a + 2) * x - (a + 3)) * x * x + F32(1) for x in (t, v)]
        return np.array([outer, *inner, F32(1) - outer - inner[0] - inner[1]], F32)
    if t == 0:
        return np.eye(8, dtype=F32)[3]
    # The windowed sinc in OpenCV's words: sin(x) turned on by 45 degrees a tap.
    y = -(np.float64(t) + 3 - np.arange(8)) * np.pi / 4
    turn = y[0] + np.array([0, 5, 2, 7, 4, 1, 6, 3]) * np.pi / 4
    weights = (np.sin(turn) / y**2).astype(F32)
    return weights * (F32(1) / np.add.accumulate(weights)[-1])


def fraction_weights(taps):
    """(32, 32, taps, taps) in 1/32768, by fractions of y and x; each sums to 32768."""
    lines = np.stack([line(F32(k) / F32(32), taps) for k in range(32)])
    table = np.rint(lines[:, None, :, None] * lines[None, :, None, :] * F32(32768)).astype(int)
    table = np.minimum(table, 32767)  # OpenCV keeps them in 16 bits
    for weights in table.reshape(-1, taps, taps):
        surplus = weights.sum() - 32768
        if surplus:
            core = weights[taps // 2 : taps // 2 + 2, taps // 2 : taps // 2 + 2]
            best = core.argmax() if surplus < 0 else core.argmin()
            core[np.unravel_index(best, core.shape)] -= surplus
    return table


def warped(image, matrix, kind, size, fill):
    """The whole canvas by OpenCV's rule."""
    height, width, channels = image.shape
    (tall, wide), (i00, i01, i02, i10, i11, i12) = size, matrix
    y, x = np.arange(tall)[:, None], np.arange(wide)
    half = 512 if kind == StepKind.WARP_NEAREST else 16
    xs = np.rint((i01 * y + i02) * 1024) + half + np.rint(i00 * x * 1024)
    ys = np.rint((i11 * y + i12) * 1024) + half + np.rint(i10 * x * 1024)
    xs, ys = xs.astype(np.int64), ys.astype(np.int64)
    outside = np.array([fill, fill, fill, 0][:channels])
    taps = TAPS.get(kind, 1)
    before = taps // 2 - 1 if taps > 1 else 0
    total = np.zeros((tall, wide, channels), np.int64)
    weights = fraction_weights(taps)[ys >> 5 & 31, xs >> 5 & 31] if taps > 1 else None
    for j in range(taps):
        for i in range(taps):
            row, column = (ys >> 10) - before + j, (xs >> 10) - before + i
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            values = image[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
            values = np.where(inside[..., None], values, outside)
            total += values if weights is None else values * weights[..., j, i, None]
    return np.clip(total if weights is None else (total + 16384) >> 15, 0, 255).astype(np.uint8)


@KIND
@MATRIX
@CHANNELS
def test_warps_by_the_rule(kind, matrix, channels):
    image = noise(33, 41, channels)
    expected = warped(image, matrix, kind, (45, 37), 77)
    npt.assert_array_equal(place(image, kind, (45, 37), matrix=matrix), expected)


@pytest.mark.parametrize("taps", [4, 8])
def test_weights_are_the_rule_and_sum_to_one(taps):
    table = weight_table(taps).reshape(32, 32, taps, taps)
    npt.assert_array_equal(table, fraction_weights(taps))
    assert (table.sum(axis=(2, 3)) == 32768).all()


@KIND
@CHANNELS
def test_whole_pixels_are_copied_and_the_rest_filled(kind, channels):
    image = noise(20, 30, channels)
    got = place(image, kind, (20, 30), matrix=rotation(0, shift=(4, -3)), fill=9)
    npt.assert_array_equal(got[3:, :26], image[:-3, 4:])
    outside = [9, 9, 9, 0][:channels]
    assert (got[:3] == outside).all()
    assert (got[:, 26:] == outside).all()


@KIND
def test_four_quarter_turns_are_the_picture(kind):
    image = noise(24, 24, 3)
    turned = image
    for _ in range(4):
        turned = place(turned, kind, (24, 24), matrix=rotation(90, shift=(0, 23)))
    npt.assert_array_equal(turned, image)
    once = place(image, kind, (24, 24), matrix=rotation(90, shift=(0, 23)))
    npt.assert_array_equal(once, np.rot90(image, -1))


@KIND
def test_extremes_do_not_wrap_around(kind):
    image = noise(30, 30, 1) // 128 * 255
    got = place(image, kind, (50, 50), matrix=rotation(20, 1.5), fill=255).astype(int)
    linear = place(image, StepKind.WARP_LINEAR, (50, 50), matrix=rotation(20, 1.5), fill=255)
    assert np.abs(got - linear).mean() < 40


numbers = st.floats(-3, 3)
shifts = st.floats(-60, 60)
sides = st.integers(1, 30)


@st.composite
def windows(draw):
    size = draw(sides), draw(sides)
    rows, cols = draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))
    return size, (
        draw(st.integers(0, size[0] - rows)),
        draw(st.integers(0, size[1] - cols)),
        rows,
        cols,
    )


@given(
    matrix=st.tuples(numbers, numbers, shifts, numbers, numbers, shifts),
    case=windows(),
    source=st.tuples(sides, sides, st.sampled_from([1, 3, 4])),
    kind=st.sampled_from(list(KINDS.values())),
)
@settings(max_examples=150, deadline=None)
def test_any_window_of_any_warp_is_the_rule_and_nothing_beside_it_is_touched(
    matrix, case, source, kind
):
    image, (size, box) = noise(*source), case
    y, x, rows, cols = box
    expected = warped(image, matrix, kind, size, 77)[y : y + rows, x : x + cols]
    for poison in (0x00, 0xFF):
        got = place(image, kind, size, matrix=matrix, box=box, poison=poison)
        npt.assert_array_equal(got, expected)


@CHANNELS
@pytest.mark.parametrize("box", [None, (0, 0, 5, 30), (9, 7, 20, 15), (26, 33, 2, 3), (8, 8, 1, 1)])
def test_a_border_surrounds_the_picture(channels, box):
    image = noise(13, 21, channels)
    size = (13 + 16, 21 + 16)
    expected = np.empty((*size, channels), np.uint8)
    expected[:] = [5, 5, 5, 0][:channels]
    expected[8:-8, 8:-8] = image
    y, x, rows, cols = box or (0, 0, *size)
    for poison in (0x00, 0xFF):
        got = place(image, StepKind.BORDER, size, fill=5, margin=8, box=box, poison=poison)
        npt.assert_array_equal(got, expected[y : y + rows, x : x + cols])
