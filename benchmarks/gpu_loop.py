"""What gpuio's iterator costs a training program on this GPU: the first batch, and each step.

python gpu_loop.py MEASUREMENT SETTINGS     # SETTINGS is JSON
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

BEGIN = time.perf_counter()

from gpu_child import Row, answer  # noqa: E402  the first batch is timed from the beginning on
from gpu_sides import gpu, make_loader  # noqa: E402

WARM = 4  # batches before the clock starts
REST = 0.2  # seconds


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


MEASUREMENTS = {m.__name__: m for m in (first, overlap)}

if __name__ == "__main__":
    answer(MEASUREMENTS)
