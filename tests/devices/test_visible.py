"""Counting GPUs takes the CUDA driver alone."""

from __future__ import annotations

import gpuio as mx
from gpuio.devices import visible


def test_asking_for_gpus_takes_only_the_driver(monkeypatch):
    class Driver:
        answers = (0, 0, 3)

        def cuInit(self, flags):  # noqa: N802  CUDA's name
            return self.answers[0]

        def cuDeviceGetCount(self, count):  # noqa: N802
            count._obj.value = self.answers[2]
            return self.answers[1]

    def count(driver):
        visible.visible_gpus.cache_clear()
        monkeypatch.setattr(visible.ctypes, "CDLL", driver)
        try:
            return mx.context.num_gpus()
        finally:
            visible.visible_gpus.cache_clear()

    def none(name):
        raise OSError(name)

    assert count(lambda name: Driver()) == 3
    assert count(none) == 0
    monkeypatch.setattr(Driver, "answers", (100, 0, 3))
    assert count(lambda name: Driver()) == 0
