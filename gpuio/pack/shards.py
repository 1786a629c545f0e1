"""Packing a list into a set of shards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise

from gpuio.formats.image_list import ImageList
from gpuio.pack.packing import (
    NothingPackedError,
    PackOptions,
    PackReport,
    check_enough,
    check_root,
    check_some,
    count_images,
    pack_list,
)
from gpuio.storage.atomic import committed, remove_unfinished
from gpuio.storage.paths import is_url
from gpuio.storage.shards import shard_name
from gpuio.storage.write_lock import write_lock

Path_ = str | os.PathLike[str]


def pack_shards(
    images: ImageList,
    root: Path_,
    prefix: Path_,
    count: int,
    options: PackOptions | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    overwrite: bool = False,
) -> PackReport:
    """Pack listed images into shards, `prefix`-00000-of-00128.rec and .idx and so on.

    Args:
        images: The list.
        root: The folder that paths in the list start from.
        prefix: Path of the shards, without number and suffix.
        count: Number of shards.
        options: As for `pack_list`.
        threads: As for `pack_list`.
        progress: As for `pack_list`.
        overwrite: As for `pack_list`, for each shard.

    Raises:
        ValueError: There are fewer images than shards; and as for `pack_list`.
    """
    check_root(root)
    reports: dict[str, PackReport] = {}
    parts = shards(images, prefix, count)
    with lock_shards(prefix, count):
        for name, part in parts:
            reports[name] = pack_shard(
                part, root, name, options, threads=threads, progress=progress, overwrite=overwrite
            )
        return complete_shards(reports, root, overwrite=overwrite)


def pack_shard(
    images: ImageList,
    root: Path_,
    prefix: Path_,
    options: PackOptions | None,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    overwrite: bool = False,
) -> PackReport:
    """`pack_list` for one shard of a set that is locked.

    A shard without any image is left to `complete_shards`.
    """
    try:
        return pack_list(
            images,
            root,
            prefix,
            options,
            threads=threads,
            progress=progress,
            overwrite=overwrite,
            lock=False,
        )
    except NothingPackedError as error:
        return error.report


def complete_shards(
    reports: Mapping[str, PackReport], root: Path_, *, overwrite: bool
) -> PackReport:
    """Write the shards that hold no image, so that the set is complete.

    Args:
        reports: The result of each shard, by its prefix, in the order of the shards.
        root: The folder of the images, for messages.
        overwrite: As for `pack_list`.

    Returns:
        The result of the whole set.

    Raises:
        NothingPackedError: No shard has an image.
        FileExistsError: An empty shard would replace one that has images.
    """
    parts = reports.values()
    skipped = [image for part in parts for image in part.skipped]
    report = PackReport(
        sum(p.packed for p in parts),
        sum(p.nbytes for p in parts),
        skipped,
        sum(p.transcoded for p in parts),
        [image for part in parts for image in part.not_transcoded],
    )
    check_some(f"{next(iter(reports))}.rec", root, report)
    for name, part in reports.items():
        if part.skipped and not part.packed:
            rec = f"{name}.rec"
            check_enough(rec, 0 if overwrite else count_images(rec), 0)
            with committed(rec, f"{name}.idx") as files:
                for file in files:
                    file.open().close()
    return report


@contextmanager
def lock_shards(prefix: Path_, count: int) -> Iterator[None]:
    """Hold the lock on a set of shards, after removing what unfinished writers left.

    Sets at URLs have no lock.
    """
    prefix = os.fspath(prefix)
    if is_url(prefix):
        yield
        return
    with write_lock(f"{prefix}-of-{count:05d}") as held:
        if held:
            remove_unfinished_shards(prefix, count)
        yield


def remove_unfinished_shards(prefix: str, count: int) -> None:
    """Remove the partial files that killed processes left of a set of shards on disk."""
    names = (shard_name(prefix, number, count) for number in range(count))
    remove_unfinished(name + suffix for name in names for suffix in (".rec", ".idx"))


def shards(images: ImageList, prefix: Path_, count: int) -> Iterator[tuple[str, ImageList]]:
    """Prefix and lines of each shard: neighbouring lines, in parts that differ by one at most.

    Raises:
        ValueError: There are fewer images than shards.
    """
    if not 1 <= count <= max(1, len(images)):
        raise ValueError(f"{len(images)} images cannot be cut into {count} shards")
    bounds = [number * len(images) // count for number in range(count + 1)]
    return (
        (shard_name(prefix, number, count), images.part(start, stop))
        for number, (start, stop) in enumerate(pairwise(bounds))
    )
