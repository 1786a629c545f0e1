"""Batches from URLs are those from disk, whatever the store does in between."""

from __future__ import annotations

import re
import threading
import time

import fsspec
import numpy as np
import numpy.testing as npt
import pytest
from harness import our_threads

from gpuio import ImageDetRecordIter, ImageRecordIter
from gpuio.errors import PipelineClosedError, RemoteError
from gpuio.pipeline.read import reader as reader_module
from gpuio.storage.location import Location, Storage
from gpuio.storage.remote import retry
from gpuio.storage.remote.fetch import Fetcher, result
from gpuio.testing import write_rec

SHAPE = (3, 24, 28)


def batches(path, epochs=2, **options):
    """Data, labels and keys of each batch."""
    options = {"preprocess_threads": 1, "shuffle": True, "seed": 5, **options}
    with ImageRecordIter(path, SHAPE, 6, **options) as it:
        return [
            (batch.data[0].copy(), batch.label[0].copy(), batch.index.copy())
            for _ in range(epochs)
            for batch in it
        ]


def check_equal(got, expected):
    assert len(got) == len(expected)
    for mine, other in zip(got, expected, strict=True):
        for a, b in zip(mine, other, strict=True):
            npt.assert_array_equal(a, b)


@pytest.fixture
def served(store, far_rec):
    """The .rec and its .idx in a store, as if it were S3: URL, and options."""
    for suffix in (".rec", ".idx"):
        store.files[f"/data/faces/train{suffix}"] = far_rec.with_suffix(suffix).read_bytes()
    options = {"key": "one", "secret": "two", "endpoint_url": store.url}
    return "s3://data/faces/train.rec", {"storage_options": options}


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_over_http_are_those_from_disk(store, far_rec, shuffle):
    for suffix in (".rec", ".idx"):
        store.files[f"/train{suffix}"] = far_rec.with_suffix(suffix).read_bytes()
    got = batches(f"{store.url}/train.rec", shuffle=shuffle)
    check_equal(got, batches(far_rec, shuffle=shuffle))


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_from_s3_are_those_from_disk(s3, far_rec, shuffle):
    options, fs = s3
    for suffix in (".rec", ".idx"):
        fs.pipe(f"data/a/train{suffix}", far_rec.with_suffix(suffix).read_bytes())
    got = batches("s3://data/a/train.rec", storage_options=options, shuffle=shuffle)
    check_equal(got, batches(far_rec, shuffle=shuffle))


def test_filesystems_that_block_are_read_by_threads(far_rec):
    memory = fsspec.filesystem("memory")
    memory.pipe("/blocks/train.rec", far_rec.read_bytes())
    with pytest.warns(UserWarning, match="without its .idx all of it is read"):
        got = batches("memory://blocks/train.rec")
    for mine, other in zip(got, batches(far_rec), strict=True):
        npt.assert_array_equal(mine[0], other[0])


def test_shards_on_disk_and_far_away_are_one_data_set(s3, tmp_path, far_rec):
    options, fs = s3
    records = [bytes([n]) * 40 for n in range(12)]
    for number in range(3):
        write_rec(tmp_path / f"{number}.rec", records[4 * number : 4 * number + 4])
    for number in (0, 2):
        for suffix in (".rec", ".idx"):
            data = (tmp_path / f"{number}{suffix}").read_bytes()
            fs.pipe(f"data/shards/{number}{suffix}", data)
    paths = ["s3://data/shards/0.rec", str(tmp_path / "1.rec"), "s3://data/shards/2.rec"]
    from gpuio.devices.cpu import CpuDevice
    from gpuio.devices.ring import Ring
    from gpuio.pipeline.read.reader import RecordReader
    from gpuio.samplers import Selection
    from gpuio.sources.recordio.source import RecordIOSource

    dataset = RecordIOSource.open(Storage(options).locate(paths))
    device = CpuDevice(1)
    ring, ids = Ring(device.empty_host, 1), np.array([11, 3, 5, 4, 8, 0])
    (batch,) = RecordReader(dataset)([Selection(ids, 0)], ring)
    assert not batch.samples.faults
    base = batch.slot.data.ctypes.data
    for record, address, nbytes in zip(ids, batch.address, batch.nbytes, strict=True):
        start = int(address) - base
        assert batch.slot.data[start : start + nbytes].tobytes() == records[record]
    ring.release(batch.slot)
    braces = Storage(options).locate("s3://data/shards/{0,2}.rec")
    pattern = Storage(options).locate("s3://data/shards/*.rec")
    folder = Storage(options).locate("s3://data/shards/")
    for given in (braces, pattern, folder):
        assert list(RecordIOSource.open(given).table.paths) == [paths[0], paths[2]]


