"""Which part this process reads: who is asked, in which order, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gpuio import ImageDetRecordIter, ImageRecordIter
from gpuio.core.shard import Shard, find_shard, resolve_shard
from gpuio.testing import draw, encode, write_rec

SHAPE = (3, 16, 16)
TORCHRUN, OPEN_MPI, SLURM = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
VARIABLES = (TORCHRUN, OPEN_MPI, SLURM)
FRAMEWORKS = ("torch.distributed", "jax._src.distributed", "ray.train")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """A process that nothing has started, whatever the tests run under."""
    for name in [*sum(VARIABLES, ()), "SLURM_STEP_ID"]:
        monkeypatch.delenv(name, raising=False)
    for name in FRAMEWORKS:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def launch(monkeypatch):
    """Set what a launcher sets."""

    def launch_(names, rank, size):
        for name, value in zip(names, (rank, size), strict=True):
            monkeypatch.setenv(name, str(value))

    return launch_


@pytest.fixture
def pretend(monkeypatch):
    """Put something in the place of a framework that is imported and set up."""

    def torch(rank, size, *, initialised=True):
        module = SimpleNamespace(
            is_available=lambda: True,
            is_initialized=lambda: initialised,
            get_rank=lambda: rank,
            get_world_size=lambda: size,
        )
        monkeypatch.setitem(sys.modules, "torch.distributed", module)

    def jax(rank, size, *, initialised=True):
        client = object() if initialised else None
        state = SimpleNamespace(process_id=rank, num_processes=size, client=client)
        module = SimpleNamespace(global_state=state)
        monkeypatch.setitem(sys.modules, "jax._src.distributed", module)

    def ray(rank, size, *, initialised=True):
        def get_context():
            if not initialised:
                raise RuntimeError("outside of a training function")
            return SimpleNamespace(get_world_rank=lambda: rank, get_world_size=lambda: size)

        monkeypatch.setitem(sys.modules, "ray.train", SimpleNamespace(get_context=get_context))

    return SimpleNamespace(torch=torch, jax=jax, ray=ray)


def found():
    part = find_shard()
    return part.index, part.count, part.source


def test_without_a_launcher_there_is_one_part():
    assert found() == (0, 1, "no launcher found")


@pytest.mark.parametrize("names", VARIABLES, ids=lambda names: names[0])
def test_variables_of_launchers_are_read(launch, names):
    launch(names, 2, 5)
    assert found() == (2, 5, ", ".join(names))


def test_the_first_in_the_documented_order_answers(launch, pretend):
    steps = [
        (lambda: launch(SLURM, 1, 2), 2),
        (lambda: launch(OPEN_MPI, 1, 3), 3),
        (lambda: pretend.ray(1, 4), 4),
        (lambda: pretend.jax(1, 5), 5),
        (lambda: launch(TORCHRUN, 1, 6), 6),
        (lambda: pretend.torch(1, 7), 7),
    ]
    for step, size in steps:
        step()
        assert found()[:2] == (1, size)


def test_a_framework_that_is_imported_but_not_set_up_is_passed_over(pretend):
    pretend.torch(1, 2, initialised=False)
    pretend.jax(1, 2, initialised=False)
    pretend.ray(1, 2, initialised=False)
    assert found() == (0, 1, "no launcher found")


def test_a_build_of_torch_without_distributed_is_passed_over(monkeypatch):
    module = SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch.distributed", module)
    assert found() == (0, 1, "no launcher found")


@pytest.mark.parametrize("names", VARIABLES, ids=lambda names: names[0])
@pytest.mark.parametrize(
    ("rank", "size", "message"),
    [
        ("2", "2", r"rank must be in \[0, world size\), got rank 2 of 2"),
        ("-1", "2", r"rank must be in \[0, world size\), got rank -1 of 2"),
        ("0", "0", r"rank must be in \[0, world size\), got rank 0 of 0"),
        ("one", "2", "{rank} must be an integer, got 'one'"),
        ("1", "", "{size} must be an integer, got ''"),
        ("1", None, "{rank} is '1', but {size} is not set"),
        (None, "2", "{size} is '2', but {rank} is not set"),
    ],
)
def test_wrong_launcher_variables_are_an_error_before_training(
    rec, monkeypatch, names, rank, size, message
):
    for name, value in zip(names, (rank, size), strict=True):
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message.format(rank=names[0], size=names[1])):
        ImageRecordIter(rec, SHAPE, 4, num_parts="auto")


def test_a_framework_with_a_wrong_rank_is_an_error(pretend):
    pretend.torch(4, 4)
    with pytest.raises(ValueError, match=r"torch\.distributed: rank must be in .* rank 4 of 4"):
        find_shard()


def test_numbers_are_taken_as_they_are(launch):
    launch(TORCHRUN, 1, 2)
    assert resolve_shard("4", "3") == Shard(3, 4, "given")


@pytest.mark.parametrize("cls", [ImageRecordIter, ImageDetRecordIter])
def test_iterators_find_their_part_and_say_so(tmp_path, launch, caplog, cls):
    path = tmp_path / "objects.rec"
    objects = [2, 5, 0, 0.1, 0.1, 0.9, 0.9] if cls is ImageDetRecordIter else 1
    write_rec(path, [encode(draw(20, 20))] * 5, labels=[objects] * 5)
    launch(OPEN_MPI, 1, 2)
    text = "part_index=1 of num_parts=2 (OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE)"
    with caplog.at_level(logging.INFO, "gpuio"), cls(path, SHAPE, 2, num_parts="auto") as it:
        assert it.part == Shard(1, 2, ", ".join(OPEN_MPI))
        assert text in repr(it)
        assert it.stats()["part"] == {"index": 1, "count": 2, "source": ", ".join(OPEN_MPI)}
    assert caplog.messages == [f"num_parts='auto': {text}"]


@pytest.mark.parametrize("part_index", [0, None])
def test_auto_needs_no_part_index(rec, launch, part_index):
    launch(TORCHRUN, 1, 2)
    with ImageRecordIter(rec, SHAPE, 4, num_parts="auto", part_index=part_index) as it:
        assert it.part.index == 1


@pytest.mark.parametrize(
    ("num_parts", "part_index", "message"),
    [
        ("auto", 1, "part_index must be left out with num_parts='auto'"),
        ("auto", "none", "part_index must be an integer"),
        ("all", 0, "num_parts must be an integer, got 'all'"),
        (2, None, "part_index must be an integer, got None"),
        (2, 2, r"part_index must be in \[0, num_parts\), got 2 of 2"),
        (0, 0, "num_parts must be at least 1, got 0"),
    ],
)
def test_wrong_parameters_are_named(rec, num_parts, part_index, message):
    with pytest.raises(ValueError, match=message):
        ImageRecordIter(rec, SHAPE, 4, num_parts=num_parts, part_index=part_index)


def test_a_part_without_records_is_an_error(rec, launch):
    launch(TORCHRUN, 0, 14)
    with pytest.raises(ValueError, match="13 records cannot be shared by num_parts=14"):
        ImageRecordIter(rec, SHAPE, 4, num_parts="auto")


def test_a_script_that_srun_did_not_start_is_warned_of(launch, monkeypatch, caplog):
    launch(SLURM, 0, 8)
    find_shard()
    assert "a script that srun did not start is one process" in caplog.text
    caplog.clear()
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    find_shard()
    assert not caplog.messages


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("shuffle", [False, True])
def test_parts_have_equal_batches_and_share_the_epoch(rec, launch, size, shuffle):
    shares = []
    for rank in range(size):
        launch(SLURM, rank, size)
        with ImageRecordIter(rec, SHAPE, 2, num_parts="auto", shuffle=shuffle) as it:
            shares.append(share(it))
    check(shares, 13, 2)


def share(it):
    """Of each batch of an epoch: its size, its padding, and the labels that are no padding."""
    return [
        (len(b.data[0]), b.pad, b.label[0][: len(b.data[0]) - b.pad].astype(int).tolist())
        for b in it
    ]


def check(shares, records, batch_size):
    """Equal numbers of whole batches; every record once; what is too many counted as padding."""
    assert len({len(batches) for batches in shares}) == 1
    every = [batch for batches in shares for batch in batches]
    assert {size for size, _, _ in every} == {batch_size}
    assert sorted(label for _, _, labels in every for label in labels) == list(range(records))
    assert sum(pad for _, pad, _ in every) == len(every) * batch_size - records


# What a process of a real launcher runs: `ready` may set a framework up; one line of JSON is told.
WORKER = """
import json, sys
from gpuio import ImageRecordIter

