"""What gpuio's iterator costs on this GPU: first batch, kernels, the training beside it.

python gpu_loop.py MEASUREMENT SETTINGS     # SETTINGS is JSON
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

BEGIN = time.perf_counter()

from gpu_child import Row, answer  # noqa: E402  the first batch is timed from the beginning on
from gpu_sides import gpu, make_loader  # noqa: E402

WARM = 4  # batches before the clock starts
COPIES = 8
REST = 0.2  # seconds


class Marks:
    """Points in a stream's work, and the seconds between two of them."""

    def __init__(self, device: Any) -> None:
        self._driver, self._on_gpu = device._driver, device.device_id is not None

    def mark(self, stream: Any) -> Any:
        if not self._on_gpu:  # work is done when it is queued
            return time.perf_counter()
        import cupy

        with cupy.cuda.Device(self._driver.device_id):
            event = cupy.cuda.Event()
            event.record(stream)
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Between two marks; waits for the second one."""
        if not self._on_gpu:
            return end - begin
        import cupy

        end.synchronize()
        return cupy.cuda.get_elapsed_time(begin, end) / 1000


def first(settings: Row) -> Iterator[Row]:
    """Seconds until the first batch is there: from the start, and what they were spent on."""
    import gpuio  # noqa: F401

    imported = time.perf_counter()
    with make_loader(settings) as loader:
        made = time.perf_counter()
        loader.next().data[0].wait_to_read()
        there = time.perf_counter()
        loader.next().data[0].wait_to_read()
        yield {
            "import": round(imported - BEGIN, 3),
            "iterator": round(made - imported, 3),
            "batch": round(there - made, 3),
            "second_batch": round(time.perf_counter() - there, 3),
            "first_batch": round(there - BEGIN, 3),
        }


def bandwidth(device: Any, nbytes: int) -> tuple[float, float]:
    """Bytes per second of copies on the device, read and written, and of copies to it."""
    driver, marks = device._driver, Marks(device)
    with device.scope():
        stream = driver.current_stream()
        one, other = driver.empty_alone(nbytes), driver.empty_alone(nbytes)
        host = device.empty_host(nbytes // 8)
        one_at, other_at = driver.address(one), driver.address(other)

        def timed(to: int, start: int, size: int) -> float:
            driver.copy(to, start, size, stream)
            begin = marks.mark(stream)
            for _ in range(COPIES):
                driver.copy(to, start, size, stream)
            return COPIES * size / marks.seconds(begin, marks.mark(stream))

        driver.fill(one_at, 7, nbytes, stream)
        host[:] = 9
        driver.host_writes(host.ctypes.data)
        return 2 * timed(other_at, one_at, nbytes), timed(one_at, host.ctypes.data, len(host))


def least_bytes(settings: Row) -> float:
    """Bytes that an image's kernels must move: the part of it that is cropped, and the output."""
    channels, height, width = settings["shape"]
    mean_height, mean_width = settings["size"]
    scale = min(mean_height, mean_width) / settings["resize"] if settings["resize"] > 0 else 1
    return channels * height * width * (scale**2 + 2)


