"""The bare sides of benchmarks/cpu.py decode what a real data set has, not only plain JPEGs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuio.errors import DecodeError
from gpuio.testing import draw, encode, write_rec

IMAGES = {
    "plain": encode(draw(40, 60), "JPEG"),
    "progressive": encode(draw(40, 60), "JPEG", progressive=True),
    "gray": encode(draw(40, 60, 1), "JPEG"),
    "without an end": encode(draw(40, 60), "JPEG")[:-2],
    "turned": encode(draw(40, 60), "JPEG", orientation=6),
    "CMYK": encode(draw(40, 60), "JPEG", "CMYK"),
    "subsampled CMYK": encode(draw(40, 60), "JPEG", "CMYK", subsampling=2),
}
"""JPEGs by kind. Turned ones and CMYK are decoded as they are opened, and one without an end marker
once more after libjpeg's warning."""


@pytest.fixture
def scripts(monkeypatch):
    """The folder of benchmarks, from which its scripts import each other."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.parametrize("name", ["BareSimplejpeg", "BareNvimgcodec"])
def test_a_bare_side_decodes_every_kind_of_image(scripts, tmp_path, name):
    pytest.importorskip("nvidia.nvimgcodec")
    import sides

    rec = tmp_path / "kinds.rec"
    write_rec(rec, [*IMAGES.values()])
    settings = {
        "rec": str(rec),
        "shape": [3, 8, 8],
        "batch_size": 4,
        "threads": 2,
        "resize": -1,
    }
    side = sides.SIDES[name](settings)
    assert side.time(2 * len(IMAGES))["images"] == 2 * len(IMAGES)


def test_the_size_of_a_picture_is_the_one_it_is_shown_with(scripts):
    import records

    sizes = {name: records.measure(data) for name, data in IMAGES.items()}
    assert {name for name, found in sizes.items() if (found.height, found.width) == (60, 40)} == {
        "turned"
    }
    small = records.shrink(sizes["turned"])
    assert (small.height, small.width) == (384, 256)


def test_an_image_that_cannot_be_decoded_ends_the_run(scripts, tmp_path):
    import sides

    rec = tmp_path / "damaged.rec"
    write_rec(rec, [IMAGES["plain"], b"\xff\xd8\xff\xe0"])
    settings = {"rec": str(rec), "shape": [3, 8, 8], "batch_size": 4, "threads": 2, "resize": -1}
    with pytest.raises(DecodeError):
        sides.BareSimplejpeg(settings).time(1)
