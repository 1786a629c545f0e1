"""The last kernel: normalize, mirror, cast and lay out, with NumPy as the oracle."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from numba import njit

from gpuio.kernels.arithmetic import bfloat16_bits, float16_bits
from gpuio.kernels.resample import finish, lend_memory, resize
from gpuio.kernels.steps import NORM, STEP, OutputType, StepKind
from gpuio.testing import draw

KINDS = {
    "float32": OutputType.FLOAT32,
    "float16": OutputType.FLOAT16,
    "int8": OutputType.INT8,
    "uint8": OutputType.UINT8,
}
BITS = {**KINDS, "int16": OutputType.BFLOAT16}
DTYPE = pytest.mark.parametrize("dtype", KINDS)
CHANNELS = pytest.mark.parametrize("channels", [1, 3, 4])
NORMS = np.array([123.68, 116.78, 103.94, 7, 1 / 58.4, 0.3, -2.5, 1e-3, 0.25, 0, -1, 3], np.float32)
POISON = 0x77


def batch(images, dtype, *, norm=NORMS, mirror=False, layout="NCHW", mean=None, **step):
    """`finish` over images of one size; (N, C, H, W) or (N, H, W, C)."""
    count, (height, width, channels) = len(images), images[0].shape
    rows, cols = step.pop("size", (height, width))
    shape = (channels, rows, cols) if layout == "NCHW" else (rows, cols, channels)
    memory = np.full(64 + count * int(np.prod(shape)) * np.dtype(dtype).itemsize, POISON, np.uint8)
    out = memory[32:-32].view(dtype).reshape(count, *shape)
    table = np.zeros(count, STEP)
    table["src"] = [image.ctypes.data for image in images]
    table["dst"] = [image.ctypes.data for image in out]
    table["norm"] = norm.ctypes.data
    table["mean_image"] = 0 if mean is None else mean.ctypes.data
    table["src_pitch"] = width * channels
    table["kind"], table["mirror"] = step.pop("kind", StepKind.COPY), mirror
    table["src_height"], table["src_width"] = height, width
    table["dst_height"], table["dst_width"] = table["rows"], table["cols"] = rows, cols
    args = channels, BITS[dtype], layout == "NHWC"
    memory_lent = lend_memory(table, channels)
    finish(count, 2, table.ctypes.data, *args)
    del memory_lent
    assert (memory[:32] == POISON).all()
    assert (memory[-32:] == POISON).all()
    return out


def expected(images, dtype, *, norm=NORMS, mirror=False, layout="NCHW", mean=None):
    """The same, in NumPy."""
    pixels = np.stack(images).transpose(0, 3, 1, 2)
    means, gains, biases = norm.reshape(3, 4, 1, 1)[:, : pixels.shape[1]]
    value = pixels.astype(np.float32) - (means if mean is None else mean)
    if dtype == "uint8":
        value = pixels
    elif dtype == "int8":
        value = np.clip(value, -128, 127)
    else:
        value = value * gains + biases
    value = value.astype(dtype)
    if mirror:
        value = value[..., ::-1]
    return value if layout == "NCHW" else value.transpose(0, 2, 3, 1)


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


@CHANNELS
@DTYPE
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("mirror", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("with_mean", [False, True], ids=["", "mean image"])
def test_writes_what_numpy_computes(channels, dtype, layout, mirror, with_mean):
    images = [draw(7, 9, channels, seed=n) for n in range(3)]
    options = {"layout": layout, "mirror": mirror}
    if with_mean:
        mean = np.random.default_rng(1).uniform(0, 255, (channels, 7, 9)).astype(np.float32)
        options["mean"] = np.rint(mean) if dtype == "int8" else mean
    if dtype == "int8":
        options["norm"] = np.rint(NORMS)
    got = batch(images, dtype, **options)
    npt.assert_array_equal(bits(got), bits(expected(images, dtype, **options)))


def test_int8_is_clamped():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    for mean in (-20, 0, 128, 200):
        norm = np.full(NORM, mean, np.float32)
        got = batch([image], "int8", norm=norm)[0].ravel()
        npt.assert_array_equal(got, np.clip(np.arange(256) - mean, -128, 127))


@DTYPE
def test_a_picture_that_is_skipped_is_left_alone(dtype):
    images = [draw(7, 9, seed=n) for n in range(3)]
    got = batch(images, dtype, kind=np.array([StepKind.COPY, StepKind.SKIP, StepKind.COPY]))
    npt.assert_array_equal(got[[0, 2]], expected([images[0], images[2]], dtype))
    assert (got[1].view(np.uint8) == POISON).all()


def test_a_last_resize_is_normalised_on_its_way_out():
    image = draw(31, 40)
    got = batch([image], "float32", kind=StepKind.LINEAR, size=(12, 13), mirror=True)
    npt.assert_array_equal(got, expected([resize(image, 12, 13)], "float32", mirror=True))


@njit
def to_half(values, out):
    for k in range(len(values)):
        out[k] = float16_bits(values[k])


NANS = np.array([0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)


def half(values):
    out = np.empty(len(values), np.uint16)
    to_half(values.astype(np.float32), out)
    return out.view(np.float16)


def test_float16_rounds_as_numpy_does_at_every_number_and_every_tie():
    every = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (every[1:] + every[:-1]) / 2
    values = [every, ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(1e9))]
    values = np.concatenate([*values, *(-v for v in values)])
    npt.assert_array_equal(bits(half(values)), bits(values.astype(np.float16)))


def test_float16_overflows_to_infinity_and_keeps_nan():
    last = 65504 + 16  # the tie between the largest number and what would follow it
    edge = np.float32([last, np.nextafter(np.float32(last), np.float32(0)), 1e38, np.inf])
    with np.errstate(over="ignore"):
        npt.assert_array_equal(half(edge), edge.astype(np.float16))
        npt.assert_array_equal(half(-edge), (-edge).astype(np.float16))
    assert (bits(half(NANS)) == 0x7FFF).all()  # as CUDA's instruction has it
    tiny = np.float32([1e-45, 2**-25, np.nextafter(np.float32(2**-25), np.float32(1)), -1e-30])
    npt.assert_array_equal(bits(half(tiny)), bits(tiny.astype(np.float16)))


@njit
def to_bfloat(values, out):
    for k in range(len(values)):
        out[k] = bfloat16_bits(values[k])


def bfloat(values):
    """As float32, which holds every bfloat16."""
    out = np.empty(len(values), np.uint16)
    to_bfloat(values.astype(np.float32), out)
    return (out.astype(np.uint32) << 16).view(np.float32)


def test_bfloat16_rounds_to_even_at_every_number_and_every_tie():
    every = np.arange(0x7F80, dtype=np.uint32)
    exact = (every << 16).view(np.float32)
    npt.assert_array_equal(bits(bfloat(exact)), bits(exact))
    npt.assert_array_equal(bits(bfloat(-exact)), bits(-exact))
    above = (every[1:] << 16).view(np.float32)
    lower, upper = exact[:-1], above
    ties = ((every[:-1] << 16) + 0x8000).view(np.float32)
    even = np.where(every[:-1] % 2 == 0, lower, upper)
    npt.assert_array_equal(bfloat(ties), even)
    npt.assert_array_equal(bfloat(np.nextafter(ties, np.float32(0))), lower)
    npt.assert_array_equal(bfloat(np.nextafter(ties, np.float32(np.inf))), upper)


def test_bfloat16_keeps_infinity_and_nan():
    largest = np.uint32(0x7F7FFFFF).view(np.float32)
    edge = bfloat(np.float32([np.inf, -np.inf, largest]))
    npt.assert_array_equal(edge, np.float32([np.inf, -np.inf, np.inf]))
    assert (bits(bfloat(NANS)) == 0x7FFF0000).all()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", [StepKind.COPY, StepKind.LINEAR])
def test_bfloat16_is_float32_rounded(layout, kind):
    image = draw(31, 40)
    options = {"layout": layout, "kind": kind, "size": (12, 13), "mirror": True}
    exact = batch([image], "float32", **options)
    got = batch([image], "int16", **options).view(np.uint16).astype(np.uint32) << 16
    npt.assert_array_equal(got.view(np.float32).ravel(), bfloat(exact.ravel()))
