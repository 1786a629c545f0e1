"""Pixels from planes are those of libjpeg-turbo, for every sampling of chroma and any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.testing as npt
import pytest
import simplejpeg
from device_code import CAPABILITIES, GUARD, Memory, check_code, guarded
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba.cuda")

from gpuio.kernels import simulated
from gpuio.kernels.device_yuv import YUV_JOB, YUV_TO_RGB, yuv_grid
from gpuio.testing import draw, encode

SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:4:0": (2, 1), "4:2:0": (2, 2)}


def segments(data):
    """By marker, the segments of a JPEG of one scan, each with its marker; and the pixel data."""
    found, at = {}, 2
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        found.setdefault(marker, []).append(data[at : at + 2 + length])
        at += 2 + length
        if marker == 0xDA:
            return found, data[at:-2]


def joined(planes, down, across):
    """A JPEG of three scans, one for each plane, and what the planes are in it.

    The scan of one component is that of a gray JPEG, so each plane is encoded, and decoded, as one.
    """
    grays = [encode(plane[..., None], "JPEG", quality=90) for plane in planes]
    parts, scans = zip(*map(segments, grays), strict=True)
    height, width = planes[0].shape
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    components = bytes([1, 16 * across + down, 0, 2, 0x11, 0, 3, 0x11, 0])
    frame = b"\xff\xc0\x00\x11\x08" + size + b"\x03" + components
    tables = b"".join(parts[0][0xDB] + parts[0][0xC4])
    body = b"".join(
        b"\xff\xda\x00\x08\x01" + bytes([number, 0, 0, 63, 0]) + scan
        for number, scan in enumerate(scans, 1)
    )
    whole = b"\xff\xd8" + tables + frame + body + b"\xff\xd9"
    return whole, [simplejpeg.decode_jpeg(gray, "GRAY")[..., 0] for gray in grays]


def converted(planes, down, across, *, fancy):
    """What the kernel makes of planes, on memory that is watched."""
    memory, table = Memory(), np.zeros(1, YUV_JOB)
    height, width = planes[0].shape
    for name, plane in zip(("luma", "blue", "red"), planes, strict=True):
        table[name] = memory.add(np.ascontiguousarray(plane)).ctypes.data
    table["luma_pitch"], table["chroma_pitch"] = planes[0].shape[1], planes[1].shape[1]
    table["rows"], table["cols"] = planes[0].shape
    table["chroma_rows"], table["chroma_cols"] = planes[1].shape
    table["down"], table["across"], table["fancy"] = down, across, fancy
    table["dst_pitch"] = 3 * width
    pixels, whole = guarded(3 * height * width)
    before = whole.copy()
    table["dst"] = memory.add(pixels, writable=True).ctypes.data
    memory.add(table)
    namespace = simulated.load(memory).modules["gpuio.kernels.device_yuv"]
    kernel = replace(namespace.YUV_TO_RGB, block=(2, 4, 1))
    simulated.simulate(kernel, yuv_grid(kernel, table), (table.ctypes.data,))
    npt.assert_array_equal(whole[:GUARD], before[:GUARD])
    npt.assert_array_equal(whole[-GUARD:], before[-GUARD:])
    return pixels.reshape(height, width, 3)


@given(
    height=st.integers(1, 26),
    width=st.integers(1, 26),
    sampling=st.sampled_from(list(SAMPLINGS)),
    fancy=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_pixels_are_those_of_libjpeg_turbo(height, width, sampling, fancy, seed):
    down, across = SAMPLINGS[sampling]
    small = -(-height // down), -(-width // across)
    luma = draw(height, width, 1, seed=seed)[..., 0]
    blue, red = (draw(*small, 1, seed=seed + k)[..., 0] for k in (1, 2))
    whole, planes = joined([luma, blue, red], down, across)
    expected = simplejpeg.decode_jpeg(whole, "RGB", fastupsample=not fancy)
    npt.assert_array_equal(converted(planes, down, across, fancy=fancy), expected)


def test_colours_of_all_levels_are_those_of_libjpeg_turbo():
    rng = np.random.default_rng(5)
    planes = [rng.integers(0, 256, (16, 16), dtype=np.uint8) for _ in range(3)]
    whole, stored = joined(planes, 1, 1)
    expected = simplejpeg.decode_jpeg(whole, "RGB")
    npt.assert_array_equal(converted(stored, 1, 1, fancy=True), expected)
    assert expected.min() == 0
    assert expected.max() == 255


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_compiles_without_spills(capability):
    check_code(YUV_TO_RGB, capability, registers=64)
