"""The CPU as a device, and how devices are named."""

from __future__ import annotations

import os

import numpy as np
import pytest

from gpuio import devices as devices
from gpuio.core.threads import available_cores
from gpuio.devices import make_device
from gpuio.errors import BackendError


def test_threads_are_all_cores_unless_said():
    assert make_device("cpu", None).threads == available_cores() >= 1
    assert make_device("cpu", 3).threads == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_only_cores_that_this_process_may_use_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_memory_has_shape_and_dtype(device):
    assert device.empty((2, 3), np.float16).shape == (2, 3)
    assert device.empty((2, 3), np.float16).dtype == np.float16
    host = device.empty_host(7)
    assert (host.shape, host.dtype) == ((7,), np.uint8)


def test_uploaded_data_is_on_the_device(device):
    host = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert device.upload(host).tolist() == host.tolist()


def test_an_adopted_array_is_the_memory_itself(device):
    memory = device.empty((2, 3), np.float32)
    wrapped = device.wrap(memory, object())
    assert device.address(wrapped) == device.address(memory)
    assert (wrapped.shape, wrapped.dtype) == (memory.shape, memory.dtype)


def test_recorded_events_can_be_waited_for(device):
    with device.scope():
        event = device.record()
        event.wait()
        event.synchronize()


def test_unknown_devices_are_named():
    for name in ("gpu", "", "cpu:1"):
        with pytest.raises(ValueError, match=f"'cpu', 'cuda' or 'cuda:N', got '{name}'"):
            make_device(name, None)


def test_a_device_that_cannot_be_used_is_a_backenderror():
    try:
        make_device("cuda:99", None)
    except BackendError as error:
        assert "cuda:99" in str(error)  # noqa: PT017  with such a device there is no error


def test_the_default_is_a_gpu_where_one_can_be_used(monkeypatch):
    assert devices.default_device() == "cpu"
    monkeypatch.setattr(devices, "visible_gpus", lambda: 1)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name)
    assert devices.default_device() == "cuda"


def test_a_gpu_without_its_libraries_is_reported(monkeypatch):
    monkeypatch.setattr(devices, "visible_gpus", lambda: 1)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=r"pip install 'gpuio\[cuda13\]'"):
        assert devices.default_device() == "cpu"
