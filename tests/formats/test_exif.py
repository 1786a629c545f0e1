"""EXIF orientation: found in the bytes, applied to the pixels."""

from __future__ import annotations

import io

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from gpuio.formats.exif import jpeg_orientation, orient, tiff_orientation

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)


def jpeg(orientation: int, **options) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, "JPEG", exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_pillow_turns_it(orientation):
    data = jpeg(orientation, quality=100)
    picture = Image.open(io.BytesIO(data))
    npt.assert_array_equal(
        orient(np.asarray(picture), jpeg_orientation(data)), ImageOps.exif_transpose(picture)
    )


def test_segments_before_the_exif_are_stepped_over():
    data = jpeg(6)
    comment = b"\xff\xfe\x00\x08Exif\0\0"
    other = b"\xff\xe1\x00\x0ahttp:\0\0\0"
    assert jpeg_orientation(data[:2] + comment + other + b"\xff" + data[2:]) == 6


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_out_of_range_is_none(orientation):
    assert jpeg_orientation(jpeg(orientation)) == 1


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_byte_orders_are_read(order):
    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, order)

    head = (b"II" if order == "little" else b"MM") + number(42, 2) + number(8, 4)
    entry = number(0x0112, 2) + number(3, 2) + number(1, 4) + number(8, 2) + bytes(2)
    data = head + number(1, 2) + entry
    assert tiff_orientation(data) == 8
    assert tiff_orientation(b"Exif\0\0" + data) == 8
    assert tiff_orientation(data[:-4]) == 1


@given(st.binary(max_size=80))
def test_noise_has_no_orientation_or_one_of_eight(noise):
    for data in (noise, b"\xff\xd8\xff\xe1\x00\x40Exif\0\0II*\0" + noise):
        assert 1 <= jpeg_orientation(data) <= 8
    assert 1 <= tiff_orientation(b"MM\0*" + noise) <= 8
