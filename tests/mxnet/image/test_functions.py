from __future__ import annotations

import random

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio import image
from gpuio.errors import DecodeError, GpuioError
from gpuio.formats import codec
from gpuio.mxnet.image import functions
from gpuio.mxnet.ndarray import NDArray
from gpuio.testing import draw, encode


@pytest.fixture
def picture():
    return draw(20, 30, seed=1)


def test_imdecode_takes_all_kinds_of_bytes(picture):
    data = encode(picture)
    array = np.frombuffer(data, np.uint8)
    for given in (data, bytearray(data), memoryview(data), array, array.view(NDArray)):
        got = image.imdecode(given)
        assert isinstance(got, NDArray)
        npt.assert_array_equal(got, picture)


def test_imdecode_of_gray_keeps_an_axis_of_channels(picture):
    assert image.imdecode(encode(picture), 0).shape == (20, 30, 1)


def test_imdecode_gives_what_may_be_written_to(picture):
    for kind in ("JPEG", "PNG", "BMP"):
        assert image.imdecode(encode(picture, kind)).flags.writeable


def test_imdecode_into_an_array(picture):
    out = np.zeros_like(picture)
    got = image.imdecode(encode(picture), out=out)
    npt.assert_array_equal(out, picture)
    assert np.shares_memory(got, out)
    with pytest.raises(ValueError, match=r"out must be \(20, 30, 3\) uint8, got \(2, 2, 3\) uint8"):
        image.imdecode(encode(picture), out=np.zeros((2, 2, 3), np.uint8))


def test_imdecode_reads_gif_and_webp_too(picture):
    npt.assert_array_equal(image.imdecode(encode(picture, "WEBP", lossless=True)), picture)
    assert image.imdecode(encode(picture, "GIF")).shape == picture.shape


def test_imdecode_refuses_text_and_unknown_flags(picture):
    with pytest.raises(ValueError, match="buf must be bytes or an array of them, got str"):
        image.imdecode("a.jpg")
    for flag in (-1, 2, 4):
        with pytest.raises(ValueError, match=f"flag must be 0 or 1, got {flag}"):
            image.imdecode(encode(picture), flag)


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\xff\xd8\xff\xe0cut"])
def test_data_that_is_no_image_is_a_decodeerror(data):
    with pytest.raises(DecodeError):
        image.imdecode(data)


