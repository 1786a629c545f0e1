"""What gpuio's kernels take on this GPU, beside what copying their bytes would take.

    python gpu_kernels.py kernels SETTINGS     # SETTINGS is JSON

A launch takes the host as long as some kernels take the device. So the launches of one batch are
noted while the iterator makes them, and then repeated many times between two events.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gpu_child import Row, answer
from gpu_marks import Marks
from gpu_sides import encoded, make_loader

from gpuio.testing import write_rec

COPIES = 8

KINDS: dict[str, Row] = {
    "bilinear": {"inter_method": 1},
    "cubic": {"inter_method": 2},
    "area": {"inter_method": 3},
    "Lanczos": {"inter_method": 4},
    "window": {"resize": -1, "rand_crop": False, "random_resized_crop": True},
    "colours": {"inter_method": 1, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
    "rotation": {"inter_method": 1, "max_rotate_angle": 10},
    "crop": {"resize": -1},
}
"""What is done to the images of a batch, besides mirror, mean and std; options of the iterator."""


@dataclass(frozen=True)
class Launch:
    """One launch of a batch: arguments of `Driver.launch`, and the kernel's name."""

    name: str
    args: tuple[Any, ...]


def noted(loader: Any) -> list[Launch]:
    """The launches for the next batch, which must be the last one that the iterator makes."""
    driver, launches = loader._device._driver, []
    launch = driver.launch

    def note(kernel: Any, *rest: Any) -> None:
        if rest[-1] is loader._device._stream:  # not those of a lane, which belong to decoding
            launches.append(Launch(kernel.name, (kernel, *rest)))
        launch(kernel, *rest)

    driver.launch = note
    try:
        loader.next().data[0].wait_to_read()
    finally:
        driver.launch = launch
    return launches


def repeat(device: Any, launches: list[Launch], count: int) -> tuple[float, float]:
    """Seconds of the device, and of the host, for the launches: `count` times without a gap."""
    driver, marks = device._driver, Marks(device)
    stream = launches[0].args[-1]
    with device.scope():
        for launch in launches:  # the first time, the device may still be asleep
            driver.launch(*launch.args)
        begin, start = marks.mark(stream), time.perf_counter()
        for launch in launches * count:
            driver.launch(*launch.args)
        host = time.perf_counter() - start
        return marks.seconds(begin, marks.mark(stream)) / count, host / count


def bandwidth(device: Any, nbytes: int) -> tuple[float, float]:
    """Bytes per second of copies on the device, read and written, and of copies to it."""
    driver, marks = device._driver, Marks(device)
    with device.scope():
        stream = driver.new_stream()
        one, other = (driver.empty((nbytes,), np.uint8) for _ in range(2))
        host = device.empty_host(max(nbytes // 8, 1))
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


def least_bytes(settings: Row, resize: int) -> float:
    """Bytes that an image's kernels must move: the part of it that is cropped, and the output."""
    channels, height, width = settings["shape"]
    scale = min(settings["size"]) / resize if resize > 0 else 1
    return channels * height * width * (scale**2 + 2)


def kernels(settings: Row) -> Iterator[Row]:
    """A row for each kind: microseconds of a batch's kernels, and what part of a copy's rate.

    `launch_us` is what a launch takes the host. Where that is more than the kernel takes, the
    kernel's time is that of the launch.
    """
    count, size = settings["count"], settings["batch_size"]
    copied = uploaded = 0.0
    with tempfile.TemporaryDirectory() as folder:
        images = itertools.islice(itertools.cycle(encoded(settings["rec"], size)), size)
        one = Path(folder) / "batch.rec"
        write_rec(one, [*images])
        for kind in settings["kinds"]:
            options = dict(KINDS[kind])
            resize = options.pop("resize", settings["resize"])
            given = settings | {"rec": str(one), "resize": resize}
            with make_loader(given, shuffle=False, **options) as loader:
                device = loader._device
                if not copied:
                    copied, uploaded = bandwidth(device, settings["copied"])
                launches = noted(loader)
                seconds, host = repeat(device, launches, count)
                each = [
                    (
                        launch.name,
                        repeat(device, [launch], count)[0] if len(launches) > 1 else seconds,
                    )
                    for launch in launches
                ]
            least = int(size * least_bytes(settings, resize))
            yield {
                "kind": kind,
                "kernel_us": round(1e6 * seconds, 1),
                "each_us": {
                    name: round(1e6 * sum(t for n, t in each if n == name), 1) for name, _ in each
                },
                "launches": len(launches),
                "launch_us": round(1e6 * host / len(launches), 2),
                "least_bytes": least,
                "copy_bytes_per_second": round(copied),
                "upload_bytes_per_second": round(uploaded),
                "of_copy_bandwidth": round(least / seconds / copied, 4),
            }


if __name__ == "__main__":
    answer({"kernels": kernels})
