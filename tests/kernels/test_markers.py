"""What markers say of a JPEG's colours, as libjpeg-turbo understands them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import simplejpeg

from gpuio.kernels.markers import LUMA_CHROMA, RED_GREEN_BLUE, UNKNOWN_COLOR, components_of
from gpuio.testing import encode

STORED = (200, 60, 90)  # each component of every pixel
NAMES = {"RGB": b"RGB", "123": b"\x01\x02\x03", "RGC": b"RGC"}


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


JFIF = segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
APPS = {
    "nothing": b"",
    "jfif": JFIF,
    "jfif behind a fill byte": b"\xff" + JFIF,
    "jfif with another fifth byte": segment(0xE0, b"JFIFX" + JFIF[9:]),
    "short jfif": segment(0xE0, b"JFIF\0" + bytes(8)),
    "another app0": segment(0xE0, b"JFXX\0" + bytes(20)),
    "adobe 0": segment(0xEE, b"Adobe" + bytes(7)),
    "adobe 1": segment(0xEE, b"Adobe" + bytes(6) + b"\x01"),
    "adobe 2": segment(0xEE, b"Adobe" + bytes(6) + b"\x02"),
    "adobe with another fifth byte": segment(0xEE, b"Adobf" + bytes(7)),
    "short adobe": segment(0xEE, b"Adobe" + bytes(6)),
    "long adobe": segment(0xEE, b"Adobe" + bytes(60)),
    "jfif and adobe 0": JFIF + segment(0xEE, b"Adobe" + bytes(7)),
    "adobe 1 and then 0": segment(0xEE, b"Adobe" + bytes(6) + b"\x01")
    + segment(0xEE, b"Adobe" + bytes(7)),
}


def parts(progressive):
    """Bytes of a JPEG before its frame header, that header, what follows to the scan, and the scan.

    It has no APP segment.
    """
    image = np.full((16, 16, 3), STORED, np.uint8)
    data = encode(image, "JPEG", keep_rgb=True, quality=100, progressive=progressive)
    head, frame, tables, at = b"\xff\xd8", b"", b"", 2
    while data[at + 1] != 0xDA:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xC2:
            frame = data[at:end]
        elif marker < 0xE0 and frame:
            tables += data[at:end]
        elif marker < 0xE0:
            head += data[at:end]
        at = end
    return head, frame, tables, data[at:]


def named(frame, scans, names):
    """A frame and its scans with other names of its three components."""
    old = bytes(frame[10 + 3 * k] for k in range(3))
    frame, scans, at = bytearray(frame), bytearray(scans), 0
    for k in range(3):
        frame[10 + 3 * k] = names[k]
    while (at := scans.find(b"\xff\xda", at)) >= 0:
        for k in range(scans[at + 4]):
            place = at + 5 + 2 * k
            scans[place] = names[old.index(scans[place])]
        at += 2
    return bytes(frame), bytes(scans)


def understood(data):
    """What libjpeg-turbo takes the components for."""
    try:
        pixels = simplejpeg.decode_jpeg(data)
    except ValueError as error:
        assert "Adobe color transform" in str(error)  # noqa: PT017  others are no answer
        return UNKNOWN_COLOR
    return RED_GREEN_BLUE if (abs(pixels.astype(int) - STORED) < 3).all() else LUMA_CHROMA


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("names", NAMES)
def test_components_are_what_libjpeg_turbo_takes_them_for(names, progressive):
    head, frame, tables, scans = parts(progressive)
    frame, scans = named(frame, scans, NAMES[names])
    found = {}
    for before, behind in itertools.product(APPS, APPS):
        data = head + APPS[before] + frame + tables + APPS[behind] + scans
        got = components_of.py_func(np.frombuffer(data, np.uint8))
        assert got == understood(data), f"{before}, frame, {behind}"
        found[got] = data
    assert len(found) == 3


@pytest.mark.parametrize("length", range(0, 200, 3))
def test_of_a_truncated_head_only_the_bytes_that_are_there_are_read(length):
    """Python raises an IndexError where compiled code would read other memory."""
    head, frame, tables, scans = parts(progressive=False)
    data = head + APPS["long adobe"] + frame + tables + APPS["jfif"] + scans
    start = data.index(b"Adobe") - 10
    cut = np.frombuffer(data[: start + length], np.uint8)
    assert components_of.py_func(cut) == LUMA_CHROMA
