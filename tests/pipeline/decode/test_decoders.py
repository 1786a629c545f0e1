"""Both decoders, held against OpenCV, which is what MXNet decodes with."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import decoding
import numpy as np
import numpy.testing as npt
import pytest
from decoding import decode_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gpuio.devices.cpu import CpuDevice
from gpuio.errors import BackendError, DecodeError
from gpuio.formats import codec
from gpuio.mxnet.iterators.det_record import ImageDetRecordIter
from gpuio.mxnet.iterators.image_record import ImageRecordIter
from gpuio.pipeline.decode import make_decoder, nvimgcodec_abi, nvimgcodec_base
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.testing import draw, encode, write_rec

DECODERS = ("jpeg", "nvimgcodec", "portable")

COLOR = draw(40, 52)
RGBA = draw(40, 52, 4, seed=1)
GRAY = draw(40, 52, 1, seed=2)
SMOOTH = draw(101, 133, seed=3)
WIDE = np.random.default_rng(4).integers(0, 1 << 16, (40, 52), dtype=np.uint16)

JPEG = {
    "jpeg 4:4:4": encode(SMOOTH, "JPEG", subsampling=0),
    "jpeg 4:2:2": encode(SMOOTH, "JPEG", subsampling=1),
    "jpeg 4:2:0": encode(SMOOTH, "JPEG", subsampling=2),
    "jpeg 4:1:1": encode(SMOOTH, "JPEG", subsampling="4:1:1"),
    "jpeg of quality 30": encode(SMOOTH, "JPEG", quality=30),
    "jpeg with restarts": encode(SMOOTH, "JPEG", restart_marker_rows=1),
    "jpeg progressive": encode(SMOOTH, "JPEG", progressive=True),
    "jpeg gray": encode(GRAY, "JPEG"),
    "jpeg gray progressive": encode(GRAY, "JPEG", progressive=True),
    "jpeg rgb": encode(COLOR, "JPEG", keep_rgb=True),
    "jpeg cmyk": encode(SMOOTH, "JPEG", mode="CMYK"),
    "jpeg cmyk 4:2:0": encode(SMOOTH, "JPEG", mode="CMYK", subsampling=2),
    **{
        f"jpeg {height} by {width}": encode(draw(height, width), "JPEG", subsampling=2)
        for height, width in ((1, 1), (1, 17), (17, 1), (7, 9), (16, 16), (33, 65))
    },
}
TURNED = {
    f"{kind} exif {n}": encode(picture, kind, orientation=n)
    for kind, picture in (("JPEG", SMOOTH), ("PNG", COLOR), ("TIFF", COLOR))
    for n in range(1, 9)
}
GRAY_TURNED = {f"gray exif {n}": encode(GRAY, "JPEG", orientation=n) for n in range(1, 9)}
OTHERS = {
    "png rgb": encode(COLOR),
    "png gray": encode(GRAY),
    "png palette": encode(COLOR, mode="P"),
    "png 1 bit": encode(GRAY, mode="1"),
    "png rgba": encode(RGBA),
    "png gray with alpha": encode(RGBA, mode="LA"),
    "png 16-bit gray": encode(WIDE),
    "bmp rgb": encode(COLOR, "BMP"),
    "bmp gray": encode(GRAY, "BMP"),
    "bmp palette": encode(COLOR, "BMP", mode="P"),
    "tiff rgb": encode(COLOR, "TIFF"),
    "tiff gray": encode(GRAY, "TIFF"),
    "tiff palette": encode(COLOR, "TIFF", mode="P"),
    "tiff 16-bit gray": encode(WIDE, "TIFF"),
    "tiff packed": encode(SMOOTH, "TIFF", compression="tiff_lzw"),
    "webp": encode(SMOOTH, "WEBP", quality=80),
    "webp without loss": encode(COLOR, "WEBP", lossless=True),
    "webp rgba": encode(RGBA, "WEBP", lossless=True),
    "ppm": encode(COLOR, "PPM"),
    "pgm": encode(GRAY, "PPM"),
}
PICTURES = JPEG | TURNED | GRAY_TURNED | OTHERS


def opencv(data: bytes, channels: int):
    """(H, W, C) as MXNet's decoder, which is OpenCV, has it; None where it has no 4 channels."""
    cv2 = pytest.importorskip("cv2")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), {1: 0, 3: 1, 4: -1}[channels])
    if channels == 1:
        return pixels[..., None]
    if channels == 3:
        return pixels[..., ::-1]
    if pixels.ndim == 2 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        return None
    return pixels[..., [2, 1, 0, 3]]


