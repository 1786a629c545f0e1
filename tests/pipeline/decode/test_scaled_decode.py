"""With `scaled_decode` large JPEGs are decoded to a smaller size, and resized from there."""

from __future__ import annotations

import io

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

import gpuio
from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.kernels.jpeg.reduced import reduced_samples
from gpuio.pipeline.decode import jpeg
from gpuio.pipeline.plan import Plan
from gpuio.testing import draw, encode, write_rec
from gpuio.transforms.crop import Crop
from gpuio.transforms.resize import ResizeShorterEdge

EDGE = 24
FACTORS = {  # by height and width of an image, what they are divided by
    (47, 90): 1, (48, 48): 2, (95, 60): 2, (96, 131): 4, (191, 250): 4, (192, 193): 8,
    (400, 640): 8, (20, 300): 1,
}  # fmt: skip
SUBSAMPLINGS = 0, 1, 2
PLANS = {
    "centre crop": {},
    "random crop": {"rand_crop": True, "rand_mirror": True, "shuffle": True},
    "area": {"inter_method": 3, "rand_crop": True},
    "random interpolation": {"inter_method": 10},
    "other steps behind it": {"max_rotate_angle": 20, "pad": 3, "brightness": 0.4},
    "gray": {"data_shape": (1, 16, 20)},
    "a cache": {"cache": "4MB", "rand_crop": True},
    "own decoder by name": {"decoder": "jpeg"},
}