def test_boxes_are_counted_far_away_as_on_disk(store, tmp_path, pictures):
    from gpuio.testing import encode

    boxes = [[2, 5] + [1, 0.2, 0.3, 0.6, 0.9] * (1 + n % 4) for n in range(13)]
    path = tmp_path / "boxes.rec"
    write_rec(path, [encode(picture, "JPEG") for picture in pictures], labels=boxes)
    store.files["/boxes.rec"] = path.read_bytes()
    store.files["/boxes.idx"] = path.with_suffix(".idx").read_bytes()
    options = {"data_shape": SHAPE, "batch_size": 5, "preprocess_threads": 1}
    with (
        ImageDetRecordIter(path, **options) as near,
        ImageDetRecordIter(f"{store.url}/boxes.rec", **options) as far,
    ):
        assert far.label_pad_width == near.label_pad_width == 2 + 4 * 5
        for a, b in zip(near, far, strict=True):
            npt.assert_array_equal(a.data[0], b.data[0])
            npt.assert_array_equal(a.label[0], b.label[0])


def test_labels_come_from_a_list_far_away(store, far_rec):
    store.files["/train.rec"] = far_rec.read_bytes()
    store.files["/train.idx"] = far_rec.with_suffix(".idx").read_bytes()
    lines = [f"{n}\t{n + 0.5}\tx.jpg\n" for n in range(70, 110)]
    store.files["/train.lst"] = "".join(lines).encode()
    got = batches(f"{store.url}/train.rec", path_imglist=f"{store.url}/train.lst", epochs=1)
    for _, labels, keys in got:
        npt.assert_array_equal(labels, keys + 0.5)