def decode(name, folder, images, channels, windows=None, threads=2):
    """All images by the decoder called `name`; what it decoded only in part, too."""
    path = folder / f"{name}.rec"
    write_rec(path, images)
    dataset = RecordIOSource.open(path)
    decoder = make_decoder(name, DecoderOptions(CpuDevice(threads), channels, dataset))
    try:
        return decode_all(decoder, dataset, windows), decoder.windows
    finally:
        decoder.close()


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """By decoder and channels, what became of all pictures."""
    folder = tmp_path_factory.mktemp("decoded")
    return {
        (name, channels): decode(name, folder, list(PICTURES.values()), channels)[0]
        for name in DECODERS
        for channels in (1, 3, 4)
    }


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("picture", PICTURES)
def test_pixels_are_those_of_opencv(decoded, picture, name, channels):
    place = list(PICTURES).index(picture)
    result = decoded[name, channels]
    expected = opencv(PICTURES[picture], channels)
    if expected is None:
        assert isinstance(result.faults[place], DecodeError)
    else:
        assert place not in result.faults
        npt.assert_array_equal(result.images[place], expected)


def test_rgba_is_left_as_it_is_stored(tmp_path):
    turned = [
        encode(RGBA, "PNG", orientation=6),
        encode(RGBA, "WEBP", orientation=6, lossless=True),
    ]
    for name in DECODERS:
        for image in decode(name, tmp_path, turned, 4)[0].images:
            npt.assert_array_equal(image, RGBA)


@pytest.mark.parametrize("name", DECODERS)
def test_four_channels_are_never_made_up(tmp_path, name):
    result, _ = decode(name, tmp_path, [JPEG["jpeg 4:2:0"], encode(RGBA), encode(COLOR)], 4)
    npt.assert_array_equal(result.images[1], RGBA)
    for place in (0, 2):
        with pytest.raises(
            DecodeError,
            match=rf"a?\.rec: record {place} at byte .*, key {place}: "
            "image has 3 channels, not 4",
        ):
            raise result.faults[place]


def test_a_window_is_that_part_of_the_whole(tmp_path, decoded):
    rng = np.random.default_rng(5)
    for channels in (1, 3):
        whole = decoded["portable", channels].images
        ends = [np.sort(rng.integers(0, side + 1, 2)) for i in whole for side in i.shape[:2]]
        boxes = []
        for (y, bottom), (x, right) in zip(ends[::2], ends[1::2], strict=True):
            boxes.append((y, x, bottom - y, right - x))
        for k, image in enumerate(whole):  # no empty ones
            y, x, height, width = boxes[k]
            y, x = min(y, image.shape[0] - 1), min(x, image.shape[1] - 1)
            boxes[k] = (y, x, max(height, 1), max(width, 1))
        for name in DECODERS:
            result, parts = decode(name, tmp_path, list(PICTURES.values()), channels, boxes)
            assert not result.faults
            for got, image, (y, x, height, width) in zip(result.images, whole, boxes, strict=True):
                npt.assert_array_equal(got, image[y : y + height, x : x + width])
            if name == "nvimgcodec":
                assert parts > len(JPEG) / 2, "whole images were decoded for windows"


def samplings():
    """Small JPEGs of all ways to store colour."""
    cv2 = pytest.importorskip("cv2")
    for name in ("411", "420", "422", "440", "444"):
        factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}")
        options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
        yield cv2.imencode(".jpg", draw(35, 38), options)[1].tobytes()
    yield encode(draw(35, 38), "JPEG", subsampling=2, progressive=True)


