"""ImageRecordIter.jax()."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest

from gpuio import ImageRecordIter

jax = pytest.importorskip("jax")

SHAPE = (3, 16, 16)
WORKER = Path(__file__).with_name("jax_worker.py")


@pytest.fixture
def make(rec):
    made = []

    def make_(batch_size=4, **options):
        made.append(ImageRecordIter(rec, SHAPE, batch_size, **options))
        return made[-1]

    yield make_
    for it in made:
        it.close()


def run(processes, devices, *arguments):
    """What each of several processes with several devices of the CPU prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, str(WORKER), str(port), str(processes)]
    running = [
        subprocess.Popen(
            [*command, str(number), *map(str, arguments)],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(processes)
    ]
    texts = []
    for process in running:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, out + err
        texts.append(out)
    return texts


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
def test_batches_are_arrays_over_the_same_memory(make, dtype):
    source = make(dtype=dtype)
    for (images, labels), expected in zip(source.jax(), make(dtype=dtype), strict=True):
        assert images.unsafe_buffer_pointer() == source.getdata()[0].ctypes.data
        assert (images.dtype, labels.dtype) == (dtype, "int32")
        npt.assert_array_equal(images, expected.data[0])
        npt.assert_array_equal(labels, expected.label[0])


def test_memory_that_an_array_refers_to_is_not_used_again(make):
    loader = make(batch_size=13, shuffle=True).jax()
    images, _ = next(iter(loader))
    expected, place = np.array(images), images.unsafe_buffer_pointer()
    for _ in range(6):
        for others, _ in loader:
            assert others.unsafe_buffer_pointer() != place
    npt.assert_array_equal(images, expected)
    del images, others
    gc.collect()
    assert place in {others.unsafe_buffer_pointer() for _ in range(6) for others, _ in loader}


def test_a_computation_that_is_not_waited_for_keeps_its_memory(make):
    @jax.jit
    def slow(images):
        return jax.lax.fori_loop(0, 300, lambda _, x: jax.numpy.cos(x), images).sum()

    loader, other = make(13, shuffle=True).jax(), make(13, shuffle=True)
    for _ in range(3):
        found = [slow(images) for _ in range(5) for images, _ in loader]
        expected = []
        for _ in range(5):
            expected += [slow(np.array(batch.data[0])) for batch in other]
        npt.assert_array_equal(found, expected)


def test_labels_may_be_floats(make):
    _, labels = next(iter(make().jax(label_dtype="float32")))
    assert labels.dtype == np.float32


def test_a_mesh_of_one_device_is_a_mesh(make):
    mesh = jax.make_mesh((1,), ("data",))
    for (images, labels), expected in zip(make().jax(sharding=mesh), make(), strict=True):
        assert images.sharding.mesh == labels.sharding.mesh == mesh
        npt.assert_array_equal(images, expected.data[0])
        npt.assert_array_equal(labels, expected.label[0])


@pytest.mark.slow
def test_a_batch_is_shared_out_over_the_devices_of_a_process(rec):
    (out,) = run(1, 4, rec, 8)
    assert "4 devices, shards of [2]" in out


@pytest.mark.slow
def test_batches_of_several_processes_are_one_array(rec):
    first, second = run(2, 2, rec, 4)
    assert "4 devices, shards of [2]" in first
    assert "4 devices, shards of [2]" in second
    sums = [[line for line in out.splitlines() if "step" in line] for out in (first, second)]
    assert sums[0] == sums[1]
    assert len(sums[0]) == 2


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_out_is_refused(rec):
    message = r"sharding cannot share batches of shape \(6, 3, 16, 16\) out over the 4 devices"
    with pytest.raises(AssertionError, match=message):
        run(1, 4, rec, 6)


def test_bfloat16_keeps_its_values(rec):
    with ImageRecordIter(rec, (3, 16, 16), 4, dtype="bfloat16", device="cpu") as source:
        images, _ = next(iter(source.jax()))
        assert images.dtype == "bfloat16"
        np.testing.assert_array_equal(np.asarray(images), source.getdata()[0])


class Copy:
    """A copy that JAX makes when the test says so, or at once if it is waited for."""

    def __init__(self):
        self.made = self.donated = False

    def is_ready(self):
        if self.donated:
            raise RuntimeError("Array has been deleted.")
        return self.made

    def block_until_ready(self):
        if self.donated:
            raise RuntimeError("Array has been deleted.")
        self.made = True

    @property
    def sharding(self):
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])


class OnDevice:
    """A batch on a GPU."""


@pytest.fixture
def copies(monkeypatch):
    """All that JAX was asked to copy, in order."""
    made = []

    def from_dlpack(array, *, copy):
        assert copy
        made.append(Copy())
        return made[-1]

    monkeypatch.setattr(jax.dlpack, "from_dlpack", from_dlpack)
    return made


def take(loader, batches):
    """Take a batch of a GPU, to which nothing but the loader refers then."""
    batch = OnDevice()
    batches.append(weakref.ref(batch))
    return loader._taken(batch)


def test_a_batch_of_a_gpu_is_kept_until_jax_has_made_its_copy(make, copies):
    loader, batches = make().jax(), []
    assert take(loader, batches) is copies[0]
    take(loader, batches)
    gc.collect()
    assert [batch() is None for batch in batches] == [False, False]
    copies[0].made = True
    take(loader, batches)
    assert [batch() is None for batch in batches] == [True, False, False]


def test_few_batches_wait_for_their_copies(make, copies):
    loader, batches = make().jax(), []
    for _ in range(9):
        take(loader, batches)
    assert [batch() is None for batch in batches] == [True] * 5 + [False] * 4
    assert [copy.made for copy in copies] == [True] * 5 + [False] * 4


def test_close_waits_for_copies_and_keeps_nothing(make, copies):
    loader, batches = make().jax(), []
    for _ in range(3):
        take(loader, batches)
    copies[1].donated = True
    loader.close()
    assert all(batch() is None for batch in batches)
    assert [copy.made for copy in copies] == [True, False, True]


def test_a_batch_whose_copy_was_donated_is_not_thought_to_be_copied(make, copies):
    loader, batches = make().jax(), []
    take(loader, batches)
    copies[0].donated = True
    take(loader, batches)
    assert batches[0]() is not None
