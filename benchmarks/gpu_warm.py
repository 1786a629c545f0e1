"""Compiles gpuio's kernels and imports the frameworks, so that no later clock counts that.

python gpu_warm.py MEASUREMENT SETTINGS     # SETTINGS is JSON
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu_child import Row, answer, collect
from gpu_kernels import KINDS

MODULES = ("torch", "jax", "cupy", "numba.cuda", "nvidia.nvimgcodec")
MAY_MISS = ("nvidia.dali", "torchvision")
SHAPE, IMAGES, BATCH = (3, 8, 8), 4, 2
LIMIT = 200  # seconds


def warm_up(device: str, kinds: list[str], limit: float) -> Row:
    """Everything that takes long only once, if the device opens at all.

    Processes run side by side in two turns, of which the second finds the code that is common to
    all kinds of kernels.

    Args:
        device: Name of the device.
        kinds: Of kernels, some of `KINDS`.
        limit: Seconds for all.
    """
    import gpu_data
    import machine
    from records import save

    begin = time.monotonic()
    failures, seconds = [], {}
    opened = collect("gpu_warm.py", "opened", {"device": device}, min(LIMIT, limit))
    if opened["error"]:
        failures.append(opened["error"].splitlines()[-1])
        return {"opened": False, "took": 0.0, "seconds": seconds, "failures": failures}
    with tempfile.TemporaryDirectory() as folder:
        data = save("warm", gpu_data.load(None, IMAGES), IMAGES, Path(folder))
        settings = {"rec": data.path, "shape": SHAPE, "batch_size": BATCH, "resize": 10}
        settings |= {"threads": machine.cores(), "device": device}
        first, *others = kinds
        turns = [
            [
                ("imports", settings),
                *(("kind", settings | {"device": d, "kind": first}) for d in ("cpu", device)),
            ],
            [("kind", settings | {"kind": kind}) for kind in others],
        ]
        for turn in filter(None, turns):
            left = min(LIMIT, limit) - (time.monotonic() - begin)
            with ThreadPoolExecutor(len(turn)) as pool:
                jobs = [pool.submit(collect, "gpu_warm.py", *job, left) for job in turn]
            for (name, given), job in zip(turn, jobs, strict=True):
                found, what = job.result(), f"{given.get('kind', name)} on {given['device']}"
                if found["error"]:
                    failures.append(f"{what}: {found['error'].splitlines()[-1]}")
                for row in found["rows"]:
                    seconds[row.get("what", what)] = row["seconds"]
                    failures += row["failures"]
    took = round(time.monotonic() - begin, 1)
    return {"opened": True, "took": took, "seconds": seconds, "failures": failures}


def opened(settings: Row) -> Iterator[Row]:
    """Whether there is such a device at all: without one, the rest is not tried."""
    from gpuio.devices import make_device

    make_device(settings["device"], None)
    yield {}


def kind(settings: Row) -> Iterator[Row]:
    """One batch of a kind of kernels, which compiles them."""
    from gpu_sides import make_loader

    begin = time.perf_counter()
    options = {"resize": settings["resize"]} | KINDS[settings["kind"]]
    resize = options.pop("resize")
    with make_loader(settings | {"resize": resize}, **options) as loader:
        loader.next().data[0].wait_to_read()
    yield {"seconds": round(time.perf_counter() - begin, 2), "failures": []}


def imports(settings: Row) -> Iterator[Row]:
    """Whether each framework can be imported: there may be a package of that name that cannot."""
    for name in (*MODULES, *MAY_MISS) if settings["device"] != "simulated" else MODULES[1:2]:
        begin, failures = time.perf_counter(), []
        try:
            importlib.import_module(name)
        except Exception as error:
            if name in MODULES or not isinstance(error, ModuleNotFoundError):
                failures.append(f"import {name}: {type(error).__name__}: {error}")
        seconds = round(time.perf_counter() - begin, 2)
        yield {"what": f"import {name}", "seconds": seconds, "failures": failures}


if __name__ == "__main__":
    answer({"opened": opened, "kind": kind, "imports": imports})