def tell(**extra):
    with ImageRecordIter({rec!r}, (3, 16, 16), 2, num_parts="auto", shuffle=True) as it:
        batches = [
            (len(b.data[0]), b.pad, b.label[0][: len(b.data[0]) - b.pad].astype(int).tolist())
            for b in it
        ]
    part = [it.part.index, it.part.count, it.part.source]
    path = {folder!r} + "/" + "-".join(map(str, part)).replace(" ", "")
    with open(path, "w") as file:
        json.dump(dict(part=part, batches=batches, **extra), file)
"""


@pytest.fixture
def worker(tmp_path, rec):
    """A script that begins as WORKER, and what its processes told, by who said what they are."""
    script, folder = tmp_path / "worker.py", tmp_path / "told"
    folder.mkdir()

    def write(body):
        script.write_text(WORKER.format(rec=str(rec), folder=str(folder)) + body)
        return str(script)

    def told(source):
        found = [json.loads(path.read_text()) for path in folder.iterdir()]
        mine = sorted((t for t in found if t["part"][2] == source), key=lambda t: t["part"])
        assert [t["part"][:2] for t in mine] == [[0, 2], [1, 2]]
        check([t["batches"] for t in mine], 13, 2)
        return mine

    return SimpleNamespace(write=write, told=told)


def needs(*packages):
    """Skip where one is missing; they are imported in other processes only."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_of_torchrun_before_and_after_init_process_group(worker):
    needs("torch")
    script = worker.write("""
assert "torch" not in sys.modules
tell()
import torch.distributed as dist
tell(again=True)  # imported, not initialised: still the variables
dist.init_process_group("gloo")
tell()
dist.destroy_process_group()
""")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run(sys.executable, *torchrun, script)
    assert all(told["again"] for told in worker.told("RANK, WORLD_SIZE"))
    worker.told("torch.distributed")


@pytest.mark.slow
def test_two_processes_of_jax_whose_backends_stay_asleep(worker):
    needs("jax")
    script = worker.write("""
import jax
from jax._src import xla_bridge
jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[1]))
tell(started=xla_bridge.backends_are_initialized())
jax.distributed.shutdown()
""")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen([sys.executable, script, str(rank), address], env=environment)
        for rank in range(2)
    ]
    assert [process.wait(200) for process in processes] == [0, 0]
    assert not any(told["started"] for told in worker.told("jax.distributed"))


@pytest.mark.slow
def test_two_workers_of_ray_train(worker, tmp_path):
    needs("ray", "pandas", "pyarrow", "pydantic")  # ray[train]
    script = worker.write(f"""
import ray
import ray.train
from gpuio.core.shard import find_shard
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

assert find_shard().source == "no launcher found"  # imported, outside of a training function
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
DataParallelTrainer(
    lambda: tell(),
    scaling_config=ray.train.ScalingConfig(num_workers=2),
    run_config=ray.train.RunConfig(storage_path={str(tmp_path)!r}),
).fit()
ray.shutdown()
""")
    run(sys.executable, script)
    worker.told("Ray Train")
