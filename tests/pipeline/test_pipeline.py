"""How a pipeline ends: each line of the list in gpuio/pipeline/pipeline.py."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from harness import our_threads

from gpuio import ImageRecordIter
from gpuio.errors import BackendError, DecodeError, PipelineClosedError
from gpuio.pipeline import pipeline
from gpuio.pipeline.decode.mask import MaskDecoder
from gpuio.pipeline.decode.nvimgcodec import NvImageCodecDecoder
from gpuio.pipeline.decode.portable import PortableDecoder
from gpuio.pipeline.read.reader import RecordReader
from gpuio.testing import draw, encode, write_rec

DESCRIPTORS = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc/self/fd")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.exists() else 0


USED = {
    "nvimgcodec": {"decoder": "nvimgcodec"},
    "portable": {"decoder": "portable"},
    "lanes": {"decoder": "nvimgcodec", "device": "simulated"},
}


@pytest.fixture(autouse=True, scope="module")
def warm(tmp_path_factory):
    """Whatever is loaded and compiled once opens files of its own."""
    path = tmp_path_factory.mktemp("warm") / "a.rec"
    write_rec(path, [encode(draw(20, 20))])
    for options in USED.values():
        with ImageRecordIter(path, (3, 8, 8), 1, **options) as it:
            next(it)


@pytest.fixture(autouse=True)
def nothing_is_left(warm):
    """After every test: as many files open, and threads alive, as before it."""
    gc.collect()
    before = descriptors()
    assert not our_threads()
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name in our_threads():
            thread.join(30)  # a pool that was collected ends its threads without waiting for them
    assert not our_threads()
    assert descriptors() == before


@pytest.fixture(params=USED)
def open_rec(request, rec):
    def open_(**options):
        options = {"batch_size": 4} | USED[request.param] | options
        return ImageRecordIter(rec, (3, 16, 16), options.pop("batch_size"), **options)

    return open_


def stages():
    """Names of the stages whose threads are alive; a decoder may have threads of its own."""
    own = ("gpuio-read", "gpuio-decode")
    return {name for name in our_threads() if name in own or name.startswith("gpuio-lane")}


def test_1_when_the_epoch_is_over_threads_and_files_are_gone(open_rec):
    before = descriptors()
    it = open_rec()
    assert len(list(it)) == 4
    for thread in threading.enumerate():
        if thread.name in stages():
            thread.join(30)  # the last batch may be taken before the thread has returned
    assert not stages()
    assert descriptors() == before
    assert len(list(it)) == 4
    it.close()


def test_1_memory_between_the_stages_is_kept_for_the_next_epoch(open_rec):
    with open_rec() as it:
        list(it)
        slots = it.pipeline._inputs[0].host._slots
        kept = {id(slot.data) for slot in slots if slot.data is not None}
        assert kept
        list(it)
        assert {id(slot.data) for slot in slots if slot.data is not None} >= kept


def test_2_when_a_stage_raises_the_batches_before_come_first_then_the_error_once(tmp_path):
    path = tmp_path / "a.rec"
    images = [encode(draw(16, 16, seed=n)) for n in range(8)]
    images[5] = b"broken"
    write_rec(path, images)
    it = ImageRecordIter(path, (3, 16, 16), 2)
    assert [next(it).label[0].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(DecodeError, match=r"a\.rec: record 5 at byte") as caught:
        next(it)
    assert caught.value.__notes__ == [
        "on_error='skip' continues without such images",
        "raised in thread 'gpuio-decode'",
    ]
    assert next(it, None) is None
    it.reset()  # the error does not stick
    assert next(it).label[0].tolist() == [0, 1]
    it.close()


def test_2_an_error_of_the_first_stage_comes_through_unchanged(open_rec, monkeypatch):
    error = OSError("the disk is gone")

    def read(*_):
        raise error

    monkeypatch.setattr(RecordReader, "_begin", read)
    with open_rec() as it:
        with pytest.raises(OSError, match="the disk is gone") as caught:
            next(it)
        assert caught.value is error
        assert caught.value.__notes__[0] == "raised in thread 'gpuio-read'"


def test_2_batches_read_before_the_first_stage_raised_come_first(open_rec, monkeypatch):
    read, seen = RecordReader._begin, []

    def third_fails(*arguments):
        seen.append(arguments)
        if len(seen) == 3:
            raise OSError("the disk is gone")
        return read(*arguments)

    monkeypatch.setattr(RecordReader, "_begin", third_fails)
    with open_rec() as it:
        labels = [next(it).label[0].tolist() for _ in range(2)]
        assert labels == [[0, 1, 2, 3], [4, 5, 6, 7]]
        with pytest.raises(OSError, match="the disk is gone"):
            next(it)


@pytest.mark.parametrize("masked", [False, True])
def test_2_files_and_threads_end_while_the_error_is_kept(tmp_path, monkeypatch, masked):
    picture = draw(20, 20)
    write_rec(tmp_path / "a.rec", [encode(picture)] * 5)
    for n in range(5):
        path = tmp_path / "folder" / "class" / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture[..., :1]))
    paths = {"masks": tmp_path / "a.rec"} if masked else {}
    rec = tmp_path / ("folder" if masked else "a.rec")

    def fail(self, records):
        raise KeyError("a fault in the decoder")

    monkeypatch.setattr(MaskDecoder if masked else PortableDecoder, "open", fail)
    before = descriptors()
    with ImageRecordIter(rec, (3, 8, 8), 2, decoder="portable", **paths) as it:
        with pytest.raises(KeyError) as kept:
            it.next()
        it.close()
        assert (our_threads(), descriptors()) == ([], before)
    assert kept.value.__traceback__ is not None


@pytest.mark.parametrize("taken", [0, 1, 2])
@pytest.mark.parametrize("end", ["close", "reset", "with", "set_epoch"])
def test_3_when_the_consumer_stops_early_every_thread_is_joined(open_rec, end, taken):
    it = open_rec()
    held = [next(it) for _ in range(taken)]
    before = [batch.data[0].copy() for batch in held]
    if end == "with":
        with it:
            pass
    elif end == "set_epoch":
        it.set_epoch(5)
    else:
        getattr(it, end)()
    assert not stages()
    for batch, pixels in zip(held, before, strict=True):
        npt.assert_array_equal(batch.data[0], pixels)
    it.close()


@pytest.mark.parametrize("taken", [0, 1, 3, 4])
@pytest.mark.parametrize("end", ["reset", "close", "collected"])
def test_3_images_opened_to_be_decoded_are_released(rec, monkeypatch, end, taken):
    tables, real_open = [], NvImageCodecDecoder.open

    def open_(*arguments):
        headers = real_open(*arguments)
        tables.append(headers.table)
        return headers

    monkeypatch.setattr(NvImageCodecDecoder, "open", open_)
    path = rec.parent / "pictures.rec"
    write_rec(path, [encode(draw(20, 20), "JPEG")] * 13)
    it = ImageRecordIter(path, (3, 16, 16), 4, decoder="nvimgcodec")
    for _ in range(taken):
        next(it)
    if end != "collected":
        getattr(it, end)()
    del it
    gc.collect()
    assert len(tables) >= taken
    assert not any(table["stream"].any() for table in tables)


def test_3_a_closed_iterator_says_so(open_rec):
    it = open_rec()
    next(it)
    it.close()
    it.close()
    for use in (it.next, it.iter_next, it.reset, lambda: it.set_epoch(0), lambda: list(it)):
        with pytest.raises(PipelineClosedError, match="this iterator was closed"):
            use()


def test_3_batches_outlive_the_iterator(open_rec):
    it = open_rec()
    batch = next(it)
    before = batch.data[0].copy()
    it.close()
    del it
    gc.collect()
    np.empty_like(before).fill(1)
    npt.assert_array_equal(batch.data[0], before)


def test_4_garbage_is_collected_with_its_threads(open_rec):
    it = open_rec()
    next(it)
    assert stages()
    del it
    gc.collect()
    assert not stages()


def test_4_an_iterator_lost_in_an_exception_is_collected(open_rec):
    def train():
        for _ in open_rec():
            raise RuntimeError("in the training loop")

    with pytest.raises(RuntimeError):
        train()
    gc.collect()
    assert not stages()


def run(script: str) -> None:
    """Run `script` in a new interpreter: it has to exit with 0 and print nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_fork