def test_every_window_of_a_small_jpeg_is_that_part_of_the_whole(tmp_path):
    boxes = [
        (y, x, height, width)
        for y in (0, 1, 7, 8, 16, 17, 34)
        for x in (0, 1, 7, 8, 16, 17, 37)
        for height in (1, 2, 8, 9, 35)
        for width in (1, 2, 3, 8, 9, 38)
        if y + height <= 35 and x + width <= 38
    ]
    for data in samplings():
        whole = opencv(data, 3)
        result, _ = decode("nvimgcodec", tmp_path, [data] * len(boxes), 3, boxes)
        for got, (y, x, height, width) in zip(result.images, boxes, strict=True):
            npt.assert_array_equal(got, whole[y : y + height, x : x + width])


@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.parametrize("name", DECODERS)
def test_threads_change_nothing(tmp_path, decoded, name, threads):
    result, _ = decode(name, tmp_path, list(PICTURES.values()), 3, threads=threads)
    for got, expected in zip(result.images, decoded[name, 3].images, strict=True):
        npt.assert_array_equal(got, expected)


BROKEN = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"this is no image",
    "noise": np.random.default_rng(6).bytes(3000),
    "jpeg, only the start": JPEG["jpeg 4:2:0"][:3],
    "jpeg cut in its head": JPEG["jpeg 4:2:0"][:200],
    "jpeg cut in the middle": JPEG["jpeg 4:2:0"][: len(JPEG["jpeg 4:2:0"]) // 2],
    "progressive jpeg cut": JPEG["jpeg progressive"][: len(JPEG["jpeg progressive"]) // 2],
    "png cut in its head": OTHERS["png rgb"][:20],
    "png cut in the middle": OTHERS["png rgb"][: len(OTHERS["png rgb"]) // 2],
    "bmp cut": OTHERS["bmp rgb"][: len(OTHERS["bmp rgb"]) // 2],
    "tiff cut": OTHERS["tiff rgb"][: len(OTHERS["tiff rgb"]) // 2],
    "webp cut": OTHERS["webp"][: len(OTHERS["webp"]) // 2],
    "no size": OTHERS["png rgb"][:16] + bytes(8) + OTHERS["png rgb"][24:],
}


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", DECODERS)
def test_a_broken_image_is_a_fault_and_harms_no_other(tmp_path, name, channels):
    good = encode(RGBA)
    images = [image for broken in BROKEN.values() for image in (good, broken)] + [good]
    result, _ = decode(name, tmp_path, images, channels)
    assert sorted(result.faults) == list(range(1, len(images), 2)), [
        kind
        for kind, place in zip(BROKEN, range(1, len(images), 2), strict=True)
        if place not in result.faults
    ]
    for place, fault in result.faults.items():
        assert isinstance(fault, DecodeError)
        assert f"{name}.rec: record {place} at byte " in str(fault)
    expected = opencv(good, channels)
    for got in result.images[::2]:
        npt.assert_array_equal(got, expected)


def test_reasons_are_given(tmp_path):
    images = [b"", b"this is no image", BROKEN["jpeg cut in the middle"]]
    for name in DECODERS:
        faults = decode(name, tmp_path, images, 3)[0].faults
        assert str(faults[0]).endswith("key 0: its image has 0 bytes")
        assert "no known image format starts with 74 68 69 73" in str(faults[1])
        assert "JPEG: Corrupt JPEG data: premature end" in str(faults[2])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_damage_is_ever_more_than_a_fault(tmp_path, data):
    names = data.draw(st.lists(st.sampled_from(sorted(PICTURES)), min_size=1, max_size=4))
    images = []
    for name in names:
        image = bytearray(PICTURES[name])
        for _ in range(data.draw(st.integers(0, 5))):
            # Heads, mostly: there the sizes are.
            at = data.draw(
                st.integers(0, min(len(image) - 1, data.draw(st.sampled_from([200, 10**6]))))
            )
            image[at] = data.draw(st.integers(0, 255))
        images.append(bytes(image))
    channels = data.draw(st.sampled_from([1, 3, 4]))
    result, _ = decode("nvimgcodec", tmp_path, images, channels)
    for place, image in enumerate(result.images):
        if image is None:
            assert isinstance(result.faults[place], DecodeError)
        else:
            assert image.shape[2] == channels


@pytest.fixture
def missing(monkeypatch):
    """nvImageCodec as if it were not installed."""

    def load():
        raise BackendError("nvImageCodec is not installed: pip install 'gpuio[cpu]'")

    from gpuio.pipeline.decode import nvimgcodec

    monkeypatch.setattr(nvimgcodec_abi, "load", load)
    nvimgcodec.cpu_instance.cache_clear()
    yield
    nvimgcodec.cpu_instance.cache_clear()


def test_without_nvimagecodec_the_portable_decoder_is_used_with_a_warning(tmp_path, missing):
    images = [JPEG["jpeg 4:2:0"], JPEG["jpeg progressive"]]
    with pytest.warns(UserWarning, match="simplejpeg and Pillow: nvImageCodec is not installed"):
        result, _ = decode("auto", tmp_path, images, 3)
    for image, data in zip(result.images, images, strict=True):
        npt.assert_array_equal(image, opencv(data, 3))


def test_without_nvimagecodec_asking_for_it_is_an_error(tmp_path, missing):
    with pytest.raises(BackendError, match="nvImageCodec is not installed"):
        decode("nvimgcodec", tmp_path, [JPEG["jpeg 4:2:0"]], 3)


def test_another_version_of_nvimagecodec_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nvimgcodec_abi, "SUPPORTED", (7, 1))
    with pytest.raises(BackendError, match=r"version is 0\.9, not 7\.1: .*-cu1\d==7\.1\.\*'"):
        nvimgcodec_abi.load()


def test_auto_takes_the_own_decoder_and_nvimagecodec_where_it_is(tmp_path, rec):
    source = RecordIOSource.open(rec)
    decoder = make_decoder("auto", DecoderOptions(CpuDevice(1), 3, source))
    assert decoder.name == "jpeg"
    assert decoder.stats()["decoder_of_others"] is None  # it is made when it is needed
    decode_all(decoder, source)
    assert decoder.stats()["decoder_of_others"] == "nvimgcodec"
    decoder.close()


def test_an_unknown_decoder_is_named(rec):
    with pytest.raises(ValueError, match=r"decoder must be one of auto, .*, got 'fast'"):
        make_decoder("fast", DecoderOptions(CpuDevice(1), 3, RecordIOSource.open(rec)))


def test_nothing_is_printed(tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, list(PICTURES.values()))
    script = (
        f"import sys; sys.path.append({str(Path(decoding.__file__).parent)!r})\n"
        "from gpuio.devices.cpu import CpuDevice\n"
        "from gpuio.pipeline.decode import make_decoder\n"
        "from gpuio.pipeline.decode.base import DecoderOptions\n"
        "from gpuio.sources.recordio.source import RecordIOSource\n"
        "from decoding import decode_all\n"
        f"dataset = RecordIOSource.open({str(path)!r})\n"
        "decoder = make_decoder('nvimgcodec', DecoderOptions(CpuDevice(2), 3, dataset))\n"
        "assert not decode_all(decoder, dataset).faults\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixels are fewer."""
    data = bytearray(OTHERS["png rgb"])
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    data = bytearray(OTHERS["bmp rgb"])
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(JPEG["jpeg 4:2:0"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


LIES = {
    "png width": png(2**31, 40),
    "png height": png(52, 2**32 - 16),
    "png, both": png(2**32 - 256, 2**32 - 256),
    "png of no width": png(0, 40),
    "png of no height": png(52, 0),
    "png, product of 32 bits": png(1 << 16, 1 << 16),
    "png, long": png((1 << 20) + 1, 2),
    "bmp width": bmp(-(2**31), 40),
    "bmp height": bmp(52, -(2**31)),
    "bmp": bmp(30_000, 20_000),
    "jpeg": jpeg(65_500, 65_500),
    "ppm": b"P6 4294967295 4 255\n" + bytes(99),
    "ppm of no width": b"P6 0 4 255\n" + bytes(99),
}


@pytest.mark.parametrize("augment", [{}, {"resize": 64}, {"resize": 64, "max_rotate_angle": 9}])
@pytest.mark.parametrize("name", DECODERS)
def test_a_header_that_lies_is_a_fault_and_harms_no_other(tmp_path, name, augment):
    """Memory for what it claims would be memory that nothing else can have."""
    rec, good = tmp_path / "lies.rec", JPEG["jpeg 4:4:4"]
    write_rec(rec, [image for lie in LIES.values() for image in (lie, good)])
    some = {"decoder": name, "device": "cpu", "dtype": "uint8", "on_error": "zero", **augment}
    with ImageRecordIter(rec, (3, 32, 32), 2 * len(LIES), **some) as it:
        pixels = next(it).data[0].asnumpy()
        faults = it.faults
    assert faults.count == len(LIES), [str(error) for error in faults.first]
    assert all("lies.rec: record " in str(error) for error in faults.first)
    assert not pixels[::2].any()
    if "max_rotate_angle" not in augment:
        npt.assert_array_equal(pixels[1::2], pixels[1:2].repeat(len(LIES), axis=0))


@pytest.mark.parametrize("name", DECODERS)
def test_the_limit_holds_for_every_decoder(tmp_path, name, monkeypatch):
    images = [JPEG["jpeg 4:2:0"], encode(SMOOTH), encode(SMOOTH, "BMP"), OTHERS["webp"]]
    for most in (None, 101 * 133):
        monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", most)
        assert not decode(name, tmp_path, images, 3)[0].faults
    monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", 101 * 133 - 1)
    faults = decode(name, tmp_path, images, 3)[0].faults
    assert len(faults) == len(images)
    for fault in faults.values():
        assert "claims 133 x 101 pixels, and at most 13432 are decoded" in str(fault)
        assert "set gpuio.formats.codec.MAX_IMAGE_PIXELS" in str(fault)


def test_a_bitmap_may_begin_at_its_top(tmp_path):
    for name in DECODERS:
        (image,) = decode(name, tmp_path, [bmp(52, -40)], 3)[0].images
        npt.assert_array_equal(image, COLOR[::-1])


def damaged(image: bytes) -> list[bytes]:
    """Damage that libjpeg mends with pixels of its own."""
    scan = image.index(b"\xff\xda") + 14
    middle = (scan + len(image)) // 2
    return [
        image[:middle] + b"\xff\xd9",
        image[:middle] + b"\xff" * 300 + image[middle + 300 :],
        image[:middle] + image[middle + 300 :],
        image[: middle - 1] + image[middle:],
    ]


PHOTOS = {
    "baseline": encode(draw(300, 400, seed=9), "JPEG"),
    "progressive": encode(draw(300, 400, seed=9), "JPEG", progressive=True),
    "gray": encode(draw(300, 400, 1, seed=9), "JPEG"),
    "with restarts": encode(draw(300, 400, seed=9), "JPEG", restart_marker_rows=1),
}


@pytest.mark.parametrize("window", [None, (2, 3, 20, 30), (250, 3, 20, 30)])
@pytest.mark.parametrize("photo", PHOTOS)
def test_damage_is_found_by_all_decoders_wherever_the_window_is(tmp_path, photo, window):
    good = PHOTOS[photo]
    images = [good, *damaged(good), good]
    windows = None if window is None else [window] * len(images)
    whole, _ = decode("portable", tmp_path, images, 3)
    assert {1, 2} <= whole.faults.keys() <= {1, 2, 3, 4}
    found, _ = decode("nvimgcodec", tmp_path, images, 3, windows)
    assert found.faults.keys() == whole.faults.keys()
    reasons = {k: str(fault).split("key")[1] for k, fault in whole.faults.items()}
    assert {k: str(fault).split("key")[1] for k, fault in found.faults.items()} == reasons


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("photo", PHOTOS)
def test_warnings_are_tolerated_where_that_is_wanted(tmp_path, photo, decoder):
    cv2 = pytest.importorskip("cv2")
    images = [PHOTOS[photo], *damaged(PHOTOS[photo])[:1]]
    write_rec(tmp_path / "a.rec", images)
    some = {"decoder": decoder, "device": "cpu", "dtype": "uint8", "layout": "NHWC"}
    with ImageRecordIter(tmp_path / "a.rec", (3, 300, 400), 2, tolerate="warnings", **some) as it:
        pixels = next(it).data[0].asnumpy()
    for got, data in zip(pixels, images, strict=True):
        npt.assert_array_equal(got, cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])
    for strict in (None, ""):
        with (
            ImageRecordIter(tmp_path / "a.rec", (3, 300, 400), 2, tolerate=strict, **some) as it,
            pytest.raises(DecodeError, match=r"a\.rec: record 1 .* JPEG: Corrupt JPEG data"),
        ):
            next(it)


def test_detection_tolerates_warnings_where_that_is_wanted(tmp_path):
    images = [PHOTOS["baseline"], damaged(PHOTOS["baseline"])[0]]
    write_rec(tmp_path / "a.rec", images, labels=[[2, 5, 0, 0.1, 0.1, 0.9, 0.9]] * 2)
    for tolerate, faults in ((None, 1), ("warnings", 0)):
        some = {"device": "cpu", "on_error": "zero", "tolerate": tolerate}
        with ImageDetRecordIter(tmp_path / "a.rec", (3, 300, 400), 2, **some) as it:
            next(it)
            assert it.faults.count == faults


@pytest.mark.parametrize("make", [ImageRecordIter, ImageDetRecordIter])
def test_tolerate_takes_warnings_only(rec, make):
    with pytest.raises(ValueError, match="tolerate must be 'warnings' or None, got 'errors'"):
        make(rec, (3, 4, 4), 1, tolerate="errors")


def test_only_the_window_is_decoded_of_an_image_that_was_found_valid(tmp_path):
    """libjpeg warns at the end of the data, so an image is decoded to its end the first time."""
    write_rec(tmp_path / "a.rec", [PHOTOS["baseline"]] * 3)
    dataset = RecordIOSource.open(tmp_path / "a.rec")
    decoder = make_decoder("nvimgcodec", DecoderOptions(CpuDevice(1), 3, dataset))
    wanted = np.array([[10, 0, 20, 400]] * 3, np.int32)
    whole = decode("portable", tmp_path, [PHOTOS["baseline"]], 3)[0].images[0]
    rows = []

    def decode_(jobs):
        rows.append(jobs.box[:, 2].tolist())
        return type(decoder).decode(decoder, jobs)

    decoder.decode = decode_
    for _ in range(2):
        for image in decode_all(decoder, dataset, wanted).images:
            npt.assert_array_equal(image, whole[10:30])
    decoder.close()
    assert rows == [[290] * 3, [20] * 3]


def test_without_a_way_to_hear_warnings_the_portable_decoder_is_used(tmp_path, monkeypatch):
    def unseen(folder):
        raise BackendError("what libjpeg warns of cannot be seen")

    monkeypatch.setattr(nvimgcodec_base, "listener", unseen)
    write_rec(tmp_path / "a.rec", [JPEG["jpeg progressive"]])
    dataset = RecordIOSource.open(tmp_path / "a.rec")
    decoder = make_decoder("auto", DecoderOptions(CpuDevice(1), 3, dataset))
    with pytest.warns(UserWarning, match="simplejpeg and Pillow: what libjpeg warns of cannot"):
        decode_all(decoder, dataset)
    assert decoder.stats()["decoder_of_others"] == "portable"
    decoder.close()
    decoder = make_decoder("auto", DecoderOptions(CpuDevice(1), 3, dataset, tolerant=True))
    decode_all(decoder, dataset)
    assert decoder.stats()["decoder_of_others"] == "nvimgcodec"
    decoder.close()


def test_a_png_with_animations_is_decoded_by_pillow(tmp_path):
    """OpenCV looks at no checksum of such a PNG, and makes a picture of damaged pixels."""
    pictures = [Image.fromarray(draw(40, 52, seed=k)) for k in range(3)]
    file = io.BytesIO()
    pictures[0].save(file, "PNG", save_all=True, append_images=pictures[1:])
    whole = file.getvalue()
    spoilt = bytearray(whole)
    spoilt[whole.index(b"IDAT") + 1000] ^= 0xFF
    for name in DECODERS:
        result, _ = decode(name, tmp_path, [whole, bytes(spoilt)], 3)
        npt.assert_array_equal(result.images[0], np.asarray(pictures[0]))
        assert list(result.faults) == [1]


def test_pixels_of_another_size_than_planned_are_a_fault(tmp_path):
    """Two headers in one PNG: libpng refuses that, and Pillow believes the second one."""
    data, other = OTHERS["png rgb"], png(52, 20)
    result, _ = decode("nvimgcodec", tmp_path, [data[:33] + other[8:33] + data[33:], data], 3)
    assert "52 x 20 pixels by one decoder, 52 x 40 by another" in str(result.faults[0])
    npt.assert_array_equal(result.images[1], COLOR)
