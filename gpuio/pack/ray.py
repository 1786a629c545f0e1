"""Pack on a Ray cluster: one task for each shard, which Ray repeats if its machine dies.

Every machine reads the images and writes its shards under the same paths: on a file system that
all machines share, or at URLs. Only lines of the list and results travel through Ray.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gpuio.errors import BackendError
from gpuio.pack.packing import PackOptions, PackReport
from gpuio.pack.shards import (
    complete_shards,
    lock_shards,
    pack_shard,
    remove_unfinished_shards,
    shards,
)
from gpuio.storage.paths import absolute, is_url

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise BackendError("packing on a cluster needs Ray: pip install 'gpuio[ray]'") from error

from collections.abc import Callable, Iterator

from gpuio.formats.image_list import ImageList

Path_ = str | os.PathLike[str]

_RETRIES: Final = 5  # of a shard whose worker died
# Tasks that Ray has at a time, for each task that can run at once: no worker waits for the driver,
# few lists lie in the object store, and an autoscaler sees that more work is waiting.
_AHEAD: Final = 2
_CONNECT_SECONDS: Final = 10
_CANCEL_SECONDS: Final = 30


def pack_on_ray(  # noqa: PLR0913  as the command takes them
    images: ImageList,
    root: Path_,
    prefix: Path_,
    count: int,
    options: PackOptions | None = None,
    *,
    address: str = "auto",
    threads: int = 1,
    progress: Callable[[int], object] = lambda _: None,
    overwrite: bool = False,
) -> PackReport:
    """Pack listed images into `count` shards on a cluster; byte for byte what `pack_shards` writes.

    Args:
        images: The list.
        root: The folder that paths in the list start from, the same on all machines.
        prefix: Path of the shards, the same on all machines.
        count: Number of shards and of tasks.
        options: How images are stored.
        address: Address of the cluster, as `ray.init` takes it. It is ignored if this process is
            already connected to one.
        threads: Threads, and CPUs of the cluster, for each task.
        progress: Called with the number of lines of each finished shard.
        overwrite: As for `pack_list`, for each shard.

    Raises:
        BackendError: There is no cluster, or a shard failed in every retry.
        OSError: A machine cannot read `root`, or this machine does not see what others wrote.
        ValueError: There are fewer images than shards; and as for `pack_list`.
    """
    root, prefix = absolute(os.fspath(root)), absolute(os.fspath(prefix))
    parts = [*shards(images, prefix, count)]
    reports: dict[str, PackReport] = {}
    running: dict[Any, tuple[str, int]] = {}
    with lock_shards(prefix, count):
        with _connected(address):
            task = ray.remote(_pack).options(
                num_cpus=threads, max_retries=_RETRIES, scheduling_strategy="SPREAD"
            )
            try:
                for name, part in parts:
                    while len(running) >= _most_tasks(threads):
                        _collect(running, reports, progress)
                    ref = task.remote(
                        part, root, name, options or PackOptions(), threads, overwrite
                    )
                    running[ref] = name, len(part)
                while running:
                    _collect(running, reports, progress)
            finally:
                _cancel(list(running))
        _check_here(reports)
        if not is_url(prefix):  # that machines left when they died
            remove_unfinished_shards(prefix, count)
        ordered = {name: reports[name] for name, _ in parts}
        return complete_shards(ordered, root, overwrite=overwrite)


def _pack(
    images: ImageList, root: str, prefix: str, options: PackOptions, threads: int, overwrite: bool
) -> PackReport:
    """The task of one shard. The driver holds the lock on the set."""
    if not is_url(root) and not Path(root).is_dir():
        # Without this check every image would be skipped as unreadable.
        raise FileNotFoundError(f"{root}: no such folder on {socket.gethostname()}")
    # A machine that Ray takes for dead may still be writing, so the shard itself is not locked.
    return pack_shard(images, root, prefix, options, threads=threads, overwrite=overwrite)


def _collect(
    running: dict[Any, tuple[str, int]],
    reports: dict[str, PackReport],
    progress: Callable[[int], object],
) -> None:
    """Wait until one shard is finished, and note its result."""
    (ref,), _ = ray.wait(list(running), num_returns=1)
    name, lines = running.pop(ref)
    try:
        reports[name] = ray.get(ref)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        reason = f"{name}.rec was not packed, with {_RETRIES} retries: {error}"
        raise BackendError(reason) from error
    progress(lines)


def _cancel(refs: list[Any]) -> None:
    """Cancel tasks and wait for them, so that they remove their partial files."""
    for ref in refs:
        ray.cancel(ref)
    if refs:
        ray.wait(refs, num_returns=len(refs), timeout=_CANCEL_SECONDS)


def _most_tasks(threads: int) -> int:
    """How many tasks Ray may have at a time."""
    return _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 0)) // threads)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdecimal():
            # Ray itself waits for minutes before it gives up.
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RayError, ValueError) as error:
        raise BackendError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_here(reports: dict[str, PackReport]) -> None:
    """Check that this machine sees the shards that the others wrote."""
    for name, report in reports.items():
        rec = f"{name}.rec"
        if is_url(rec) or not report.packed:
            continue
        found = Path(rec).stat().st_size if Path(rec).exists() else None
        if found != report.nbytes:
            seen = "no file" if found is None else f"{found} bytes"
            raise FileNotFoundError(
                f"{rec}: a machine of the cluster wrote {report.nbytes} bytes there, and here is "
                f"{seen}: pack to a folder that all machines share, or to a URL"
            )