@pytest.mark.parametrize("fault", [503, 500, 429, "reset", "truncate"])
def test_a_request_that_fails_at_first_is_repeated(store, served, far_rec, fault):
    url, options = served
    store.fault = lambda first, last, times: fault if times % 3 and (first // 4) % 2 else None
    check_equal(batches(url, **options), batches(far_rec))
    assert len(store.asked) > len(set(store.asked))


def test_a_request_that_always_fails_is_an_error_with_url_and_range(store, served, monkeypatch):
    url, options = served
    monkeypatch.setattr(retry, "TRIES", 3)
    bad = 9000
    with ImageRecordIter(url, SHAPE, 6, preprocess_threads=1, **options) as it:
        store.fault = lambda first, last, times: 503 if first <= bad <= last else None
        with pytest.raises(RemoteError) as caught:
            list(it)
    text = str(caught.value)
    place = re.match(r"s3://data/faces/train\.rec: bytes (\d+) to (\d+): ", text)
    assert place
    assert int(place[1]) <= bad <= int(place[2])
    assert "3 tries" in text
    assert "503" in text
    assert "go on from a saved state" in text


@pytest.mark.parametrize("policy", ["skip", "replace", "zero"])
def test_a_store_out_of_order_is_no_bad_image(store, served, monkeypatch, policy):
    url, options = served
    monkeypatch.setattr(retry, "TRIES", 2)
    with ImageRecordIter(url, SHAPE, 6, on_error=policy, preprocess_threads=1, **options) as it:
        store.fault = lambda *_: 500
        with pytest.raises(RemoteError, match=r"\d tries"):
            list(it)
        assert it.faults.count == 0
        store.fault = lambda *_: None
        it.hard_reset()
        assert len(list(it)) == 7  # the store is back, and so are all batches


@pytest.mark.parametrize("status", [403, 404])
def test_a_status_that_will_not_change_is_an_error_at_once(store, served, status):
    url, options = served
    with ImageRecordIter(url, SHAPE, 6, preprocess_threads=1, **options) as it:
        store.asked.clear()
        store.fault = lambda first, last, times: status if last > first else None
        with pytest.raises((RemoteError, FileNotFoundError), match=r"train\.rec"):
            next(it)
    assert max(store.asked.count(wanted) for wanted in store.asked if wanted != (0, 0)) == 1


def test_files_and_buckets_that_are_not_there_are_found_out_before_training(s3):
    options, _ = s3
    for url in ("s3://data/none.rec", "s3://nowhere/none.rec"):
        with pytest.raises(FileNotFoundError, match=f"{url}: no such file"):
            ImageRecordIter(url, SHAPE, 6, storage_options=options)
    with pytest.raises(FileNotFoundError, match=r"s3://data/none-\*.rec: no such file"):
        ImageRecordIter("s3://data/none-*.rec", SHAPE, 6, storage_options=options)


def test_a_store_that_cannot_be_reached_is_found_out_before_training(store):
    url = store.url
    store.close()
    begin = time.perf_counter()
    with pytest.raises(RemoteError, match=r"train\.rec: 4 tries in"):
        ImageRecordIter(f"{url}/train.rec", SHAPE, 6)
    assert time.perf_counter() - begin < 10


def test_kinds_of_urls_that_are_not_known_are_named():
    with pytest.raises(RemoteError, match="Protocol not known: nosuch"):
        ImageRecordIter("nosuch://a/train.rec", SHAPE, 6)


def test_servers_that_ignore_ranges_are_refused(store):
    store.files["/train.rec"] = bytes(1000)
    store.ranges = False
    with pytest.raises(RemoteError, match="the server does not serve ranges"):
        ImageRecordIter(f"{store.url}/train.rec", SHAPE, 6)


def test_a_file_that_changes_while_it_is_read_is_an_error(store, served):
    url, options = served
    with ImageRecordIter(url, SHAPE, 6, preprocess_threads=1, **options) as it:
        next(it)
        it.reset()
        store.fault = lambda first, last, times: setattr(store, "etag", f'"{first}"')
        with pytest.raises(RemoteError, match="the file has changed since it was opened"):
            list(it)


def test_several_batches_are_on_their_way_at_once(store, served, monkeypatch):
    url, options = served
    store.delay = 0.05
    monkeypatch.setattr(reader_module, "_MOST_AHEAD", 4)
    with ImageRecordIter(url, SHAPE, 2, preprocess_threads=1, shuffle=True, **options) as it:
        next(it)
    assert store.most >= 6  # ranges of one batch are at most 2


@pytest.mark.parametrize("end", ["close", "reset", "collected"])
def test_closing_does_not_wait_for_what_never_comes(store, served, end):
    url, options = served
    it = ImageRecordIter(url, SHAPE, 6, preprocess_threads=1, **options)
    store.fault = lambda first, last, times: "hang" if first >= 9000 else None
    next(it)
    begin = time.perf_counter()
    if end == "close":
        it.close()
    elif end == "reset":
        it.reset()
        store.fault = lambda *_: None
        assert len(list(it)) == 7
        it.close()
    del it
    assert time.perf_counter() - begin < 5
    assert not our_threads()


def test_the_garbage_collector_may_interrupt_a_fetcher_that_is_starting_a_thread(monkeypatch):
    fsspec.filesystem("memory").pipe("/starting/some", bytes(100))
    fetcher = Fetcher()
    start = threading.Thread.start

    def collected(thread):
        start(thread)
        fetcher.interrupt()  # as the finalizer of a dropped iterator does, in any thread

    monkeypatch.setattr(threading.Thread, "start", collected)
    with pytest.raises(PipelineClosedError, match="no more reads"):
        result(fetcher.open([Location.of("memory://starting/some")]))
    with pytest.raises(PipelineClosedError, match="no more reads"):
        fetcher.open([Location.of("memory://starting/some")])
    fetcher.close()


def test_only_fsspecs_thread_is_left(store, served):
    url, options = served
    before = set(threading.enumerate())
    batches(url, **options)
    left = {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not [name for name in left if name.startswith("gpuio")]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cache_size": 2 << 30}, "cache_size needs a cache_dir"),
        ({"cache_size": 1000, "cache_dir": "here"}, "cache_size must be at least 1073741824"),
        ({"cache_dir": "s3://there"}, "cache_dir must be a folder on disk"),
        ({"storage_options": "anon"}, "storage_options must be a dict"),
    ],
)
def test_wrong_parameters_are_named(far_rec, options, reason):
    with pytest.raises(ValueError, match=reason):
        ImageRecordIter(far_rec, SHAPE, 6, **options)


