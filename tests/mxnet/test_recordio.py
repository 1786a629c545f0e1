"""The names of mxnet.recordio: reading, writing, pickling, forking, threads."""

from __future__ import annotations

import copy
import errno
import multiprocessing
import os
import pickle
import random
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuio import recordio
from gpuio.errors import CorruptRecordError, DecodeError, FormatError
from gpuio.formats.recordio import frame
from gpuio.recordio import IRHeader, MXIndexedRecordIO, MXRecordIO, pack, unpack

M = struct.pack("<I", 0xCED7230A)
REAL = Path(__file__).parents[2].parent / "shared" / "data"
RECORDS = {7: b"seven", 3: b"", 5: M + b"five", 0: b"ze" + M, 11: bytes(5000)}
pieces = st.sampled_from([M, M[:2], b"a", b"bcd", b"efgh", b"\0"])
payloads = st.lists(pieces, max_size=9).map(b"".join)


@pytest.fixture
def paths(tmp_path):
    """The .idx and .rec of `RECORDS`."""
    idx, rec = str(tmp_path / "a.idx"), str(tmp_path / "a.rec")
    with MXIndexedRecordIO(idx, rec, "w") as writer:
        for key, record in RECORDS.items():
            writer.write_idx(key, record)
    return idx, rec


@pytest.fixture
def reader(paths):
    with MXIndexedRecordIO(*paths, "r") as reader:
        yield reader


def in_child(call):
    """What a call returns or raises in a forked child."""
    mine, theirs = multiprocessing.Pipe()

    def answer():
        try:
            theirs.send(call())
        except Exception as error:
            theirs.send(error)

    child = multiprocessing.get_context("fork").Process(target=answer)
    child.start()
    assert mine.poll(60), "the child does not answer"
    got = mine.recv()
    child.join()
    assert child.exitcode == 0
    return got


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


# One record after the other


@given(records=st.lists(payloads, max_size=12))
def test_written_records_are_read(tmp_path_factory, records):
    rec = tmp_path_factory.mktemp("rec") / "a.rec"
    with MXRecordIO(rec, "w") as writer:
        for record in records:
            writer.write(record)
    with MXRecordIO(rec, "r") as reader:
        assert list(iter(reader.read, None)) == records
        assert reader.read() is None
        reader.reset()
        assert [reader.read() for _ in records] == records
        assert list(reader) == reader[:] == records
        assert len(reader) == len(records)


def test_files_are_those_of_mxnet(paths):
    idx, rec = paths
    with MXIndexedRecordIO(idx, rec, "w") as writer:
        for i in range(5):
            writer.write_idx(i, f"record_{i}".encode())
    assert Path(idx).read_text() == "0\t0\n1\t16\n2\t32\n3\t48\n4\t64\n"
    assert Path(rec).read_bytes()[:32].hex() == (
        "0a23d7ce 08000000 7265636f72645f30 0a23d7ce 08000000 7265636f72645f31".replace(" ", "")
    )


@pytest.mark.parametrize("flag", ["rb", "a", "", None, "rw"])
def test_a_flag_is_r_or_w(tmp_path, flag):
    with pytest.raises(ValueError, match="Invalid flag"):
        MXRecordIO(str(tmp_path / "a.rec"), flag)
    assert not (tmp_path / "a.rec").exists()


def test_attributes_are_those_of_mxnet(paths):
    idx, rec = paths
    reader = MXIndexedRecordIO(idx, rec, "r")
    assert (reader.uri, reader.idx_path, reader.flag) == (rec, idx, "r")
    assert (reader.writable, reader.is_open, reader.pid) == (False, True, os.getpid())
    assert reader.key_type is int
    reader.close()
    reader.close()
    assert (reader.is_open, reader.pid) == (False, None)
    with pytest.raises(RuntimeError, match="Forbidden operation in multiple processes"):
        reader.read()


