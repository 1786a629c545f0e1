"""What a cache is between iterators, epochs and files that change, and how it ends."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.testing as npt
import pytest

import gpuio as mx
from gpuio.errors import ReadError
from gpuio.sources.folder import FolderSource
from gpuio.testing import draw, encode, write_rec

COUNT = 12


def photos(seed=0):
    return [encode(draw(30 + n, 40 - n, seed=seed + n), "JPEG") for n in range(COUNT)]


@pytest.fixture
def rec(tmp_path):
    write_rec(tmp_path / "a.rec", photos())
    return tmp_path / "a.rec"


@pytest.fixture
def opened(rec):
    """A function that makes an iterator with a cache; all are closed at the end."""
    made = []

    def make(path=rec, **options):
        options = {"cache": "1MB", "device": "cpu", "rand_crop": True, "resize": 26} | options
        made.append(mx.ImageRecordIter(path, (3, 24, 24), 4, **options))
        return made[-1]

    yield make
    for it in made:
        it.close()


def epoch(it):
    """The images of all batches."""
    return np.concatenate([batch.data[0].asnumpy() for batch in it])


def cache(it):
    return it.stats()["cache"]


def test_iterators_with_other_limits_have_caches_of_their_own_on_disk(opened, tmp_path):
    options = {"cache": "15KB", "cache_dir": str(tmp_path / "disk")}
    first, second = (opened(cache_size=size << 30, **options) for size in (1, 2))
    plain = opened(cache=None)
    for _ in range(2):
        expected = epoch(plain)
        for it in (first, second):
            npt.assert_array_equal(epoch(it), expected)
        for it in (plain, first, second):
            it.reset()
    assert cache(first)["entries"] == cache(second)["entries"] == COUNT


def test_iterators_over_the_same_images_share_a_cache(opened, memory):
    first, second = opened(), opened()
    expected = epoch(first)
    npt.assert_array_equal(epoch(second), expected)
    assert cache(second) == cache(first) | {"hits": COUNT, "misses": 0}
    assert len(list(memory.iterdir())) == 1


def test_another_process_shares_it(opened, rec, memory):
    it = opened()
    expected = epoch(it)
    script = (
        "import sys, pathlib, gpuio, numpy as np\n"
        "from gpuio.pipeline.cache import opening\n"
        "opening._SHARED_MEMORY = pathlib.Path(sys.argv[2])\n"
        "it = gpuio.ImageRecordIter(sys.argv[1], (3, 24, 24), 4, cache='1MB', device='cpu',\n"
        "    rand_crop=True, resize=26, num_parts=2, part_index=1)\n"
        "found = np.concatenate([b.data[0].asnumpy() for b in it])\n"
        "assert it.stats()['cache']['misses'] == 0, it.stats()['cache']\n"
        "np.save(sys.argv[3], found)\n"
        "it.close()\n"
    )
    target = rec.with_suffix(".npy")
    command = [sys.executable, "-W", "error::ImportWarning", "-c", script]
    subprocess.run([*command, rec, memory.parent, target], check=True)
    with opened(cache=None, num_parts=2, part_index=1) as half:
        npt.assert_array_equal(np.load(target), epoch(half))
    npt.assert_array_equal(epoch(opened()), expected)


@pytest.mark.parametrize(
    "other",
    [
        {"resize": 27},
        {"inter_method": 2},
        {"resize": -1},
        {"decoder": "portable"},
        {"tolerate": "warnings"},
        {"cache": "2MB"},
    ],
)
def test_what_makes_other_pixels_has_a_cache_of_its_own(opened, memory, other):
    first, second = opened(), opened(**other)
    epoch(first), epoch(second)
    assert cache(second)["hits"] == 0
    assert len(list(memory.iterdir())) == 2


def test_what_changes_only_later_steps_shares_it(opened):
    epoch(opened())
    second = opened(
        rand_mirror=True, brightness=0.2, dtype="uint8", layout="NHWC", seed=5, cache="1000 kb"
    )
    epoch(second)
    assert cache(second)["misses"] == 0


def test_parts_fill_one_cache(opened):
    parts = [opened(num_parts=2, part_index=index) for index in range(2)]
    for part in parts:
        epoch(part)
    whole = opened()
    epoch(whole)
    assert cache(whole)["hits"] == COUNT


def test_iterators_that_fill_one_cache_at_the_same_time_make_the_same_batches(opened):
    kinds = [{"shuffle": True, "seed": seed} for seed in range(4)]
    expected = [epoch(opened(cache=None, **kind)) for kind in kinds]
    iterators = [opened(preprocess_threads=1, **kind) for kind in kinds]
    with ThreadPoolExecutor(len(kinds)) as pool:
        found = list(pool.map(epoch, iterators))
    npt.assert_array_equal(found, expected)
    assert cache(iterators[0])["entries"] == COUNT


def test_nothing_is_left_behind(opened, memory):
    first, second = opened(), opened(resize=-1)
    epoch(first), epoch(second)
    assert len(list(memory.iterdir())) == 2
    first.close()
    assert len(list(memory.iterdir())) == 1
    second.close()
    assert not memory.exists()
    assert cache(second)["entries"] == COUNT


def test_nothing_is_left_behind_by_an_iterator_that_is_garbage(rec, memory):
    it = mx.ImageRecordIter(rec, (3, 24, 24), 4, cache="1MB")
    it.next()
    assert memory.exists()
    del it
    gc.collect()
    assert not memory.exists()


def test_nothing_is_there_before_the_first_epoch(opened, memory):
    it = opened()
    assert cache(it) == {"hits": 0, "misses": 0, "entries": 0, "nbytes": 0}
    assert not memory.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork")
def test_a_child_that_was_forked_before_the_first_epoch_shares_it(opened):
    it, other = opened(), opened()
    epoch(other)
    child = os.fork()
    if not child:
        status = 1
        try:
            epoch(it)
            status = int(cache(it)["hits"] != COUNT)
            it.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    epoch(it)
    assert cache(it)["hits"] == COUNT


def test_images_of_an_epoch_that_was_given_up_are_cached_in_the_next(opened):
    it = opened(shuffle=True)
    it.next()
    it.reset()
    epoch(it)
    assert cache(it)["entries"] == COUNT
    it.reset()
    before = cache(it)["misses"]
    epoch(it)
    assert cache(it)["misses"] == before


def test_a_saved_state_goes_on_with_the_same_batches(opened):
    plain, it = opened(cache=None, shuffle=True), opened(shuffle=True)
    epoch(it), it.reset(), plain.reset()
    plain.load_state_dict(it.state_dict())
    it.next(), plain.next()
    state = it.state_dict()
    assert state == plain.state_dict()
    again = opened(shuffle=True)
    again.load_state_dict(state)
    npt.assert_array_equal(epoch(again), epoch(plain))
    assert cache(again)["misses"] == 0


def test_a_batch_that_is_replayed_has_the_same_pixels(opened):
    it = opened(shuffle=True)
    epoch(it), it.reset()
    batch = it.next()
    again = it.replay(batch.augmentation)
    npt.assert_array_equal(again.data[0].asnumpy(), batch.data[0].asnumpy())


def test_a_file_that_is_replaced_while_it_is_read_is_an_error_as_without_a_cache(opened, rec):
    it = opened()
    epoch(it)
    write_rec(rec, photos(seed=50))
    with pytest.raises(mx.FormatError, match="since it was opened first"):
        epoch(it)


def test_a_file_that_was_replaced_has_a_cache_of_its_own(opened, rec, tmp_path):
    first = opened()
    old = epoch(first)
    write_rec(tmp_path / "b.rec", photos()[::-1])
    status = rec.stat()
    shutil.copyfile(tmp_path / "b.rec", tmp_path / "c.rec")
    os.utime(tmp_path / "c.rec", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "c.rec").replace(rec)
    shutil.copyfile(tmp_path / "b.idx", rec.with_suffix(".idx"))
    second, plain = opened(), opened(cache=None)
    new = epoch(second)
    assert cache(second)["hits"] == 0
    npt.assert_array_equal(new, epoch(plain))
    assert (new != old).any()


def test_an_image_file_that_is_replaced_is_decoded_anew(opened, tmp_path):
    for n, image in enumerate(photos()):
        path = tmp_path / "images" / f"{n % 2}" / f"{n:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    it = opened(tmp_path / "images", rand_crop=False)
    old = epoch(it)
    (tmp_path / "images" / "0" / "00.jpg").write_bytes(photos(seed=50)[0])
    new = epoch(it)
    changed = (new != old).any(axis=(1, 2, 3))
    assert changed.tolist() == [True] + [False] * (COUNT - 1)
    assert cache(it) | {"nbytes": 0} == {
        "hits": COUNT - 1,
        "misses": COUNT + 1,
        "entries": COUNT,
        "nbytes": 0,
    }
    (tmp_path / "images" / "1" / "01.jpg").unlink()
    with pytest.raises(ReadError, match=r"01\.jpg"):
        epoch(it)


def test_records_that_cannot_tell_when_they_change_are_refused(opened, tmp_path, monkeypatch):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.jpg").write_bytes(photos()[0])
    monkeypatch.setattr(FolderSource, "versions", lambda self, ids: None)
    with pytest.raises(ValueError, match="cache='1MB' needs records that tell when they change"):
        opened(tmp_path / "images")


def test_a_limit_too_small_for_its_entries_is_refused_at_once(opened):
    with pytest.raises(ValueError, match=r"^cache must be more than the \d+ bytes"):
        opened(cache="0.5KB")


def test_nothing_is_left_behind_by_a_process_that_ends_without_close(rec, memory):
    script = (
        "import sys, pathlib, gpuio\n"
        "from gpuio.pipeline.cache import opening\n"
        "opening._SHARED_MEMORY = pathlib.Path(sys.argv[2])\n"
        "it = gpuio.ImageRecordIter(sys.argv[1], (3, 24, 24), 4, cache='1MB', device='cpu')\n"
        "it.next()\n"
        "assert len(list(opening._SHARED_MEMORY.iterdir())) == 1\n"
        "raise SystemExit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, rec, memory.parent], check=False)
    assert done.returncode == 3
    assert not memory.exists()


def test_the_plan_says_where_the_cache_is(opened):
    lines = str(opened().plan).splitlines()
    assert lines[0] == "1. decode to 3 channels, all of an image that goes into the cache"
    assert lines[1].startswith("2. ResizeShorterEdge(edge=26)")
    assert lines[2] == "3. cache of 1MB: later epochs begin here"
    lines = str(opened(resize=26, inter_method=10).plan).splitlines()
    assert lines[1] == "2. cache of 1MB: later epochs begin here"


def test_wrong_text_is_an_error_before_files_are_opened(opened, tmp_path):
    with pytest.raises(ValueError, match=r"^cache must be like .* got 'much'"):
        opened(tmp_path / "missing.rec", cache="much")
