"""Packing: images of a list into a .rec and a .idx."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from lists import image_list
from PIL import Image

from gpuio.errors import BusyError, DecodeError
from gpuio.formats import codec
from gpuio.formats.codec import imdecode
from gpuio.formats.image_list import ImageList
from gpuio.formats.image_record import IRHeader, unpack
from gpuio.formats.index import Index
from gpuio.formats.recordio import MAGIC, RecordFile
from gpuio.pack import transcode
from gpuio.pack.packing import (
    NothingPackedError,
    PackOptions,
    PackReport,
    Skipped,
    encode_image,
    pack_list,
)
from gpuio.pack.shards import pack_shards, shards
from gpuio.testing import draw, encode

SIZES = [(40, 60), (60, 40), (50, 50), (33, 77), (90, 31), (64, 64), (20, 21)]
IDS = [30, 2, 7, 11, 5, 0, 19]
LABELS = [[0], [1, 2.5], [2], [3, 4, 5], [4], [5], [6]]


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, (height, width) in enumerate(SIZES):
        y, x = np.mgrid[:height, :width]
        pixels = np.stack([3 * x % 256, (2 * y + number) % 256, (x * y) % 256], -1)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def listing() -> ImageList:
    return image_list(IDS, LABELS, [f"{i}.png" for i in range(len(SIZES))])


def records(prefix: Path) -> list[tuple[int, IRHeader, bytes]]:
    index = Index.load(f"{prefix}.idx")
    with RecordFile(f"{prefix}.rec") as file:
        payloads = [file.read(offset)[0] for offset in index.offsets.tolist()]
    assert index.offsets.tolist() == Index.scan(f"{prefix}.rec").offsets.tolist()
    return [(key, *unpack(p)) for key, p in zip(index.keys.tolist(), payloads, strict=True)]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def packed(tmp_path: Path, root: Path, **options) -> list[tuple[int, IRHeader, bytes]]:
    report = pack_list(listing(), root, tmp_path / "data", PackOptions(**options), threads=2)
    assert report == PackReport(len(SIZES), (tmp_path / "data.rec").stat().st_size, [])
    return records(tmp_path / "data")


def test_records_come_in_the_order_of_the_list(tmp_path, root):
    found = packed(tmp_path, root)
    assert [key for key, _, _ in found] == [header.id for _, header, _ in found] == IDS
    assert [header for _, header, _ in found] == [
        IRHeader(0, labels[0], number, 0) for number, labels in zip(IDS, LABELS, strict=True)
    ]
    assert [imdecode(image).shape[:2] for _, _, image in found] == SIZES


def test_all_labels_of_a_line_can_be_packed(tmp_path, root):
    headers = [header for _, header, _ in packed(tmp_path, root, pack_label=True)]
    for header, labels in zip(headers, LABELS, strict=True):
        assert header.flag == (len(labels) if len(labels) > 1 else 0)
        assert np.atleast_1d(header.label).tolist() == labels


@pytest.mark.parametrize("options", [{}, {"encoding": ".png", "center_crop": True}], ids=str)
def test_output_is_the_same_for_any_number_of_threads(tmp_path, root, options):
    images = image_list(range(300), [0] * 300, [f"{i % len(SIZES)}.png" for i in range(300)])
    outputs = set()
    for threads in (1, 2, 5, None):
        pack_list(images, root, tmp_path / "data", PackOptions(**options), threads=threads)
        outputs.add(b"".join((tmp_path / f"data.{s}").read_bytes() for s in ("rec", "idx")))
    assert len(outputs) == 1


def test_passed_through_images_are_the_files(tmp_path, root):
    # Also those with the magic in them, which are split, and what is no image at all.
    (root / "0.png").write_bytes(b"1234" + MAGIC.to_bytes(4, "little") * 3 + b"x")
    (root / "1.png").write_bytes(b"")
    found = packed(tmp_path, root, pass_through=True, resize=7)
    assert [image for _, _, image in found] == [
        (root / f"{i}.png").read_bytes() for i in range(len(SIZES))
    ]


def test_a_png_keeps_its_pixels(tmp_path, root):
    for number, (_, _, image) in enumerate(packed(tmp_path, root, encoding=".png")):
        assert image.startswith(b"\x89PNG")
        original = np.asarray(Image.open(root / f"{number}.png"))
        npt.assert_array_equal(imdecode(image, order="RGB"), original)


def test_the_centre_is_cut_out(root):
    for number, (height, width) in enumerate(SIZES):
        path = root / f"{number}.png"
        side, top, left = (
            min(height, width),
            max(height - width, 0) // 2,
            max(width - height, 0) // 2,
        )
        got = imdecode(
            encode_image(path, PackOptions(encoding=".png", center_crop=True)), order="RGB"
        )
        original = np.asarray(Image.open(path))
        npt.assert_array_equal(got, original[top : top + side, left : left + side])


def test_resizing_to_more_pixels_than_an_image_may_have_is_an_error(root, monkeypatch):
    path = root / "long.png"
    path.write_bytes(encode(np.zeros((2, 3000, 3), np.uint8)))
    monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", 10**6)
    assert encode_image(path, PackOptions(encoding=".png", resize=20))
    with pytest.raises(DecodeError, match="of 3000 x 2 pixels would become one of 60000 x 40"):
        encode_image(path, PackOptions(encoding=".png", resize=40))


@pytest.mark.parametrize("color", [-1, 0, 1])
@pytest.mark.parametrize("shorter", [16, 50, 101])
def test_the_shorter_side_is_resized_as_opencv_does_it(root, shorter, color):
    cv2 = pytest.importorskip("cv2")
    for number, (height, width) in enumerate(SIZES):
        path = root / f"{number}.png"
        data = encode_image(path, PackOptions(encoding=".png", resize=shorter, color=color))
        if height > width:
            size = (shorter, height * shorter // width)
        else:
            size = (width * shorter // height, shorter)
        expected = cv2.resize(cv2.imread(str(path), color), size)
        npt.assert_array_equal(imdecode(data, color), expected)


def test_gray_and_alpha_are_kept_if_asked_for(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (9, 8, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    stored = encode_image(tmp_path / "a.png", PackOptions(color=-1, encoding=".png"))
    npt.assert_array_equal(imdecode(stored, -1, order="RGB"), rgba)
    gray = encode_image(tmp_path / "a.png", PackOptions(color=0))
    assert imdecode(gray, -1).shape == (9, 8)
    assert imdecode(encode_image(tmp_path / "a.png", PackOptions()), -1).shape == (9, 8, 3)


def test_images_that_cannot_be_read_are_left_out_and_reported(tmp_path, root):
    (root / "1.png").write_bytes(b"no image")
    (root / "2.png").unlink()
    (root / "3.png").write_bytes((root / "3.png").read_bytes()[:-30])
    done = []
    report = pack_list(listing(), root, tmp_path / "data", threads=2, progress=done.append)
    assert report.packed == 4
    assert [image.path for image in report.skipped] == [str(root / f"{i}.png") for i in (1, 2, 3)]
    assert report.skipped[0].reason == "no known image format starts with 6e 6f 20 69 6d 61 67 65"
    assert report.skipped[1].reason == "No such file or directory"
    assert [key for key, _, _ in records(tmp_path / "data")] == [IDS[i] for i in (0, 4, 5, 6)]
    assert sum(done) == len(SIZES)


def test_an_id_that_no_header_can_hold_costs_that_image(tmp_path, root):
    report = pack_list(image_list([-1, 3], [0, 0], ["0.png", "1.png"]), root, tmp_path / "data")
    assert report.packed == 1
    assert isinstance(report.skipped[0], Skipped)


def test_an_empty_list_makes_empty_files(tmp_path, root):
    report = pack_list(image_list([], [], []), root, tmp_path / "data")
    assert report == PackReport(0, 0, [])
    assert (tmp_path / "data.rec").read_bytes() == (tmp_path / "data.idx").read_bytes() == b""


def test_an_interrupt_leaves_nothing(tmp_path, root):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_list(listing(), root, tmp_path / "data", progress=interrupt)
    assert list(tmp_path.iterdir()) == [root]


def test_an_interrupt_leaves_older_files(tmp_path, root):
    before = packed(tmp_path, root)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_list(listing(), root, tmp_path / "data", PackOptions(quality=9), progress=interrupt)
    assert str(records(tmp_path / "data")) == str(before)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_a_kill_leaves_nothing_that_looks_complete(tmp_path, root, number):
    code = """
