"""Copies on disk: read instead of the store, never wrong, never too large."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest

from gpuio import ImageRecordIter
from gpuio.storage.location import Location, Storage
from gpuio.storage.remote import segments
from gpuio.storage.remote.cache import Copy
from gpuio.storage.remote.segments import BLOCK

pytestmark = pytest.mark.skipif(not hasattr(os, "preadv"), reason="takes a POSIX system")

SHAPE = (3, 24, 28)


@pytest.fixture
def served(store, far_rec):
    for suffix in (".rec", ".idx"):
        store.files[f"/train{suffix}"] = far_rec.with_suffix(suffix).read_bytes()
    return f"{store.url}/train.rec"


def batches(path, **options):
    with ImageRecordIter(path, SHAPE, 6, preprocess_threads=1, shuffle=True, **options) as it:
        return [batch.data[0].copy() for batch in it]


def copy_at(folder, size, *, version="one", bound=None):
    storage = Storage({}, folder)
    location = Location("http://there/train.rec", storage)
    copy = Copy(location, size, version)
    if bound is not None:
        copy._limit = segments.SizeLimit(Path(folder), bound)
    return copy


def content(nbytes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8).tobytes()


def read(copy, start, stop):
    """What a copy has of a range; None if not all is there."""
    found = copy.spans(start, stop)
    if found is None:
        return None
    return b"".join(os.pread(segment.fd, nbytes, at) for segment, at, nbytes in found)


def test_data_in_the_cache_is_not_requested_again(store, served, far_rec, tmp_path):
    expected = batches(far_rec)
    for number in range(3):
        store.asked.clear()
        got = batches(served, cache_dir=tmp_path / "cache")
        for mine, other in zip(got, expected, strict=True):
            npt.assert_array_equal(mine, other)
        wanted = [span for span in store.asked if span != (0, 0)]
        assert bool(wanted) == (number == 0)


def test_a_file_that_changed_is_read_anew(store, served, far_rec, tmp_path):
    before = batches(served, cache_dir=tmp_path)
    from gpuio.testing import draw, encode, write_rec

    other = tmp_path / "other.rec"
    write_rec(other, [encode(draw(30, 34, seed=100 + n), "JPEG") for n in range(40)])
    for suffix in (".rec", ".idx"):
        store.files[f"/train{suffix}"] = other.with_suffix(suffix).read_bytes()
    store.etag = '"two"'
    got, expected = batches(served, cache_dir=tmp_path), batches(other)
    for mine, theirs in zip(got, expected, strict=True):
        npt.assert_array_equal(mine, theirs)
    assert any((a != b).any() for a, b in zip(before, got, strict=True))


def test_any_ranges_are_there_once_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT", 4 * BLOCK)
    data = content(11 * BLOCK + 77)
    copy = copy_at(tmp_path, len(data))
    assert read(copy, 0, 10) is None
    copy.write(2 * BLOCK, data[2 * BLOCK : 9 * BLOCK])
    assert read(copy, 2 * BLOCK, 9 * BLOCK) == data[2 * BLOCK : 9 * BLOCK]
    assert read(copy, 2 * BLOCK - 1, 3 * BLOCK) is None
    assert read(copy, 8 * BLOCK, 9 * BLOCK + 1) is None
    copy.write(9 * BLOCK, data[9 * BLOCK :])
    again = copy_at(tmp_path, len(data))  # as another process sees it
    assert read(again, 5 * BLOCK + 3, len(data)) == data[5 * BLOCK + 3 :]
    into = bytearray(len(data))
    there = again.read(0, into)
    assert there.tolist() == [False] * 2 + [True] * 10
    assert into[2 * BLOCK :] == data[2 * BLOCK :]


@pytest.mark.parametrize("damage", ["data", "sum", "cut"])
def test_half_written_data_is_not_served(tmp_path, damage):
    data = content(3 * BLOCK)
    copy_at(tmp_path, len(data)).write(0, data)
    copy = copy_at(tmp_path, len(data))
    segment = copy.folder / "0"
    with segment.open("r+b") as file:
        if damage == "data":
            file.seek(BLOCK + 5000)
            file.write(bytes(64))
        elif damage == "sum":
            file.seek(segments.SEGMENT + 4)
            file.write(b"\1\2\3\4")
        else:
            file.truncate(segments.SEGMENT + 4)
    assert read(copy, 0, BLOCK) == data[:BLOCK]
    assert read(copy, 0, 2 * BLOCK) is None
    copy.write(BLOCK, data[BLOCK:])
    assert read(copy, 0, 3 * BLOCK) == data


def test_it_stays_within_its_bound_and_keeps_what_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT", 4 * BLOCK)
    monkeypatch.setattr(segments, "_TOUCH", 0)
    bound, data = 64 * BLOCK, content(200 * BLOCK)
    copy = copy_at(tmp_path, len(data), bound=bound)
    copy.write(0, data[: 4 * BLOCK])
    for start in range(4 * BLOCK, len(data), 4 * BLOCK):
        copy.write(start, data[start : start + 4 * BLOCK])
        assert read(copy, 0, BLOCK) == data[:BLOCK]
        time.sleep(0.001)
        taken = sum(path.stat().st_blocks * 512 for path in copy.folder.iterdir())
        assert taken <= bound + 8 * BLOCK
    there = [read(copy, n, n + BLOCK) is not None for n in range(0, len(data), 4 * BLOCK)]
    assert there[0]
    assert not any(there[1:20])
    assert there[-1]


def test_a_segment_that_was_removed_stays_whole_for_who_reads_it(tmp_path):
    data = content(2 * BLOCK)
    copy = copy_at(tmp_path, len(data))
    copy.write(0, data)
    held = copy.spans(0, len(data))
    (copy.folder / "0").unlink()
    assert read(copy, 0, BLOCK) is None  # it is gone, and its memory is not mistaken for a new one
    ((segment, at, nbytes),) = held
    assert os.pread(segment.fd, nbytes, at) == data
    copy.write(0, data)
    assert read(copy, 0, len(data)) == data


def test_a_disk_that_is_full_only_costs_the_copy(store, served, far_rec, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments, "_write", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = batches(served, cache_dir=tmp_path)
    for mine, other in zip(got, batches(far_rec), strict=True):
        npt.assert_array_equal(mine, other)
    told = [str(w.message) for w in caught if "nothing more is kept" in str(w.message)]
    assert len(told) >= 1
    assert "No space left" in told[0]


_READER = """
import sys
from gpuio import ImageRecordIter
url, folder, part, parts = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
it = ImageRecordIter(url, (3, 24, 28), 2, shuffle=True, cache_dir=folder, preprocess_threads=1,
                     num_parts=parts, part_index=part)