def test_a_writer_cannot_read_nor_a_reader_write(paths, reader):
    with pytest.raises(AssertionError):
        reader.write(b"a")
    with pytest.raises(AssertionError):
        reader.tell()
    with MXIndexedRecordIO(*paths, "w") as writer:
        for call in (writer.read, lambda: writer.read_idx(0), lambda: writer.seek(0)):
            with pytest.raises(AssertionError):
                call()


@pytest.mark.parametrize("value", ["text", None, 3, np.zeros(3, np.uint8)])
def test_a_record_is_bytes(tmp_path, value):
    with (
        MXRecordIO(tmp_path / "a.rec", "w") as writer,
        pytest.raises(TypeError, match="buf must be bytes"),
    ):
        writer.write(value)


def test_reset_empties_a_writer(tmp_path):
    with MXRecordIO(tmp_path / "a.rec", "w") as writer:
        writer.write(b"a")
        writer.reset()
        writer.write(b"b")
    assert list(MXRecordIO(tmp_path / "a.rec", "r")) == [b"b"]


def test_damage_names_file_and_offset(tmp_path):
    rec = tmp_path / "a.rec"
    with MXRecordIO(rec, "w") as writer:
        writer.write(b"abcd")
    rec.write_bytes(rec.read_bytes() + bytes(12))
    with MXRecordIO(rec, "r") as reader:
        assert reader.read() == b"abcd"
        with pytest.raises(CorruptRecordError, match=r"a\.rec: record at byte 12: magic is 0x0"):
            reader.read()
        with pytest.raises(CorruptRecordError, match="byte 12"):
            len(reader)
        assert reader


# By key, by position


def test_keys_keep_the_order_of_the_file(reader):
    assert list(reader.keys) == reader.keys == list(RECORDS)
    assert reader.keys[0] == 7
    assert reader.keys[-2:] == [0, 11]
    assert 3 in reader.keys
    assert 4 not in reader.keys
    npt.assert_array_equal(np.array(reader.keys), list(RECORDS))
    assert repr(reader.keys) == "[7, 3, 5, 0, 11]"


def test_keys_may_be_shuffled_in_place(reader):
    random.Random(0).shuffle(reader.keys)
    assert sorted(reader.keys) == sorted(RECORDS)
    assert reader.keys != list(RECORDS)
    reader.keys.append(99)
    reader.keys.remove(3)
    assert len(reader.keys) == 5
    assert {reader.read_idx(key) for key in reader.keys if key != 99} < set(RECORDS.values())
    assert reader[0] == RECORDS[7]


def test_idx_is_as_good_as_a_dict(reader):
    offsets = {7: 0, 3: 16, 5: 24, 0: 44, 11: 60}
    assert reader.idx == offsets
    assert dict(reader.idx) == reader.idx.copy() == offsets
    assert list(reader.idx) == list(offsets)
    assert list(reader.idx.items()) == list(offsets.items())
    assert list(reader.idx.values()) == list(offsets.values())
    assert len(reader.idx) == 5
    assert reader.idx[np.uint8(5)] == reader.idx[5.0] == 24
    assert reader.idx.get(4) is None
    assert {5, 4, "5", 5.5, None, 2**70, float("nan")} & set(reader.idx) == {5}
    for missing in (4, -1, 12, "5", 5.5, None, 2**70, float("inf"), float("nan")):
        assert missing not in reader.idx
    assert repr(reader.idx) == "{7: 0, 3: 16, 5: 24, 0: 44, 11: 60}"


def test_reads_by_key(reader):
    assert {key: reader.read_idx(key) for key in RECORDS} == RECORDS
    with pytest.raises(KeyError):
        reader.read_idx(4)


def test_read_continues_after_read_idx(reader):
    reader.read_idx(3)
    assert reader.read() == RECORDS[5]
    reader.seek(7)
    assert [reader.read() for _ in range(6)] == [*RECORDS.values(), None]
    assert reader.read_idx(11) == RECORDS[11]
    assert reader.read() is None