import sys, time
from gpuio.pack import packing as pack
from gpuio.formats.image_list import ImageList
import numpy as np
zeros = np.zeros(999, np.float32)
images = ImageList(np.arange(999), zeros, np.arange(1000), ["0.png"] * 999)
pack.pack_list(images, sys.argv[1], sys.argv[2], progress=lambda _: time.sleep(0.05))
"""
    with subprocess.Popen([sys.executable, "-c", code, root, tmp_path / "data"]) as process:
        while not list(tmp_path.glob("data.rec.*.partial")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
    assert not (tmp_path / "data.rec").exists()
    assert not (tmp_path / "data.idx").exists()
    # The next one is not held up, and puts everything in order.
    packed(tmp_path, root)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {root.name, "data.rec", "data.idx"}


def test_a_second_writer_fails_at_once(tmp_path, root):
    def again(_: int) -> None:
        with pytest.raises(BusyError, match=r"data\.rec: another process \(pid \d+\) is"):
            pack_list(listing(), root, tmp_path / "data")

    pack_list(listing(), root, tmp_path / "data", progress=again)
    assert len(records(tmp_path / "data")) == len(IDS)


def test_a_second_writer_of_shards_fails_at_once(tmp_path, root):
    def again(_: int) -> None:
        with pytest.raises(BusyError, match="data-of-00003: another process"):
            pack_shards(listing(), root, tmp_path / "data", 3)

    pack_shards(listing(), root, tmp_path / "data", 3, progress=again)
    assert len(list(tmp_path.glob("data*"))) == 6


@pytest.mark.parametrize("pack", [pack_list, partial(pack_shards, count=2)], ids=["one", "shards"])
def test_a_missing_root_is_named_and_old_files_stay(tmp_path, root, pack):
    pack(listing(), root, tmp_path / "data")
    before = content(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        pack(listing(), tmp_path / "nowhere", tmp_path / "data")
    with pytest.raises(NotADirectoryError, match=r"0\.png: no folder"):
        pack(listing(), root / "0.png", tmp_path / "data")
    with pytest.raises(ValueError, match="root must be the folder of the images"):
        pack(listing(), "", tmp_path / "data")
    assert content(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("pack", [pack_list, partial(pack_shards, count=2)], ids=["one", "shards"])
def test_a_list_of_which_nothing_can_be_packed_writes_nothing(tmp_path, root, pack, overwrite):
    pack(listing(), root, tmp_path / "data")
    before = content(tmp_path)
    (tmp_path / "empty").mkdir()
    message = r"data.*\.rec was not written: none of 7 listed images .*0\.png: No such file"
    with pytest.raises(NothingPackedError, match=message) as error:
        pack(listing(), tmp_path / "empty", tmp_path / "data", overwrite=overwrite)
    assert len(error.value.report.skipped) == len(IDS)
    assert content(tmp_path) == before


def test_a_file_is_not_replaced_by_one_with_fewer_than_half_of_its_images(tmp_path, root):
    before = packed(tmp_path, root)
    fewer = listing().part(0, 3)
    message = r"data\.rec was not replaced: it has 7 images, and the new one would have 3; --overwr"
    with pytest.raises(FileExistsError, match=message):
        pack_list(fewer, root, tmp_path / "data")
    for number in (0, 1, 2, 3):
        (root / f"{number}.png").unlink()
    with pytest.raises(FileExistsError, match=message):
        pack_list(listing(), root, tmp_path / "data")
    assert str(records(tmp_path / "data")) == str(before)
    # Without the index, too.
    (tmp_path / "data.idx").unlink()
    with pytest.raises(FileExistsError, match=message):
        pack_list(fewer, root, tmp_path / "data")
    assert pack_list(listing(), root, tmp_path / "data", overwrite=True).packed == 3
    assert [key for key, *_ in records(tmp_path / "data")] == IDS[4:]
    # Half of them is enough.
    assert pack_list(listing().part(4, 6), root, tmp_path / "data").packed == 2


def test_a_file_that_is_no_rec_is_replaced(tmp_path, root):
    (tmp_path / "data.rec").write_bytes(b"old")
    (tmp_path / "data.idx").write_text("old")
    assert len(packed(tmp_path, root)) == len(IDS)


def test_a_shard_without_an_image_is_there_all_the_same(tmp_path, root):
    for number in (2, 3):
        (root / f"{number}.png").unlink()
    report = pack_shards(listing(), root, tmp_path / "data", 3)
    assert (report.packed, len(report.skipped)) == (5, 2)
    assert [len(records(tmp_path / f"data-0000{n}-of-00003")) for n in range(3)] == [2, 0, 3]
    assert len(list(tmp_path.glob("data*"))) == 6


def test_a_shard_is_not_emptied_unasked(tmp_path, root):
    pack_shards(listing(), root, tmp_path / "data", 3)
    for number in (2, 3):
        (root / f"{number}.png").unlink()
    with pytest.raises(FileExistsError, match=r"00001-of-00003\.rec was not replaced: it has 2"):
        pack_shards(listing(), root, tmp_path / "data", 3)
    assert len(records(tmp_path / "data-00001-of-00003")) == 2
    pack_shards(listing(), root, tmp_path / "data", 3, overwrite=True)
    assert len(records(tmp_path / "data-00001-of-00003")) == 0


def test_shards_hold_the_records_of_one_file(tmp_path, root):
    (root / "3.png").unlink()
    one = pack_list(listing(), root, tmp_path / "one")
    done: list[int] = []
    several = pack_shards(listing(), root, tmp_path / "data", 3, progress=done.append)
    assert several == one
    assert sum(done) == len(IDS)
    names = [f"data-0000{number}-of-00003" for number in range(3)]
    parts = [records(tmp_path / name) for name in names]
    assert [record for part in parts for record in part] == records(tmp_path / "one")
    assert [len(part) for part in parts] == [2, 1, 3]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_list_is_cut_into_equal_shards(count):
    parts = list(shards(listing(), "data", count))
    assert [name for name, _ in parts] == [f"data-0000{n}-of-0000{count}" for n in range(count)]
    sizes = [len(part) for _, part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert [number for _, part in parts for number in part.ids.tolist()] == IDS


@pytest.mark.parametrize("count", [0, -1, 8])
def test_a_shard_has_at_least_one_image(count, tmp_path, root):
    with pytest.raises(ValueError, match=f"7 images cannot be cut into {count} shards"):
        pack_shards(listing(), root, tmp_path / "data", count)
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": -1}, "resize must be 0 or a number of pixels, got -1"),
        ({"color": 2}, "color must be -1, 0 or 1, got 2"),
        ({"encoding": ".gif"}, "encoding must be .jpg or .png, got '.gif'"),
        ({"quality": 101}, r"quality must be in \[0, 100\], got 101"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        PackOptions(**options)


@pytest.fixture
def jpegs(tmp_path) -> Path:
    """0 is progressive, 1 baseline, 2 progressive and damaged, and 3 a PNG."""
    folder = tmp_path / "jpegs"
    folder.mkdir()
    progressive = encode(draw(40, 60), "JPEG", progressive=True)
    files = progressive, encode(draw(40, 60), "JPEG"), progressive[:-40], encode(draw(40, 60))
    for number, data in enumerate(files):
        (folder / f"{number}.jpg").write_bytes(data)
    return folder


def test_files_are_transcoded_without_loss(tmp_path, jpegs):
    images = image_list(range(4), [0] * 4, [f"{n}.jpg" for n in range(4)])
    options = PackOptions(pass_through=True, baseline=True, optimize=True)
    one_file = pack_list(images, jpegs, tmp_path / "data", options)
    shards = pack_shards(images, jpegs, tmp_path / "data", 2, options)
    for report in (one_file, shards):
        assert (report.packed, report.skipped, report.transcoded) == (4, [], 2)
        (kept,) = report.not_transcoded
        assert kept.path == str(jpegs / "2.jpg")
        assert kept.reason.startswith("JPEG: ")
    found = [image for _, _, image in records(tmp_path / "data")]
    sources = [(jpegs / f"{n}.jpg").read_bytes() for n in range(4)]
    assert found[2:] == sources[2:]
    for image, source in zip(found[:2], sources[:2], strict=True):
        assert image != source
        assert np.array_equal(imdecode(image), imdecode(source))


def test_a_jpeg_too_large_to_be_transcoded_is_stored_as_it_is(tmp_path, jpegs, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(transcode, "read_coefficients", fail)
    images = image_list([0], [0], ["0.jpg"])
    options = PackOptions(pass_through=True, baseline=True)
    report = pack_list(images, jpegs, tmp_path / "data", options)
    assert [kept.reason for kept in report.not_transcoded] == [
        "there is not enough memory to transcode it"
    ]
    assert records(tmp_path / "data")[0][2] == (jpegs / "0.jpg").read_bytes()


@pytest.mark.parametrize("option", ["baseline", "optimize"])
def test_only_files_that_are_not_decoded_are_transcoded(option):
    with pytest.raises(ValueError, match=f"{option} is for files that are stored without decoding"):
        PackOptions(**{option: True})
