"""Packing on a Ray cluster of several nodes: the bytes of packing here, whatever dies meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from lists import image_list
from PIL import Image

from gpuio.cli import main
from gpuio.errors import BackendError
from gpuio.pack.packing import PackOptions
from gpuio.pack.shards import pack_shards
from gpuio.sources.recordio.source import RecordIOSource

pytestmark = pytest.mark.slow

SHARDS, LINES = 6, 150
OPTIONS = PackOptions(resize=400, quality=90)
MEMORY = 80 << 20


@pytest.fixture(scope="module")
def store():
    """An S3 API on this machine, which processes begun later find by themselves; or None."""
    if not (find_spec("moto") and find_spec("s3fs")):
        yield None
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ACCESS_KEY_ID", "one")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "two")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster(store):
    """A node for the driver, which runs no tasks, and two more with a CPU each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    health = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
    head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": health})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    y, x = np.mgrid[:900, :1200]
    for number in range(3):
        pixels = np.stack([x * (number + 1) % 251, y % 256, x * y % 253], -1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (folder / "text.jpg").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def images():
    names = [f"{n % 3}.jpg" for n in range(LINES)]
    names[LINES // 2] = "text.jpg"
    return image_list(np.arange(LINES) + 1000, list(range(LINES)), names)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, images, root):
    """What packing here gives: the report, and the content of each file."""
    folder = tmp_path_factory.mktemp("here")
    report = pack_shards(images, root, folder / "train", SHARDS, OPTIONS)
    return report, content(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pack_and_kill(cluster, folder, images, root):
    """Pack, and kill a node that is added for it; the report, the progress and all attempts."""
    from gpuio.pack.ray import pack_on_ray

    lost = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    attempts: set[str] = set()
    killed, over = threading.Event(), threading.Event()

    def kill() -> None:
        while not over.wait(0.01):
            unfinished = {path.name for path in folder.glob("*.rec.*.partial")}
            attempts.update(unfinished)
            if len(unfinished) == 3 and not killed.is_set():
                # With three tasks at work there is one on every node.
                cluster.remove_node(lost, allow_graceful=False)
                killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    done: list[int] = []
    where = {"address": cluster.address, "progress": done.append}
    try:
        report = pack_on_ray(images, root, folder / "train", SHARDS, OPTIONS, **where)
    finally:
        over.set()
        killer.join()
    assert killed.is_set()
    return report, done, attempts


def test_a_node_that_dies_changes_nothing(cluster, tmp_path, images, root, expected):
    for number in range(5):  # until the task of that node has not ended before its death
        folder = tmp_path / str(number)
        folder.mkdir()
        report, done, attempts = pack_and_kill(cluster, folder, images, root)
        assert (report, content(folder)) == expected
        assert sum(done) == LINES
        assert len(report.skipped) == 1
        dataset = RecordIOSource.open(folder / "train-*.rec")
        assert dataset.keys.tolist() == [1000 + n for n in range(LINES) if n != LINES // 2]
        if len(attempts) > SHARDS:
            break
    assert len(attempts) == SHARDS + 1


def test_the_command_packs_on_a_cluster(cluster, tmp_path, root, capsys):
    names = [f"{n % 3}.jpg" for n in range(8)]
    image_list(range(8), list(range(8)), names).save(tmp_path / "train.lst")
    command = ["im2rec", str(tmp_path / "train"), str(root), "--pass-through", "--num-shards", "2"]
    assert main([*command, "--ray", cluster.address]) == 0
    assert f"{tmp_path}/train-*-of-00002.rec: 8 images, 0 skipped" in capsys.readouterr().out
    cluster_made = content(tmp_path)
    assert main(command) == 0
    assert content(tmp_path) == cluster_made
    assert sorted(cluster_made) == [
        "train-00000-of-00002.idx",
        "train-00000-of-00002.rec",
        "train-00001-of-00002.idx",
        "train-00001-of-00002.rec",
        "train.lst",
    ]


def test_shards_may_go_to_a_store(store, cluster, images, root, expected):
    s3fs = pytest.importorskip("s3fs")
    if store is None:
        pytest.skip("moto, which serves S3, is not installed")

    from gpuio.pack.ray import pack_on_ray

    files = s3fs.S3FileSystem()
    files.mkdir("bucket")
    prefix = "s3://bucket/faces/train"
    report = pack_on_ray(images, root, prefix, SHARDS, OPTIONS, address=cluster.address)
    found = {name.rpartition("/")[2]: files.cat(name) for name in files.ls("bucket/faces")}
    assert (report, found) == expected


def test_an_error_of_a_task_is_that_of_the_command(cluster, tmp_path, images):
    from gpuio.pack.ray import pack_on_ray

    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder on "):
        pack_on_ray(
            images, tmp_path / "nowhere", tmp_path / "train", SHARDS, address=cluster.address
        )
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        pack_on_ray(images, tmp_path, tmp_path / "file/train", 2, address=cluster.address)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_shards_that_are_not_here_are_missed(cluster, tmp_path, images, root, monkeypatch):
    import gpuio.pack.ray as module

    def elsewhere(*args):
        return module.pack_shard(*args[:2], f"{args[2]}.elsewhere", args[3], threads=args[4])

    monkeypatch.setattr(module, "_pack", elsewhere)
    options = PackOptions(pass_through=True)
    with pytest.raises(FileNotFoundError, match=r"here is no file: pack to a folder that all "):
        module.pack_on_ray(images, root, tmp_path / "t", 1, options, address=cluster.address)


def test_no_cluster_is_an_error(tmp_path, images, root):
    pytest.importorskip("ray")
    from gpuio.pack.ray import pack_on_ray

    with pytest.raises(BackendError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        pack_on_ray(images, root, tmp_path / "t", 1, address="127.0.0.1:1")


def test_ray_is_imported_only_where_asked_for(tmp_path, root):
    image_list([0], [0], ["0.jpg"]).save(tmp_path / "train.lst")
    code = (
        "import sys; from gpuio.cli import main; "
        f"main(['im2rec', {str(tmp_path / 'train')!r}, {str(root)!r}, '--num-shards', '1']); "
        "sys.exit('ray' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
