"""Which JPEGs the decoder takes by their headers, and what it reads there."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg
from jpeg_alone import JpegAlone, decoded
from robustness.formats import join_jpeg, split_jpeg

from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.kernels.jpeg.header import GRAY, RGB, YCBCR
from gpuio.testing import draw, encode

SOF0, SOF1, SOF3, SOF9, DHT, SOS, DQT, DRI = 0xC0, 0xC1, 0xC3, 0xC9, 0xC4, 0xDA, 0xDB, 0xDD
APP0, APP1, APP14, COM, DNL = 0xE0, 0xE1, 0xEE, 0xFE, 0xDC
SAMPLINGS = {"444": 0x11, "422": 0x21, "420": 0x22, "440": 0x12, "411": 0x41}
EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0%c\0\0\0\0\0\0\0"


def jpeg(sampling="420", height=19, width=35):
    if sampling == "Gray":
        image, space = draw(height, width, 1, seed=2), "GRAY"
    else:
        image, space = draw(height, width, seed=2), "RGB"
    return simplejpeg.encode_jpeg(image, 90, space, sampling)


COLOR, GRAYS = jpeg(), jpeg("Gray")


def edited(marker, edit, image=COLOR, number=0):
    """A JPEG with another body of the `number`th segment with this marker, or without it."""
    segments, scan = split_jpeg(image)
    place = [k for k, part in enumerate(segments) if part[0] == marker][number]
    body = edit(segments[place][1])
    segments[place : place + 1] = [] if body is None else [(marker, bytes(body))]
    return join_jpeg(segments, scan)


def put(marker, at, *values, image=COLOR, number=0):
    """A JPEG with other bytes from `at` on in a segment; `at` may count from its end."""

    def edit(body):
        start = at % len(body)
        return body[:start] + bytes(values) + body[start + len(values) :]

    return edited(marker, edit, image, number)


def without(marker, image=COLOR, number=0):
    return edited(marker, lambda body: None, image, number)


def behind_start(*segments, image=COLOR):
    """A JPEG with more segments in front."""
    found, scan = split_jpeg(image)
    return join_jpeg([*segments, *found], scan)


def renamed(marker, new, image=COLOR):
    segments, scan = split_jpeg(image)
    return join_jpeg([(new if m == marker else m, body) for m, body in segments], scan)


def sampled(*factors):
    return edited(SOF0, lambda body: factored(body, factors))


def factored(body, factors):
    new = bytearray(body)
    new[7::3] = bytes(factors)
    return new


def wide_quantisation(body):
    return bytes([body[0] | 0x10]) + b"".join(bytes((0, value)) for value in body[1:65]) + body[65:]


def adobe(transform):
    return APP14, b"Adobe\0\x64\0\0\0\0" + bytes([transform])


def in_one_segment(image, marker):
    """A JPEG whose segments with this marker are joined to one."""
    segments, scan = split_jpeg(image)
    whole = b"".join(body for m, body in segments if m == marker)
    rest = [part for part in segments if part[0] != marker]
    return join_jpeg([*rest[:-1], (marker, whole), rest[-1]], scan)


PLAIN = without(APP0)  # no JFIF marker
NAMED = put(SOS, 1, 0x52, 0, 0x47, 0x11, 0x42, 0x11, image=put(
    SOF0, 6, 0x52, 0x11, 0, 0x47, 0x11, 1, 0x42, 0x11, 1, image=without(APP0, jpeg("444"))
))  # fmt: skip
TAKEN = {
    **{f"sampling {name}": jpeg(name) for name in SAMPLINGS},
    "gray": GRAYS,
    "gray with sampling factors of its own": put(SOF0, 7, 0x42, image=GRAYS),
    "chroma of two by one blocks": sampled(0x21, 0x21, 0x21),
    "extended sequential": renamed(SOF0, SOF1),
    "a comment": behind_start((COM, b"hello")),
    "an unknown application": behind_start((0xE7, b"hello")),
    "a damaged profile of colours": behind_start((0xE2, b"ICC_PROFILE\0\2\1")),
    "fill bytes": COLOR[:2] + b"\xff\xff" + COLOR[2:],
    "quantisation of 16 bits": edited(DQT, wide_quantisation),
    "all codes in one segment": in_one_segment(COLOR, DHT),
    "all quantisation in one segment": in_one_segment(COLOR, DQT),
    "quantisation that is defined once more": behind_start((DQT, b"\0" + b"\x77" * 64)),
    "upright by Exif": behind_start((APP1, EXIF % 1)),
    "neither JFIF nor Adobe": PLAIN,
    "Adobe's YCbCr": behind_start(adobe(1), image=PLAIN),
    "Adobe's RGB": behind_start(adobe(0), image=PLAIN),
    "Adobe's RGB, but JFIF": behind_start(adobe(0)),
    "components named R, G and B": NAMED,
    "R, G and B, but Adobe's YCbCr": behind_start(adobe(1), image=NAMED),
    "restart markers": encode(draw(30, 40), "JPEG", restart_marker_blocks=2),
    "RGB of Pillow": encode(draw(30, 40), "JPEG", keep_rgb=True),
}
CODED_OTHERWISE = {"chroma of two by one blocks"}  # than their headers say
NOT_TAKEN = {
    "nothing": b"",
    "the start alone": COLOR[:2],
    "a PNG": encode(draw(9, 9)),
    "progressive": encode(draw(30, 40), "JPEG", progressive=True),
    "CMYK": encode(draw(30, 40), "JPEG", mode="CMYK"),
    "arithmetic codes": renamed(SOF0, SOF9),
    "lossless": renamed(SOF0, SOF3),
    "12 bits": put(SOF0, 0, 12),
    "no height": put(SOF0, 1, 0, 0),
    "no width": put(SOF0, 3, 0, 0),
    "wider than libjpeg takes": put(SOF0, 3, 0xFF, 0xDD),
    "two components": put(SOF0, 5, 2),
    "a frame header that is too short": edited(SOF0, lambda body: body[:-1]),
    "a frame header that is too long": edited(SOF0, lambda body: body + b"\0"),
    "gray with no sampling factors": put(SOF0, 7, 0, image=GRAYS),
    "gray with a sampling factor of 5": put(SOF0, 7, 0x15, image=GRAYS),
    "sampling factors of 0": sampled(0x20, 0x11, 0x11),
    "chroma of two kinds": sampled(0x22, 0x11, 0x21),
    "more chroma than luma": sampled(0x11, 0x21, 0x21),
    "luma that is no multiple of chroma": sampled(0x31, 0x21, 0x21),
    "chroma a quarter as high": sampled(0x14, 0x11, 0x11),
    "11 blocks in an MCU": sampled(0x33, 0x11, 0x11),
    "a fifth table of quantisation": put(SOF0, 8, 4),
    "quantisation that is missing": without(DQT, number=1),
    "quantisation of 24 bits": put(DQT, 0, 0x20),
    "quantisation with number 4": put(DQT, 0, 4),
    "quantisation that is cut off": edited(DQT, lambda body: body[:-1]),
    "codes that are missing": without(DHT, number=3),
    "codes of a third class": put(DHT, 0, 0x20),
    "codes with number 4": put(DHT, 0, 4),
    "more codes than there are symbols": put(DHT, 16, 200),
    "257 codes": edited(DHT, lambda body: bytes([0, *[0] * 14, 128, 129]) + bytes(257)),
    "codes that are cut off": edited(DHT, lambda body: body[:-1]),
    "a restart interval of one byte": behind_start((DRI, b"\1")),
    "two frames": behind_start(split_jpeg(COLOR)[0][3]),
    "no frame": without(SOF0),
    "one of several scans": edited(SOS, lambda body: b"\1" + body[1:3] + body[-3:]),
    "a scan of other components": put(SOS, 1, 9),
    "a scan with a component twice": put(SOS, 3, 1),
    "a scan with other numbers of tables": put(SOS, 2, 0x40),
    "a scan from the second coefficient on": put(SOS, -3, 1),
    "a scan up to coefficient 62": put(SOS, -2, 62),
    "successive approximation": put(SOS, -1, 1),
    "JFIF 2": put(APP0, 5, 2),
    "Adobe's YCCK": behind_start(adobe(2), image=PLAIN),
    "an unknown transform of Adobe": behind_start(adobe(9), image=PLAIN),
    "turned by Exif": behind_start((APP1, EXIF % 6)),
    "Exif in no known order of bytes": behind_start((APP1, b"Exif\0\0" + EXIF % 6)),
    "bytes between segments": COLOR[:2] + b"\0" + COLOR[2:],
    "a number of lines": behind_start((DNL, b"\0\1")),
    "a segment that is longer than the file": put(APP0, 0)[:4] + b"\xff\xff" + COLOR[6:],
    "a segment of length 1": COLOR[:4] + b"\0\1" + COLOR[6:],
    "no scan": COLOR[: COLOR.index(b"\xff\xda")],
}

DECODED_BY_OTHERS = {
    "chroma a quarter as high",
    *("a PNG", "progressive", "CMYK", "arithmetic codes", "one of several scans"),
    *("chroma of two kinds", "more chroma than luma", "codes that are missing"),
    *("a scan from the second coefficient on", "a scan up to coefficient 62"),
    *("successive approximation", "JFIF 2", "an unknown transform of Adobe", "a number of lines"),
    *("turned by Exif", "Exif in no known order of bytes"),
}
"""Of what is not taken; the rest is an error."""


@pytest.fixture(scope="module")
def decoder():
    return JpegAlone()


@pytest.mark.parametrize("name", TAKEN)
def test_taken_are(decoder, name):
    assert decoder.open(TAKEN[name]) is not None


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_left_to_others_are(decoder, name):
    assert decoder.open(NOT_TAKEN[name]) is None


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_others_decode_some_of_what_is_left_to_them(name):
    if name in DECODED_BY_OTHERS:
        assert codec.decode_rgb(NOT_TAKEN[name], 3).shape[2] == 3
    else:
        with pytest.raises(DecodeError):
            codec.decode_rgb(NOT_TAKEN[name], 3)


@pytest.mark.parametrize("name", sorted(set(TAKEN) - CODED_OTHERWISE))
def test_libjpeg_has_the_same_pixels_for_what_is_taken(name):
    np.testing.assert_array_equal(decoded(TAKEN[name]), codec.decode_rgb(TAKEN[name], 3))


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("gray", GRAY),
        ("sampling 420", YCBCR),
        ("neither JFIF nor Adobe", YCBCR),
        ("Adobe's YCbCr", YCBCR),
        ("Adobe's RGB", RGB),
        ("Adobe's RGB, but JFIF", YCBCR),
        ("components named R, G and B", RGB),
        ("R, G and B, but Adobe's YCbCr", YCBCR),
    ],
)
def test_what_components_are_is_as_libjpeg_finds_it(decoder, name, color):
    assert decoder.open(TAKEN[name])["color"] == color


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_header_says_sizes_blocks_and_where_tables_are(decoder, name):
    data = jpeg(name)
    (row,) = decoder.open(data)
    assert (row["height"], row["width"], row["components"], row["restart"]) == (19, 35, 3, 0)
    across, down = divmod(SAMPLINGS[name], 16)
    assert row["across"].tolist() == [across, 1, 1]
    assert row["down"].tolist() == [down, 1, 1]
    assert row["scan"] == len(data) - len(split_jpeg(data)[1])
    for c in range(3):
        assert data[row["quantisation"][c] - 1] == min(c, 1)  # numbers of tables
        assert data[row["dc"][c] - 1] == min(c, 1)
        assert data[row["ac"][c] - 1] == 0x10 + min(c, 1)


def test_the_last_definition_in_front_of_the_scan_counts(decoder):
    segments, scan = split_jpeg(COLOR)
    again = next(body for marker, body in segments if marker == DQT)
    data = join_jpeg([*segments[:-1], (DQT, again), (DRI, b"\0\5"), segments[-1]], scan)
    (row,) = decoder.open(data)
    assert row["quantisation"][0] == row["scan"] - 14 - 6 - 64
    assert row["restart"] == 5
