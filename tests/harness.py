"""What tests run on, and what they leave behind: devices and threads."""

from __future__ import annotations

import os
import threading

import pytest

from gpuio.devices import make_device
from gpuio.devices.base import Device
from gpuio.errors import BackendError


def open_device(name: str) -> Device:
    """The named device, or a skip where there is no GPU and GPUIO_REQUIRE_GPU is not set."""
    try:
        return make_device(name, 2)
    except BackendError as reason:
        if "GPUIO_REQUIRE_GPU" in os.environ:
            raise
        pytest.skip(f"no CUDA device: {reason}")


@pytest.fixture(params=["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    """Each device in turn: a test that takes `device` is a CPU test and a GPU test."""
    return open_device(request.param)


def our_threads() -> list[str]:
    """Names of the threads of this library that are alive."""
    return [t.name for t in threading.enumerate() if t.name.startswith("gpuio")]