def test_imread_reads_a_file_and_names_it_where_it_cannot(tmp_path, picture):
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    npt.assert_array_equal(image.imread(path), picture)
    npt.assert_array_equal(image.imread(str(path), to_rgb=False), picture[..., ::-1])
    path.write_bytes(b"no image")
    with pytest.raises(DecodeError, match=r"a\.png: no known image format"):
        image.imread(path)
    with pytest.raises(FileNotFoundError):
        image.imread(tmp_path / "b.png")


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.int64])
def test_imresize_refuses_other_dtypes(picture, dtype):
    with pytest.raises(TypeError, match="src must be uint8, float32 or float64"):
        image.imresize(picture.astype(dtype), 4, 4)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0, 4), "w must be at least 1, got 0"),
        ((4, -1), "h must be at least 1, got -1"),
        ((4, 4, 9), "interp must be 0 to 4, got 9"),
    ],
)
def test_imresize_refuses_wrong_arguments(picture, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        image.imresize(picture, *arguments)


def test_functions_refuse_what_has_no_channels(picture):
    for call in (
        lambda: image.imresize(picture[..., 0], 4, 4),
        lambda: image.fixed_crop(picture[..., 0], 0, 0, 4, 4),
        lambda: image.copyMakeBorder(picture[..., 0], 1, 1, 1, 1),
    ):
        with pytest.raises(ValueError, match=r"src must be \(H, W, C\), got shape \(20, 30\)"):
            call()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_resize_to_the_same_size_is_a_copy(picture, dtype):
    source = picture.astype(dtype)
    got = image.imresize(source, 30, 20)
    npt.assert_array_equal(got, source)
    assert not np.shares_memory(got, source)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("interp", range(5))
def test_a_resize_of_one_colour_is_that_colour(dtype, interp):
    source = np.full((9, 11, 3), 77, dtype)
    for size in ((5, 4), (30, 21), (11, 30)):
        npt.assert_allclose(image.imresize(source, *size, interp), 77, atol=1e-4)


@pytest.mark.parametrize("interp", range(5))
def test_a_resize_of_floats_is_that_of_bytes_but_for_rounding(picture, interp):
    for size in ((13, 9), (15, 10), (47, 33), (20, 31)):
        exact = image.imresize(picture.astype(np.float32), *size, interp)
        rounded = image.imresize(picture, *size, interp).astype(float)
        npt.assert_allclose(np.clip(exact, 0, 255), rounded, atol=1.1)


def test_imresize_reads_windows_and_writes_into_an_array(picture):
    window = picture[3:17, 5:25]
    out = np.zeros((7, 9, 3), np.uint8)
    got = image.imresize(window, 9, 7, 1, out)
    npt.assert_array_equal(out, image.imresize(window.copy(), 9, 7, 1))
    assert np.shares_memory(got, out)


def test_unknown_interpolations_are_named(picture):
    for call in (
        lambda: image.resize_short(picture, 10, 5),
        lambda: image.fixed_crop(picture, 0, 0, 9, 9, (4, 4), 11),
    ):
        with pytest.raises(ValueError, match="Unknown interp method"):
            call()


def test_fixed_crop_begins_inside_the_image(picture):
    for place in ((-1, 0), (0, -2), (30, 0), (0, 20)):
        with pytest.raises(ValueError, match="x0 and y0 must be inside the image"):
            image.fixed_crop(picture, *place, 4, 4)


def test_a_crop_of_whole_rows_shares_memory_and_another_does_not(picture):
    for size in ((-1, 4), (4, -1)):
        with pytest.raises(ValueError, match="w and h must not be negative"):
            image.fixed_crop(picture, 0, 0, *size)
    assert np.shares_memory(image.fixed_crop(picture, 0, 5, 30, 4), picture)
    assert not np.shares_memory(image.fixed_crop(picture, 1, 5, 28, 4), picture)


def test_random_size_crop_knows_the_former_name_of_area(picture):
    random.seed(0)
    expected = image.random_size_crop(picture, (8, 8), 0.3, (1, 1), 1)
    random.seed(0)
    with pytest.warns(DeprecationWarning, match="min_area is deprecated"):
        got = image.random_size_crop(picture, (8, 8), None, (1, 1), 1, min_area=0.3)
    assert got[1] == expected[1]
    with pytest.raises(TypeError, match=r"random_size_crop has no parameter 'areas'"):
        image.random_size_crop(picture, (8, 8), 0.3, (1, 1), areas=1)


def test_color_normalize_works_in_place_and_refuses_integers(picture):
    source = picture.astype(np.float32)
    got = image.color_normalize(source, np.array([1, 2, 3.0]), 2)
    assert np.shares_memory(got, source)
    npt.assert_allclose(source, (picture - np.array([1, 2, 3.0])) / 2, rtol=1e-6)
    with pytest.raises(TypeError, match="src must be floating-point, got uint8; apply CastAug"):
        image.color_normalize(picture, 1)


@pytest.mark.parametrize(("kind", "mode"), [(1, "edge"), (2, "symmetric"), (4, "reflect")])
def test_borders_are_those_of_numpy(picture, kind, mode):
    got = image.copyMakeBorder(picture, 3, 30, 2, 70, kind)
    npt.assert_array_equal(got, np.pad(picture, ((3, 30), (2, 70), (0, 0)), mode))
    npt.assert_array_equal(image.copyMakeBorder(picture, 3, 30, 2, 70, kind + 16), got)


def test_a_border_around_one_pixel():
    source = np.full((1, 1, 3), 9, np.uint8)
    for kind in range(1, 5):
        npt.assert_array_equal(image.copyMakeBorder(source, 2, 2, 2, 2, kind), 9)


def test_copymakeborder_refuses_unknown_types_and_negative_sides(picture):
    with pytest.raises(ValueError, match="type must be 0 to 4, or 16 more, got 5"):
        image.copyMakeBorder(picture, 1, 1, 1, 1, 5)
    with pytest.raises(ValueError, match="left must be at least 0, got -1"):
        image.copyMakeBorder(picture, 1, 1, -1, 1)


def test_imrotate_by_a_right_angle_turns_counter_clockwise():
    source = np.arange(75, dtype=np.float32).reshape(3, 5, 5)
    npt.assert_allclose(image.imrotate(source, 90), np.rot90(source, axes=(1, 2)), atol=1e-3)
    npt.assert_array_equal(image.imrotate(source, 0), source)


def test_imrotate_of_a_single_row_does_not_divide_by_zero():
    source = np.arange(7, dtype=np.float32).reshape(1, 1, 7)
    npt.assert_allclose(image.imrotate(source, 180), source[..., ::-1], atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "angle", "error", "reason"),
    [
        ((3, 5, 5), [1, 2], TypeError, "rotation_degrees of a single image must be a number"),
        ((2, 3, 5, 5), [1, 2, 3], ValueError, "2 images need as many angles"),
        ((5, 5), 1, ValueError, r"src must be \(C, H, W\) or \(N, C, H, W\)"),
    ],
)
def test_imrotate_refuses_angles_that_do_not_fit(shape, angle, error, reason):
    with pytest.raises(error, match=reason):
        image.imrotate(np.zeros(shape, np.float32), angle)


def test_imrotate_refuses_bytes_and_both_zooms(picture):
    with pytest.raises(TypeError, match="src must be float32, got uint8"):
        image.imrotate(picture, 10)
    with pytest.raises(ValueError, match="zoom_in and zoom_out cannot both be True"):
        image.imrotate(picture.astype(np.float32), 10, True, True)


def test_errors_are_those_of_the_library():
    assert issubclass(image.BrokenImageError, GpuioError | RuntimeError)
    assert issubclass(image.InvalidLabelError, ValueError | RuntimeError)


def test_scale_down_of_what_fits_changes_nothing():
    assert functions.scale_down((10, 10), (10, 3)) == (10, 3)


def test_resizing_to_more_pixels_than_an_image_may_have_is_an_error(monkeypatch):
    long = np.zeros((2, 3000, 3), np.uint8)
    monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", 10**6)
    assert image.resize_short(long, 20).shape == (20, 30000, 3)
    with pytest.raises(DecodeError, match="3000 x 2 pixels would become one of 60000 x 40"):
        image.resize_short(long, 40)
