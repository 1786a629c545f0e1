"""Files at URLs: read record by record, written whole or not at all."""

from __future__ import annotations

import multiprocessing
import pickle
import threading

import fsspec
import numpy as np
import pytest

from gpuio import recordio
from gpuio.cli import main
from gpuio.errors import RemoteError
from gpuio.formats.index import Index
from gpuio.testing import draw, encode


@pytest.fixture
def bucket(s3, monkeypatch):
    """URL of an empty folder, and the filesystem; options come from the environment."""
    options, fs = s3
    for name, value in (
        ("AWS_ACCESS_KEY_ID", options["key"]),
        ("AWS_SECRET_ACCESS_KEY", options["secret"]),
        ("AWS_ENDPOINT_URL", options["endpoint_url"]),
    ):
        monkeypatch.setenv(name, value)
    fs.invalidate_cache()
    if fs.exists("data/out"):
        fs.rm("data/out", recursive=True)
    return "s3://data/out", fs


def write(url, records, upto=None):
    with recordio.MXIndexedRecordIO(f"{url}.idx", f"{url}.rec", "w") as writer:
        for key, record in enumerate(records):
            if key == upto:
                raise InterruptedError
            writer.write_idx(10 * key, record)


@pytest.mark.parametrize("nbytes", [100, 1 << 20])
def test_records_come_back_by_key_and_in_order(bucket, tmp_path, nbytes):
    url, fs = bucket
    records = [bytes([n]) * (nbytes + n) for n in range(9)]
    write(f"{url}/train", records)
    write(tmp_path / "train", records)
    for suffix in (".rec", ".idx"):
        assert fs.cat(f"data/out/train{suffix}") == (tmp_path / f"train{suffix}").read_bytes()
    with recordio.MXIndexedRecordIO(f"{url}/train.idx", f"{url}/train.rec", "r") as reader:
        assert reader.read_idx(40) == records[4]
        assert reader.read() == records[5]
        assert list(reader) == records
        assert reader[-1] == records[-1]
        again = pickle.loads(pickle.dumps(reader))
        assert again.read_idx(70) == records[7]
        again.close()
        got, threads = [], []
        for key in range(9):
            work = lambda key=key: got.append((key, reader.read_idx(10 * key)))  # noqa: E731
            threads.append(threading.Thread(target=work))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert sorted(got) == list(enumerate(records))
    with recordio.MXRecordIO(f"{url}/train.rec", "r") as plain:
        assert [plain.read() for _ in range(10)] == [*records, None]


def test_nothing_appears_before_the_end(bucket):
    url, fs = bucket
    writer = recordio.MXIndexedRecordIO(f"{url}/a.idx", f"{url}/a.rec", "w")
    writer.write_idx(0, b"abc")
    assert not fs.exists("data/out/a.rec")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(writer)
    writer.close()
    writer.close()
    fs.invalidate_cache()
    assert fs.exists("data/out/a.rec")
    assert fs.exists("data/out/a.idx")


def test_nothing_appears_after_an_exception(bucket):
    url, fs = bucket
    write(f"{url}/a", [b"old"])
    with pytest.raises(InterruptedError):
        write(f"{url}/a", [bytes(6 << 20)] * 20, upto=15)
    with recordio.MXIndexedRecordIO(f"{url}/a.idx", f"{url}/a.rec", "r") as reader:
        assert list(reader) == [b"old"]
    assert fs.call_s3("list_multipart_uploads", Bucket="data").get("Uploads", []) == []


def test_a_writer_that_is_not_closed_says_so(bucket):
    url, fs = bucket
    writer = recordio.MXIndexedRecordIO(f"{url}/b.idx", f"{url}/b.rec", "w")
    writer.write_idx(0, b"abc")
    with pytest.warns(RuntimeWarning, match=r"b\.rec: its writer was not closed"):
        del writer
    assert not fs.exists("data/out/b.rec")


def test_a_rec_does_not_appear_if_its_index_cannot_be_opened(bucket, tmp_path):
    url, fs = bucket
    with pytest.raises(FileNotFoundError):
        recordio.MXIndexedRecordIO(tmp_path / "none" / "c.idx", f"{url}/c.rec", "w")
    fs.invalidate_cache()
    assert not fs.exists("data/out/c.rec")


def test_an_error_names_the_url_that_cannot_be_written(bucket, store):
    store.files = {}
    for url in ("s3://no-such-bucket/a.rec", f"{store.url}/a.rec"):
        with (
            pytest.raises(RemoteError, match=f"{url}: cannot be written"),
            recordio.MXRecordIO(url, "w") as writer,
        ):
            writer.write(b"abc")


