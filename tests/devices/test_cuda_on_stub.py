"""The CUDA driver of gpuio and real numba-cuda on a stub of libcuda with two devices.

Kernels are recorded and not run, so this is about calls, devices, order and memory. Functions whose
names begin with an underscore run in a child that has the stub.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import stub_cuda

from gpuio.testing import draw, encode, write_rec

NOTHING = {"device memory": 0, "pinned memory": 0, "streams": 0, "events": 0}


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    path = tmp_path_factory.mktemp("stub") / "some.rec"
    write_rec(path, [encode(draw(20 + k, 24, seed=k), "PNG") for k in range(4)])
    return str(path)


def _look(loader, batch):
    """The table of the last launch of a batch, as the device would read it."""
    from stub_cuda import calls

    from gpuio.kernels.steps import STEP

    (address,) = calls.launches()[-1].args
    data = batch.data[0]
    found = (ctypes.c_uint8 * (STEP.itemsize * len(data))).from_address(address)
    steps = np.ctypeslib.as_array(found).view(STEP)
    return {
        "places": (steps["dst"] - np.uint64(data.data.ptr)).tolist(),
        "apart": data.nbytes // len(data),
        "sizes": [steps["rows"].tolist(), steps["cols"].tolist()],
        "stream": loader._device._driver.handle(loader._device._stream),
        "number": data.device_id,
    }


def _epoch(path, device):
    from stub_cuda import calls, loading

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = loading.read(path, device, _look)
    threads = [each.name for each in threading.enumerate()[1:]]
    launches = [
        {**vars(each), "name": "color" if "device_color" in each.name else "window"}
        for each in calls.launches()
    ]
    return {**found, "alive": calls.alive(), "threads": threads, "launches": launches}


@pytest.fixture(scope="module", params=[0, 1])
def epoch(request, rec):
    """An epoch of one batch, with contrast, on a device; its number there."""
    return {**stub_cuda.run(_epoch, rec, f"cuda:{request.param}"), "wanted": request.param}


def test_every_kernel_is_launched_on_the_device_and_its_stream(epoch):
    launches = epoch["launches"]
    assert [each["name"] for each in launches] == ["window", "color", "color", "window"]
    assert {each["device"] for each in launches} == {epoch["wanted"]} == {epoch["number"]}
    assert {each["stream"] for each in launches} == {epoch["stream"]}


def test_grids_cover_the_batch(epoch):
    found = [(each["grid"], each["block"]) for each in epoch["launches"]]
    window, color = ([1, 3, 4], [32, 4, 1]), ([1, 1, 4], [256, 1, 1])
    assert found == [window, color, color, window]


def test_arguments_are_those_of_the_compiled_kernels(epoch):
    (first,), color, again, (last,) = (each["args"] for each in epoch["launches"])
    assert color[:2] == again[:2]
    assert (color[2], again[2]) == (0, 1)
    assert len({first, *color[:2], last}) == 4  # tables


def test_the_device_finds_the_table_of_the_batch(epoch):
    assert epoch["places"] == [k * epoch["apart"] for k in range(4)]
    assert epoch["sizes"] == [[12] * 4, [14] * 4]


def test_nothing_is_left_when_a_loader_is_closed(epoch):
    assert epoch["alive"] == NOTHING
    assert epoch["threads"] == []


def _scopes():
    from cuda.bindings import driver

    from gpuio.devices import make_device

    devices = [make_device(f"cuda:{number}", 1) for number in range(2)]
    seen = []

    def note():
        seen.append(int(driver.cuCtxGetDevice()[1]) if int(driver.cuCtxGetCurrent()[1]) else None)

    for outer, inner in ((0, 1), (1, 0), (1, 1)):
        note()
        with devices[outer].scope():
            note()
            with suppress(KeyError), devices[inner].scope():
                note()
                {}["nothing"]
            note()
            devices[inner].upload(np.zeros(3))
            note()
    note()
    return seen


def test_a_scope_ends_with_what_was_current_before():
    rounds = [[None, 0, 1, 0, 0], [None, 1, 0, 1, 1], [None, 1, 1, 1, 1], [None]]
    assert stub_cuda.run(_scopes) == [device for each in rounds for device in each]


def _current():
    from gpuio.devices import make_device

    names = [make_device("cuda", 1).name]
    with make_device("cuda:1", 1).scope():
        names.append(make_device("cuda", 1).name)
    names.append(make_device("cuda", 1).name)
    return names


def test_cuda_is_the_current_device_of_the_thread():
    assert stub_cuda.run(_current) == ["cuda:0", "cuda:1", "cuda:0"]


def _capability():
    from gpuio.pipeline.decode import hardware

    return hardware._capability(1)


def test_the_compute_capability_is_the_drivers():
    assert stub_cuda.run(_capability) == [9, 0]


def _copies():
    from gpuio.devices.cuda import CudaDriver

    driver = CudaDriver(1)
    stream = driver.new_stream()
    host, memory = driver.empty_host(8), driver.empty((8,), "uint8")
    host[:] = range(8)
    driver.copy(driver.address(memory), host.ctypes.data, 8, stream)
    driver.fill(driver.address(memory) + 4, 7, 2, stream)
    host[:] = 0
    driver.copy(host.ctypes.data, driver.address(memory), 8, stream)
    return host.tolist()


def test_bytes_are_copied_and_filled():
    assert stub_cuda.run(_copies) == [0, 1, 2, 3, 7, 7, 6, 7]


def _refused():
    from gpuio.devices.cuda import CudaDriver
    from gpuio.errors import BackendError

    driver, other = CudaDriver(1), CudaDriver(0)
    stream, memory = driver.new_stream(), driver.empty((8,), "uint8")
    said = []
    for operate in (
        lambda: driver.fill(driver.address(memory), 0, 9, stream),
        lambda: other.record(stream),
        lambda: CudaDriver(2),
    ):
        try:
            operate()
        except BackendError as error:
            said.append(str(error))
    return said


def test_what_cuda_refuses_is_an_error_that_names_device_and_call():
    fill, record, third = stub_cuda.run(_refused)
    assert fill.startswith("device 'cuda:1': cuMemsetD8Async: ")
    assert record.startswith("device 'cuda:0': cuEventRecord: ")
    assert third == "device 'cuda:2': CUDA sees 2 GPUs, from 0 on"


def _memory():
    from stub_cuda import calls

    from gpuio.devices.cuda import CudaDriver

    driver = CudaDriver(0)
    event, host = driver.record(driver.new_stream()), driver.empty_host(5)
    memory, nothing = driver.empty((2, 3), "float32"), driver.empty((0, 3), "float32")
    view, part = driver.wrap(memory, memory)[1:], host[2:]
    del memory, host
    before = calls.alive()
    shapes = [view.shape, part.shape, nothing.shape, driver.empty_host(0).shape]
    del view, part, nothing, event
    gc.collect()
    return {"before": before, "shapes": shapes, "after": calls.alive()}


def test_memory_is_given_back_with_its_last_view():
    found = stub_cuda.run(_memory)
    assert found["shapes"] == [[1, 3], [3], [0, 3], [0]]
    assert found["before"] == {"device memory": 2, "pinned memory": 1, "streams": 0, "events": 1}
    assert found["after"] == NOTHING


def _per_thread():
    from types import SimpleNamespace

    from stub_cuda import calls

    from gpuio.devices.cuda import CudaDriver

    driver = CudaDriver(1)
    driver.record(SimpleNamespace(ptr=0))
    before = calls.calls().count("cuCtxSynchronize")
    driver.record(SimpleNamespace(ptr=2))
    return [before, calls.calls().count("cuCtxSynchronize")]


def test_the_default_stream_of_another_thread_is_waited_for():
    assert stub_cuda.run(_per_thread) == [0, 1]


def _captured(path):
    from stub_cuda import calls, loading

    calls.capture(running=True)
    loading.read(path, "cuda:0")
    return calls.alive()


def test_a_loader_works_while_another_thread_captures_a_graph(rec):
    assert stub_cuda.run(_captured, rec) == NOTHING


def _fork():
    from stub_cuda import calls

    from gpuio.devices import make_device
    from gpuio.errors import BackendError

    device = make_device("cuda:0", 1)
    memory = device.empty((3,), "uint8")
    reading, writing = os.pipe()
    if os.fork() == 0:
        before = len(calls.calls())
        del memory
        freed = len(calls.calls()) - before
        try:
            make_device("cuda:0", 1)
        except BackendError as error:
            os.write(writing, f"{freed} {error}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        return answer.read()


def test_a_forked_process_is_told_to_be_spawned_and_frees_nothing():
    found = stub_cuda.run(_fork)
    assert found.startswith("0 device 'cuda:0': cuInit: ")
    assert "start it with multiprocessing.get_context('spawn')" in found


def _cached(path, folder, cache):
    from stub_cuda import calls, loading

    from gpuio.pipeline.cache import opening

    opening._SHARED_MEMORY = Path(folder)

    def again(loader, batch):
        loader.reset()
        loader.next()
        return loader.stats()["cache"]

    figures = loading.read(path, "cuda:1", again, cache=cache)
    return [figures["hits"], figures["entries"], calls.alive(), [*Path(folder).iterdir()]]


@pytest.mark.parametrize("cache", ["gpu:1MB", "1MB"])
def test_nothing_is_left_of_a_cache(rec, tmp_path, cache):
    assert stub_cuda.run(_cached, rec, str(tmp_path), cache) == [4, 4, NOTHING, []]


def _two(path):
    from stub_cuda import calls, loading

    names = ["cuda:0", "cuda:1"]
    threads = [threading.Thread(target=loading.read, args=(path, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [sorted(each.device for each in calls.launches()), calls.alive()]


def test_two_loaders_in_two_threads_keep_to_their_devices(rec):
    assert stub_cuda.run(_two, rec) == [[0] * 4 + [1] * 4, NOTHING]


def _later_epochs(path):
    from stub_cuda import calls, loading

    import gpuio

    loading.use_default_stream()
    made = []
    options = {"device": "cuda:1", "decoder": "portable", "contrast": 0.3}
    with gpuio.ImageRecordIter(path, loading.SHAPE, 1, **options) as loader:
        users = loader._device._driver.new_stream()
        for _ in range(12):
            for batch in loader:
                batch.data[0].record_stream(users.ptr)
            del batch
            loader.reset()
            made.append(sum("Alloc" in name for name in calls.calls()))
    return made


def test_later_epochs_allocate_no_memory_but_for_batches_of_output(rec):
    made = stub_cuda.run(_later_epochs, rec)
    # How many batches of output exist at once, six at most, is a matter of time.
    assert 0 < made[0] <= made[-1] <= made[0] + 6


def _damaged(path):
    from stub_cuda import calls, loading

    before = len(calls.calls())
    loading.read(path, "cuda:1", on_error="skip")
    done = calls.calls()[before:]
    return [done.count("cuMemcpyAsync"), calls.alive()]


def test_a_damaged_image_is_replaced_on_the_device(rec, tmp_path):
    images = [encode(draw(20 + k, 24, seed=k), "PNG") for k in range(4)]
    images[2] = images[2][:60]
    write_rec(tmp_path / "some.rec", images)
    sound, _ = stub_cuda.run(_damaged, rec)
    copies, alive = stub_cuda.run(_damaged, str(tmp_path / "some.rec"))
    assert copies > sound
    assert alive == NOTHING
