"""Packing on a Ray cluster: a task for each shard, anywhere, and again if its machine dies.

Every machine reads the images and writes its shards by the same paths: a file system that all of
them share, or URLs. Only lines of the list and reports travel through Ray.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpuio.errors import BackendError
from gpuio.pack.packing import (
    Options,
    Report,
    complete_shards,
    lock_shards,
    pack_shard,
    remove_unfinished_shards,
    shards,
)
from gpuio.storage.location import is_url

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise BackendError("packing on a cluster needs Ray: pip install 'gpuio[ray]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuio.formats.image_list import ImageList

    Path_ = str | os.PathLike[str]

_RETRIES: Final = 5  # of a shard, when what runs it dies
# Tasks handed to Ray, for each that can run at once: none waits for us, and the lists of those that
# wait are few. A cluster that grows with the work sees that there is more.
_AHEAD: Final = 2
_REACHED: Final = 10  # seconds until a cluster answers
_CANCELLED: Final = 30  # seconds for tasks to end that are not needed any more


def pack_on_ray(
    images: ImageList,
    root: Path_,
    prefix: Path_,
    count: int,
    options: Options | None = None,
    *,
    address: str = "auto",
    threads: int = 1,
    progress: Callable[[int], object] = lambda _: None,
    overwrite: bool = False,
) -> Report:
    """Pack listed images into `count` shards on a cluster; byte for byte what `pack_shards` writes.

    Args:
        images: The list.
        root: The folder that paths in the list start from, the same on all machines.
        prefix: Path of the shards, likewise.
        count: Shards, and tasks.
        options: What becomes of each image.
        address: Of the cluster, as `ray.init` takes it; one that this process is connected to
            already is used instead.
        threads: Of each task, which takes as many CPUs of the cluster.
        progress: Called with the number of lines done, whenever a shard is.
        overwrite: As for `pack_list`, for each shard.

    Raises:
        BackendError: There is no cluster, or it failed to pack a shard, also when it tried again.
        OSError: A machine cannot read `root`, or wrote where it is not seen from here.
        ValueError: There are fewer images than shards; and as for `pack_list`.
    """
    root, prefix = _absolute(root), _absolute(prefix)
    parts = shards(images, prefix, count)
    reports: dict[str, Report] = {}
    running: dict[Any, tuple[str, int]] = {}
    with lock_shards(prefix, count):
        with _connected(address):
            task = ray.remote(_pack).options(
                num_cpus=threads, max_retries=_RETRIES, scheduling_strategy="SPREAD"
            )
            try:
                for name, part in parts:
                    while len(running) >= _room(threads):
                        _collect(running, reports, progress)
                    ref = task.remote(part, root, name, options or Options(), threads, overwrite)
                    running[ref] = name, len(part)
                while running:
                    _collect(running, reports, progress)
            finally:
                _cancel(list(running))
        _check_here(reports)
        if not is_url(prefix):  # machines that died have left some
            remove_unfinished_shards(prefix, count)
        ordered = {name: reports[name] for name, _ in shards(images, prefix, count)}
        return complete_shards(ordered, root, overwrite=overwrite)


def _pack(
    images: ImageList, root: str, prefix: str, options: Options, threads: int, overwrite: bool
) -> Report:
    """The task. The lock on the set is with the one who gave it."""
    if not is_url(root) and not Path(root).is_dir():
        # Else each of its images would be left out, as one that cannot be read.
        raise FileNotFoundError(f"{root}: no such folder on {socket.gethostname()}")
    # A machine that is taken for dead may be at work still, so the shard itself is not locked.
    return pack_shard(
        images, root, prefix, options, threads=threads, overwrite=overwrite, lock=False
    )


def _collect(
    running: dict[Any, tuple[str, int]],
    reports: dict[str, Report],
    progress: Callable[[int], object],
) -> None:
    """Wait for one shard."""
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
    """End what is not needed any more, so that it takes its unfinished files with it."""
    for ref in refs:
        ray.cancel(ref)
    if refs:
        ray.wait(refs, num_returns=len(refs), timeout=_CANCELLED)


def _room(threads: int) -> int:
    """How many tasks may be with Ray at a time."""
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
            # Ray itself would wait for minutes.
            socket.create_connection((host.strip("[]"), int(port)), _REACHED).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RayError, ValueError) as error:
        raise BackendError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_here(reports: dict[str, Report]) -> None:
    """Find out whether the shards lie where others can read them."""
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


def _absolute(path: Path_) -> str:
    """The path as other machines need it."""
    path = os.fspath(path)
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100
