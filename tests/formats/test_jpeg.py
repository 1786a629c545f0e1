"""What is wrong with a JPEG and does no harm is told from what does."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.errors import DecodeError
from gpuio.formats import codec
from gpuio.formats.codec import imdecode
from gpuio.formats.jpeg import is_harmless, mended
from gpuio.testing import draw, encode

pytest.importorskip("simplejpeg")

SMOOTH = draw(101, 133, seed=3)
PLAIN = encode(SMOOTH, "JPEG")
PROGRESSIVE = encode(SMOOTH, "JPEG", progressive=True)
JFIF = 2  # where the first segment of a JPEG by Pillow starts
TABLES = PLAIN.index(b"\xff\xdb")
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07"  # an unknown code of colours


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def scan(data: bytes) -> int:
    """Where the parameters of the first scan end, and pixel data starts."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


HARMLESS = {
    "its end marker is missing": PLAIN[:-2],
    "bytes before its end marker": PLAIN[:-2] + b"stray" + PLAIN[-2:],
    "bytes behind it": PLAIN + b"stray",
    "bytes between segments": PLAIN[:TABLES] + b"stray" + PLAIN[TABLES:],
    "an unknown version of JFIF": patched(PLAIN, JFIF + 9, b"\x02"),
    "an unknown code of Adobe": PLAIN[:JFIF] + ADOBE + PLAIN[JFIF:],
    "odd parameters of a scan": patched(PLAIN, scan(PLAIN) - 3, b"\x01\x3e\x11"),
    "several of these": patched(PLAIN, JFIF + 9, b"\x02")[:-2],
}


def damages(data: bytes) -> dict[str, bytes]:
    middle = (scan(data) + len(data)) // 2
    return {
        "cut, with an end marker": data[:middle] + b"\xff\xd9",
        "cut": data[:middle],
        "bytes lost": data[:middle] + data[middle + 300 :],
        "bytes written over": data[:middle] + b"\xff" * 300 + data[middle + 300 :],
    }


DAMAGED = {
    f"{kind}: {name}": image
    for kind, data in (
        ("baseline", PLAIN),
        ("progressive", PROGRESSIVE),
        ("gray", encode(draw(101, 133, 1), "JPEG")),
        ("CMYK", encode(SMOOTH, "JPEG", mode="CMYK")),
        ("an unknown version of JFIF", HARMLESS["an unknown version of JFIF"]),
        ("an unknown code of Adobe", HARMLESS["an unknown code of Adobe"]),
        ("odd parameters of a scan", HARMLESS["odd parameters of a scan"]),
        ("bytes between segments", HARMLESS["bytes between segments"]),
    )
    for name, image in damages(data).items()
}


@pytest.mark.parametrize("name", HARMLESS)
def test_oddities_that_no_pixel_depends_on_are_no_error(name):
    npt.assert_array_equal(imdecode(HARMLESS[name]), imdecode(PLAIN))


@pytest.mark.parametrize("flag", [-1, 0, 1])
@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_an_error_whatever_else_is_odd(name, flag):
    with pytest.raises(DecodeError, match="JPEG: "):
        imdecode(DAMAGED[name], flag)


@pytest.mark.parametrize("name", ["cut, with an end marker", "bytes lost", "bytes written over"])
def test_tolerance_gives_the_pixels_of_opencv(name):
    cv2 = pytest.importorskip("cv2")
    data = DAMAGED[f"baseline: {name}"]
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), 1)
    npt.assert_array_equal(imdecode(data, tolerant=True), expected)


def test_tolerance_gives_the_remaining_pixels_of_a_cut_jpeg():
    whole, cut = imdecode(PLAIN), imdecode(damages(PLAIN)["cut"], tolerant=True)
    npt.assert_array_equal(cut[:32], whole[:32])
    assert (cut[-8:] == cut[-1, -1]).all()


@pytest.mark.parametrize("kind", ["an unknown version of JFIF", "bytes between segments"])
def test_damage_is_tolerated_whatever_else_is_odd(kind):
    plain = imdecode(DAMAGED["baseline: bytes lost"], tolerant=True)
    npt.assert_array_equal(imdecode(DAMAGED[f"{kind}: bytes lost"], tolerant=True), plain)
    npt.assert_array_equal(imdecode(HARMLESS[kind], tolerant=True), imdecode(PLAIN))


def test_tolerance_is_not_for_data_that_is_no_jpeg():
    with pytest.raises(DecodeError):
        imdecode(PLAIN[:200], tolerant=True)


def test_nothing_is_mended_where_pixels_are_lost():
    assert mended(PLAIN, "Corrupt JPEG data: premature end of data segment") is None
    assert mended(PLAIN, "Corrupt JPEG data: 821 extraneous bytes before marker 0xc4") is None
    assert mended(PLAIN, "Premature end of JPEG file") is None
    assert mended(b"\xff\xd8\xff", "Corrupt JPEG data: bad ICC marker") is None
    assert is_harmless("Corrupt JPEG data: 5 extraneous bytes before marker 0xd9")
    assert not is_harmless("Corrupt JPEG data: 5 extraneous bytes before marker 0xd0")


def test_an_error_behind_a_warning_is_not_tolerated():
    """libjpeg gives up, and what it has not written would be what lay in memory."""
    table = PROGRESSIVE.index(b"\xff\xc4", scan(PROGRESSIVE))
    broken = PROGRESSIVE[:table] + b"stray" + PROGRESSIVE[table : table + 5] + b"\xff" * 16
    broken += PROGRESSIVE[table + 21 :]
    for tolerant in (False, True):
        with pytest.raises(DecodeError, match="JPEG: Bogus Huffman table definition"):
            imdecode(broken, tolerant=tolerant)


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("scale", [4, 2, 1])
def test_a_smaller_size_is_the_same_without_simplejpeg(monkeypatch, scale, flag):
    found = imdecode(PLAIN, flag, scale=scale)
    assert found.shape[:2] == (-(-101 * scale // 8), -(-133 * scale // 8))
    npt.assert_array_equal(imdecode(HARMLESS["several of these"], flag, scale=scale), found)
    npt.assert_array_equal(imdecode(HARMLESS["bytes behind it"], flag, scale=scale), found)
    with pytest.raises(DecodeError, match="JPEG: "):
        imdecode(DAMAGED["baseline: cut"], flag, scale=scale)
    monkeypatch.setattr(codec, "_simplejpeg", lambda: None)
    npt.assert_array_equal(imdecode(PLAIN, flag, scale=scale), found)