def test_reads_by_position(reader):
    records = list(RECORDS.values())
    assert [reader[i] for i in range(-5, 5)] == records * 2
    assert reader[1:4] == records[1:4]
    assert reader[::-2] == records[::-2]
    assert reader[np.int64(2)] == records[2]
    assert list(reader) == records
    assert len(reader) == 5
    for beyond in (5, -6):
        with pytest.raises(IndexError, match=f"position {beyond} of 5 records"):
            reader[beyond]
    with pytest.raises(TypeError):
        reader["7"]


def test_iteration_leaves_read_where_it_is(reader):
    reader.seek(3)
    list(reader)
    assert reader.read() == RECORDS[3]


def test_an_index_in_another_order_than_the_file(paths):
    idx, rec = paths
    lines = Path(idx).read_text().splitlines(keepends=True)
    Path(idx).write_text("".join(lines[::-1]))
    with MXIndexedRecordIO(idx, rec, "r") as reader:
        assert reader.keys == list(RECORDS)[::-1]
        assert list(reader) == list(RECORDS.values())[::-1]
        assert reader.read() == RECORDS[7]


def test_without_an_index_the_records_are_found(paths):
    with MXIndexedRecordIO(None, paths[1], "r") as reader:
        assert reader.keys == [0, 1, 2, 3, 4]
        assert [reader.read_idx(i) for i in range(5)] == list(RECORDS.values())
        assert pickle.loads(pickle.dumps(reader)).read_idx(4) == RECORDS[11]


def test_a_missing_index_says_what_to_do(paths):
    with pytest.raises(FileNotFoundError) as caught:
        MXIndexedRecordIO(paths[0] + "x", paths[1], "r")
    assert caught.value.__notes__ == ["pass None as idx_path to find the records by a scan"]
    with pytest.raises(ValueError, match="idx_path must be a path to write, got None"):
        MXIndexedRecordIO(None, paths[1], "w")


def test_an_index_of_another_file_is_refused(paths, tmp_path):
    with MXRecordIO(tmp_path / "other.rec", "w") as other:
        other.write(b"x" * 5100)
    with pytest.raises(FormatError, match=r"a\.idx is not the index of .*other\.rec"):
        MXIndexedRecordIO(paths[0], tmp_path / "other.rec", "r")


def test_keys_of_another_type(tmp_path):
    idx, rec = tmp_path / "a.idx", tmp_path / "a.rec"
    with MXIndexedRecordIO(idx, rec, "w", key_type=str) as writer:
        for name in ("cat", "dog", "cat"):
            writer.write_idx(name, name.encode())
    with MXIndexedRecordIO(idx, rec, "r", key_type=str) as reader:
        assert reader.keys == ["cat", "dog", "cat"]
        assert reader.idx == {"cat": 24, "dog": 12}
        assert reader.read_idx("dog") == b"dog"
        assert reader[0] == b"cat"
        assert pickle.loads(pickle.dumps(reader)).read_idx("dog") == b"dog"
    idx.write_text("cat\t0\n\ndog\n")
    with pytest.raises(FormatError, match=r"a\.idx: line 3: .* found 'dog'"):
        MXIndexedRecordIO(idx, rec, "r", key_type=str)


# Writing


@pytest.mark.parametrize("key", ["", "a\tb", "a\nb", " a", "a\r"])
def test_a_key_that_an_index_cannot_hold_is_refused_before_anything_is_written(paths, key):
    with MXIndexedRecordIO(*paths, "w", key_type=str) as writer:
        writer.write_idx("a b", b"one")
        with pytest.raises(ValueError, match="without tabs and outer blanks"):
            writer.write_idx(key, b"two")
        writer.write_idx("c", b"three")
    with MXIndexedRecordIO(*paths, "r", key_type=str) as reader:
        assert {key: reader.read_idx(key) for key in reader.keys} == {"a b": b"one", "c": b"three"}


