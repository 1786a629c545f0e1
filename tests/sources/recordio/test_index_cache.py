"""Indexes kept on disk: parsed once, never those of other files, and never simply believed."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from gpuio.errors import FormatError
from gpuio.formats.index import Index
from gpuio.sources.recordio import index_cache as module
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.storage.write_lock import write_lock
from gpuio.testing import write_rec

COUNTS = (3, 2, 1)


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """A folder of three .rec with their .idx; every index is large enough to be kept."""
    monkeypatch.setattr(module, "_LARGE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "data"
    folder.mkdir()
    for name, count in enumerate(COUNTS):
        images = [b"%d.%d" % (name, n) for n in range(count)]
        write_rec(folder / f"{name}.rec", images, ids=[10 * name + n for n in range(count)])
    return folder


@pytest.fixture
def parsed(monkeypatch):
    """Names of the .idx files that were parsed."""
    names: list[str] = []
    load = Index.load

    def record(path):
        names.append(Path(path).name)
        return load(path)

    monkeypatch.setattr(Index, "load", record)
    return names


def caches(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.cache"))


def same(one: RecordIOSource, other: RecordIOSource) -> bool:
    fields = ("sizes", "first", "offsets")
    tables = one.table, other.table
    return np.array_equal(one.keys, other.keys) and all(
        np.array_equal(*(getattr(table, name) for table in tables)) for name in fields
    )


def split(cache: Path) -> tuple[bytes, np.ndarray]:
    """The stamp of a cache, and its numbers: first, keys, offsets; without the checksum."""
    data = cache.read_bytes()
    stop = -(-(data.index(b"\n") + 1) // 64) * 64
    return data[:stop], np.frombuffer(data, "<i8", offset=stop)[:-1].copy()


def join(stamp: bytes, numbers: np.ndarray) -> bytes:
    """The bytes of a cache whose checksum is right."""
    data = stamp + numbers.astype("<i8").tobytes()
    return data + crc32(data).to_bytes(8, "little")


def test_small_ones_are_not_kept(shards, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 1 << 20)
    RecordIOSource.open(shards)
    assert not caches(shards)


@pytest.mark.parametrize("name", ["", "0.rec"], ids=["several", "one"])
def test_the_second_opening_parses_nothing(shards, parsed, name):
    first = RecordIOSource.open(shards / name)
    assert len(parsed) == (1 if name else 3)
    second = RecordIOSource.open(shards / name)
    assert len(parsed) == (1 if name else 3)
    assert same(first, second)
    assert second.keys.tolist() == ([0, 1, 2] if name else [0, 1, 2, 10, 11, 20])
    assert len(caches(shards)) == 1
    assert [path.suffix for path in shards.iterdir()].count(".partial") == 0


def test_one_index_for_several_files_is_kept_too(shards, parsed):
    whole = RecordIOSource.open(shards)
    start = np.cumsum([0, *whole.table.sizes])[whole.table.file_of(np.arange(len(whole)))]
    Index(whole.keys, whole.table.offsets + start).save(shards / "all.idx")
    parsed.clear()
    recs = [shards / f"{name}.rec" for name in range(3)]
    assert same(RecordIOSource.open(recs, shards / "all.idx"), whole)
    assert same(RecordIOSource.open(recs, shards / "all.idx"), whole)
    assert parsed == ["all.idx"]


def test_files_in_another_order_are_another_data_set(shards):
    names = [shards / "2.rec", shards / "0.rec"]
    assert RecordIOSource.open(names).keys.tolist() == [20, 0, 1, 2]
    assert RecordIOSource.open(names[::-1]).keys.tolist() == [0, 1, 2, 20]
    assert RecordIOSource.open(names).keys.tolist() == [20, 0, 1, 2]
    assert len(caches(shards)) == 2


def test_lines_out_of_order_are_kept_in_order(shards, parsed):
    idx = shards / "0.idx"
    idx.write_text("".join(reversed(idx.read_text().splitlines(keepends=True))))
    for _ in range(2):
        assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 1, 2]
    assert parsed == ["0.idx"]


def test_an_index_written_anew_is_parsed_anew(shards, parsed):
    RecordIOSource.open(shards / "0.rec")
    idx = shards / "0.idx"
    status = idx.stat()
    idx.write_text(idx.read_text().replace("1\t", "7\t", 1))  # as long as before
    os.utime(idx, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 7, 2]
    idx.write_text("".join(idx.read_text().splitlines(keepends=True)[:2]))
    os.utime(idx, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.warns(UserWarning, match="names no record in the last 36 bytes"):
        assert RecordIOSource.open(shards / "0.rec", idx).keys.tolist() == [0, 7]
    assert parsed == ["0.idx"] * 3
    assert len(caches(shards)) == 1


@pytest.mark.parametrize("nbytes", [0, 10, 64, -1, -8, -24])
def test_a_damaged_one_is_made_anew(shards, parsed, nbytes):
    before = RecordIOSource.open(shards)
    (cache,) = shards.glob("*.cache")
    whole = cache.read_bytes()
    cache.write_bytes(whole[:nbytes])
    assert same(RecordIOSource.open(shards), before)
    assert cache.read_bytes() == whole
    assert len(parsed) == 6


def test_a_single_wrong_byte_is_found_wherever_it_is(shards, parsed):
    before = RecordIOSource.open(shards)
    (cache,) = shards.glob("*.cache")
    whole = cache.read_bytes()
    for place in range(len(whole)):
        parsed.clear()
        wrong = bytearray(whole)
        wrong[place] ^= 1
        cache.write_bytes(wrong)
        assert same(RecordIOSource.open(shards), before)
        assert len(parsed) == 3
        assert cache.read_bytes() == whole


@pytest.mark.parametrize(
    ("place", "number"),
    [
        (0, 1),  # first[0]: (0, 3, 5, 6)
        (0, 1 << 40),
        (1, 6),  # records 5 to 6
        (2, -1),
        (3, 1 << 61),
        (3, -1),
        (10, -4),  # the first offset of 0.rec: (0, 36, 72)
        (11, 38),
        (11, 76),  # after the next one
        (12, 1 << 40),
        (13, 72),  # the first offset of 1.rec, whose second is 36
    ],
)
def test_numbers_that_cannot_be_are_not_used_though_the_checksum_is_right(
    shards, parsed, place, number
):
    before = RecordIOSource.open(shards)
    (cache,) = shards.glob("*.cache")
    stamp, numbers = split(cache)
    assert join(stamp, numbers) == cache.read_bytes()
    assert numbers[:4].tolist() == [0, 3, 5, 6]
    assert numbers[10:].tolist() == [0, 36, 72, 0, 36, 0]
    numbers[place] = number
    cache.write_bytes(join(stamp, numbers))
    assert same(RecordIOSource.open(shards), before)
    assert len(parsed) == 6


def test_more_records_than_an_index_can_name_are_not_made_room_for(shards, parsed):
    before = RecordIOSource.open(shards / "0.rec")
    cache = shards / "0.idx.cache"
    os.truncate(cache, cache.stat().st_size + (1 << 40))  # takes no room on the disk
    assert same(RecordIOSource.open(shards / "0.rec"), before)
    assert len(parsed) == 2


def test_a_file_that_is_cut_later_takes_nothing_away(shards):
    expected = RecordIOSource.open(shards / "0.rec")
    dataset = RecordIOSource.open(shards / "0.rec")
    os.truncate(shards / "0.idx.cache", 0)
    assert same(dataset, expected)


def test_a_file_that_is_cut_while_it_is_read_is_made_anew(shards, parsed, monkeypatch):
    before = RecordIOSource.open(shards)
    (cache,) = shards.glob("*.cache")
    read = module._read

    def cut(file, into, checksum):
        os.truncate(cache, cache.stat().st_size - 40)
        return read(file, into, checksum)

    monkeypatch.setattr(module, "_read", cut)
    assert same(RecordIOSource.open(shards), before)
    monkeypatch.undo()
    assert len(parsed) == 6


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "nowhere"])
def test_what_is_no_plain_file_is_not_opened_and_stays(shards, parsed, kind):
    before = RecordIOSource.open(shards / "0.rec")
    cache, other = shards / "0.idx.cache", shards / "other"
    cache.rename(other)  # what a link leads to would do
    content = other.read_bytes()
    if kind == "fifo":
        os.mkfifo(cache)
    elif kind == "folder":
        cache.mkdir()
    else:
        cache.symlink_to(other if kind == "link" else shards / "none")
    found = cache.lstat()
    for _ in range(2):
        assert same(RecordIOSource.open(shards / "0.rec"), before)
    assert parsed == ["0.idx"] * 2  # the third time it was in the user's cache
    assert cache.lstat().st_ino == found.st_ino
    assert other.read_bytes() == content
    assert not (shards / "none").exists()


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_is_made_anew(shards, parsed, mode):
    RecordIOSource.open(shards / "0.rec")
    cache = shards / "0.idx.cache"
    stamp, numbers = split(cache)
    numbers[2:4] = numbers[3:1:-1]  # the first two keys
    cache.write_bytes(join(stamp, numbers))
    cache.chmod(mode)
    assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 1, 2]
    assert not stat.S_IMODE(cache.stat().st_mode) & 0o022
    assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 1, 2]
    assert parsed == ["0.idx"] * 2


def test_a_file_of_another_user_is_left_alone(shards, parsed, monkeypatch):
    RecordIOSource.open(shards / "0.rec")
    cache = shards / "0.idx.cache"
    content = cache.read_bytes()
    monkeypatch.setattr(module.os, "geteuid", lambda: cache.stat().st_uid + 1)
    if cache.stat().st_uid == 0:
        os.chown(cache, 7, -1)
        monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    for _ in range(2):
        assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 1, 2]
    assert parsed[:2] == ["0.idx"] * 2
    assert cache.read_bytes() == content


def test_a_group_that_may_write_new_files_is_kept_from_this_one(shards, parsed):
    mask = os.umask(0o002)
    try:
        for _ in range(2):
            RecordIOSource.open(shards / "0.rec")
    finally:
        os.umask(mask)
    assert parsed == ["0.idx"]


def test_an_index_put_in_place_with_the_old_times_is_parsed_anew(shards, parsed):
    RecordIOSource.open(shards / "0.rec")
    idx, new = shards / "0.idx", shards / "new"
    status = idx.stat()
    new.write_text(idx.read_text().replace("1\t", "7\t", 1))
    new.replace(idx)
    os.utime(idx, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 7, 2]
    assert parsed == ["0.idx"] * 2


def test_while_another_process_writes_it_nothing_is_waited_for(shards, parsed):
    with write_lock(str(shards / "0.idx.cache")):
        assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 1, 2]
    assert not caches(shards)
    assert not (shards.parent / "home").exists()
    for _ in range(2):
        assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 1, 2]
    assert parsed == ["0.idx"] * 2


def test_a_user_without_a_home_keeps_it_beside_the_index(shards, parsed, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module.Path, "home", nowhere)
    for _ in range(2):
        assert RecordIOSource.open(shards / "0.rec").keys.tolist() == [0, 1, 2]
    assert parsed == ["0.idx"]


def test_one_of_another_version_is_made_anew(shards, parsed, monkeypatch):
    RecordIOSource.open(shards)
    monkeypatch.setattr(module, "_VERSION", module._VERSION + 1)
    RecordIOSource.open(shards)
    RecordIOSource.open(shards)
    assert len(parsed) == 6


def test_the_records_are_still_looked_at(shards):
    RecordIOSource.open(shards)
    rec = shards / "1.rec"
    rec.write_bytes(bytes(rec.stat().st_size))
    with pytest.raises(FormatError, match=r"1\.idx is not the index of .*1\.rec: no record is at"):
        RecordIOSource.open(shards)


def test_an_index_that_does_not_fit_is_not_kept(shards):
    (shards / "0.idx").write_text("0\t2\n")
    with pytest.raises(FormatError, match="no record can be at byte 2"):
        RecordIOSource.open(shards / "0.rec")
    assert not caches(shards)


def test_where_its_place_cannot_be_written_the_users_cache_is_used(shards, parsed):
    (shards / "0.idx.cache").mkdir()  # unlike a mode, a folder stops root, too
    assert same(RecordIOSource.open(shards / "0.rec"), RecordIOSource.open(shards / "0.rec"))
    assert parsed == ["0.idx"]
    assert len(caches(shards.parent / "home" / "gpuio")) == 1
    assert not list(shards.glob("*.partial"))


def test_where_nothing_can_be_written_it_is_parsed(shards, parsed, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    assert RecordIOSource.open(shards).keys.tolist() == [0, 1, 2, 10, 11, 20]
    assert RecordIOSource.open(shards).keys.tolist() == [0, 1, 2, 10, 11, 20]
    assert len(parsed) == 6
    assert sorted(path.suffix for path in shards.iterdir()) == [".idx"] * 3 + [".rec"] * 3
    assert not list((shards.parent / "home" / "gpuio").iterdir())


def _open(folder, start, queue):
    module._LARGE = 1
    start.wait()
    queue.put(RecordIOSource.open(folder).keys.tolist())


@pytest.mark.slow
def test_several_processes_leave_one(shards):
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    processes = [context.Process(target=_open, args=(shards, start, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    results = [queue.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert results == [[0, 1, 2, 10, 11, 20]] * 4
    assert len(caches(shards)) == 1
    assert len(list(shards.iterdir())) == 7
