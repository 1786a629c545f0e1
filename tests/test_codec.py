"""Images to bytes and back, held against OpenCV where it is installed."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio import codec
from gpuio.codec import decode_rgb, imdecode, imencode
from gpuio.errors import DecodeError

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (40, 52, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (40, 52, 1), dtype=np.uint8)
RGBA = np.dstack([COLOR, ALPHA])
GRAY = np.ascontiguousarray(COLOR[..., 0])
WIDE = RNG.integers(0, 1 << 16, (40, 52), dtype=np.uint16)
Y, X = np.mgrid[:101, :133]
SMOOTH = np.stack(
    [(2 * X + Y) % 256, 128 + 100 * np.sin(X / 9), 128 + 90 * np.cos(Y / 7 + X / 20)], -1
).astype(np.uint8)


def saved(pixels, kind: str, mode: str | None = None, **options) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def palette() -> Image.Image:
    return Image.fromarray(COLOR).quantize(64)


EXACT = {
    "jpeg 4:4:4": saved(SMOOTH, "JPEG", quality=88, subsampling=0),
    "jpeg 4:2:2": saved(SMOOTH, "JPEG", quality=88, subsampling=1),
    "jpeg 4:2:0": saved(SMOOTH, "JPEG", quality=88, subsampling=2),
    "jpeg progressive": saved(SMOOTH, "JPEG", progressive=True),
    "jpeg gray": saved(GRAY, "JPEG"),
    "jpeg rgb": saved(COLOR, "JPEG", keep_rgb=True),
    "jpeg cmyk": saved(Image.frombytes("CMYK", (52, 40), RGBA.tobytes()), "JPEG"),
    "png rgb": saved(COLOR, "PNG"),
    "png rgba": saved(RGBA, "PNG"),
    "png gray": saved(GRAY, "PNG"),
    "png gray with alpha": saved(np.dstack([GRAY, ALPHA]), "PNG"),
    "png 1 bit": saved(GRAY > 128, "PNG"),
    "png 4 bits": saved(Image.fromarray(GRAY).quantize(16), "PNG", bits=4),
    "png palette": saved(palette(), "PNG"),
    "png palette with alpha": saved(palette(), "PNG", transparency=bytes(range(0, 128, 2))),
    "png transparent colour": saved(COLOR, "PNG", transparency=tuple(COLOR[0, 0].tolist())),
    "png transparent gray": saved(GRAY, "PNG", transparency=int(GRAY[0, 0])),
    "png 16-bit gray": saved(WIDE, "PNG"),
    "bmp rgb": saved(COLOR, "BMP"),
    "bmp rgba": saved(RGBA, "BMP"),
    "bmp gray": saved(GRAY, "BMP"),
    "bmp palette": saved(palette(), "BMP"),
    "tiff rgb": saved(COLOR, "TIFF"),
    "tiff gray": saved(GRAY, "TIFF"),
    "tiff 16-bit gray": saved(WIDE, "TIFF"),
    "tiff palette": saved(palette(), "TIFF"),
    "webp rgb": saved(COLOR, "WEBP", lossless=True),
    "webp rgba": saved(RGBA, "WEBP", lossless=True),
    "ppm": saved(COLOR, "PPM"),
    **{f"jpeg exif {n}": saved(SMOOTH, "JPEG", exif=exif(n)) for n in range(1, 9)},
    **{f"png exif {n}": saved(COLOR, "PNG", exif=exif(n)) for n in range(1, 9)},
}


@pytest.fixture(params=["simplejpeg", "pillow"])
def decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(codec, "_simplejpeg", lambda: None)
    else:
        pytest.importorskip("simplejpeg")


@pytest.mark.parametrize("flag", [-1, 0, 1])
@pytest.mark.parametrize("name", EXACT)
def test_decodes_to_the_pixels_of_opencv(decoder, name, flag):
    cv2 = pytest.importorskip("cv2")
    expected = cv2.imdecode(np.frombuffer(EXACT[name], np.uint8), flag)
    got = imdecode(EXACT[name], flag)
    assert got.dtype == expected.dtype
    npt.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_16_bit_colour_is_within_one_level_of_opencv(kind):
    cv2 = pytest.importorskip("cv2")
    wide = RNG.integers(0, 1 << 16, (40, 52, 3), dtype=np.uint16)
    data = cv2.imencode(f".{kind}", wide)[1]
    for flag in (0, 1):
        expected = cv2.imdecode(data, flag).astype(int)
        assert np.abs(imdecode(data, flag) - expected).max() <= 1


def test_colours_come_in_the_order_asked_for():
    npt.assert_array_equal(imdecode(EXACT["png rgb"], order="RGB"), COLOR)
    npt.assert_array_equal(imdecode(EXACT["png rgb"]), COLOR[..., ::-1])
    npt.assert_array_equal(imdecode(EXACT["png rgba"], -1, order="RGB"), RGBA)
    npt.assert_array_equal(imdecode(EXACT["png rgba"], -1), RGBA[..., [2, 1, 0, 3]])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, "u1")])
def test_any_buffer_is_decoded(kind):
    npt.assert_array_equal(imdecode(kind(EXACT["png rgb"]), order="RGB"), COLOR)
    assert imdecode(kind(EXACT["jpeg 4:2:0"])).shape == SMOOTH.shape


def test_decode_rgb_gives_the_channels_asked_for():
    npt.assert_array_equal(decode_rgb(EXACT["png rgb"], 3), COLOR)
    npt.assert_array_equal(decode_rgb(EXACT["png rgba"], 4), RGBA)
    npt.assert_array_equal(decode_rgb(EXACT["png gray"], 1), GRAY[..., None])
    npt.assert_array_equal(decode_rgb(EXACT["png gray"], 3), np.dstack([GRAY] * 3))
    with pytest.raises(DecodeError, match="image has 3 channels, not 4"):
        decode_rgb(EXACT["png rgb"], 4)
    with pytest.raises(ValueError, match="channels must be 1, 3 or 4, got 2"):
        decode_rgb(EXACT["png rgb"], 2)


@pytest.mark.parametrize("part", [0, 3, 20, 400, 1500])
@pytest.mark.parametrize("name", ["jpeg 4:2:0", "jpeg progressive", "png rgb", "webp rgb"])
def test_a_cut_image_is_an_error(decoder, name, part):
    with pytest.raises(DecodeError):
        imdecode(EXACT[name][:part])


@pytest.mark.parametrize("data", [b"hello, I am not an image", b"\xff\xd8\xff", bytes(64)])
@pytest.mark.parametrize("flag", [-1, 0, 1])
def test_what_is_no_image_is_an_error(decoder, data, flag):
    with pytest.raises(DecodeError):
        imdecode(data, flag)


def test_a_program_to_be_run_is_not_an_image():
    with pytest.raises(DecodeError, match="no known image format starts with 25 21 50 53"):
        imdecode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


def test_a_jpeg_is_decoded_that_lacks_nothing_but_its_end_marker():
    data = EXACT["jpeg 4:2:0"]
    npt.assert_array_equal(imdecode(data[:-2]), imdecode(data))


def test_a_jpeg_is_decoded_that_has_stray_bytes():
    data = EXACT["jpeg 4:2:0"]
    npt.assert_array_equal(imdecode(data[:-2] + b"stray" + data[-2:]), imdecode(data))
    npt.assert_array_equal(imdecode(data + b"stray"), imdecode(data))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_noise_in_an_image_never_raises_anything_else(decoder):
    rng = np.random.default_rng(1)
    for name in EXACT:
        for _ in range(5):
            data = np.frombuffer(EXACT[name], np.uint8).copy()
            data[rng.integers(0, len(data), 8)] = rng.integers(0, 256, 8)
            with suppress(DecodeError):
                assert imdecode(data).dtype == np.uint8


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="flag must be -1, 0 or 1, got 2"):
        imdecode(b"", 2)
    with pytest.raises(ValueError, match="order must be 'BGR' or 'RGB', got 'rgb'"):
        imdecode(b"", order="rgb")


@pytest.mark.parametrize("quality", [1, 50, 75, 90, 95, 96, 100])
@pytest.mark.parametrize("image", [SMOOTH, SMOOTH[..., 0], RGBA], ids=["bgr", "gray", "bgra"])
def test_a_jpeg_has_the_bytes_of_opencv(image, quality):
    cv2 = pytest.importorskip("cv2")
    bgr = image[..., :3] if image.ndim == 3 else image
    expected = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    assert imencode(".jpg", image, quality) == expected
    assert imencode(".JPEG", image, quality) == expected


def test_a_jpeg_from_rgb_is_that_from_bgr():
    assert imencode(".jpg", SMOOTH, order="RGB") == imencode(".jpg", SMOOTH[..., ::-1])


def test_threads_do_not_share_a_file():
    images = [np.full((50, 50, 3), shade, np.uint8) for shade in range(200)]
    expected = [imencode(".jpg", image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda image: imencode(".jpg", image), images)) == expected


@pytest.mark.parametrize("ext", [".png", ".PNG", ".webp", ".bmp", ".tif"])
def test_lossless_formats_give_the_pixels_back(ext):
    npt.assert_array_equal(imdecode(imencode(ext, COLOR)), COLOR)
    npt.assert_array_equal(imdecode(imencode(ext, GRAY), 0), GRAY)


def test_images_that_cannot_be_encoded_are_named():
    with pytest.raises(ValueError, match=r"ext must be that of an image format, .* got '.xyz'"):
        imencode(".xyz", COLOR)
    with pytest.raises(ValueError, match=r"image must be uint8 for .jpg, got float32"):
        imencode(".jpg", COLOR.astype(np.float32))
    with pytest.raises(ValueError, match=r"image must be \(H, W\) .* got shape \(4, 4, 2\)"):
        imencode(".jpg", np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(ValueError, match=r"got shape \(0, 4, 3\)"):
        imencode(".png", np.zeros((0, 4, 3), np.uint8))


def test_importing_loads_no_codec():
    code = "import sys, gpuio.codec; print(*{'PIL', 'simplejpeg', 'cv2'} & set(sys.modules))"
    assert not subprocess.check_output([sys.executable, "-c", code], text=True).strip()
