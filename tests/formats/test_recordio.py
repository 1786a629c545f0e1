"""Framing: what lies in a .rec, how it is read back, and what is done about damage."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio.errors import CorruptRecordError
from gpuio.formats.recordio import MAGIC, MAX_PAYLOAD, RecordFile, frame, record_file, scan, verify
from gpuio.storage.byte_source import LocalBytes

M = struct.pack("<I", MAGIC)
REAL = Path(__file__).parents[2].parent / "shared" / "data"

# Payloads and their bytes in a file, as MXNet 1.9.1 writes them.
WRITTEN = [
    (b"", "0a23d7ce 00000000"),
    (b"a", "0a23d7ce 01000000 61000000"),
    (M, "0a23d7ce 00000020 0a23d7ce 00000060"),
    (b"ab" + M, "0a23d7ce 06000000 61620a23 d7ce0000"),
    (b"abcd" + M + b"xy", "0a23d7ce 04000020 61626364 0a23d7ce 02000060 78790000"),
    (M + M, "0a23d7ce 00000020 0a23d7ce 00000040 0a23d7ce 00000060"),
    (M + b"abc", "0a23d7ce 00000020 0a23d7ce 03000060 61626300"),
]

pieces = st.sampled_from([M, M[:1], M[1:], M[:2], b"a", b"bcd", b"efgh", b"\0"])
payloads = st.lists(pieces, max_size=12).map(b"".join) | st.binary(max_size=64)


def store(path: Path, records: list[bytes]) -> list[int]:
    """Write records; where each starts, and where the file ends."""
    frames = [frame(record) for record in records]
    path.write_bytes(b"".join(frames))
    return [0, *np.cumsum([len(x) for x in frames]).tolist()]


@pytest.mark.parametrize(("payload", "written"), WRITTEN)
def test_frames_as_mxnet_writes_them(payload, written):
    assert frame(payload) == bytes.fromhex(written)


@given(payload=payloads)
def test_a_frame_holds_its_payload(tmp_path_factory, payload):
    path = tmp_path_factory.mktemp("frame") / "a.rec"
    framed = frame(payload)
    path.write_bytes(framed + b"what follows")
    with RecordFile(path) as file:
        assert file.read(0) == (payload, len(framed))


@given(payload=payloads)
def test_an_aligned_magic_always_begins_a_part(payload):
    framed = frame(payload)
    words = np.frombuffer(framed, "<u4")
    position, heads = 0, []
    while position < len(framed):
        heads.append(position // 4)
        position += 8 + (int(words[position // 4 + 1]) % (1 << 29) + 3) // 4 * 4
    npt.assert_array_equal(np.flatnonzero(words == MAGIC), heads)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda x: np.frombuffer(x, "u1")])
def test_frames_any_kind_of_bytes(kind):
    assert frame(kind(b"abcd" + M)) == frame(b"abcd" + M)


def test_refuses_a_payload_whose_length_has_no_room():
    with pytest.raises(ValueError, match=f"at most {MAX_PAYLOAD} bytes, got {MAX_PAYLOAD + 1}"):
        frame(np.broadcast_to(np.uint8(0), MAX_PAYLOAD + 1).copy())


@given(records=st.lists(payloads, max_size=20))
def test_scan_finds_where_records_start(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("scan") / "a.rec"
    *starts, end = store(path, records)
    offsets = scan(path)
    assert offsets.dtype == np.int64
    assert offsets.tolist() == starts
    with RecordFile(path) as file:
        assert [file.read(start) for start in starts] == list(
            zip(records, [*starts[1:], end], strict=bool(records))
        )


@pytest.mark.parametrize("length", [1, 100, 5_000, 70_000, 300_000])
def test_scan_takes_windows_of_any_size(tmp_path, length):
    path = tmp_path / "a.rec"
    choose = np.random.default_rng(length)
    lengths = choose.integers(length // 2, length + 1, 3_000_000 // length + 5)
    records = [M * (i % 5 == 0) + bytes(int(n)) for i, n in enumerate(lengths[:30_000])]
    *starts, _ = store(path, records)
    assert scan(path).tolist() == starts


def test_scan_steps_over_a_magic_that_was_not_escaped(tmp_path):
    path = tmp_path / "a.rec"
    careless = struct.pack("<II", MAGIC, 24) + frame(b"a") + frame(b"b")
    path.write_bytes((careless + frame(b"c")) * 3)
    assert scan(path).tolist() == [0, 32, 44, 76, 88, 120]
    assert verify(path)[1] == []


def test_an_empty_file_has_no_records(tmp_path):
    path = tmp_path / "a.rec"
    path.touch()
    assert scan(path).tolist() == []


A, SPLIT = frame(b"aaaa"), frame(b"xx\0\0" + M + b"yyyy" + M)  # 12 and 12 + 12 + 8 bytes
DAMAGE = {
    "cut head": (A + A[:7], 12, "head of 8 bytes, 7 found"),
    "cut head, unaligned": (A + A[:2], 12, "head of 8 bytes, 2 found"),
    "cut payload": (A + A[:10], 12, "payload of 4 bytes with its padding, 2 found"),
    "cut padding": (A + frame(b"a")[:-1], 12, "payload of 4 bytes with its padding, 3 found"),
    "no payload": (A + A[:8], 12, "payload of 4 bytes with its padding, 0 found"),
    "magic": (A + bytes(12) + A, 12, "magic is 0x00000000, not 0xced7230a"),
    "flag": (A + M + b"\0\0\0\x80" + A, 12, "flag is 4, not 0 or 1"),
    "last part alone": (A + M + b"\0\0\0\x60" + A, 12, "flag is 3, not 0 or 1"),
    "last part missing": (A + SPLIT[:24], 12, "part at byte 36: head of 8 bytes, 0 found"),
    "part cut": (A + SPLIT[:20], 12, "part at byte 24: payload of 4 bytes .*, 0 found"),
    "record in a record": (A + SPLIT[:12] + A, 12, "part at byte 24: flag is 0, not 2 or 3"),
    "part lost": (A + SPLIT[:12] + bytes(12) + A, 12, "part at byte 24: magic is 0x00000000"),
}


@pytest.mark.parametrize(("content", "offset", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_reported_with_its_place(tmp_path, content, offset, reason):
    path = tmp_path / "a.rec"
    path.write_bytes(content)
    message = f"{path}: record at byte {offset}: {reason}"
    with pytest.raises(CorruptRecordError, match=message):
        scan(path)
    with RecordFile(path) as file, pytest.raises(CorruptRecordError, match=message) as caught:
        file.read(offset)
    assert caught.value.offset == offset


@pytest.mark.parametrize("name", [x for x in DAMAGE if x not in {"cut payload", "cut padding"}])
def test_verify_continues_after_damage(tmp_path, name):
    content, offset, _ = DAMAGE[name]
    path = tmp_path / "a.rec"
    path.write_bytes(content + b"\0" * (-len(content) % 4) + A + SPLIT)
    offsets, damages = verify(path)
    assert [damage.offset for damage in damages] == [offset]
    assert offsets[0] == 0
    assert offsets[-2:].tolist() == [path.stat().st_size - len(SPLIT) - 12, offsets[-1]]
    assert damages[0].resumed in offsets


def test_a_wrong_length_costs_one_record(tmp_path):
    path = tmp_path / "a.rec"
    # Not 16: that leads to the next head but one, as a magic in a payload would.
    for length in (5, 8, 12, 20, 1000):
        long = M + struct.pack("<I", length) + b"bbbb"
        path.write_bytes(A + long + A + A + A)
        offsets, damages = verify(path)
        assert offsets.tolist() == [0, 24, 36, 48], length
        assert [damage.offset for damage in damages] == [12]


@pytest.mark.parametrize("place", [0, 6, 7], ids=["magic", "length", "flag"])
def test_damage_among_large_records_costs_one(tmp_path, place):
    path = tmp_path / "a.rec"
    *starts, _ = store(path, [bytes(100_000)] * 20)
    content = bytearray(path.read_bytes())
    content[starts[9] + place] ^= 0xE0
    path.write_bytes(content)
    offsets, damages = verify(path)
    assert offsets.tolist() == starts[:9] + starts[10:]
    assert [(damage.offset, damage.resumed) for damage in damages] == [(starts[9], starts[10])]


def test_too_short_a_length_is_damage_where_the_record_should_end(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(A + M + struct.pack("<I", 4) + b"bbbbbbbb" + A)
    offsets, damages = verify(path)
    assert offsets.tolist() == [0, 12, 28]
    assert [(damage.offset, damage.resumed) for damage in damages] == [(24, 28)]


def test_verify_reads_garbage_to_its_end(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(os.urandom(3 << 20))
    assert verify(path)[0].tolist() == []
    path.write_bytes(bytes(3 << 20) + A)
    offsets, damages = verify(path)
    assert offsets.tolist() == [3 << 20]
    assert [(damage.offset, damage.resumed) for damage in damages] == [(0, 3 << 20)]


def test_verify_reads_little_for_each_of_many_damages(tmp_path, monkeypatch):
    path, count, asked = tmp_path / "a.rec", 2000, []
    path.write_bytes((A + bytes(100)) * count)
    readinto = LocalBytes.readinto

    def counted(self, buffer, offset):
        asked.append(memoryview(buffer).nbytes)
        return readinto(self, buffer, offset)

    monkeypatch.setattr(LocalBytes, "readinto", counted)
    offsets, damages = verify(path)
    assert (len(offsets), len(damages)) == (count, count)
    assert sum(asked) <= (10 << 10) * count + (1 << 20)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFO here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.rec")
    with pytest.raises(OSError, match=r"a\.rec: a plain file expected"):
        RecordFile(tmp_path / "a.rec")


@given(data=st.data())
def test_records_that_verify_finds_can_be_read(tmp_path_factory, data):
    records = data.draw(st.lists(payloads, min_size=1, max_size=12))
    path = tmp_path_factory.mktemp("verify") / "a.rec"
    *starts, end = store(path, records)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, end - 1))
    width = data.draw(st.integers(1, 12))
    content[place : place + width] = data.draw(st.binary(max_size=0) | st.just(bytes(width)))
    path.write_bytes(content)
    offsets, damages = verify(path)
    assert (np.diff(offsets) > 0).all()
    with RecordFile(path) as file:
        for offset in offsets.tolist():
            file.read(offset)
    stops = [*starts[1:], end]
    before = [start for start, stop in zip(starts, stops, strict=True) if stop <= place]
    if damages:
        with pytest.raises(CorruptRecordError):
            scan(path)
        before = before[:-1]  # a damaged head may look like a wrong length before it
    else:
        npt.assert_array_equal(scan(path), offsets)
    assert offsets[: len(before)].tolist() == before


@pytest.mark.parametrize("length", [8, 100_000])
def test_verify_ends_where_a_file_is_cut_meanwhile(tmp_path, monkeypatch, length):
    path = tmp_path / "a.rec"
    *starts, _ = store(path, [bytes(length)] * (4_000_000 // length))
    readinto = LocalBytes.readinto

    def cut(self, buffer, offset):
        if offset:
            os.truncate(path, starts[2] + 4)
        return readinto(self, buffer, offset)

    monkeypatch.setattr(LocalBytes, "readinto", cut)
    verify(path)


def test_finds_the_head_after_a_place(tmp_path):
    path = tmp_path / "a.rec"
    *starts, end = store(path, [b"abcd", M, b"ab" + M, b""])
    with RecordFile(path) as file:
        for offset in range(end + 8):
            assert file.find_head(offset) == min([x for x in starts if x >= offset], default=end)


def test_finds_heads_across_windows(tmp_path, monkeypatch):
    path = tmp_path / "a.rec"
    *starts, _ = store(path, [bytes(4 * n) for n in range(12)])
    for window in (8, 12, 16, 20):
        monkeypatch.setattr(record_file, "_LARGE_WINDOW", window)
        with RecordFile(path) as file:
            assert [file.find_head(start - 3) for start in starts[1:]] == starts[1:]


def test_reads_where_the_system_has_no_pread(tmp_path, monkeypatch):
    path = tmp_path / "a.rec"
    records = [b"abcd", M, bytes(100_000)]
    *starts, _ = store(path, records)
    monkeypatch.delattr(os, "pread", raising=False)
    monkeypatch.delattr(os, "preadv", raising=False)
    with RecordFile(path) as file:
        assert [file.read(start)[0] for start in starts] == records
        assert file.bytes.pread(100, file.size - 10) == bytes(10)
    assert scan(path).tolist() == starts


def test_an_error_survives_pickling(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(bytes(12))
    with pytest.raises(CorruptRecordError) as caught:
        scan(path)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.offset) == (str(caught.value), 0)


@pytest.mark.skipif(not REAL.exists(), reason="no real .rec files beside this checkout")
def test_scans_real_files():
    for path in REAL.glob("*.rec"):
        offsets = scan(path)
        listed = np.loadtxt(path.with_suffix(".idx"), np.int64, ndmin=2)
        npt.assert_array_equal(offsets, np.sort(listed[:, 1]))


def test_a_record_that_is_cut_off_while_it_is_read_is_damaged(tmp_path, monkeypatch):
    path = tmp_path / "a.rec"
    path.write_bytes(frame(b"a" * 40_000))
    pread = LocalBytes.pread

    def cut(file, nbytes, offset):
        if nbytes == 40_000:  # the payload, after the size of the file was compared with its head
            os.truncate(path, 30_000)
        return pread(file, nbytes, offset)

    monkeypatch.setattr(LocalBytes, "pread", cut)
    with RecordFile(path) as file, pytest.raises(CorruptRecordError, match=r"40000 .* 29992 found"):
        file.read(0)