def test_a_writer_knows_what_it_wrote(paths):
    idx, rec = paths
    with MXIndexedRecordIO(idx, rec, "w") as writer:
        assert writer.tell() == 0
        writer.write_idx("4", b"abcd")
        assert writer.tell() == 12
        writer.write_idx(np.int64(2), b"a")
        assert writer.idx == {4: 0, 2: 12}
        assert writer.keys == [4, 2]
        assert len(writer) == 2
        # Both files are complete at any time, whatever becomes of the writer.
        assert Path(idx).read_text() == "4\t0\n2\t12\n"
        assert list(MXIndexedRecordIO(idx, rec, "r")) == [b"abcd", b"a"]


def test_a_failed_write_leaves_no_trace(paths, monkeypatch):
    idx, rec = paths
    writer = MXIndexedRecordIO(idx, rec, "w")
    writer.write_idx(0, b"abcd")

    class Full:
        """A file on a disk with room for five more bytes."""

        def __init__(self, file):
            self.file, self.room = file, 5

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = self.file.write(data[: self.room])
            self.room -= count
            return count

    for appender in (writer._writer.rec, writer.fidx):
        file = appender._file
        appender._file = Full(file)
        with pytest.raises(OSError, match="No space left"):
            writer.write_idx(123456, b"efgh")
        appender._file = file
        assert writer.tell() == 12
    writer.write_idx(2, b"ijkl")
    writer.close()
    with pytest.raises(RuntimeError, match="was closed"):
        writer.tell()
    with MXIndexedRecordIO(idx, rec, "r") as reader:
        assert reader.idx == {0: 0, 2: 12}
        assert list(reader) == [b"abcd", b"ijkl"]


def test_a_write_that_stops_short_continues(tmp_path):
    writer = MXRecordIO(tmp_path / "a.rec", "w")
    write = writer._writer.rec._file.write
    sluggish = type("Sluggish", (), {"write": lambda self, data: write(data[:3]), "close": int})
    writer._writer.rec._file = sluggish()
    writer.write(b"abcdefgh")
    assert MXRecordIO(tmp_path / "a.rec", "r")[0] == b"abcdefgh"


def test_threads_may_write(paths):
    with MXIndexedRecordIO(*paths, "w") as writer, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: writer.write_idx(i, bytes([i]) * i), range(200)))
    with MXIndexedRecordIO(*paths, "r") as reader:
        assert [reader.read_idx(i) for i in range(200)] == [bytes([i]) * i for i in range(200)]


# Pickles, forks, threads


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_a_pickled_reader_starts_anew(reader, again):
    reader.read()
    twin = again(reader)
    assert twin.read() == RECORDS[7]
    assert twin.idx == reader.idx
    assert twin.read_idx(0) == RECORDS[0]
    # In MXNet the original is closed now, and a second copy is of no use.
    assert reader.read() == RECORDS[3]
    assert again(reader).read() == RECORDS[7]


def test_a_pickle_of_a_reader_is_small(reader):
    assert len(pickle.dumps(reader)) < 640


def test_a_closed_reader_stays_closed(reader):
    reader.close()
    twin = pickle.loads(pickle.dumps(reader))
    assert not twin.is_open
    assert twin.keys == list(RECORDS)
    with pytest.raises(RuntimeError):
        twin.read()
    twin.reset()
    assert twin.read() == RECORDS[7]


def test_a_pickled_writer_continues_at_the_end(paths):
    writer = MXIndexedRecordIO(*paths, "w")
    writer.write_idx(1, b"one")
    twin = pickle.loads(pickle.dumps(writer))
    assert not writer.is_open
    assert twin.tell() == 12
    twin.write_idx(2, b"two")
    twin.close()
    with MXIndexedRecordIO(*paths, "r") as reader:
        assert reader.idx == {1: 0, 2: 12}
        assert list(reader) == [b"one", b"two"]