print("ready", flush=True)
total = 0
for epoch in range(3):
    for batch in it:
        total += int(batch.data[0].sum())
print(total)
"""


def _start(url, folder, part, parts):
    command = [sys.executable, "-c", _READER, url, str(folder), str(part), str(parts)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_share_it_and_may_be_killed(store, served, far_rec, tmp_path):
    store.delay = 0.01
    for wait in (0.0, 0.02, 0.05):
        reader = _start(served, tmp_path, 0, 1)
        assert reader.stdout.readline() == "ready\n"
        time.sleep(wait)
        reader.send_signal(signal.SIGKILL)
        reader.wait()
    readers = [_start(served, tmp_path, part, 3) for part in range(3)]
    totals = [reader.communicate()[0].splitlines()[-1] for reader in readers]
    local = [_start(far_rec, tmp_path, part, 3) for part in range(3)]
    assert totals == [reader.communicate()[0].splitlines()[-1] for reader in local]
    for mine, other in zip(batches(served, cache_dir=tmp_path), batches(far_rec), strict=True):
        npt.assert_array_equal(mine, other)


def test_nothing_but_segments_is_ever_removed(tmp_path):
    data, mine = content(8 * BLOCK), tmp_path / "images"
    mine.mkdir()
    (mine / "0001").write_bytes(bytes(8 * BLOCK))
    copy = copy_at(tmp_path, len(data), bound=BLOCK)
    (tmp_path / ("a" * 32)).symlink_to(mine)
    copy.write(0, data)
    copy._limit.check()
    assert (mine / "0001").stat().st_size == 8 * BLOCK
    assert read(copy, 0, BLOCK) is None


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_a_pipe_or_link_is_not_taken_for_a_segment(tmp_path, kind):
    copy, other = copy_at(tmp_path, BLOCK), tmp_path / "other"
    if kind == "fifo":
        os.mkfifo(copy.folder / "0")
    else:
        (copy.folder / "0").symlink_to(other)
    with pytest.warns(UserWarning, match="nothing more is kept"):
        copy.write(0, content(BLOCK))
    assert read(copy, 0, BLOCK) is None
    assert not other.exists()


def test_a_folder_that_others_may_write_is_not_used(tmp_path):
    copy = copy_at(tmp_path, BLOCK)
    copy.write(0, content(BLOCK))
    copy.folder.chmod(0o777)
    with pytest.warns(UserWarning, match="others may write to it"):
        again = copy_at(tmp_path, BLOCK)
    assert read(again, 0, BLOCK) is None


def test_a_segment_in_place_of_another_is_not_served(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT", BLOCK)
    copy = copy_at(tmp_path, 2 * BLOCK)
    copy.write(0, content(2 * BLOCK))
    (copy.folder / "1").replace(copy.folder / "0")
    assert read(copy_at(tmp_path, 2 * BLOCK), 0, BLOCK) is None


def test_without_a_version_nothing_is_kept(store, served, far_rec, tmp_path):
    store.headers = {"ETag": None, "Last-Modified": None}
    with pytest.warns(UserWarning, match="nothing is kept in cache_dir"):
        got = batches(served, cache_dir=tmp_path)
    for mine, other in zip(got, batches(far_rec), strict=True):
        npt.assert_array_equal(mine, other)
    assert not list(tmp_path.iterdir())
