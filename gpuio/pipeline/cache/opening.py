"""From options to the cache of a pipeline."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from gpuio.devices.base import Device
from gpuio.pipeline.cache.device_store import DeviceStore
from gpuio.pipeline.cache.entries import entry_dtype
from gpuio.pipeline.cache.image_cache import ImageCache
from gpuio.pipeline.cache.key import cache_key
from gpuio.pipeline.cache.limit import CacheLimit
from gpuio.pipeline.cache.store import Store
from gpuio.pipeline.decode.base import Decoder, DecoderOptions
from gpuio.pipeline.plan import Plan
from gpuio.storage.location import Storage

_SHARED_MEMORY: Final = Path("/dev/shm")
_SPARE: Final = 0.05  # of the disk of `cache_dir`, that stays free


def make_cache(
    plan: Plan, decoder: Decoder, options: DecoderOptions, label_width: int, storage: Storage
) -> ImageCache | None:
    """The cache that a plan asks for; None if it asks for none.

    Args:
        plan: What is done to every image.
        decoder: Makes the pixels.
        options: What it was told.
        label_width: Labels of a record, as they are read.
        storage: Has the folder for what RAM is too small for.

    Raises:
        ValueError: The device, the system or the records cannot have such a cache.
    """
    limit, source, device = plan.cache, options.source, options.device
    if limit is None:
        return None
    if limit.on_gpu and device.name == "cpu":
        ram = limit.text.partition(":")[2].strip()
        raise ValueError(
            f"cache={limit.text!r} needs a GPU, and device is 'cpu': write cache={ram!r} for RAM"
        )
    if not limit.on_gpu and not hasattr(os, "posix_fallocate"):
        raise ValueError(f"cache={limit.text!r} needs posix_fallocate, which this system lacks")
    if source.versions(np.zeros(1, np.int64)) is None:
        raise ValueError(
            f"cache={limit.text!r} needs records that tell when they change, and `versions` of "
            f"{source} returns None"
        )
    if limit.on_gpu:
        stores: Callable[[np.dtype[np.void]], Sequence[Store]]
        stores = partial(_device_stores, device, len(source), limit)
    else:
        from gpuio.pipeline.cache.shared import check_limit  # which Windows does not have

        check_limit(len(source), entry_dtype(label_width), limit.nbytes)
        key = cache_key(plan, decoder, options, source, label_width)
        stores = partial(_shared_stores, key, len(source), limit, storage)
    direct = limit.on_gpu or device.name == "cpu"
    return ImageCache(
        source,
        label_width,
        plan.shape[0],
        resized=plan.cached_after > 0,
        staging=None if direct else device,
        open_stores=stores,
    )


def _device_stores(
    device: Device, count: int, limit: CacheLimit, entry: np.dtype[np.void]
) -> list[Store]:
    """The store in the memory of a GPU, for entries of a type of `count` records."""
    return [DeviceStore(device, count, entry, limit.nbytes)]


def _shared_stores(
    key: str, count: int, limit: CacheLimit, storage: Storage, entry: np.dtype[np.void]
) -> list[Store]:
    """The store in RAM, and the one on the disk of `cache_dir` if there is one.

    Args:
        key: Names the files.
        count: Number of records.
        limit: Size limit of the file in RAM.
        storage: Has `cache_dir` and `cache_size`.
        entry: The type of an entry.
    """
    from gpuio.pipeline.cache.shared import SharedStore  # which Windows does not have

    memory = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())
    user = os.geteuid()
    stores: list[Store] = []
    stores.append(SharedStore(memory / f"gpuio-{user}", key, count, entry, limit.nbytes))
    if storage.cache_dir:
        root = Path(storage.cache_dir)
        root.mkdir(parents=True, exist_ok=True)
        status = os.statvfs(root)
        size = storage.cache_size or status.f_blocks * status.f_frsize
        folder = root / f"decoded-{user}"
        # Files of different sizes are different ones: a process maps all of its own.
        stores.append(SharedStore(folder, f"{key}-{size}", count, entry, size, spare=_SPARE))
    return stores
