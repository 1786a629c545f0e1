"""Images to bytes and back, held against OpenCV where it is installed."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.formats.codec import decode_rgb, imdecode
from gpuio.formats.encoding import imencode

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


def test_a_jpeg_with_four_rows_of_luma_for_one_of_chroma_is_decoded(decoder):
    data = bytearray(saved(SMOOTH[:32, :32], "JPEG", subsampling="4:1:1"))
    frame = data.index(b"\xff\xc0")
    data[frame + 11] = 0x14  # as many blocks in an MCU, in a column
    wanted = np.asarray(Image.open(io.BytesIO(data)))
    npt.assert_array_equal(imdecode(bytes(data), order="RGB"), wanted)


@pytest.mark.parametrize("data", [b"hello, I am not an image", b"\xff\xd8\xff", bytes(64)])
@pytest.mark.parametrize("flag", [-1, 0, 1])
def test_data_that_is_no_image_is_an_error(decoder, data, flag):
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
    code = (
        "import sys, gpuio.formats.codec; print(*{'PIL', 'simplejpeg', 'cv2'} & set(sys.modules))"
    )
    assert not subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def claiming(kind: str, width: int, height: int) -> bytes:
    """A small image whose header claims another size."""
    data = bytearray(EXACT[kind])
    if kind.startswith("png"):
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind.startswith("bmp"):
        data[18:26] = struct.pack("<II", width, height)
    elif kind.startswith("jpeg"):
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    elif kind == "ppm":
        data = bytearray(b"P6 %d %d 255\n" % (width, height)) + data[-COLOR.size :]
    return bytes(data)


LIES = [
    *((kind, 2**31, 40) for kind in ("png rgb", "bmp rgb", "ppm")),
    *((kind, 52, 2**32 - 16) for kind in ("png gray", "ppm")),
    *((kind, 2**31, 2**31) for kind in ("png palette", "bmp gray", "ppm")),
    *((kind, 0, 40) for kind in ("png rgb", "bmp rgb", "ppm", "jpeg 4:2:0")),
    *((kind, 52, 0) for kind in ("png rgb", "bmp rgb", "ppm", "jpeg 4:2:0")),
    *((kind, 65500, 65500) for kind in ("png rgb", "jpeg 4:2:0", "jpeg progressive", "jpeg cmyk")),
    ("bmp rgb", 52, 2**31),
]


@pytest.mark.parametrize(("kind", "width", "height"), LIES)
def test_a_header_that_lies_is_an_error_before_memory_is_taken(decoder, kind, width, height):
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            imdecode(claiming(kind, width, height))
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", EXACT)
def test_there_is_one_limit_for_every_format(decoder, name, monkeypatch):
    pixels = imdecode(EXACT[name])
    count = pixels.shape[0] * pixels.shape[1]
    monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", count)
    npt.assert_array_equal(imdecode(EXACT[name]), pixels)
    monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", count - 1)
    with pytest.raises(
        DecodeError,
        match=rf"claims \d+ x \d+ pixels, and at most {count - 1} .* gpuio.formats.codec.MAX",
    ):
        imdecode(EXACT[name])


def test_the_limit_of_pillow_is_not_ours(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        npt.assert_array_equal(imdecode(EXACT["png rgb"], order="RGB"), COLOR)


def test_a_bitmap_may_begin_at_its_top():
    rows = COLOR[::-1, :, ::-1].tobytes()  # 156 bytes each, a multiple of 4
    head = struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54)
    upward, downward = (struct.pack("<IiiHHIIiiII", 40, 52, h, 1, 24, *[0] * 6) for h in (40, -40))
    npt.assert_array_equal(imdecode(head + upward + rows, order="RGB"), COLOR)
    npt.assert_array_equal(imdecode(head + downward + rows, order="RGB"), COLOR[::-1])


@pytest.mark.parametrize("kind", ["png rgb", "bmp rgb", "webp rgb", "tiff rgb", "jpeg 4:2:0"])
def test_a_broken_image_is_named_by_its_format(kind):
    data = EXACT[kind]
    for broken in (data[:30], data[:16] + bytes(20) + data[36:], data[:-30]):
        with pytest.raises(DecodeError, match=f"^{kind.split()[0].upper()}: "):
            imdecode(broken)


def test_memory_that_there_is_not_is_an_error_of_the_image(decoder, monkeypatch):
    def none(*_, **__):
        raise MemoryError

    module = codec._simplejpeg()
    if module is not None:
        monkeypatch.setattr(module, "decode_jpeg", none)
    monkeypatch.setattr(Image.core, "decoder", none, raising=False)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", none)
    for name in ("jpeg 4:2:0", "png rgb"):
        with pytest.raises(DecodeError, match=r"no memory for its \d+ x \d+ pixels"):
            imdecode(EXACT[name])