def read_far(given, ids, idx="", **options):
    """Images and faults of one batch."""
    import ctypes

    from gpuio.devices.cpu import CpuDevice
    from gpuio.devices.ring import Ring
    from gpuio.pipeline.read.reader import RecordReader
    from gpuio.samplers import Selection
    from gpuio.sources.recordio.source import RecordIOSource

    device = CpuDevice(1)
    dataset = RecordIOSource.open(given, idx, **options)
    ring = Ring(device.empty_host, 1)
    (batch,) = RecordReader(dataset)([Selection(np.array(ids), 0)], ring)
    pairs = zip(batch.address.tolist(), batch.nbytes.tolist(), strict=True)
    return [ctypes.string_at(*pair) for pair in pairs], batch.samples.faults


@pytest.fixture
def many(tmp_path):
    """Forty records in memory://many/a.rec, and where they start."""
    images = [bytes([n]) * 5000 for n in range(40)]
    images[20] = b"abcd" + (0xCED7230A).to_bytes(4, "little") + b"x" * 5000  # split
    starts = write_rec(tmp_path / "a.rec", images)
    memory = fsspec.filesystem("memory")
    for suffix in (".rec", ".idx"):
        memory.pipe(f"/many/a{suffix}", (tmp_path / f"a{suffix}").read_bytes())
    return memory, images, starts


@pytest.mark.filterwarnings("ignore:.*names no record in")
def test_only_what_an_index_names_is_asked_for_far_away(many):
    memory, images, starts = many
    named = [*range(0, 40, 5)]
    memory.pipe("/many/some.idx", b"".join(b"%d\t%d\n" % (n, starts[n]) for n in named))
    got, faults = read_far("memory://many/a.rec", range(8), "memory://many/some.idx")
    assert got == [images[n] for n in named]
    assert not faults


def test_a_wrong_line_far_away_loses_no_record_but_its_own(many):
    memory, images, starts = many
    lines = memory.cat("/many/a.idx") + b"99\t%d\n" % (starts[3] + 400)
    memory.pipe("/many/a.idx", lines)
    got, faults = read_far("memory://many/a.rec", [2, 3, 4, 5], "memory://many/a.idx")
    assert got == [images[2], images[3], b"", images[4]]
    reason = f"no record begins at byte {starts[3] + 400}; it is inside the record at byte"
    assert [reason in str(faults[place]) for place in faults] == [True]


def test_records_behind_an_index_far_away_are_found(many):
    memory, images, starts = many
    rec = memory.cat("/many/a.rec")
    memory.pipe("/many/a.rec", rec + rec[starts[39] :])
    with pytest.warns(UserWarning, match="it does not name 1 of 41 records"):
        got, _ = read_far("memory://many/a.rec", [39, 40])
    assert got == [images[39], images[39]]


@pytest.mark.filterwarnings("ignore")
def test_of_a_file_far_away_that_was_cut_off_the_rest_is_read(many):
    from gpuio.errors import FormatError

    memory, images, starts = many
    memory.pipe("/many/a.rec", memory.cat("/many/a.rec")[: starts[30] + 100])
    with pytest.raises(FormatError, match=r"a\.rec is shorter than its index: 30 of 40 records"):
        read_far("memory://many/a.rec", [0])
    got, _ = read_far("memory://many/a.rec", [29, 20], on_error="skip")
    assert got == [images[29], images[20]]


def test_a_closed_file_far_away_stays_closed(many):
    from gpuio.formats.recordio import RecordFile

    file = RecordFile("memory://many/a.rec")
    file.close()
    file.close()
    with pytest.raises(PipelineClosedError, match=r"a\.rec: this file was closed"):
        file.read(0)


