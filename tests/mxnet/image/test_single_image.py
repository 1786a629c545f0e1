"""Single images by gpuio's own decoder, and what it leaves to others."""

from __future__ import annotations

import numpy.testing as npt
import pytest

from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.kernels.jpeg import decode as kernels
from gpuio.mxnet.image import single_image
from gpuio.pipeline.decode.jpeg_array import ArrayDecoder
from gpuio.testing import draw, encode

PIXELS = draw(75, 91, seed=3)
FILES = {
    "4:4:4": encode(PIXELS, "JPEG", quality=92, subsampling=0),
    "4:2:0": encode(PIXELS, "JPEG", quality=70, subsampling=2),
    "gray": encode(PIXELS[..., :1], "JPEG", quality=80),
    "RGB": encode(PIXELS, "JPEG", keep_rgb=True),
    "progressive": encode(PIXELS, "JPEG", progressive=True),
    "turned": encode(PIXELS, "JPEG", orientation=6),
    "no end": encode(PIXELS, "JPEG", quality=92)[:-2],
    "PNG": encode(PIXELS),
}
TAKEN = {"4:4:4", "4:2:0", "gray", "RGB"}


@pytest.fixture
def compiled(monkeypatch):
    monkeypatch.setattr(single_image, "_WORTH", 0)
    kernels.probe.compile()
    kernels.decode.compile()


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("flag", [-1, 0, 1])
@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_the_libraries(name, flag, order, compiled):
    wanted = codec.imdecode(FILES[name], flag, order=order)
    npt.assert_array_equal(single_image.imdecode(FILES[name], flag, order=order), wanted)


@pytest.mark.parametrize("name", FILES)
def test_only_plain_jpegs_are_taken(name, compiled):
    assert (ArrayDecoder().decode(FILES[name]) is not None) == (name in TAKEN)


def test_luma_of_colours_is_not_made(compiled):
    assert ArrayDecoder().decode(FILES["RGB"], 1) is None


def test_a_damaged_image_is_an_error(compiled):
    data = FILES["4:4:4"]
    with pytest.raises(DecodeError, match="JPEG"):
        single_image.imdecode(data[: len(data) // 2])


def test_an_image_may_not_have_too_many_pixels(monkeypatch, compiled):
    monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", 100)
    assert ArrayDecoder().decode(FILES["4:4:4"]) is None
    with pytest.raises(DecodeError, match="MAX_IMAGE_PIXELS"):
        single_image.imdecode(FILES["4:4:4"])


def test_nothing_is_compiled_for_one_image(monkeypatch):
    monkeypatch.setattr(single_image, "_WORTH", 0)
    monkeypatch.setattr(ArrayDecoder, "is_at_hand", False)
    monkeypatch.setattr(ArrayDecoder, "decode", None)
    npt.assert_array_equal(single_image.imdecode(FILES["4:2:0"]), codec.imdecode(FILES["4:2:0"]))


def test_a_library_decodes_small_images(monkeypatch, compiled):
    monkeypatch.setattr(single_image, "_WORTH", len(FILES["4:2:0"]) + 1)
    monkeypatch.setattr(ArrayDecoder, "decode", None)
    npt.assert_array_equal(single_image.imdecode(FILES["4:2:0"]), codec.imdecode(FILES["4:2:0"]))


def test_threads_have_memory_of_their_own(compiled):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(single_image.imdecode, [FILES["4:4:4"], FILES["4:2:0"]] * 100))
    for k, pixels in enumerate(found):
        npt.assert_array_equal(pixels, codec.imdecode(FILES["4:2:0" if k % 2 else "4:4:4"]))
