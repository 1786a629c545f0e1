"""Resizing, held against OpenCV bit for bit, and against its rule where its vector code differs."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuio.kernels.resample import finish, lend_memory, resample, resize
from gpuio.kernels.steps import COLOR_STEP, STEP, ColorKind, OutputType, StepKind, resize_kinds
from gpuio.testing import draw

NEAREST, LINEAR, CUBIC, AREA, LANCZOS = range(5)
METHODS = {
    "nearest": NEAREST, "linear": LINEAR, "cubic": CUBIC, "area": AREA, "Lanczos": LANCZOS,
}  # fmt: skip
METHOD = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
CHANNELS = pytest.mark.parametrize("channels", [1, 3, 4])
# Heights and widths before and after.
SIZES = [
    ((40, 52), (31, 23)),
    ((40, 52), (67, 99)),
    ((40, 52), (20, 26)),  # two by two into one
    ((42, 63), (14, 9)),  # whole factors
    ((40, 52), (40, 26)),
    ((33, 17), (50, 9)),  # grows and shrinks
    ((17, 33), (9, 50)),
    ((1, 1), (7, 5)),
    ((7, 5), (1, 1)),
    ((1, 40), (3, 41)),
    ((40, 1), (41, 3)),
    ((2, 2), (3, 3)),
    ((97, 101), (96, 100)),
]

sides = st.integers(1, 40)
any_sizes = st.tuples(st.tuples(sides, sides), st.tuples(sides, sides))
methods = st.sampled_from(list(METHODS.values()))


def noise(size, channels, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, channels), dtype=np.uint8)


def opencv(image, size, method):
    cv2 = pytest.importorskip("cv2")
    return cv2.resize(image, size[::-1], interpolation=method).reshape(*size, -1)


def cubic_axis(src, dst):
    """(dst, 4) source positions and weights in 1/2048, by the formulas."""
    f32, a = np.float32, np.float32(-0.75)
    scale = 1 / (np.float64(dst) / np.float64(src))
    at = ((np.arange(dst) + 0.5) * scale - 0.5).astype(f32)
    first = np.floor(at).astype(int)
    t = at - first.astype(f32)
    u, v = t + f32(1), f32(1) - t
    weights = [
        ((a * u - 5 * a) * u + 8 * a) * u - 4 * a,
        ((a + 2) * t - (a + 3)) * t * t + f32(1),
        ((a + 2) * v - (a + 3)) * v * v + f32(1),
    ]
    weights.append(f32(1) - weights[0] - weights[1] - weights[2])
    places = np.clip(first[:, None] + np.arange(-1, 3), 0, src - 1)
    return places, np.rint(np.stack(weights, 1) * f32(2048)).astype(np.int64)


def cubic(image, size):
    """Bicubic by OpenCV's own code: float32 along y, but integers in the last values of a row."""
    (height, width), channels = size, image.shape[2]
    columns, across = cubic_axis(image.shape[1], width)
    rows, down = cubic_axis(image.shape[0], height)
    wide = (image[:, columns].astype(np.int64) * across[..., None]).sum(axis=2)
    lines = wide[rows].reshape(height, 4, width * channels)
    whole = np.rint(sum_down(lines, down))
    tail = (lines * down[..., None]).sum(axis=1) + (1 << 21) >> 22
    if channels == 3:  # the order of values in OpenCV: blue, green, red
        order = np.arange(width * 3).reshape(-1, 3)[:, ::-1].ravel()
    else:
        order = np.arange(width * channels)
    last = order[width * channels // 8 * 8 :]
    whole[:, last] = tail[:, last]
    return np.clip(whole, 0, 255).astype(np.uint8).reshape(height, width, channels)


def sum_down(lines, down):
    beta = down.astype(np.float32) * np.float32(2**-22)
    terms = lines.astype(np.float32) * beta[..., None]
    return ((terms[:, 0] + terms[:, 1]) + terms[:, 2]) + terms[:, 3]


@CHANNELS
@pytest.mark.parametrize("method", [NEAREST, LINEAR, AREA, LANCZOS])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resizes_as_opencv_does(before, after, method, channels):
    for image in noise(before, channels), draw(*before, channels):
        npt.assert_array_equal(resize(image, *after, method), opencv(image, after, method))


@given(sizes=any_sizes, method=st.sampled_from([NEAREST, LINEAR, AREA, LANCZOS]))
@settings(max_examples=60, deadline=None)
def test_resizes_as_opencv_does_at_any_size(sizes, method):
    image = noise(sizes[0], 3)
    npt.assert_array_equal(resize(image, *sizes[1], method), opencv(image, sizes[1], method))


@CHANNELS
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_cubic_is_the_float32_rule_and_within_one_level_of_opencv(before, after, channels):
    for image in noise(before, channels), draw(*before, channels):
        got = resize(image, *after, CUBIC)
        npt.assert_array_equal(got, cubic(image, after))
        difference = np.abs(got.astype(int) - opencv(image, after, CUBIC))
        assert difference.max() <= 1


@given(sizes=any_sizes, channels=st.sampled_from([1, 3, 4]))
@settings(max_examples=60, deadline=None)
def test_cubic_is_the_float32_rule_at_any_size(sizes, channels):
    image = noise(sizes[0], channels)
    if sizes[0] != sizes[1]:
        npt.assert_array_equal(resize(image, *sizes[1], CUBIC), cubic(image, sizes[1]))


@METHOD
def test_equal_sizes_are_a_copy(method):
    image = noise((9, 11), 3)
    npt.assert_array_equal(resize(image, 9, 11, method), image)


@METHOD
def test_extremes_do_not_wrap_around(method):
    image = noise((12, 12), 1) // 128 * 255
    got = resize(image, 31, 29, method).astype(int)
    plain = np.clip(opencv(image.astype(np.float32), (31, 29), method), 0, 255)
    assert np.abs(got - plain).max() <= 2


@pytest.mark.parametrize("method", [CUBIC, LANCZOS])
def test_the_largest_sums_fit_in_32_bits(method):
    # Halfway between two pixels, all weights are at their largest, and every other one is negative.
    signs = np.array([-1, 1, -1, 1, 1, -1, 1, -1])
    image = np.zeros((16, 16, 1), np.uint8)
    image[3:11, 3:11, 0] = np.where(np.outer(signs, signs) > 0, 255, 0)
    for picture, level in (image, 255), (255 - image, 0):
        assert resize(picture, 8, 8, method)[3, 3] == level
        assert opencv(picture, (8, 8), method)[3, 3] == level


def test_an_image_may_be_gray_without_an_axis_and_any_view():
    image = noise((40, 52), 3)
    npt.assert_array_equal(
        resize(image[:, ::-1, 1], 20, 20), opencv(image[:, ::-1, 1].copy(), (20, 20), 1)[..., 0]
    )


def window(image, size, method, box, *, poison):
    """Resize with `poison` in all memory around image and result; the result of the window."""
    (height, width, channels), (rows, cols) = image.shape, box[2:]
    source = np.full((height + 6, width * channels + 29), poison, np.uint8)
    source[3:-3, 13 : 13 + width * channels] = image.reshape(height, -1)
    out = np.full((rows + 6, cols * channels + 23), poison, np.uint8)
    step = np.zeros(1, STEP)
    step["src"], step["src_pitch"] = source[3:, 13:].ctypes.data, source.strides[0]
    step["dst"], step["dst_pitch"] = out[3:, 11:].ctypes.data, out.strides[0]
    step["src_height"], step["src_width"] = height, width
    step["dst_height"], step["dst_width"] = size
    step["kind"] = resize_kinds(np.array([[height, width]]), np.array([size]), np.array([method]))
    step["y"], step["x"], step["rows"], step["cols"] = box
    before = source.copy()
    lent = lend_memory(step, channels)
    resample(1, 1, step.ctypes.data, channels)
    del lent
    npt.assert_array_equal(source, before)
    got = out[3:-3, 11 : 11 + cols * channels].copy()
    out[3:-3, 11 : 11 + cols * channels] = poison
    assert (out == poison).all(), "written beside the window"
    return got.reshape(rows, cols, channels)


@st.composite
def windows(draw_):
    before, after = draw_(any_sizes)
    rows, cols = draw_(st.integers(1, after[0])), draw_(st.integers(1, after[1]))
    y, x = draw_(st.integers(0, after[0] - rows)), draw_(st.integers(0, after[1] - cols))
    return before, after, (y, x, rows, cols)


@given(case=windows(), method=methods, channels=st.sampled_from([1, 3, 4]))
@settings(max_examples=200, deadline=None)
def test_a_window_is_that_part_of_the_whole_and_nothing_beside_it_is_touched(
    case, method, channels
):
    before, after, (y, x, rows, cols) = case
    image = noise(before, channels)
    whole = resize(image, *after, method)
    for poison in (0x00, 0xFF, 0xA5):
        got = window(image, after, method, (y, x, rows, cols), poison=poison)
        npt.assert_array_equal(got, whole[y : y + rows, x : x + cols])


def test_images_of_a_batch_do_not_mix():
    images = [draw(10 + n, 30 - n, seed=n) for n in range(9)]
    outs = [np.empty((20, 20, 3), np.uint8) for _ in images]
    steps = np.zeros(len(images), STEP)
    for step, image, out in zip(steps, images, outs, strict=True):
        step["src"], step["src_pitch"] = image.ctypes.data, image.strides[0]
        step["dst"], step["dst_pitch"] = out.ctypes.data, out.strides[0]
        step["kind"] = StepKind.LINEAR
        step["src_height"], step["src_width"] = image.shape[:2]
        step["dst_height"] = step["dst_width"] = step["rows"] = step["cols"] = 20
    lent = lend_memory(steps, 3)
    resample(len(steps), 3, steps.ctypes.data, 3)
    del lent
    for image, out in zip(images, outs, strict=True):
        npt.assert_array_equal(out, resize(image, 20, 20, LINEAR))


@pytest.mark.parametrize(
    ("kind", "color", "interleaved", "needed"),
    [
        (StepKind.COPY, 0, 0, {"emit_pixels"}),
        (StepKind.LINEAR, 0, 0, {"planes", "emit_planes"}),
        (StepKind.LINEAR, 0, 1, {"pixels", "emit_pixels"}),
        (StepKind.LINEAR, 1, 0, {"pixels", "colors", "emit_pixels"}),
        (StepKind.COPY, 1, 0, {"colors", "emit_pixels"}),
        (StepKind.AREA, 0, 0, {"pixels", "emit_pixels"}),
    ],
)
def test_only_routines_that_a_table_needs_are_compiled(
    monkeypatch, kind, color, interleaved, needed
):
    monkeypatch.setattr(finish, "routines", np.zeros_like(finish.routines))
    table = np.zeros(5, STEP)
    colors = np.array([(ColorKind.NONE, 0, 0, 0), (ColorKind.GRAY, 0, 0, 0)], COLOR_STEP)
    table["kind"], table["color"] = kind, colors.ctypes.data if color else 0
    table["color_count"] = len(colors)
    args = table.ctypes.data, 3, OutputType.FLOAT32, interleaved
    assert finish.prepare(args, len(table)) == [*args, finish.routines.ctypes.data]
    assert {name for name in finish.routines.dtype.names if finish.routines[name].any()} == needed
    assert np.flatnonzero(finish.routines["colors"][0]).tolist() == [ColorKind.GRAY] * color