@pytest.fixture
def over_http(store, far_rec):
    for suffix in (".rec", ".idx"):
        store.files[f"/train{suffix}"] = far_rec.with_suffix(suffix).read_bytes()
    return f"{store.url}/train.rec"


def opened(url):
    fetcher = Fetcher()
    (source,) = result(fetcher.open([Location.of(url)]))
    return fetcher, source


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Content-Range": "bytes 5-14/{size}"}, "asked for bytes 4 to 13, the server says"),
        ({"Content-Range": "bytes 4-12/{size}"}, "asked for bytes 4 to 13, the server says"),
        ({"Content-Range": "bytes 4-13/7"}, "the file has changed since it was opened"),
        ({"Content-Range": "bytes 4-13/*"}, "or does not say how large the file is"),
        ({"Content-Range": None}, "or does not say how large the file is"),
        ({"Content-Encoding": "gzip"}, "is compressed .* not asked for"),
        ({"ETag": '"two"'}, "has changed since it was opened: .*one.* and is .*two"),
        ({"ETag": None}, "has changed since it was opened"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_an_error_at_once(
    store, over_http, headers, reason
):
    fetcher, source = opened(over_http)
    store.headers = {k: v and v.format(size=source.size) for k, v in headers.items()}
    store.asked.clear()
    with pytest.raises(RemoteError, match=reason):
        result(fetcher.bytes_of(source, 4, 14))
    assert store.asked == [(4, 13)]
    store.headers = {}
    assert result(fetcher.bytes_of(source, 4, 14)) == store.files["/train.rec"][4:14]
    fetcher.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ETag": 'W/"1"'}, {"ETag": 'W/"2"'}),
        ({"ETag": 'W/"1"', "Last-Modified": "a"}, {"ETag": 'W/"1"', "Last-Modified": "b"}),
        ({"ETag": None, "Last-Modified": "a"}, {"ETag": None, "Last-Modified": "b"}),
        ({"ETag": None, "Last-Modified": "a"}, {"ETag": None, "Last-Modified": None}),
    ],
)
def test_a_change_shows_in_whatever_the_server_tells(store, over_http, before, after):
    store.headers = before
    fetcher, source = opened(over_http)
    assert len(result(fetcher.bytes_of(source, 4, 14))) == 10
    store.headers = after
    with pytest.raises(RemoteError, match="the file has changed since it was opened"):
        result(fetcher.bytes_of(source, 4, 14))
    fetcher.close()


def test_a_file_stays_what_it_was_when_its_url_was_opened_first(store, over_http):
    url = Location.of(over_http)
    fetcher = Fetcher()
    result(fetcher.open([url]))
    store.etag = '"two"'
    with pytest.raises(RemoteError, match="the file has changed since it was opened"):
        result(fetcher.open([url]))
    result(fetcher.open([Location.of(over_http)]))  # somebody else may open the new one
    fetcher.close()


def test_a_filesystem_is_asked_again_whether_the_file_is_the_same(far_rec):
    memory = fsspec.filesystem("memory")
    memory.pipe("/changing/train.rec", far_rec.read_bytes())
    fetcher, source = opened("memory://changing/train.rec")
    assert result(fetcher.bytes_of(source, 0, 9)) == far_rec.read_bytes()[:9]
    memory.pipe("/changing/train.rec", far_rec.read_bytes())
    with pytest.raises(RemoteError, match="the file has changed since it was opened"):
        result(fetcher.bytes_of(source, 0, 9))
    fetcher.close()


def test_s3fs_reads_the_same_and_its_answers_are_checked(s3, far_rec):
    options, fs = s3
    fs.pipe("data/own/train.rec", far_rec.read_bytes())
    storage = Storage({**options, "config_kwargs": {"user_agent_extra": "special"}})
    fetcher = Fetcher()
    (source,) = result(fetcher.open([Location("s3://data/own/train.rec", storage)]))
    assert type(source).__name__ == "S3File"
    assert result(fetcher.bytes_of(source, 4, 5000)) == far_rec.read_bytes()[4:5000]
    fs.pipe("data/own/train.rec", far_rec.read_bytes()[::-1])
    with pytest.raises(RemoteError, match="the file has changed since it was opened"):
        result(fetcher.bytes_of(source, 4, 5000))
    fetcher.close()