def test_a_pickled_writer_does_not_touch_a_file_that_has_changed(paths):
    writer = MXRecordIO(paths[1], "w")
    writer.write(b"one")
    pickled = pickle.dumps(writer)
    twin = pickle.loads(pickled)
    twin.write(b"two")
    twin.close()
    with pytest.raises(FormatError, match="12 bytes when its writer was pickled, now 24"):
        pickle.loads(pickled)
    assert list(MXRecordIO(paths[1], "r")) == [b"one", b"two"]


@needs_fork
def test_a_child_may_read_by_key_but_not_on(reader):
    reader.read()
    with pytest.raises(RuntimeError, match="Forbidden operation in multiple processes"):
        raise in_child(reader.read)
    assert in_child(lambda: reader.read_idx(5)) == RECORDS[5]
    assert in_child(lambda: (reader.seek(5), reader.read(), reader.read())[1:]) == (
        RECORDS[5],
        RECORDS[0],
    )
    assert in_child(lambda: (reader.reset(), reader.read())[1]) == RECORDS[7]
    assert in_child(lambda: reader[1:3]) == [RECORDS[3], RECORDS[5]]
    assert reader.read() == RECORDS[3]


@needs_fork
def test_a_child_cannot_write(paths):
    with MXIndexedRecordIO(*paths, "w") as writer:
        writer.write_idx(0, b"a")
        assert isinstance(in_child(lambda: writer.write_idx(1, b"b")), RuntimeError)
        writer.write_idx(2, b"c")
    assert MXIndexedRecordIO(*paths, "r")[:] == [b"a", b"c"]


@needs_fork
def test_children_read_at_once(reader):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        keys = list(RECORDS) * 50
        assert pool.map(reader.read_idx, keys) == [RECORDS[key] for key in keys]


def test_threads_read_at_once(tmp_path):
    idx, rec = tmp_path / "a.idx", tmp_path / "a.rec"
    records = [bytes([i % 251]) * (i * 37 % 5000) + M * (i % 3) for i in range(500)]
    with MXIndexedRecordIO(idx, rec, "w") as writer:
        for i, record in enumerate(records):
            writer.write_idx(i, record)
    keys = random.Random(0).choices(range(500), k=5000)
    with MXIndexedRecordIO(idx, rec, "r") as reader, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.read_idx, keys)) == [records[key] for key in keys]
        reader.reset()
        got = list(pool.map(lambda _: reader.read(), range(500)))
        assert sorted(got) == sorted(records)


