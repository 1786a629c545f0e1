"""Encoded images as the read stage hands them on, without the stages around it."""

from __future__ import annotations

import pytest

from gpuio.devices.cpu import CpuDevice
from gpuio.devices.ring import Ring
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Order
from gpuio.sources.registry import open_source
from gpuio.testing import write_rec


class Records:
    """A .rec of some images, and its batches.

    Attributes:
        source: The records.
        device: The CPU.
        ring: What the batches are read into; as many slots as there are batches.
    """

    def __init__(self, path, images, batch_size):
        write_rec(path, images)
        self.source, self.device = open_source(path), CpuDevice(2)
        self.order = Order(len(images), batch_size, last_batch="short")
        self.ring = Ring(self.device.empty_host, self.order.length())

    def batches(self):
        """All of them, read."""
        return list(RecordReader(self.source)(self.order.batches(0), self.ring))


@pytest.fixture
def records(tmp_path):
    """A function from encoded images to `Records`."""
    return lambda images, batch_size=None: Records(
        tmp_path / "a.rec", images, batch_size or len(images)
    )
