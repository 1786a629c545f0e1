"""gpuio info: what is in a .rec."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from gpuio.cli import main
from gpuio.formats.image_record import IRHeader, pack
from gpuio.formats.index import Index
from gpuio.formats.recordio import MAGIC, frame
from gpuio.testing import draw, encode


def image(kind: str, width: int = 30, height: int = 20) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (1, 2, 3)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def info(tmp_path, capsys):
    def run(records, *, index: bool = True, tail: bytes = b"") -> str:
        path = tmp_path / "a.rec"
        path.write_bytes(b"".join(frame(payload) for payload in records))
        if index:
            Index.scan(path).save(tmp_path / "a.idx")
        path.write_bytes(path.read_bytes() + tail)
        assert main(["info", str(path)]) == 0
        return capsys.readouterr().out

    return run


def test_counts_labels_formats_and_sizes_are_reported(info):
    records = [pack(IRHeader(0, n % 3, 10 + n, 0), image("JPEG", 30 + n)) for n in range(9)]
    records.append(pack(IRHeader(0, 1, 4, 0), image("PNG", 300, 200)))
    out = info(records)
    assert "records   10\n" in out
    assert "index     10 entries\n" in out
    assert "ids       4 to 18\n" in out
    assert "labels    width 1\n" in out
    assert "classes   3 distinct, 0 to 2, 3 to 4 images each\n" in out
    assert "formats   JPEG 9, PNG 1\n" in out
    assert "width     min 30, 10 % 31, median 34, 90 % 38, max 300\n" in out
    assert "height    min 20, 10 % 20, median 20, 90 % 20, max 200\n" in out
    assert sum(int(line.rsplit(" ", 1)[1]) for line in out.splitlines() if "#" in line) <= 10


def test_ids_are_as_large_as_headers_hold_them(info):
    out = info([pack(IRHeader(0, 0, key, 0), image("JPEG")) for key in (2**64 - 1, 3)])
    assert f"ids       3 to {2**64 - 1}\n" in out


def test_packed_labels_are_reported(info):
    records = [pack(IRHeader(0, [n, 5, 6], n, 0), image("JPEG")) for n in range(3)]
    out = info(records)
    assert "labels    width 3\n" in out
    assert "classes   3 distinct, first label 0 to 2, 1 images each\n" in out
    records.append(pack(IRHeader(0, 0.5, 3, 0), image("JPEG")))
    assert "labels    width 1 (1 records), 3 (3 records)\n" in info(records)


def test_the_header_of_a_face_set_is_explained(info):
    header = pack(IRHeader(0, [6, 8], 0, 0), b"")
    faces = [pack(IRHeader(0, n // 3, n, 0), image("JPEG")) for n in range(1, 6)]
    people = [pack(IRHeader(0, [1, 3], 6, 0), b""), pack(IRHeader(0, [3, 6], 7, 0), b"")]
    out = info([header, *faces, *people])
    assert "records   8, 3 of them without an image\n" in out
    assert "1 to 5 are images and 6 to 7 are identities" in out
    assert "classes   2 distinct, 0 to 1, 2 to 3 images each\n" in out


def test_split_records_are_read(info):
    magic = MAGIC.to_bytes(4, "little")
    records = [
        pack(IRHeader(0, 2, 5, 0), image("JPEG") + magic * 3),
        pack(IRHeader(0, 3, MAGIC, 0), image("JPEG")),
        pack(IRHeader(0, [np.frombuffer(magic, "<f4")[0], 4], 6, 0), image("PNG")),
    ]
    out = info(records)
    assert f"ids       5 to {MAGIC}\n" in out
    assert "formats   JPEG 2, PNG 1\n" in out


def test_other_records_are_counted_apart(info):
    out = info([b"text", b"", pack(IRHeader(0, 2, 5, 0), image("JPEG"))])
    assert "records   3\n          2 of them are no image records" in out
    assert "formats   JPEG 1\n" in out
    assert "formats   unknown 1\n" in info([pack(IRHeader(0, 2, 5, 0), b"what")])


def test_a_missing_index_and_damage_are_reported(info):
    out = info([pack(IRHeader(0, 2, 5, 0), image("JPEG"))], index=False, tail=b"abc")
    assert "index     none; make one with: gpuio rec2idx " in out
    assert "damage    1 place; list them with: gpuio verify " in out


def test_an_index_of_another_length_is_reported(info):
    record = pack(IRHeader(0, 2, 5, 0), image("JPEG"))
    out = info([record], tail=frame(record))
    assert "index     1 entries, not 2\n" in out


def test_an_empty_file_is_reported(info):
    assert "records   0\n" in info([])


def test_a_detection_set_is_reported(info):
    one = [2, 5, 7, 0.1, 0.1, 0.5, 0.5]
    three = [*one, 3, 0.0, 0.0, 1.0, 1.0, 3, 0.2, 0.2, 0.4, 0.4]
    records = [
        pack(IRHeader(0, label, n, 0), image("JPEG")) for n, label in enumerate([one, three])
    ]
    out = info(records)
    assert "objects   4 of 2 classes, 3 to 7; 1 to 3 in an image\n" in out
    assert "read it with ImageDetRecordIter\n" in out
    assert "classes   " not in out


def test_other_wide_labels_are_no_objects(info):
    points = np.arange(10) / 7
    out = info([pack(IRHeader(0, points, 0, 0), image("JPEG"))])
    assert "objects" not in out
    assert "classes   1 distinct" in out


@pytest.mark.parametrize("label", [[np.inf, 1], [np.nan, 1], [-5, 2], [1.5, 2]])
def test_a_record_that_only_looks_like_a_face_header_is_none(info, label):
    records = [pack(IRHeader(0, label, 0, 0), b""), pack(IRHeader(0, 1, 1, 0), image("JPEG"))]
    out = info(records)
    assert "records   2, 1 of them without an image" in out
    assert "faces" not in out


def test_labels_that_are_no_numbers_are_counted(info):
    labels = [1, np.nan, np.inf]
    out = info([pack(IRHeader(0, x, n, 0), image("JPEG")) for n, x in enumerate(labels)])
    assert "classes   1 distinct, 1 to 1, 1 images each\n" in out
    assert "2 labels are no finite numbers\n" in out


def test_json_has_an_object_for_each_file(tmp_path, capsys):
    for name in ("a.rec", "b.rec"):
        payload = pack(IRHeader(0, [2, 5, 7, 0.1, 0.1, 0.5, 0.5], 3, 0), image("JPEG"))
        (tmp_path / name).write_bytes(frame(payload))
    (tmp_path / "empty.rec").write_bytes(b"")
    (tmp_path / "words.rec").write_text("words and words")
    assert main(["info", "--json", str(tmp_path)]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found] == [
        str(tmp_path / name) for name in ("a.rec", "b.rec", "empty.rec", "words.rec")
    ]
    assert found[0]["records"] == 1
    assert found[0]["ids"] == [3, 3]
    assert found[0]["formats"] == {"JPEG": 1}
    assert found[0]["width"]["median"] == 30
    assert found[0]["objects"]["count"] == 1
    assert found[0]["index"] is None
    assert found[2]["records"] == 0
    assert found[2]["ids"] is None
    assert "not a RecordIO file" in found[3]["error"]


def test_images_that_load_slowly_are_counted_with_what_to_run(info, tmp_path, capsys):
    pixels = draw(20, 30)
    files = [
        *[encode(pixels, "JPEG", progressive=True)] * 2,
        encode(pixels, "JPEG", "CMYK"),
        encode(pixels, "JPEG"),
    ]
    out = info([pack(IRHeader(0, 0, n, 0), data) for n, data in enumerate(files)])
    first, second = out.splitlines()[-2:]
    assert first == (
        "slow      2 of 4 images are progressive or in several scans; "
        "gpuio im2rec --pass-through --baseline makes them baseline without loss"
    )
    assert second.startswith("          1 of 4 images are CMYK; gpuio im2rec --quality 95 ")
    assert main(["info", "--json", str(tmp_path / "a.rec")]) == 0
    assert json.loads(capsys.readouterr().out)[0]["slow"] == {
        "looked_at": 4,
        "progressive": 2,
        "cmyk": 1,
        "turned": 0,
        "other": 0,
        "huge": 0,
    }
    assert "\nslow" not in info([pack(IRHeader(0, 0, 0, 0), files[-1])])