def test_no_handle_is_left_behind(paths):
    idx, rec = paths
    program = f"""
import gc, os, warnings
warnings.simplefilter("error")
from gpuio.recordio import MXIndexedRecordIO
count = lambda: len(os.listdir("/proc/self/fd")) if os.path.exists("/proc") else 0
before = count()
for flag in "rwr":
    records = MXIndexedRecordIO({idx!r}, {rec!r}, flag)
    del records
with open({idx!r}, "w") as file:
    file.write("junk")
try:
    MXIndexedRecordIO({idx!r}, {rec!r}, "r")
except ValueError:
    pass
gc.collect()
assert count() == before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_takes_numpy_alone():
    program = (
        "import sys; import gpuio.recordio;"
        "heavy = {'numba', 'cupy', 'PIL', 'simplejpeg', 'torch', 'nvidia'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# Image records


def test_pack_and_unpack_go_through_a_file(paths):
    with MXIndexedRecordIO(*paths, "w") as writer:
        writer.write_idx(0, pack(IRHeader(2, [10, 12], 0, 0), b""))
        writer.write_idx(1, pack(IRHeader(0, 4.0, 1, 0), b"image"))
    with MXIndexedRecordIO(*paths, "r") as reader:
        header, image = unpack(reader.read_idx(0))
        assert (header.flag, header.label.tolist(), image) == (2, [10, 12], b"")
        assert unpack(reader.read_idx(1)) == (IRHeader(0, 4.0, 1, 0), b"image")


def test_pixels_come_back(paths):
    image = np.arange(30 * 20 * 3).astype(np.uint8).reshape(30, 20, 3)
    payload = recordio.pack_img(IRHeader(0, 1.0, 2, 0), image, quality=3, img_fmt=".png")
    header, got = recordio.unpack_img(payload)
    assert header == (0, 1.0, 2, 0)
    npt.assert_array_equal(got, image)
    payload = recordio.pack_img((0, [1, 2, 3], 2, 0), image, img_fmt=".JPEG")
    assert unpack(payload)[1].startswith(b"\xff\xd8\xff")
    assert recordio.unpack_img(payload, 0)[1].shape == (30, 20)


def test_data_that_is_no_image_gives_none():
    assert recordio.unpack_img(pack((0, 1.0, 2, 0), b"no image"))[1] is None
    with pytest.raises(DecodeError, match="record of id 2 has no image"):
        recordio.unpack_img(pack((0, [5, 6], 2, 0), b""))


@pytest.mark.skipif(not REAL.exists(), reason="no real .rec files beside this checkout")
def test_real_records_hold_what_their_list_says():
    for path in REAL.glob("*.lst"):
        labels = dict(line.split("\t")[:2] for line in path.read_text().splitlines())
        with MXIndexedRecordIO(path.with_suffix(".idx"), path.with_suffix(".rec"), "r") as reader:
            assert len(reader) == len(labels)
            for key in reader.keys:
                header, image = unpack(reader.read_idx(key))
                assert header.id == key
                assert header.label == float(labels[str(key)])
                assert image.startswith(b"\xff\xd8")


@pytest.mark.parametrize("line", [b"\xff\t0", b"a\t" + b"9" * 30, b"a", b"bad\t0"])
def test_a_wrong_line_of_an_index_of_other_keys_is_named(paths, tmp_path, line):
    idx = tmp_path / "other.idx"
    idx.write_bytes(b"a\t0\n\n" + line + b"\n")

    def key_type(text):
        return {"a": 1}[text]

    with pytest.raises(FormatError, match=r"other\.idx: line 3: a key and a 64-bit integer"):
        MXIndexedRecordIO(str(idx), paths[1], "r", key_type=key_type)


def test_a_full_disk_is_an_error_with_the_name_of_the_file(tmp_path):
    path = tmp_path / "a.rec"
    with MXRecordIO(path, "w") as writer:
        writer.write(b"first")
        file = writer._writer.rec._file

        class Full:
            name, truncate, seek, close = file.name, file.truncate, file.seek, file.close

            def write(self, data):
                raise OSError(errno.ENOSPC, "No space left on device")

        writer._writer.rec._file = Full()
        with pytest.raises(OSError, match="No space left") as raised:
            writer.write(b"second")
    assert raised.value.filename == str(path)
    with MXRecordIO(path, "r") as reader:
        assert list(reader) == [b"first"]


# Closing


USES = {
    "read": lambda reader: reader.read(),
    "read_idx": lambda reader: reader.read_idx(7),
    "seek": lambda reader: reader.seek(7),
    "position": lambda reader: reader[0],
    "slice": lambda reader: reader[:2],
    "loop": list,
}


@pytest.mark.parametrize("use", USES)
def test_a_read_does_not_open_a_closed_reader(reader, use):
    reader.close()
    with pytest.raises(RuntimeError, match=r"a\.rec was closed; open\(\) or reset\(\) opens it ag"):
        USES[use](reader)
    assert not reader.is_open
    reader.reset()
    assert reader.read() == RECORDS[7]


def test_a_loop_ends_with_an_error_when_the_reader_is_closed(reader):
    loop = iter(reader)
    assert next(loop) == RECORDS[7]
    reader.close()
    with pytest.raises(RuntimeError, match="was closed"):
        next(loop)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_reads_while_another_thread_closes_give_their_record_or_say_so(paths, end):
    for _ in range(20):
        reader, found = MXIndexedRecordIO(*paths, "r"), []

        def read(reader=reader, found=found):
            try:
                for key in list(RECORDS) * 20:
                    found.append(reader.read_idx(key) == RECORDS[key])
            except Exception as error:
                found.append(error)

        with ThreadPoolExecutor(3) as pool:
            works = [pool.submit(read), pool.submit(read), pool.submit(getattr(reader, end))]
            for work in works:
                work.result()
        errors = [value for value in found if value is not True]
        assert all(isinstance(e, RuntimeError) and "was closed" in str(e) for e in errors)
        assert not (errors and end == "reset")
        reader.close()


@pytest.mark.parametrize("kind", ["plain", "indexed"])
def test_threads_that_read_on_and_reset_at_once_do_not_wait_for_each_other(paths, kind):
    reader = MXRecordIO(paths[1], "r") if kind == "plain" else MXIndexedRecordIO(*paths, "r")

    def repeat(work):
        for _ in range(500):
            work()

    works = (reader.read, reader.reset, reader.read, reader.reset)
    threads = [threading.Thread(target=repeat, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    reader.close()


def test_a_reader_that_was_replaced_under_a_read_is_asked_again(reader):
    class Closed:
        """The file of before, which `reset` has closed."""

        def read(self, _):
            reader.reset()
            raise ValueError("closed")

        def close(self):
            pass

    reader._reader.close()
    reader._reader = Closed()
    assert reader.read_idx(5) == RECORDS[5]


def written(path, payloads):
    """A .rec with an .idx beside it, of keys from 0."""
    with recordio.MXIndexedRecordIO(f"{path}.idx", f"{path}.rec", "w") as writer:
        for key, payload in enumerate(payloads):
            writer.write_idx(key, payload)


def test_the_files_are_found_after_a_change_of_folder(tmp_path, monkeypatch):
    written(tmp_path / "a", [b"one", b"two"])
    monkeypatch.chdir(tmp_path)
    plain = recordio.MXRecordIO("a.rec", "r")
    indexed = recordio.MXIndexedRecordIO("a.idx", "a.rec", "r")
    writer = recordio.MXIndexedRecordIO("b.idx", "b.rec", "w")
    pickled = pickle.dumps(indexed)
    monkeypatch.chdir("/")
    for reader in (plain, indexed):
        reader.reset()
        assert (reader.read(), reader.read(), reader.read()) == (b"one", b"two", None)
        assert reader.uri == "a.rec"
        reader.close()
    with pickle.loads(pickled) as again:
        assert again.read_idx(1) == b"two"
    writer.reset()
    writer.write_idx(5, b"five")
    writer.close()
    assert (tmp_path / "b.idx").read_text() == "5\t0\n"
    assert not Path("/b.rec").exists()


def test_a_reset_of_a_replaced_file_reads_its_index_anew(tmp_path):
    written(tmp_path / "a", [b"one", b"two"])
    written(tmp_path / "b", [b"the first", b"the second", b"the third"])
    reader = recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "r")
    for suffix in (".rec", ".idx"):
        (tmp_path / f"b{suffix}").replace(tmp_path / f"a{suffix}")
    assert reader.read_idx(1) == b"two"  # of the file that is open
    reader.reset()
    assert reader.read_idx(1) == b"the second"
    assert len(reader) == 3
    written(tmp_path / "b", [b"another" * 9])
    (tmp_path / "b.rec").replace(tmp_path / "a.rec")
    with pytest.raises(FormatError, match=r"a\.idx is not the index of"):
        reader.reset()
    reader.close()


def test_an_index_that_ends_before_its_file_is_reported(tmp_path):
    written(tmp_path / "a", [b"one", b"two"])
    with (tmp_path / "a.rec").open("ab") as file:
        file.write(frame(b"three"))
    with (
        pytest.warns(UserWarning, match=r"a\.idx names no record in the last 16 bytes of") as told,
        recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "r") as reader,
    ):
        assert [*reader] == [b"one", b"two"]
    assert told[0].filename == __file__
