"""gpuio verify: every kind of damage, with its place, key and reason."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from gpuio.cli import main
from gpuio.formats.image_record import IRHeader, pack
from gpuio.formats.index import Index
from gpuio.formats.recordio import MAGIC, frame

COUNT = 100


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((40, 30), 80).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def make(tmp_path, payloads: list[bytes], keys: list[int] | None = None):
    frames = [frame(payload) for payload in payloads]
    path = tmp_path / "a.rec"
    path.write_bytes(b"".join(frames))
    index = Index.scan(path)
    if keys is not None:
        index.keys[:] = keys
        index.save(tmp_path / "a.idx")
    return path, index.offsets.tolist()


def images() -> list[bytes]:
    return [pack(IRHeader(0, n, 1000 + n, 0), jpeg()) for n in range(COUNT)]


def rows(out: str) -> list[list[str]]:
    return [line.split("\t") for line in out.splitlines() if "\t" in line]


def test_a_good_file_is_status_0(tmp_path, capsys):
    payloads = images()
    payloads[3] = pack(IRHeader(0, 3, 3, 0), jpeg() + MAGIC.to_bytes(4, "little") * 4)  # split
    payloads[0] = pack(IRHeader(0, [5, 6], 0, 0), b"")  # as face sets have it
    path, _ = make(tmp_path, payloads, list(range(COUNT)))
    assert main(["verify", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"{path}: {COUNT} whole records" in out
    assert f"{path}: {COUNT - 1} images checked" in out
    assert out.endswith(f"{path}: no damage\n")


def test_images_that_cannot_be_decoded_are_listed(tmp_path, capsys):
    payloads = images()
    payloads[10] = payloads[10][:-200]
    payloads[20] = pack(IRHeader(0, 0, 1020, 0), b"")
    payloads[30] = pack(IRHeader(0, 0, 1030, 0), b"no image")
    payloads[40] = b"no image record"
    path, offsets = make(tmp_path, payloads)
    assert main(["verify", str(path)]) == 1
    out = capsys.readouterr().out
    assert [row[:2] for row in rows(out)] == [
        [str(offsets[n]), key] for n, key in [(10, "1010"), (20, "1020"), (30, "1030"), (40, "-")]
    ]
    reasons = [row[2] for row in rows(out)]
    assert reasons[0].startswith("JPEG: Corrupt JPEG data: premature end")
    assert reasons[1] == "image of 0 bytes"
    assert reasons[2] == "no known image format starts with 6e 6f 20 69 6d 61 67 65"
    assert reasons[3].startswith("image record header of 24 bytes, 15 found")
    assert out.endswith(f"{path}: 4 damaged\n")


def test_keys_come_from_the_index(tmp_path, capsys):
    payloads = images()
    payloads[10] = b"short"
    path, offsets = make(tmp_path, payloads, [7 * n for n in range(COUNT)])
    assert main(["verify", str(path)]) == 1
    assert rows(capsys.readouterr().out)[0][:2] == [str(offsets[10]), "70"]


@pytest.mark.parametrize("flags", [[], ["--frames-only"]])
def test_damaged_frames_are_listed(tmp_path, capsys, flags):
    path, offsets = make(tmp_path, images(), list(range(COUNT)))
    data = bytearray(path.read_bytes())
    data[offsets[5] : offsets[5] + 4] = b"oops"
    path.write_bytes(data[:-4])
    assert main(["verify", str(path), *flags]) == 1
    out = capsys.readouterr().out
    assert f"{path}: {COUNT - 2} whole records" in out
    first, last = rows(out)
    assert first[:2] == [str(offsets[5]), "5"]
    assert first[2] == f"magic is 0x73706f6f, not 0xced7230a; lost until byte {offsets[6]}"
    assert last[:2] == [str(offsets[-1]), str(COUNT - 1)]


def test_images_are_left_alone_if_only_frames_are_asked_for(tmp_path, capsys):
    path, _ = make(tmp_path, [b"any", b"bytes"])
    assert main(["verify", str(path), "--frames-only"]) == 0
    assert "images checked" not in capsys.readouterr().out


def test_an_index_of_another_file_is_damage(tmp_path, capsys):
    path, offsets = make(tmp_path, images(), list(range(COUNT)))
    index = Index.load(tmp_path / "a.idx")
    index.offsets[7] += 4
    index.save(tmp_path / "a.idx")
    assert main(["verify", str(path), "--frames-only"]) == 1
    expected = [str(offsets[7] + 4), "7", "in the .idx, but no record starts here"]
    assert rows(capsys.readouterr().out) == [expected]


def test_records_that_the_index_leaves_out_are_reported(tmp_path, capsys):
    path, offsets = make(tmp_path, images(), list(range(COUNT)))
    lines = (tmp_path / "a.idx").read_text().splitlines(keepends=True)
    (tmp_path / "a.idx").write_text("".join(lines[:-10]))  # as after cat b.rec >> a.rec
    assert main(["verify", str(path), "--frames-only"]) == 1
    reason = f"not in the .idx, which lacks 10 of {COUNT} whole records; make a new one with"
    ((offset, key, found),) = rows(capsys.readouterr().out)
    assert (offset, key) == (str(offsets[-10]), "-")
    assert found.startswith(reason)


def test_an_empty_file_is_good(tmp_path):
    path, _ = make(tmp_path, [])
    assert main(["verify", str(path)]) == 0


def test_a_missing_file_is_status_2(tmp_path):
    assert main(["verify", str(tmp_path / "a.rec")]) == 2


def test_several_files_are_checked_and_the_worst_is_the_status(tmp_path, capsys):
    good, _ = make(tmp_path, images()[:3])
    good.rename(tmp_path / "good.rec")
    make(tmp_path, [b"short"])
    assert main(["verify", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.count(" whole records, ") == 2
    assert "good.rec: no damage" in out
    assert "a.rec: 1 damaged" in out
    assert main(["verify", str(tmp_path / "*.rec"), str(tmp_path / "good.rec")]) == 1
    assert capsys.readouterr().out.count(" whole records, ") == 3


def test_files_that_are_no_recordio_files_are_reported_and_the_next_one_follows(tmp_path, capsys):
    path, _ = make(tmp_path, images()[:3], [0, 1, 2])
    (tmp_path / "photo.rec").write_bytes(jpeg())
    (tmp_path / "text.rec").write_text("some words\n")
    (tmp_path / "a.lst").write_text("0\t1.0\ta.jpg\n")
    names = [tmp_path / "photo.rec", tmp_path / "text.rec", tmp_path / "a.idx", tmp_path / "a.lst"]
    assert main(["verify", *map(str, names), str(path)]) == 2
    out, err = capsys.readouterr()
    assert out.endswith(f"{path}: no damage\n")
    start = b"some wor".hex(" ")
    assert err.splitlines() == [
        f"gpuio: {names[0]}: not a RecordIO file, but a JPEG",
        f"gpuio: {names[1]}: not a RecordIO file: it starts with {start}, not with 0a 23 d7 ce",
        f"gpuio: {names[2]}: not a RecordIO file, but an .idx: give the .rec beside it",
        f"gpuio: {names[3]}: not a RecordIO file, but a .lst: `gpuio im2rec` packs it",
    ]


def test_a_record_file_without_a_whole_record_is_damaged(tmp_path, capsys):
    path, _ = make(tmp_path, images()[:1])
    path.write_bytes(path.read_bytes()[:100])
    assert main(["verify", str(path)]) == 1
    assert "1 damaged" in capsys.readouterr().out


def test_json_has_an_object_for_each_file(tmp_path, capsys):
    payloads = images()[:3]
    payloads[1] = b"short"
    path, offsets = make(tmp_path, payloads, [7, 8, 9])
    (tmp_path / "photo.rec").write_bytes(jpeg())
    assert main(["verify", "--json", str(path), str(tmp_path / "photo.rec")]) == 2
    out, err = capsys.readouterr()
    first, second = json.loads(out)
    reason = first["damage"][0].pop("reason")
    assert reason.startswith("image record header of 24 bytes, 5 found")
    assert first == {
        "file": str(path),
        "bytes": path.stat().st_size,
        "records": 3,
        "images_checked": 3,
        "index": {"file": str(tmp_path / "a.idx"), "entries": 3},
        "damage": [{"offset": offsets[1], "key": 8}],
    }
    assert second == {
        "file": str(tmp_path / "photo.rec"),
        "error": f"{tmp_path / 'photo.rec'}: not a RecordIO file, but a JPEG",
    }
    assert "not a RecordIO file" in err
