"""Transcoding JPEGs: the same coefficients, metadata and pixels, whatever the source is."""

from __future__ import annotations

import io
import random
import struct

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image
from slow_jpeg import segments, slow_coefficients

from gpuio.errors import DecodeError
from gpuio.formats.jpeg_segments import SOF0, SOF1, SOF2
from gpuio.kernels.transcode import encode as encoder
from gpuio.pack import transcode
from gpuio.pack.jpeg_coefficients import read_coefficients
from gpuio.pack.transcode import transcode_jpeg
from gpuio.testing import draw, encode

RANDOM_SIZES = [tuple(random.Random(7).sample(range(1, 65), 2)) for _ in range(1)] + [
    (random.Random(n).randint(1, 64), random.Random(-n).randint(1, 64)) for n in range(1, 30)
]
FACTORS = {"444": 0x111111, "422": 0x211111, "420": 0x221111, "440": 0x121111, "411": 0x411111}


def pixels(data: bytes) -> np.ndarray:
    """What libjpeg-turbo decodes, with Pillow: every component as it is stored."""
    return np.asarray(Image.open(io.BytesIO(data)))


def pair(height: int, width: int, mode: str = "RGB", **options) -> tuple[bytes, bytes]:
    """A progressive JPEG, and the baseline one of the same coefficients, both of libjpeg's."""
    image = draw(height, width, {"L": 1, "RGB": 3, "CMYK": 4}[mode], seed=height * width)
    picture = Image.fromarray(image[..., 0] if mode == "L" else image, mode)
    files = []
    for progressive in (True, False):
        file = io.BytesIO()
        picture.save(file, "JPEG", progressive=progressive, optimize=True, **options)
        files.append(file.getvalue())
    return files[0], files[1]


def frame_marker(data: bytes) -> int:
    return next(marker for marker, _ in segments(data) if 0xC0 <= marker <= 0xC2)


def kept(data: bytes) -> list[tuple[int, bytes]]:
    """The segments that transcoding must keep."""
    anew = {0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDD}
    return [segment for segment in segments(data) if segment[0] not in anew]


@pytest.mark.parametrize("quality", [30, 75, 95, 100])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_jpeg_becomes_the_baseline_one_of_the_same_coefficients(mode, quality):
    for number, (height, width) in enumerate(RANDOM_SIZES[:12]):
        options = {"quality": quality} | ({} if mode == "L" else {"subsampling": number % 3})
        progressive, baseline = pair(height, width, mode, **options)
        new = transcode_jpeg(progressive, baseline=True)
        assert frame_marker(new) == SOF0
        assert np.array_equal(slow_coefficients(new), slow_coefficients(baseline))
        assert np.array_equal(pixels(new), pixels(progressive))
        assert kept(new) == kept(progressive)


def test_its_codes_take_no_more_bytes_than_those_that_libjpeg_makes():
    progressive, baseline = pair(60, 61)
    *_, (_, ours) = segments(transcode_jpeg(progressive, baseline=True))
    *_, (_, libjpeg) = segments(baseline)
    assert len(ours) == len(libjpeg)


@pytest.mark.parametrize("sampling", FACTORS)
def test_every_subsampling_is_kept(sampling):
    for height, width in RANDOM_SIZES:
        flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
        ok, found = cv2.imencode(".jpg", draw(height, width), [*flags, FACTORS[sampling]])
        assert ok
        data = found.tobytes()
        assert frame_marker(data) == SOF2
        new = transcode_jpeg(data, baseline=True)
        assert frame_marker(new) == SOF0
        assert np.array_equal(read_coefficients(new).values, read_coefficients(data).values)
        assert np.array_equal(simplejpeg.decode_jpeg(new), simplejpeg.decode_jpeg(data))


@pytest.mark.parametrize("sampling", [*FACTORS, "Gray"])
def test_tables_made_for_an_image_save_bytes(sampling):
    space = "GRAY" if sampling == "Gray" else "RGB"
    for height, width in ((48, 64), (63, 41), (17, 90)):
        image = draw(height, width, 1 if sampling == "Gray" else 3)
        data = simplejpeg.encode_jpeg(image, colorspace=space, colorsubsampling=sampling)
        new = transcode_jpeg(data, optimize=True)
        assert len(new) < len(data)
        assert np.array_equal(slow_coefficients(new), slow_coefficients(data))
        assert np.array_equal(pixels(new), pixels(data))