@pytest.mark.parametrize("decoder", ["nvimgcodec", "portable"])
def test_5_in_a_forked_child_the_old_iterator_is_refused_and_a_new_one_works(rec, decoder):
    run(f"""
import gc, os, sys
from gpuio import ImageRecordIter, PipelineClosedError
def make():
    return ImageRecordIter({str(rec)!r}, (3, 16, 16), 4, shuffle=True, decoder={decoder!r})
it = make()
first = next(it)
child = os.fork()
if child == 0:
    try:
        next(it)
    except PipelineClosedError:
        pass
    else:
        sys.exit(1)
    again = make()
    same = (next(again).data[0] == first.data[0]).all()
    rest = len(list(again))
    it.close()
    del it, again
    gc.collect()
    sys.exit(0 if same and rest == 3 else 2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(list(it)) == 3
""")


@needs_fork
@pytest.mark.parametrize("loaded", [True, False])
def test_5_a_child_leaves_codecs_with_locks_alone_that_its_parent_has_loaded(tmp_path, loaded):
    picture = draw(20, 20)
    write_rec(tmp_path / "a.rec", [encode(picture), encode(picture, "JPEG"), encode(picture)])
    run(f"""
import os, sys
from gpuio import ImageRecordIter
def read():
    with ImageRecordIter({str(tmp_path / "a.rec")!r}, (3, 16, 16), 3, decoder="nvimgcodec") as it:
        return next(it).data[0], it.stats()["decoded_by_portable"]
data, count = read() if {loaded} else (None, 0)
child = os.fork()
if child == 0:
    again, portable = read()
    same = data is None or (again == data).all()
    sys.exit(0 if same and portable == {2 * loaded} else 1)
assert count == 0
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""")


