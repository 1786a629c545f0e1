"""gpuio rec2idx: the index of a .rec, made again."""

from __future__ import annotations

import pytest

from gpuio.cli import main
from gpuio.formats.image_record import IRHeader, pack
from gpuio.formats.index import Index
from gpuio.formats.recordio import MAGIC, frame

IDS = [7, 0, 2**63 - 1, 5]
SPLIT = b"1234" + MAGIC.to_bytes(4, "little") + b"tail"


@pytest.fixture
def rec(tmp_path):
    labels = [1.5, [1, 2, 3], [], 4]
    pairs = zip(IDS, labels, strict=True)
    frames = [frame(pack(IRHeader(0, label, key, 0), SPLIT)) for key, label in pairs]
    # The magic as id: the record is split inside its header.
    frames.append(frame(pack(IRHeader(0, 0, MAGIC, 0), SPLIT)))
    path = tmp_path / "a.rec"
    path.write_bytes(b"".join(frames))
    starts = [sum(map(len, frames[:i])) for i in range(len(frames))]
    return path, starts


def test_keys_are_positions(rec, tmp_path, capsys):
    path, starts = rec
    assert main(["rec2idx", str(path), str(tmp_path / "a.idx")]) == 0
    expected = "".join(f"{i}\t{start}\n" for i, start in enumerate(starts))
    assert (tmp_path / "a.idx").read_text() == expected
    assert capsys.readouterr().out == f"{tmp_path / 'a.idx'}: 5 records\n"


def test_keys_are_ids_if_asked_for(rec, tmp_path):
    path, starts = rec
    assert main(["rec2idx", str(path), str(tmp_path / "a.idx"), "--keys", "id"]) == 0
    rows = zip([*IDS, MAGIC], starts, strict=True)
    assert (tmp_path / "a.idx").read_text() == "".join(f"{k}\t{v}\n" for k, v in rows)


def test_an_id_that_no_index_can_hold_is_named(tmp_path, capsys):
    path, idx = tmp_path / "a.rec", tmp_path / "a.idx"
    frames = [frame(pack(IRHeader(0, 0, key, 0), b"x")) for key in (7, 2**63)]
    path.write_bytes(b"".join(frames))
    idx.write_text("old")
    assert main(["rec2idx", str(path), str(idx), "--keys", "id"]) == 2
    where = f"{path}: record at byte {len(frames[0])}"
    assert f"{where}: its id {2**63} is above {2**63 - 1}" in capsys.readouterr().err
    assert idx.read_text() == "old"


def test_the_rec_is_not_overwritten_by_its_index(rec, tmp_path, capsys):
    path, _ = rec
    before = path.read_bytes()
    (tmp_path / "link.idx").symlink_to(path)
    for index in (path, tmp_path / "link.idx"):
        assert main(["rec2idx", str(path), str(index)]) == 2
        assert f"{index} is a .rec, and INDEX" in capsys.readouterr().err
    # Nor by that of an empty file, where the two are mixed up.
    (tmp_path / "a.idx").touch()
    assert main(["rec2idx", str(tmp_path / "a.idx"), str(path)]) == 2
    assert path.read_bytes() == before


def test_an_empty_file_has_an_empty_index(tmp_path):
    (tmp_path / "a.rec").touch()
    for keys in ("position", "id"):
        command = ["rec2idx", str(tmp_path / "a.rec"), str(tmp_path / "a.idx"), "--keys", keys]
        assert main(command) == 0
        assert (tmp_path / "a.idx").read_bytes() == b""


def test_the_index_lies_beside_the_record_by_default(rec, capsys):
    path, starts = rec
    assert main(["rec2idx", str(path)]) == 0
    assert Index.load(path.with_suffix(".idx")).offsets.tolist() == starts
    assert capsys.readouterr().out == f"{path.with_suffix('.idx')}: 5 records\n"


def test_of_a_file_that_was_cut_off_the_whole_records_are_written(rec, tmp_path, capsys):
    path, starts = rec
    path.write_bytes(path.read_bytes()[:-1])
    for keys in ("position", "id"):
        assert main(["rec2idx", str(path), str(tmp_path / "a.idx"), "--keys", keys]) == 0
        assert Index.load(tmp_path / "a.idx").offsets.tolist() == starts[:-1]
        out, err = capsys.readouterr()
        assert out == f"{tmp_path / 'a.idx'}: 4 records\n"
        assert f"{path}: record at byte {starts[-1]}: part at byte" in err
        assert "1 damaged place, left out of the index" in err


def test_damage_in_the_middle_is_left_out(rec, tmp_path, capsys):
    path, starts = rec
    data = bytearray(path.read_bytes())
    data[starts[2]] ^= 1
    path.write_bytes(data)
    assert main(["rec2idx", str(path)]) == 1
    expected = [start for start in starts if start != starts[2]]
    assert Index.load(path.with_suffix(".idx")).offsets.tolist() == expected
    assert f"lost until byte {starts[3]}" in capsys.readouterr().err


def test_a_file_that_is_no_recordio_file_gets_no_index(tmp_path, capsys):
    path = tmp_path / "a.rec"
    path.write_bytes(b"PK" + bytes(98))
    assert main(["rec2idx", str(path)]) == 2
    assert f"{path}: record at byte 0: magic is 0x00004b50" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_ids_need_image_records(tmp_path, capsys):
    (tmp_path / "a.rec").write_bytes(frame(b"short"))
    command = ["rec2idx", str(tmp_path / "a.rec"), str(tmp_path / "a.idx")]
    assert main(command) == 0
    assert main([*command, "--keys", "id"]) == 2
    assert "record at byte 0: no image record, so it has no id" in capsys.readouterr().err


def test_a_missing_file_is_an_error(tmp_path, capsys):
    assert main(["rec2idx", str(tmp_path / "a.rec"), str(tmp_path / "a.idx")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