@pytest.mark.parametrize("restart", [{"restart_marker_blocks": 3}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_restart_markers_are_kept(mode, restart):
    progressive, baseline = pair(61, 95, mode, **restart)
    for data, options in ((progressive, {"baseline": True}), (baseline, {"optimize": True})):
        new = transcode_jpeg(data, **options)
        assert np.array_equal(slow_coefficients(new), slow_coefficients(baseline))
        assert np.array_equal(pixels(new), pixels(data))
        assert b"\xff\xd0" in new


def test_an_image_whose_tables_are_the_best_is_left_as_it_is():
    _, best = pair(40, 50)
    once = transcode_jpeg(best, optimize=True)
    assert len(once) <= len(best)
    assert transcode_jpeg(once, optimize=True) is once


def test_only_what_was_asked_for_is_transcoded():
    progressive, _ = pair(40, 50)
    sequential = encode(draw(40, 50), "JPEG")
    png = encode(draw(40, 50), "PNG")
    for data in (progressive, sequential, png):
        assert transcode_jpeg(data) is data
    assert transcode_jpeg(progressive, optimize=True) is progressive
    assert transcode_jpeg(sequential, baseline=True) is sequential
    assert transcode_jpeg(png, baseline=True, optimize=True) is png
    assert frame_marker(transcode_jpeg(progressive, baseline=True, optimize=True)) == SOF0


def test_wide_quantisation_tables_make_it_extended_sequential():
    tables = [list(range(200, 264)), [7] * 64]
    progressive, baseline = pair(33, 50, qtables=tables)
    assert frame_marker(baseline) == SOF1
    new = transcode_jpeg(progressive, baseline=True)
    assert frame_marker(new) == SOF1
    assert np.array_equal(slow_coefficients(new), slow_coefficients(baseline))
    assert np.array_equal(pixels(new), pixels(progressive))


def test_metadata_and_what_follows_the_end_are_kept():
    image = Image.fromarray(draw(30, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    options = {"exif": exif, "icc_profile": b"colours" * 9000, "comment": b"hello", "dpi": (72, 72)}
    image.save(file, "JPEG", progressive=True, **options)
    data = file.getvalue() + b"behind the end"
    new = transcode_jpeg(data, baseline=True)
    assert kept(new) == kept(data)
    assert new.endswith(b"\xff\xd9behind the end")
    opened = Image.open(io.BytesIO(new))
    assert opened.getexif()[0x0112] == 6
    assert opened.info["icc_profile"] == options["icc_profile"]
    assert opened.info["comment"] == b"hello"


def test_two_components_share_tables_if_they_share_quantisation():
    image = draw(40, 40, 4)
    data = transcode_jpeg(encode(image, "JPEG", "CMYK", progressive=True), baseline=True)
    scan = next(body for marker, body in segments(data) if marker == 0xDA)
    assert scan[:9] == bytes([4, *(value for name in (67, 77, 89, 75) for value in (name, 0))])
    color = transcode_jpeg(encode(draw(40, 40), "JPEG", progressive=True), baseline=True)
    scan = next(body for marker, body in segments(color) if marker == 0xDA)
    assert scan[:7] == bytes([3, 1, 0, 2, 17, 3, 17])


def separate_scans(data: bytes) -> bytes:
    """A baseline JPEG with a scan for each component."""
    image = read_coefficients(data)
    head, scans = b"\xff\xd8", b""
    for marker, body in segments(data):
        if marker not in (0xC4, 0xDA):
            head += struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
    tall = max(c.down for c in image.frame.components)
    wide = max(c.across for c in image.frame.components)
    for component, layout in zip(image.frame.components, image.layout, strict=True):
        alone = np.array([layout])
        alone["across"] = alone["down"] = 1
        rows = -(-image.frame.height * component.down // tall)
        columns = -(-image.frame.width * component.across // wide)
        size = -(-rows // 8), -(-columns // 8)
        tokens = np.empty(64 * size[0] * size[1], np.uint32)
        counts = np.zeros((encoder.TABLES, 256), np.int64)
        count = encoder.find_tokens(image.values, alone, size, 0, tokens, counts)
        body, codes = transcode._tables(counts)
        out = np.empty((count + 1) * encoder.CODE_NBYTES, np.uint8)
        nbytes = encoder.write_scan(tokens[:count], codes, out)
        scans += struct.pack(">BBH", 0xFF, 0xC4, len(body) + 2) + body
        scans += bytes([0xFF, 0xDA, 0, 8, 1, component.id, 0, 0, 63, 0]) + out[:nbytes].tobytes()
    return head + scans + b"\xff\xd9"


@pytest.mark.parametrize("sampling", FACTORS)
def test_a_scan_for_each_component_becomes_one_scan_of_all(sampling):
    whole = simplejpeg.encode_jpeg(draw(41, 67), colorsubsampling=sampling)
    apart = separate_scans(whole)
    assert np.array_equal(pixels(apart), pixels(whole))
    assert transcode_jpeg(apart, optimize=True) is apart
    new = transcode_jpeg(apart, baseline=True)
    assert [marker for marker, _ in segments(new)].count(0xDA) == 1
    assert np.array_equal(pixels(new), pixels(whole))


def scan_starts(data: bytes) -> list[int]:
    return [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    data, _ = pair(48, 64)
    starts = scan_starts(data)
    assert len(starts) == 10
    for start in starts[1:]:
        with pytest.raises(DecodeError, match="not all of its coefficients are there"):
            transcode_jpeg(data[:start] + b"\xff\xd9", baseline=True)


def test_a_scan_that_comes_twice_is_refused():
    data, _ = pair(48, 64)
    starts = scan_starts(data)
    for start, stop in zip(starts, [*starts[1:], len(data) - 2], strict=True):
        with pytest.raises(DecodeError, match="does not go on from those before it"):
            transcode_jpeg(data[:stop] + data[start:stop] + data[stop:], baseline=True)


def test_damage_is_refused():
    progressive, baseline = pair(48, 64)
    cases = {
        "no marker at byte": progressive[:20] + b"\0" + progressive[20:],
        "marker 0xd8 at byte": progressive[:-1] + b"\xd8",
        "segment 0xe0 at byte": progressive[:4] + b"\xff" + progressive[5:],
        "more than one frame": baseline[:2] + frame_of(baseline) + baseline[2:],
        "segment of the restart": baseline[:2] + b"\xff\xdd\0\5\0\0\1" + baseline[2:],
        "no scan in it": progressive[:2] + b"\xff\xd9",
        "it ends at byte 3, within a marker": progressive[:2] + b"\xff",
        "without an end marker": progressive[:-2],
        "damaged data of scan 1": cut(progressive, scan_starts(progressive)[0] + 40),
    }
    for message, data in cases.items():
        with pytest.raises(DecodeError, match=message):
            transcode_jpeg(data, baseline=True, optimize=True)


def cut(data: bytes, at: int) -> bytes:
    """The data without 20 bytes."""
    return data[:at] + data[at + 20 :]


def frame_of(data: bytes) -> bytes:
    body = next(body for marker, body in segments(data) if 0xC0 <= marker <= 0xC2)
    return struct.pack(">BBH", 0xFF, 0xC0, len(body) + 2) + body


def test_other_kinds_of_jpeg_are_refused():
    _, baseline = pair(20, 20)
    frame = baseline.index(b"\xff\xc0")
    arithmetic = baseline[:frame] + b"\xff\xc9" + baseline[frame + 2 :]
    with pytest.raises(DecodeError, match="another method than Huffman's"):
        transcode_jpeg(arithmetic, optimize=True)
    deep = baseline[: frame + 4] + b"\x0c" + baseline[frame + 5 :]
    with pytest.raises(DecodeError, match="3 components of 12 bits"):
        transcode_jpeg(deep, optimize=True)


def test_a_file_of_several_pictures_is_refused():
    picture = Image.fromarray(draw(200, 300))
    file = io.BytesIO()
    picture.save(file, "MPO", save_all=True, append_images=[picture])
    with pytest.raises(DecodeError, match="it holds several pictures"):
        transcode_jpeg(file.getvalue(), optimize=True)


def test_coefficients_that_baseline_does_not_have_are_refused(monkeypatch):
    data, _ = pair(20, 20)
    real = read_coefficients

    def larger(data):
        image = real(data)
        image.values[0, 5] = 1 << 10
        return image

    monkeypatch.setattr(transcode, "read_coefficients", larger)
    with pytest.raises(DecodeError, match="larger than those of baseline JPEG"):
        transcode_jpeg(data, baseline=True)


def test_what_was_written_is_read_again(monkeypatch):
    data, _ = pair(20, 20)
    real, calls = read_coefficients, []

    def other(data):
        calls.append(len(data))
        image = real(data)
        image.values[-1, -1] = len(calls)
        return image

    monkeypatch.setattr(transcode, "read_coefficients", other)
    with pytest.raises(DecodeError, match="did not keep its coefficients"):
        transcode_jpeg(data, baseline=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_jpeg_is_refused_or_keeps_its_pixels(seed):
    assert mutate(seed, 100) > 3


def mutate(seed: int, count: int) -> int:
    """Transcode mutated JPEGs; how many of them were taken."""
    rng = random.Random(seed)
    done = 0
    for number in range(count):
        mode = rng.choice(["L", "RGB", "CMYK"])
        options = {"quality": rng.randint(20, 98)}
        if rng.random() < 0.3:
            options["restart_marker_blocks"] = rng.randint(1, 9)
        data = bytearray(pair(rng.randint(1, 40), rng.randint(1, 40), mode, **options)[number % 2])
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(2, len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at] = rng.randrange(256)
            elif kind == 2:
                del data[at : at + rng.randint(1, 9)]
            else:
                data[at:at] = rng.randbytes(rng.randint(1, 4))
        source = bytes(data)
        try:
            new = transcode_jpeg(source, baseline=True, optimize=True)
        except DecodeError:
            continue
        if new is source:
            continue
        done += 1
        try:
            before = pixels(source)
        except OSError:  # libjpeg refuses both
            with pytest.raises(OSError, match=r"."):
                pixels(new)
        else:
            assert np.array_equal(before, pixels(new)), (seed, number)
    return done
