"""Which images load slowly, by their headers."""

from __future__ import annotations

import numpy as np
import pytest

from gpuio.observe.slow_images import HUGE, SlowImages, slow_reasons
from gpuio.testing import draw, encode

SIDE = 1500
BLACK = np.zeros((SIDE, SIDE, 3), np.uint8)


def apart(data: bytes) -> bytes:
    """A JPEG whose first scan has one of the components."""
    at = data.index(b"\xff\xda")
    return data[:at] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + data[at + 14 :]


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (encode(draw(20, 30), "JPEG"), set()),
        (encode(draw(20, 30, 1), "JPEG"), set()),
        (encode(draw(20, 30), "JPEG", orientation=1), set()),
        (encode(draw(20, 30), "PNG"), set()),
        (encode(draw(20, 30), "JPEG", progressive=True), {"progressive"}),
        (apart(encode(draw(20, 30), "JPEG")), {"progressive"}),
        (encode(draw(20, 30), "JPEG", "CMYK", progressive=True), {"progressive", "cmyk"}),
        (encode(draw(20, 30), "JPEG", orientation=6), {"turned"}),
        (encode(draw(20, 30), "WEBP"), {"other"}),
        (encode(BLACK, "JPEG"), {"huge"}),
        (encode(BLACK, "PNG"), {"huge"}),
        (encode(draw(20, 30), "JPEG")[:30], set()),
        (b"\xff\xd8\xff\xd9", set()),
        (b"\x89PNG", set()),
        (b"", {"other"}),
    ],
)
def test_an_image_has_the_reasons_that_its_header_tells(data, reasons):
    assert slow_reasons(data) == reasons


def test_an_image_just_as_large_as_allowed_is_not_huge():
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (1000).to_bytes(4, "big")
    assert slow_reasons(header + (HUGE // 1000).to_bytes(4, "big")) == set()
    assert slow_reasons(header + (HUGE // 1000 + 1).to_bytes(4, "big")) == {"huge"}


def test_each_reason_is_a_line_with_the_number_and_what_to_run():
    slow = SlowImages()
    assert list(slow.describe()) == []
    slow.add(encode(BLACK, "JPEG", progressive=True))
    slow.add(encode(draw(20, 30), "JPEG"))
    lines = list(slow.describe())
    assert [line.partition(";")[0] for line in lines] == [
        "1 of 2 images are progressive or in several scans",
        "1 of 2 images have more than 2 megapixels",
    ]
    assert all(" gpuio im2rec --" in line for line in lines)
    assert slow.to_dict() == {
        "looked_at": 2, "progressive": 1, "cmyk": 0, "turned": 0, "other": 0, "huge": 1,
    }  # fmt: skip
