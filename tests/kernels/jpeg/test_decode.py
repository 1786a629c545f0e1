"""The decoder as a whole: pixels of every kind of picture and window, and damage in the codes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import simplejpeg
from jpeg_alone import JpegAlone, decoded
from plain_jpeg import plain_jpeg
from robustness.formats import join_jpeg, split_jpeg

from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.testing import draw, encode

SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")
SIZES = (
    *(
        (1, 1),
        (1, 2),
        (2, 1),
        (3, 5),
        (5, 3),
        (7, 9),
        (8, 8),
        (9, 17),
        (15, 16),
        (16, 16),
        (17, 33),
    ),
    *((31, 4), (33, 64), (64, 65), (40, 130), (7, 600), (130, 1), (129, 2), (3, 1030)),
)


def jpeg(sampling, height, width, quality=80, noise=False):
    count = 1 if sampling == "Gray" else 3
    image = draw(height, width, count, seed=height)
    if noise:
        image = np.random.default_rng(width).integers(0, 256, image.shape, np.uint8)
    return simplejpeg.encode_jpeg(image, quality, "RGB" if count == 3 else "GRAY", sampling)


@pytest.fixture(scope="module")
def decoder():
    return JpegAlone()


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("noise", [False, True])
def test_pixels_are_those_of_libjpeg(decoder, sampling, noise):
    for (height, width), quality in itertools.product(SIZES, (20, 95)):
        data = jpeg(sampling, height, width, quality, noise)
        for channels, order in ((3, "RGB"), (3, "BGR"), (1, "GRAY")):
            job = decoder.open(data)
            pixels = decoder.decode(job, None, channels, reverse=order == "BGR")
            wanted = simplejpeg.decode_jpeg(data, order)
            np.testing.assert_array_equal(pixels, wanted, f"{height} x {width}, {order}")


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("saves", [False, True])
def test_windows_are_parts_of_the_picture(decoder, sampling, saves):
    rng = np.random.default_rng(5)
    for height, width in ((40, 130), (129, 2), (3, 1030), (75, 200)):
        data = jpeg(sampling, height, width)
        whole, job = simplejpeg.decode_jpeg(data, "RGB"), decoder.open(data)
        for y, x in itertools.product((0, height // 2, height - 1), (0, width // 2, width - 1)):
            rows, cols = rng.integers(1, height - y + 1), rng.integers(1, width - x + 1)
            pixels = decoder.decode(job, (y, x, rows, cols), saves=saves)
            np.testing.assert_array_equal(pixels, whole[y : y + rows, x : x + cols])
        assert job["known"] == saves


@pytest.mark.parametrize(
    "options",
    [
        {"restart_marker_blocks": 1, "subsampling": 0},
        {"restart_marker_blocks": 3, "subsampling": 2},
        {"restart_marker_blocks": 11, "subsampling": 1},
        {"restart_marker_rows": 1},
        {"optimize": True},
        {"keep_rgb": True},
    ],
    ids=str,
)
def test_restart_markers_and_other_codes(decoder, options):
    data = encode(draw(70, 90, seed=3), "JPEG", quality=85, **options)
    whole, job = codec.decode_rgb(data, 3), decoder.open(data)
    np.testing.assert_array_equal(decoder.decode(job, saves=True), whole)
    for window in ((0, 0, 20, 90), (33, 5, 9, 40), (69, 89, 1, 1), (16, 16, 16, 16)):
        y, x, rows, cols = window
        part = decoder.decode(job, window, saves=True)
        np.testing.assert_array_equal(part, whole[y : y + rows, x : x + cols])


def test_tables_of_another_picture_are_not_taken_for_its_own(decoder):
    pictures = [
        encode(draw(30, 30, seed=seed), "JPEG", optimize=True, quality=40 + seed)
        for seed in range(5)
    ]
    for data in (*pictures, *reversed(pictures), jpeg("Gray", 9, 9), *pictures):
        np.testing.assert_array_equal(decoder.decode(decoder.open(data)), codec.decode_rgb(data, 3))


SOUND, RESTARTS = jpeg("420", 40, 50), encode(draw(40, 50), "JPEG", restart_marker_blocks=2)
HEAD, SCAN = SOUND[: -len(split_jpeg(SOUND)[1])], split_jpeg(SOUND)[1]
PARTS = RESTARTS.split(b"\xff\xd2")


def with_tables(marker, edit, image=SOUND):
    segments, scan = split_jpeg(image)
    return join_jpeg([(m, edit(body) if m == marker else body) for m, body in segments], scan)


def rows_claimed(count):
    """A picture of 40 rows whose header says otherwise."""
    return with_tables(0xC0, lambda body: body[:1] + count.to_bytes(2, "big") + body[3:])


# The last coefficient has a code that comes for 14 zeros before it, and then for 15.
TOO_LONG = plain_jpeg([[0] * 63 + [1]], [1] * 64).replace(b"\xe1\xe2", b"\xf1\xe2")

SAME, OTHER, ERROR = "decoded", "declined, and libjpeg decodes it", "declined, and an error"
DAMAGE = {
    "none": (SOUND, SAME),
    "bytes behind the end": (SOUND + b"\xff\xd8junk", SAME),
    "bytes in front of the end": (SOUND[:-2] + b"junk\xff\xd9", SAME),
    "fill bytes in front of the end": (SOUND[:-2] + b"\xff\xff\xff\xd9", SAME),
    "fewer rows in the header": (rows_claimed(16), SAME),
    "no end": (SOUND[:-2], OTHER),
    "a stuffed byte with a fill byte": (
        HEAD + SCAN.replace(b"\xff\0", b"\xff\xff\0", 1), OTHER),
    "coefficients that are too large": (
        with_tables(0xDB, lambda body: body[:1] + b"\xff" * 64), OTHER),
    "a block of more than 64 coefficients": (TOO_LONG, OTHER),
    "a version of JFIF": (SOUND.replace(b"JFIF\0\1", b"JFIF\0\2"), OTHER),
    "bytes between segments": (SOUND[:20] + b"junk" + SOUND[20:], OTHER),
    "cut in half": (SOUND[: len(SOUND) // 2], ERROR),
    "cut in half, with an end": (SOUND[: len(SOUND) // 2] + b"\xff\xd9", ERROR),
    "more rows in the header": (rows_claimed(400), ERROR),
    "bytes of 0": (HEAD + bytes(len(SCAN) - 2) + b"\xff\xd9", ERROR),
    "codes that cannot be": (HEAD + SCAN[:20] + b"\xff\0" * 20 + SCAN[60:], ERROR),
    "a marker in the codes": (HEAD + SCAN[:20] + b"\xff\xd0" + SCAN[20:], ERROR),
    "a wrong restart marker": (RESTARTS.replace(b"\xff\xd1", b"\xff\xd5", 1), ERROR),
    "no restart marker": (RESTARTS.replace(b"\xff\xd1", b"", 1), ERROR),
    "bytes in front of a restart marker": (b"junk\xff\xd2".join(PARTS), ERROR),
    "codes of ones alone": (with_tables(0xC4, lambda body: body[:1] + b"\2" + body[2:]), ERROR),
    "a DC difference of 16 bits": (
        with_tables(0xC4, lambda body: body[:-1] + b"\x10" if body[0] < 16 else body), ERROR),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_or_left_to_the_codec_that_knows_it(name):
    data, verdict = DAMAGE[name]
    pixels = decoded(data)
    assert (pixels is not None) == (verdict == SAME)
    if verdict == ERROR:
        with pytest.raises(DecodeError):
            codec.decode_rgb(data, 3)
    else:
        wanted = codec.decode_rgb(data, 3)
        assert pixels is None or np.array_equal(pixels, wanted)


def test_a_window_is_found_damaged_wherever_the_damage_is(decoder):
    data = HEAD + SCAN[: len(SCAN) // 2] + b"\xff\xd9"
    assert decoder.decode(decoder.open(data), (0, 0, 1, 1)) is None