def kernels(settings: Row) -> Iterator[Row]:
    """Time of the augmentation's kernels in a batch, beside what copying their bytes would take.

    Events lie around each launch, so the gaps before kernels count as theirs. `launch_us` is what
    a launch costs the host, `waits` how often the host waited for the device, per batch.
    """
    with make_loader(settings) as loader:
        device: Any = loader._device
        driver, marks, count = device._driver, Marks(device), settings["count"]
        # One entry for each launch: a launch that is under way counts whole or not at all.
        launches: dict[str, list[tuple[Any, Any, float]]] = defaultdict(list)
        waits: list[float] = []
        launch, synchronize = driver.launch, driver.synchronize

        def timed(kernel: Any, grid: Any, args: Any, stream: Any) -> None:
            begin, start = marks.mark(stream), time.perf_counter()
            launch(kernel, grid, args, stream)
            host_seconds = time.perf_counter() - start
            launches[kernel.name].append((begin, marks.mark(stream), host_seconds))

        def waited(event: Any) -> None:
            start = time.perf_counter()
            synchronize(event)
            waits.append(time.perf_counter() - start)

        batches = _endless(loader)
        for _ in range(WARM):
            next(batches).data[0].wait_to_read()
        driver.launch, driver.synchronize = timed, waited
        taken = [next(batches).data[0] for _ in range(count)]
        taken[-1].wait_to_read()
        driver.launch, driver.synchronize = launch, synchronize
        made = max(map(len, launches.values()))
        per_kernel = {
            name: sum(marks.seconds(begin, end) for begin, end, _ in some) / made
            for name, some in launches.items()
        }
        total = sum(per_kernel.values())
        copied, uploaded = bandwidth(device, settings["copied"])
    least = settings["batch_size"] * least_bytes(settings)
    host_seconds = [seconds for some in launches.values() for _, _, seconds in some]
    yield {
        "batches": made,
        "batch_us": {name: round(1e6 * t, 1) for name, t in per_kernel.items()},
        "kernel_us": round(1e6 * total, 1),
        "launches": round(len(host_seconds) / made, 2),
        "launch_us": round(1e6 * median(host_seconds), 1),
        "waits": round(len(waits) / made, 2),
        "waited_us": round(1e6 * sum(waits) / made, 1),
        "least_bytes": int(least),
        "copy_bytes_per_second": round(copied),
        "upload_bytes_per_second": round(uploaded),
        "of_copy_bandwidth": round(least / copied / total, 4),
    }


def _endless(batches: Any) -> Iterator[Any]:
    while True:
        yield from batches


def overlap(settings: Row) -> Iterator[Row]:
    """How much longer a training step is with the loader than with images already on the device.

    A step is a sum over the images and matrix products, as many as take 1.5 times what the loader
    alone takes for a batch. Rounds of both take turns.
    """
    import torch

    on_gpu = gpu(settings) is not None
    device, dtype = ("cpu", torch.float32)
    if on_gpu:
        device, dtype = settings["device"], torch.float16
    a, b = (torch.randn((settings["matmul"],) * 2, device=device, dtype=dtype) for _ in "ab")

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize(device)

    with make_loader(settings) as loader:
        batches = _endless(loader.torch())
        images = next(batches)[0]

        def step(pictures: Any, products: int) -> None:
            pictures.sum(dtype=torch.float32)
            for _ in range(products):
                torch.mm(a, b)

        def timed(count: int, products: int, *, loaded: bool) -> float:
            if loaded:  # what was made while nobody asked for it does not count
                for _ in range(WARM):
                    step(next(batches)[0], products)
            else:
                time.sleep(REST)  # the loader has made then what it makes ahead
            wait()
            begin = time.perf_counter()
            for _ in range(count):
                step(next(batches)[0] if loaded else images, products)
            wait()
            return (time.perf_counter() - begin) / count

        alone = timed(settings["count"], 0, loaded=True)
        product = timed(settings["count"], 4, loaded=False) / 4
        products = max(1, round(1.5 * alone / product))
        resident, fed = [], []
        for _ in range(settings["rounds"]):
            resident.append(timed(settings["count"], products, loaded=False))
            fed.append(timed(settings["count"], products, loaded=True))
    ratios = [with_ / without for with_, without in zip(fed, resident, strict=True)]
    yield {
        "batch_ms": round(1000 * alone, 3),
        "products": products,
        "resident_ms": round(1000 * median(resident), 3),
        "loaded_ms": round(1000 * median(fed), 3),
        "longer": round(median(ratios) - 1, 4),
        "rounds": [round(ratio - 1, 4) for ratio in ratios],
    }


MEASUREMENTS = {m.__name__: m for m in (first, kernels, overlap)}

if __name__ == "__main__":
    answer(MEASUREMENTS)
