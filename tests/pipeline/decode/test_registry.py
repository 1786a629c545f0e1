"""Decoders are looked up by name, and users may register their own."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

import gpuio
from gpuio.devices.cpu import CpuDevice
from gpuio.pipeline.decode import registry
from gpuio.pipeline.decode.base import Decoder
from gpuio.pipeline.decode.jobs import Headers
from gpuio.pipeline.decode.portable import PortableDecoder
from gpuio.testing import encode, write_rec

SIDES = (2, 3)
PICTURES = [np.random.default_rng(k).integers(0, 256, (4 + k, 6, 3), np.uint8) for k in range(5)]


def toy(picture):
    """The toy format: `TOY`, height, width, pixels."""
    return b"TOY" + bytes(picture.shape[:2]) + picture.tobytes()


class ToyDecoder(PortableDecoder):
    """Decodes the toy format alone."""

    name = "toy"

    def decode_image(self, data):
        if not data.startswith(b"TOY"):
            raise gpuio.DecodeError(f"it is no toy: it starts with {data[:3].hex(' ')}")
        pixels = np.frombuffer(data, np.uint8, offset=5).reshape(data[3], data[4], 3)
        return pixels if self.channels == 3 else pixels[..., :1]


@pytest.fixture
def toy_rec(tmp_path, monkeypatch):
    """A .rec of toy images, beside a registered decoder for them."""
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    gpuio.register_decoder("toy", ToyDecoder)
    write_rec(tmp_path / "a.rec", [toy(picture) for picture in PICTURES])
    return tmp_path / "a.rec"


def read(path, decoder, **options):
    options = {"dtype": "uint8", "layout": "NHWC", "device": "cpu"} | options
    with gpuio.ImageRecordIter(path, (3, *SIDES), 5, decoder=decoder, **options) as it:
        return it.next().data[0].asnumpy(), it.stats()


@pytest.mark.parametrize("device", ["cpu", "simulated"])
def test_a_registered_decoder_decodes_for_an_iterator(toy_rec, device):
    pixels, stats = read(toy_rec, "toy", device=device)
    for got, picture in zip(pixels, PICTURES, strict=True):
        top, left = (picture.shape[0] - SIDES[0]) // 2, (picture.shape[1] - SIDES[1]) // 2
        npt.assert_array_equal(got, picture[top : top + SIDES[0], left : left + SIDES[1]])
    assert stats["decoder"] == "toy"


def test_an_image_that_the_decoder_rejects_is_an_error_with_its_reason(toy_rec):
    write_rec(toy_rec, [toy(PICTURES[0]), encode(PICTURES[1])])
    with (
        gpuio.ImageRecordIter(toy_rec, (3, *SIDES), 2, decoder="toy", device="cpu") as it,
        pytest.raises(gpuio.DecodeError, match=r"record 1 .*: it is no toy: it starts with 89"),
    ):
        it.next()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda pixels: pixels[..., :1], r"uint8 of shape \(4, 6, 1\)"),
        (lambda pixels: pixels[..., 0], r"uint8 of shape \(4, 6\)"),
        (lambda pixels: pixels.astype(np.float32), r"float32 of shape \(4, 6, 3\)"),
    ],
)
def test_pixels_that_kernels_cannot_read_are_a_fault(toy_rec, change, found):
    class Wrong(ToyDecoder):
        def decode_image(self, data):
            return change(super().decode_image(data))

    gpuio.register_decoder("toy", Wrong)
    with pytest.raises(gpuio.DecodeError, match=rf"{found}, not to uint8 of shape .*width, 3\)"):
        read(toy_rec, "toy")


def test_a_name_is_registered_again(toy_rec):
    class Inverted(ToyDecoder):
        def decode_image(self, data):
            return 255 - super().decode_image(data)

    plain, _ = read(toy_rec, "toy")
    gpuio.register_decoder("toy", Inverted)
    npt.assert_array_equal(read(toy_rec, "toy")[0], 255 - plain)


def test_a_name_that_is_not_registered_is_answered_with_those_that_are(toy_rec):
    names = "auto, jpeg, nvimgcodec, dali, portable, toy"
    with pytest.raises(ValueError, match=f"decoder must be one of {names}, got 'fast'"):
        read(toy_rec, "fast")


def test_an_error_in_a_decoder_names_the_image(toy_rec):
    class Broken(ToyDecoder):
        def decode_image(self, data):
            raise KeyError("no such table")

    gpuio.register_decoder("toy", Broken)
    with pytest.raises(KeyError, match="no such table") as caught:
        read(toy_rec, "toy")
    assert any("record 0 at byte 0" in note for note in caught.value.__notes__)


def test_a_factory_that_makes_no_decoder_is_named(toy_rec):
    gpuio.register_decoder("toy", lambda options: None)
    with pytest.raises(TypeError, match="factory of decoder 'toy' must return a Decoder"):
        read(toy_rec, "toy")
    with pytest.raises(TypeError, match=r"factory must be a class .* got 'portable'"):
        gpuio.register_decoder("toy", "portable")


def test_a_decoder_is_closed_where_the_pipeline_around_it_cannot_be_made(toy_rec, monkeypatch):
    closed = []

    class Held(ToyDecoder):
        def close(self):
            super().close()
            closed.append(self.name)

    gpuio.register_decoder("toy", Held)
    monkeypatch.setattr(CpuDevice, "most_items", 4)
    with pytest.raises(ValueError, match="batch_size must be at most 4"):
        read(toy_rec, "toy")
    assert closed == ["toy"]


def test_a_decoder_needs_no_name(toy_rec):
    class Nameless(Decoder):
        def open(self, records):
            size = np.array([[2, 3]] * len(records.nbytes), np.int32)
            return Headers(size, {place: np.full((2, 3, 3), 7, np.uint8) for place in range(5)})

    gpuio.register_decoder("toy", Nameless)
    pixels, stats = read(toy_rec, "toy")
    assert (pixels == 7).all()
    assert stats["decoder"] == "unnamed"
