"""The .idx: parsed, written, made by a scan, held against its .rec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats import index as module
from gpuio.formats.index import Index
from gpuio.formats.index_fit import check_fit
from gpuio.formats.recordio import frame

REAL = Path(__file__).parents[2].parent / "shared" / "data"
big = st.integers(0, 2**63 - 1) | st.integers(0, 10**9)


def load(tmp_path: Path, text: str | bytes) -> list[tuple[int, int]]:
    path = tmp_path / "a.idx"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    index = Index.load(path)
    assert index.keys.dtype == index.offsets.dtype == np.int64
    return list(zip(index.keys.tolist(), index.offsets.tolist(), strict=True))


@given(rows=st.lists(st.tuples(big, big), max_size=40), end=st.sampled_from(["\n", ""]))
def test_lines_become_arrays_in_their_order(tmp_path_factory, rows, end):
    text = "\n".join(f"{key}\t{offset}" for key, offset in rows) + end
    assert load(tmp_path_factory.mktemp("index"), text) == rows


@pytest.mark.parametrize("digits", range(1, 20))
def test_numbers_of_every_length(tmp_path, digits):
    low, high = 10 ** (digits - 1), min(10**digits - 1, 2**63 - 1)
    rows = [(low, high), (high, low), (0, high), (low, 0)]
    assert load(tmp_path, "".join(f"{k}\t{v}\n" for k, v in rows)) == rows


@pytest.mark.parametrize(
    "text",
    [
        "0\t0\n7\t16\n",
        "0\t0\n7\t16",
        "0\t0\r\n7\t16\r\n",
        "0 0\n7 16\n",
        "0\t0\n7\t16\n\n",
        "\n0\t0\n\n7\t16\n \n",
        " 0  0 \n7\t \t16\r\n",
        "000\t+0\n007\t00016\n",
    ],
)
def test_sloppy_lines_are_read(tmp_path, text):
    assert load(tmp_path, text) == [(0, 0), (7, 16)]


def test_keys_may_be_negative(tmp_path):
    assert load(tmp_path, "-3\t0\n") == [(-3, 0)]


def test_nothing_is_an_empty_index(tmp_path):
    assert load(tmp_path, "") == load(tmp_path, "\n\n") == []


BAD_LINES = ["1", "1\t", "\t1", "1\t2\t3", "a\t1", "1\tb", "1\t1.5", "1\t/", "1\t:", "\0\t\0"]
BAD_LINES += ["12345678:\t1", "1\t1234567x9", "1\t9223372036854775808", "x" * 20]


@pytest.mark.parametrize("line", BAD_LINES, ids=ascii)
@pytest.mark.parametrize("before", [0, 3])
def test_a_bad_line_is_reported_with_its_number(tmp_path, line, before):
    text = "0\t0\n\n5\t8\n"[: before * 3] + line + "\n1\t1\n"
    number = text[: text.index(line)].count("\n") + 1
    with pytest.raises(FormatError, match=rf"a\.idx: line {number}: two integers.*`gpuio rec2idx`"):
        load(tmp_path, text)


def test_blocks_end_anywhere(tmp_path, monkeypatch):
    rows = [(key * 37 % 1000, key**3) for key in range(1000)]
    text = "".join(f"{k}\t{v}\n" for k, v in rows)
    for block in (32, 33, 47, 100, 5000):
        monkeypatch.setattr(module, "_BLOCK", block)
        assert load(tmp_path, text) == rows
        assert load(tmp_path, text[:-1]) == rows
        with pytest.raises(FormatError, match=r"line 1001: .* found 'bad'"):
            load(tmp_path, text + "bad\n")
        with pytest.raises(FormatError, match="line 1001: "):
            load(tmp_path, text + "9" * 20_000)


def test_blank_lines_count_in_later_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 64)
    with pytest.raises(FormatError, match="line 302: "):
        load(tmp_path, "1\t1\n" + 300 * "\n" + "bad\n")


@given(rows=st.lists(st.tuples(big, big), max_size=40))
def test_a_saved_index_is_loaded(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("index") / "a.idx"
    table = np.array(rows, np.int64).reshape(-1, 2)
    Index(table[:, 0], table[:, 1]).save(path)
    assert path.read_text() == "".join(f"{k}\t{v}\n" for k, v in rows)
    npt.assert_array_equal(Index.load(path).keys, table[:, 0])
    assert [file.name for file in path.parent.iterdir()] == ["a.idx"]


def test_scan_numbers_the_records(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(frame(b"abcd") + frame(b"") + frame(b"a"))
    index = Index.scan(path)
    assert index.keys.tolist() == [0, 1, 2]
    assert index.offsets.tolist() == [0, 12, 20]
    path.write_bytes(bytes(12))
    with pytest.raises(CorruptRecordError):
        Index.scan(path)


def test_sorts_by_offset():
    index = Index(np.array([5, 6, 7]), np.array([40, 0, 20]))
    ordered = index.sorted()
    assert ordered.keys.tolist() == [6, 7, 5]
    assert ordered.offsets.tolist() == [0, 20, 40]
    assert ordered.sorted() is ordered


def test_keys_and_offsets_are_of_one_length():
    with pytest.raises(ValueError, match="one length"):
        Index(np.arange(2), np.arange(3))


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ([0, 14], "no record can be at byte 14 of a file of 36 bytes"),
        ([0, -4], "no record can be at byte -4"),
        ([36], "no record can be at byte 36"),
        ([0, 16], "no record is at byte 16: magic is 0x64636261, not 0xced7230a"),
    ],
)
def test_an_index_of_another_file_is_reported(tmp_path, offsets, reason):
    rec = tmp_path / "a.rec"
    rec.write_bytes(frame(b"") + frame(b"abcdabcd") + frame(b"abcd"))
    index = Index(np.arange(len(offsets)), np.array(offsets))
    with pytest.raises(FormatError) as caught:
        check_fit(index, str(rec), "b.idx")
    assert f"b.idx is not the index of {rec}: {reason}" in str(caught.value)
    assert "gpuio rec2idx" in str(caught.value)


def test_its_own_index_fits(tmp_path):
    rec = tmp_path / "a.rec"
    rec.write_bytes(frame(b"") + frame(b"abcd"))
    check_fit(Index.scan(rec), str(rec), "a.idx")
    check_fit(Index(np.arange(0), np.arange(0)), str(rec), "a.idx")


@pytest.mark.skipif(not REAL.exists(), reason="no real .rec files beside this checkout")
def test_real_indexes_fit_their_files():
    for path in REAL.glob("*.idx"):
        index = Index.load(path)
        check_fit(index, str(path.with_suffix(".rec")), str(path))
        npt.assert_array_equal(index.sorted().offsets, Index.scan(path.with_suffix(".rec")).offsets)
