"""gpuio verify: every kind of damage, with its place, key and reason."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gpuio.cli import main
from gpuio.format.image_record import IRHeader, pack
from gpuio.format.index import Index
from gpuio.format.recordio import MAGIC, frame

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
    assert f"{path}: {COUNT} images checked" in out
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


def test_an_empty_file_is_good(tmp_path):
    path, _ = make(tmp_path, [])
    assert main(["verify", str(path)]) == 0


def test_a_missing_file_is_status_2(tmp_path):
    assert main(["verify", str(tmp_path / "a.rec")]) == 2