def scaled(data: bytes, factor: int, mode: str = "RGB") -> np.ndarray:
    """The pixels of libjpeg-turbo's scaled output, by Pillow."""
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        picture.draft(mode, (width // factor, height // factor))
        assert picture.size == (-(-width // factor), -(-height // factor))
        return np.asarray(picture.convert(mode))


def large(number: int, size: tuple[int, int], **options: object) -> bytes:
    return encode(draw(*size, seed=number), "JPEG", quality=90, **options)


def images(mode: str = "RGB") -> tuple[list[bytes], list[bytes]]:
    """JPEGs of all sizes and subsamplings, and PNGs of what they are decoded to."""
    jpegs, pngs = [], []
    for number, (size, factor) in enumerate(FACTORS.items()):
        for subsampling in SUBSAMPLINGS:
            jpegs.append(large(number, size, subsampling=subsampling))
            pngs.append(encode(scaled(jpegs[-1], factor, mode)))
    return jpegs, pngs


def iterator(path, stored, **options):
    write_rec(path, stored)
    return opened(path, **options)


def opened(path, **options):
    options = {"data_shape": (3, 16, 20), "resize": EDGE, "device": "cpu", "seed": 3} | options
    return gpuio.ImageRecordIter(str(path), batch_size=4, preprocess_threads=2, **options)


def epochs(it, count=2):
    """All pixels of some epochs."""
    found = []
    for _ in range(count):
        found += [batch.data[0].asnumpy().copy() for batch in it]
        it.reset()
    return np.concatenate(found)


@pytest.mark.parametrize("name", PLANS)
def test_batches_are_those_of_images_that_libjpeg_turbo_has_scaled(tmp_path, name):
    jpegs, pngs = images("L" if name == "gray" else "RGB")
    with (
        iterator(tmp_path / "jpegs.rec", jpegs, scaled_decode=True, **PLANS[name]) as it,
        iterator(tmp_path / "pngs.rec", pngs, **PLANS[name]) as other,
    ):
        npt.assert_array_equal(epochs(it), epochs(other))


def test_stats_count_images_of_a_smaller_size(tmp_path):
    jpegs, _ = images()
    with iterator(tmp_path / "a.rec", jpegs, scaled_decode=True) as it:
        epochs(it, 1)
        smaller = len(SUBSAMPLINGS) * sum(factor > 1 for factor in FACTORS.values())
        assert it.stats()["decoded_to_smaller_size"] == smaller
        assert it.stats()["decoded_by_portable"] == 0


def test_its_kernel_is_compiled_though_no_image_may_be_large(tmp_path, monkeypatch):
    compiled = []

    class Kernel:
        @property
        def address(self):
            compiled.append(self)
            return reduced_samples.address

    monkeypatch.setattr(jpeg, "reduced_samples", Kernel())
    small = [large(number, (EDGE, EDGE)) for number in range(4)]
    for scaled_decode in (False, True):
        with iterator(tmp_path / "a.rec", small, scaled_decode=scaled_decode) as it:
            epochs(it, 1)
        assert bool(compiled) == scaled_decode


def test_crops_of_known_images_begin_at_checkpoints(tmp_path):
    stored = [large(number, (400, 640)) for number in range(4)]
    with iterator(tmp_path / "a.rec", stored, scaled_decode=True, rand_crop=True) as it:
        epochs(it, 3)
        assert it.stats()["decoded_from_checkpoints"] > 0
    pngs = [encode(scaled(data, 8)) for data in stored]
    with (
        iterator(tmp_path / "a.rec", stored, scaled_decode=True, rand_crop=True) as it,
        iterator(tmp_path / "b.rec", pngs, rand_crop=True) as other,
    ):
        npt.assert_array_equal(epochs(it, 3), epochs(other, 3))


def test_other_images_are_decoded_whole(tmp_path):
    image = draw(200, 300)
    stored = [
        encode(image, "JPEG", progressive=True),
        encode(image, "JPEG", mode="CMYK"),
        encode(image, "PNG"),
        large(0, (200, 300), exif=turned(6)),
    ]
    with (
        iterator(tmp_path / "a.rec", stored, scaled_decode=True) as it,
        iterator(tmp_path / "b.rec", stored) as other,
    ):
        npt.assert_array_equal(epochs(it), epochs(other))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


HARMLESS = {
    "no end marker": lambda data: data[:-2],
    "bytes between segments": lambda data: data[:20] + b"stray" + data[20:],
}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", HARMLESS)
def test_an_image_with_a_harmless_fault_is_scaled_too(tmp_path, name, channels):
    sound = [large(number, (200, 300)) for number in range(4)]
    odd = [HARMLESS[name](data) for data in sound]
    options = {"scaled_decode": True, "data_shape": (channels, 16, 20)}
    with (
        iterator(tmp_path / "a.rec", odd, **options) as it,
        iterator(tmp_path / "b.rec", sound, **options) as other,
    ):
        found, wanted = epochs(it), epochs(other)
        assert it.stats()["decoded_by_portable"] == 8
    if name == "no end marker":  # found while it is decoded
        npt.assert_array_equal(found, wanted)
    else:  # found in its header, and decoded whole
        with iterator(tmp_path / "c.rec", sound, data_shape=(channels, 16, 20)) as whole:
            npt.assert_array_equal(found, epochs(whole))


def damaged(data: bytes) -> bytes:
    return data[: len(data) * 3 // 4] + b"\xff\xd9"


def test_damage_is_an_error_of_its_image(tmp_path):
    stored = [large(number, (200, 300)) for number in range(4)]
    stored[1] = damaged(stored[1])
    with (
        iterator(tmp_path / "a.rec", stored, scaled_decode=True) as it,
        pytest.raises(DecodeError, match=r"a\.rec: record .*JPEG: "),
    ):
        epochs(it)
    with iterator(tmp_path / "a.rec", stored, scaled_decode=True, on_error="zero") as it:
        pixels = epochs(it, 1)
        assert it.faults.count == 1
        assert pixels[0].any()
        assert not pixels[1].any()


def test_an_image_that_claims_too_many_pixels_is_refused_at_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", 50_000)
    with (
        iterator(tmp_path / "a.rec", [large(0, (200, 300))] * 4, scaled_decode=True) as it,
        pytest.raises(DecodeError, match="300 x 200 pixels, and at most 50000"),
    ):
        epochs(it)


def test_damage_that_is_tolerated_has_the_pixels_of_libjpeg_turbo(tmp_path):
    stored = damaged(large(1, (200, 300)))
    wanted = encode(codec.decode_rgb(stored, 3, tolerant=True, scale=1))
    options = {"scaled_decode": True, "tolerate": "warnings"}
    with (
        iterator(tmp_path / "a.rec", [stored] * 4, **options) as it,
        iterator(tmp_path / "b.rec", [wanted] * 4) as other,
    ):
        npt.assert_array_equal(epochs(it), epochs(other))


def test_detection_has_it_too(tmp_path):
    boxes = [np.array([2, 5, 1, 0.1, 0.2, 0.6, 0.7], np.float32)] * 4
    write_rec(tmp_path / "a.rec", [large(n, (200, 300)) for n in range(4)], labels=boxes)
    options = {"device": "cpu", "resize": EDGE}
    with gpuio.ImageDetRecordIter(
        str(tmp_path / "a.rec"), (3, 24, 24), 4, scaled_decode=True, **options
    ) as it:
        labels = next(it).label[0].asnumpy()
        assert it.stats()["decoded_to_smaller_size"] == 4
    with gpuio.ImageDetRecordIter(str(tmp_path / "a.rec"), (3, 24, 24), 4, **options) as it:
        npt.assert_array_equal(labels, next(it).label[0].asnumpy())


def test_the_plan_says_so():
    ops = ResizeShorterEdge(256), Crop(224, 224)
    first = str(Plan(ops, (3, 224, 224), scaled_decode=True)).splitlines()[0]
    assert "a baseline JPEG to 1/2, 1/4 or 1/8 of its size, at least 256 pixels" in first
    assert "1/2" not in str(Plan(ops, (3, 224, 224)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": -1}, r"begins with a resize .* and this one begins with \w+\("),
        ({"resize": -1, "random_resized_crop": True}, "begins with RandomResizedCrop"),
        ({"decoder": "portable"}, 'decoder must be "auto" or "jpeg" then, got \'portable\''),
        ({"masks": "masks.rec"}, "does not go with masks"),
    ],
)
def test_what_cannot_be_scaled_is_refused(tmp_path, options, message):
    write_rec(tmp_path / "masks.rec", [encode(draw(48, 48, 1)[..., 0])])
    options = {k: str(tmp_path / v) if k == "masks" else v for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        iterator(tmp_path / "a.rec", [large(0, (48, 48))], scaled_decode=True, **options)


def test_devices_without_the_decoder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="scaled_decode=True works on the CPU, not on 'simulated'"):
        iterator(tmp_path / "a.rec", [large(0, (48, 48))], scaled_decode=True, device="simulated")


def test_caches_of_whole_and_scaled_images_are_not_shared(tmp_path):
    jpegs, _ = images()
    write_rec(tmp_path / "a.rec", jpegs)
    with (
        opened(tmp_path / "a.rec", cache="4MB") as whole,
        opened(tmp_path / "a.rec", cache="4MB", scaled_decode=True) as it,
    ):
        epochs(whole)
        epochs(it)
        assert it.stats()["cache"]["misses"] == len(jpegs)
