"""Epoch after epoch, and loader after loader: memory stays level, on the device and on the host."""

from __future__ import annotations

from pathlib import Path

import pytest

import gpuio

SETTLED = 0.1  # part of the epochs after which memory is what it will be
DEVICE, HOST = 16 << 20, 64 << 20  # bytes that it may grow by afterwards
LOADERS = 12


def device_bytes(loader):
    """Bytes in use on the device by everybody, and in CuPy's pool."""
    driver = loader._device._driver
    if loader._device.device_id is None:
        held = sum(block.end - block.start for block in driver.memory._blocks)
        return held, held
    import cupy

    with cupy.cuda.Device(driver.device_id):
        free, total = cupy.cuda.runtime.memGetInfo()
        return total - free, cupy.get_default_memory_pool().total_bytes()


def host_bytes():
    """Bytes that this process has in memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is read from /proc, which only Linux has")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(lines["VmRSS"].split()[0])


def make_loader(rec, scale):
    return gpuio.ImageRecordIter(
        rec,
        scale.shape,
        scale.batch_size,
        device=scale.device,
        shuffle=True,
        resize=int(scale.shape[1] * 1.2),
        rand_crop=True,
        rand_mirror=True,
        contrast=0.2 if scale.real else 0,
        dtype="float16",
    )


def level(figure, name, rows):
    """Check (device, pool, host) bytes after each turn."""
    settled = rows[int(SETTLED * len(rows)) :]
    growth = [max(row[k] for row in settled) - settled[0][k] for k in range(3)]
    named = zip(("device", "pool", "host"), zip(*rows, strict=True), growth, strict=True)
    figure(
        name,
        {
            what: {"first": some[0], "last": some[-1], "most": max(some), "growth": grown}
            for what, some, grown in named
        },
    )
    assert growth[0] <= DEVICE, growth
    assert growth[1] <= DEVICE, growth
    assert growth[2] <= HOST, growth


def test_memory_is_level_after_many_epochs(rec, scale, figure):
    rows, images = [], 0
    with make_loader(rec, scale) as loader:
        for _ in range(scale.epochs):
            kept = []
            for batch in loader:
                images += len(batch.data[0]) - batch.pad
                kept = [*kept[-1:], batch.data[0]]  # as a training loop holds on to them
            kept[-1].wait_to_read()
            rows.append((*device_bytes(loader), host_bytes()))
        assert loader.faults.count == 0
    assert images == scale.epochs * scale.images
    level(figure, f"{scale.epochs} epochs of {scale.images} images", rows)


def test_memory_is_level_after_many_loaders(rec, scale, figure):
    rows = []
    count = LOADERS if scale.real else 2
    for _ in range(count):
        with make_loader(rec, scale) as loader:
            for batch in loader:
                batch.data[0].wait_to_read()
            del batch
            held = device_bytes(loader)
        rows.append((*held, host_bytes()))
    level(figure, f"{count} loaders", rows)
