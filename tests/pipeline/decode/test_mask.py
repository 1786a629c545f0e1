"""Masks: the numbers in a PNG."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio.errors import DecodeError
from gpuio.pipeline.decode.mask import decode_mask
from gpuio.testing import encode

LABELS = np.random.default_rng(0).integers(0, 256, (7, 9), np.uint8)


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def claiming(width, height):
    """A PNG whose header claims a size."""
    data = bytearray(encode(LABELS))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_gray_levels_are_labels():
    npt.assert_array_equal(decode_mask(encode(LABELS))[..., 0], LABELS)


@pytest.mark.parametrize("labels", [LABELS, LABELS % 16, LABELS % 4, LABELS % 2])
def test_of_a_palette_the_indices_are_labels_not_the_colours(labels):
    picture = Image.fromarray(labels, "P")
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    npt.assert_array_equal(decode_mask(png(picture))[..., 0], labels)


def test_one_bit_is_0_and_1():
    npt.assert_array_equal(decode_mask(png(Image.fromarray(LABELS > 99)))[..., 0], LABELS > 99)


def test_sixteen_bits_are_labels_while_they_fit():
    wide = LABELS.astype(np.uint16)
    npt.assert_array_equal(decode_mask(png(Image.fromarray(wide)))[..., 0], LABELS)
    wide[3, 4] = 256
    with pytest.raises(DecodeError, match=r"labels of a mask must be in .* and one is 256"):
        decode_mask(png(Image.fromarray(wide)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a mask must be a PNG, and it has 0 bytes"),
        (encode(LABELS, "JPEG"), "a mask must be a PNG, and it starts with ff d8 ff"),
        (encode(np.stack([LABELS] * 3, axis=2)), "one channel, gray or of a palette.*it is RGB"),
        (encode(LABELS)[:-30], "PNG: "),
        (b"\x89PNG\r\n\x1a\nnonsense", "PNG: damaged header: "),
        (claiming(2**31, 40), "PNG: its header claims 2147483648 x 40 pixels"),
        (claiming(60_000, 60_000), "set gpuio.formats.codec.MAX_IMAGE_PIXELS"),
    ],
)
def test_data_that_is_no_mask_is_an_error(data, message):
    with pytest.raises(DecodeError, match=message):
        decode_mask(data)