def test_im2rec_writes_lists_and_records(bucket, tmp_path, capsys):
    url, fs = bucket
    images = tmp_path / "images"
    images.mkdir()
    for number in range(7):
        (images / f"{number}.jpg").write_bytes(encode(draw(20, 22, seed=number), "JPEG"))
    for prefix in (f"{url}/set", str(tmp_path / "set")):
        assert main(["im2rec", "--list", prefix, str(images)]) == 0
        assert main(["im2rec", "--pass-through", prefix, str(images)]) == 0
    for suffix in (".lst", ".rec", ".idx"):
        assert fs.cat(f"data/out/set{suffix}") == (tmp_path / f"set{suffix}").read_bytes()
    assert sorted(path.rpartition("/")[2] for path in fs.ls("data/out", refresh=True)) == [
        "set.idx",
        "set.lst",
        "set.rec",
    ]
    capsys.readouterr()
    for prefix in (f"{url}/set", str(tmp_path / "set")):
        assert main(["info", f"{prefix}.rec"]) == 0
        assert main(["verify", f"{prefix}.rec"]) == 0
    lines = capsys.readouterr().out.splitlines()
    half = len(lines) // 2
    strip = lambda line: line.split(": ", 1)[-1].split(",")[0]  # noqa: E731
    far, near = lines[1:half], lines[half + 1 :]
    assert [strip(line) for line in far] == [strip(line) for line in near]


def test_im2rec_packs_images_that_are_far_away(bucket, tmp_path):
    url, fs = bucket
    images = [encode(draw(20, 22, seed=number), "JPEG") for number in range(3)]
    for number, image in enumerate(images):
        fs.pipe(f"data/out/images/{number}.jpg", image)
    lines = [f"{n}\t{n}\t{n}.jpg\n" for n in range(3)]
    (tmp_path / "set.lst").write_text("".join(lines))
    prefix = str(tmp_path / "set")
    assert main(["im2rec", "--pass-through", prefix, f"{url}/images"]) == 0
    with recordio.MXIndexedRecordIO(f"{prefix}.idx", f"{prefix}.rec", "r") as reader:
        assert [recordio.unpack(record)[1] for record in reader] == images


def test_an_index_is_made_for_a_file_far_away(bucket, tmp_path):
    url, _ = bucket
    records = [bytes([n % 251]) * (n % 97) for n in range(5000)]
    write(f"{url}/many", records)
    with pytest.warns(UserWarning, match="all of it is read"):
        assert main(["rec2idx", f"{url}/many.rec", f"{url}/made.idx"]) == 0
    made = np.stack(list(_arrays(Index.load(f"{url}/made.idx"))))
    written = Index.load(f"{url}/many.idx")
    assert (made[1] == written.offsets).all()
    assert len(made[0]) == 5000


def _arrays(index):
    yield index.keys
    yield index.offsets


def _read_in_child(reader, key, queue):
    queue.put(reader.read_idx(key))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="takes fork")
def test_a_reader_continues_in_a_forked_process(bucket):
    url, _ = bucket
    records = [bytes([n]) * 3000 for n in range(4)]
    write(f"{url}/f", records)
    context = multiprocessing.get_context("fork")
    with recordio.MXIndexedRecordIO(f"{url}/f.idx", f"{url}/f.rec", "r") as reader:
        assert reader.read_idx(0) == records[0]
        queue = context.Queue()
        child = context.Process(target=_read_in_child, args=(reader, 20, queue))
        child.start()
        assert queue.get(timeout=30) == records[2]
        child.join(30)
        assert child.exitcode == 0
        assert reader.read_idx(30) == records[3]


def test_filesystems_that_rename_show_a_file_when_it_is_complete(monkeypatch):
    from gpuio.storage.remote import output

    monkeypatch.setattr(output, "_COMMITS", set())
    memory = fsspec.filesystem("memory")
    write("memory://renamed/a", [b"old"])
    with pytest.raises(InterruptedError):
        write("memory://renamed/a", [b"new", b"er"], upto=1)
    with recordio.MXRecordIO("memory://renamed/a.rec", "r") as reader:
        assert reader.read() == b"old"
    names = {path.rpartition("/")[2] for path in memory.ls("/renamed", detail=False)}
    assert names == {"a.rec", "a.idx"}
