"""Indexes kept on disk: made once, mapped by everyone, and never those of other files."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from gpuio.errors import FormatError
from gpuio.format.index import Index
from gpuio.reader import index_cache as module
from gpuio.reader.dataset import Dataset
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


def same(one: Dataset, other: Dataset) -> bool:
    fields = ("sizes", "first", "offsets", "keys")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


def is_mapped(array: np.ndarray | None) -> bool:
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_small_ones_are_not_kept(shards, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 1 << 20)
    assert not is_mapped(Dataset.open(shards).keys)
    assert not caches(shards)


@pytest.mark.parametrize("name", ["", "0.rec"], ids=["several", "one"])
def test_the_second_opening_parses_nothing(shards, parsed, name):
    first = Dataset.open(shards / name)
    assert len(parsed) == (1 if name else 3)
    second = Dataset.open(shards / name)
    assert len(parsed) == (1 if name else 3)
    assert same(first, second)
    assert second.keys.tolist() == ([0, 1, 2] if name else [0, 1, 2, 10, 11, 20])
    for dataset in (first, second):
        assert is_mapped(dataset.keys)
        assert is_mapped(dataset.offsets)
    assert len(caches(shards)) == 1
    assert [path.suffix for path in shards.iterdir()].count(".partial") == 0


def test_one_index_for_several_files_is_kept_too(shards, parsed):
    whole = Dataset.open(shards)
    start = np.cumsum([0, *whole.sizes])[whole.file_of(np.arange(len(whole)))]
    Index(whole.keys, whole.offsets + start).save(shards / "all.idx")
    parsed.clear()
    recs = [shards / f"{name}.rec" for name in range(3)]
    assert same(Dataset.open(recs, shards / "all.idx"), whole)
    assert same(Dataset.open(recs, shards / "all.idx"), whole)
    assert parsed == ["all.idx"]


def test_files_in_another_order_are_another_data_set(shards):
    names = [shards / "2.rec", shards / "0.rec"]
    assert Dataset.open(names).keys.tolist() == [20, 0, 1, 2]
    assert Dataset.open(names[::-1]).keys.tolist() == [0, 1, 2, 20]
    assert Dataset.open(names).keys.tolist() == [20, 0, 1, 2]
    assert len(caches(shards)) == 2


def test_lines_out_of_order_are_kept_in_order(shards, parsed):
    idx = shards / "0.idx"
    idx.write_text("".join(reversed(idx.read_text().splitlines(keepends=True))))
    for _ in range(2):
        assert Dataset.open(shards / "0.rec").keys.tolist() == [0, 1, 2]
    assert parsed == ["0.idx"]


def test_an_index_written_anew_is_parsed_anew(shards, parsed):
    Dataset.open(shards / "0.rec")
    idx = shards / "0.idx"
    status = idx.stat()
    idx.write_text(idx.read_text().replace("1\t", "7\t", 1))  # as long as before
    os.utime(idx, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert Dataset.open(shards / "0.rec").keys.tolist() == [0, 7, 2]
    idx.write_text("".join(idx.read_text().splitlines(keepends=True)[:2]))
    os.utime(idx, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert Dataset.open(shards / "0.rec").keys.tolist() == [0, 7]
    assert parsed == ["0.idx"] * 3
    assert len(caches(shards)) == 1


@pytest.mark.parametrize("nbytes", [0, 10, 64, -1, -8, -24])
def test_a_damaged_one_is_made_anew(shards, parsed, nbytes):
    before = Dataset.open(shards)
    (cache,) = shards.glob("*.cache")
    whole = cache.read_bytes()
    cache.unlink()  # `before` maps it still
    cache.write_bytes(whole[:nbytes])
    assert same(Dataset.open(shards), before)
    assert cache.read_bytes() == whole
    assert len(parsed) == 6


def test_one_of_another_version_is_made_anew(shards, parsed, monkeypatch):
    Dataset.open(shards)
    monkeypatch.setattr(module, "_VERSION", 2)
    Dataset.open(shards)
    Dataset.open(shards)
    assert len(parsed) == 6


def test_the_records_are_still_looked_at(shards):
    Dataset.open(shards)
    rec = shards / "1.rec"
    rec.write_bytes(bytes(rec.stat().st_size))
    with pytest.raises(FormatError, match=r"1\.idx is not the index of .*1\.rec: no record is at"):
        Dataset.open(shards)


def test_an_index_that_does_not_fit_is_not_kept(shards):
    (shards / "0.idx").write_text("0\t2\n")
    with pytest.raises(FormatError, match="no record can be at byte 2"):
        Dataset.open(shards / "0.rec")
    assert not caches(shards)


def test_where_its_place_cannot_be_written_the_users_cache_is_used(shards, parsed):
    (shards / "0.idx.cache").mkdir()  # unlike a mode, a folder stops root, too
    assert same(Dataset.open(shards / "0.rec"), Dataset.open(shards / "0.rec"))
    assert parsed == ["0.idx"]
    assert len(caches(shards.parent / "home" / "gpuio")) == 1
    assert not list(shards.glob("*.partial"))


def test_where_nothing_can_be_written_it_is_parsed(shards, parsed, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    assert Dataset.open(shards).keys.tolist() == [0, 1, 2, 10, 11, 20]
    assert Dataset.open(shards).keys.tolist() == [0, 1, 2, 10, 11, 20]
    assert len(parsed) == 6
    assert sorted(path.suffix for path in shards.iterdir()) == [".idx"] * 3 + [".rec"] * 3
    assert not list((shards.parent / "home" / "gpuio").iterdir())


def _open(folder, start, queue):
    module._LARGE = 1
    parsed = []
    load = Index.load
    Index.load = lambda path: parsed.append(path) or load(path)
    start.wait()
    queue.put((len(parsed), Dataset.open(folder).keys.tolist(), len(parsed)))


@pytest.mark.slow
def test_of_several_processes_one_makes_it(shards):
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    processes = [context.Process(target=_open, args=(shards, start, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    results = [queue.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert [keys for _, keys, _ in results] == [[0, 1, 2, 10, 11, 20]] * 4
    assert sum(parsed for _, _, parsed in results) == 3
    assert len(caches(shards)) == 1