@pytest.mark.parametrize("decoder", ["nvimgcodec", "portable"])
def test_6_the_interpreter_can_exit_in_mid_epoch(rec, decoder):
    run(f"""
from gpuio import ImageRecordIter
it = ImageRecordIter({str(rec)!r}, (3, 16, 16), 2, decoder={decoder!r})
next(it)
held = next(it)
""")


def test_6_the_interpreter_can_exit_with_an_error_in_mid_epoch(rec):
    script = f"""
from gpuio import ImageRecordIter
for batch in ImageRecordIter({str(rec)!r}, (3, 16, 16), 2):
    raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")


@pytest.mark.parametrize("number", [1, 2])
def test_7_a_thread_that_cannot_be_started_leaves_the_iterator_where_it_was(
    open_rec, fail_start, number
):
    with open_rec() as it:
        fail_start(number)
        with pytest.raises(BackendError, match=r"cannot be started: .*ulimit -u"):
            it.next()
        assert not stages()
        assert it.state_dict()["done"] == 0
        assert [x for b in it for x in b.label[0][: 4 - b.pad]] == list(range(13))
    it = open_rec()
    fail_start(number)
    with pytest.raises(BackendError):
        it.next()
    it.close()


def test_8_close_in_another_thread_ends_the_wait_for_a_batch(open_rec, monkeypatch):
    read, asked, release, told = RecordReader._begin, threading.Event(), threading.Event(), []

    def slow(*arguments):
        asked.set()
        release.wait(60)
        return read(*arguments)

    monkeypatch.setattr(RecordReader, "_begin", slow)
    it = open_rec()

    def consume():
        try:
            told.append(it.next())
        except Exception as error:
            told.append(error)

    consumer, closer = threading.Thread(target=consume), threading.Thread(target=it.close)
    consumer.start()
    asked.wait(60)
    closer.start()
    consumer.join(60)
    assert isinstance(told[0], PipelineClosedError)  # though the file has not answered
    release.set()
    closer.join(60)
    assert not stages()
    with pytest.raises(PipelineClosedError):
        it.reset()


def test_8_close_before_the_first_batch_is_waited_for_ends_that_too(open_rec, monkeypatch):
    read, release, told = RecordReader._begin, threading.Event(), []

    def slow(*arguments):
        release.wait(60)
        return read(*arguments)

    it = open_rec()
    counted = pipeline._counted

    def closed_meanwhile(*arguments):
        it.pipeline.interrupt()  # as `close` does first, in another thread
        return counted(*arguments)

    monkeypatch.setattr(RecordReader, "_begin", slow)
    monkeypatch.setattr(pipeline, "_counted", closed_meanwhile)

    def ask():
        with pytest.raises(PipelineClosedError):
            it.next()
        told.append("closed, though the file has not answered")

    consumer = threading.Thread(target=ask)
    consumer.start()
    consumer.join(30)
    assert told
    release.set()
    it.close()
    assert not stages()


def test_9_each_batch_goes_to_one_of_several_threads(open_rec):
    with open_rec(batch_size=1, shuffle=True) as it:
        for _ in range(3):
            found = [[], [], []]
            iter(it)  # the next epoch begins
            threads = [threading.Thread(target=consume, args=[it, own]) for own in found]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert sorted(found[0] + found[1] + found[2]) == list(range(13))


def consume(it, own):
    """Keep the labels of the batches, of one image each, that this thread gets."""
    while True:
        try:
            own.append(int(it.next().label[0][0]))
        except StopIteration:
            return


def test_10_a_thread_of_the_pipeline_cannot_close_it(open_rec, monkeypatch):
    read = RecordReader._begin

    def closing(*arguments):
        it.close()
        return read(*arguments)

    with open_rec() as it:
        with monkeypatch.context() as patch:
            patch.setattr(RecordReader, "_begin", closing)
            with pytest.raises(RuntimeError, match="used by a thread that works for it"):
                it.next()
        it.reset()
        assert len(list(it)) == 4


def test_several_iterators_run_side_by_side(open_rec):
    one, other = open_rec(shuffle=True), open_rec()
    pairs = list(zip(one, other, strict=True))
    assert sorted(x for a, _ in pairs for x in a.label[0][: 4 - a.pad]) == list(range(13))
    assert [x for _, b in pairs for x in b.label[0][: 4 - b.pad]] == list(range(13))
    one.close()
    other.close()


def test_stats_tell_where_the_time_went(open_rec):
    with open_rec() as it:
        list(it)
        stats = it.stats()
        assert set(stats["stages"]) == {"read", "decode"}
        for stage in stats["stages"].values():
            assert stage["batches"] == 4
            assert min(stage["busy"], stage["starved"], stage["blocked"]) >= 0
        assert min(stats["waited"], stats["decoding"], stats["augmenting"]) >= 0
        assert stats["faults"] == 0
        assert stats["decoder"] in ("nvimgcodec", "portable")
