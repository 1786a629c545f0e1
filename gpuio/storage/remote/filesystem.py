"""Files at URLs read by fsspec's filesystems, whatever the URL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final

from gpuio.errors import RemoteError
from gpuio.storage.location import Location
from gpuio.storage.remote.http import new_session
from gpuio.storage.remote.remote_file import (
    CONNECTIONS,
    CONTENT_RANGE,
    LONGEST_REQUEST,
    StoredFile,
    check_bounds,
)
from gpuio.storage.remote.retry import ChangedError

# Fields in what fsspec's filesystems tell of a file that change with its content;
_CONTENTS: Final = (
    "ETag",
    "etag",
    "generation",
    "content_md5",
    "md5Hash",
    "md5Checksum",
    "blob_id",
    "sha",
    "hex",
    "CRC",
)
# those that change when it is written or replaced, of which all count;
_WRITINGS: Final = (
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "modificationTime",
    "modifiedTime",
    "modified",
    "modify",
    "last_write_time",
    "ino",
)
_CREATION: Final = "created"  # and what counts where there is nothing else


def filesystem(url: Location, *, asks_again: bool = True) -> tuple[Any, str]:
    """Fsspec's filesystem for a URL, and the path in it.

    Args:
        url: The URL, which knows the options of the filesystem.
        asks_again: Whether the client may repeat requests by itself, where it can be told not to.

    Raises:
        RemoteError: fsspec, or what it needs for this kind of URL, is not installed.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise RemoteError(f"{url}: URLs need fsspec; install gpuio[remote]") from error
    options = dict(url.storage.options)
    if url.startswith("s3://"):
        # Signatures of version 4 are what all regions take.
        config: dict[str, Any] = {"max_pool_connections": CONNECTIONS, "signature_version": "s3v4"}
        if not asks_again:
            config["retries"] = {"total_max_attempts": 1}
        options["config_kwargs"] = {**config, **options.get("config_kwargs", {})}
    elif url.startswith(("http://", "https://")):
        options.setdefault("get_client", new_session)
    try:
        fs, path = url_to_fs(str(url), **options)
    except (ImportError, ValueError, TypeError) as error:
        hint = "install gpuio[remote], or what this kind of URL needs; check storage_options="
        raise RemoteError(f"{url}: {error}; {hint}") from error
    return fs, path


class FilesystemFile(StoredFile):
    """A file of any filesystem of fsspec.

    Args:
        url: The URL.
        fs: The filesystem.
        path: The path in it.
        executor: Runs the methods of a filesystem that blocks.
    """

    def __init__(self, url: Location, fs: Any, path: str, executor: Executor) -> None:
        self.url, self._fs, self._path, self._executor = url, fs, path, executor
        self._looking = asyncio.Lock()
        self._looks = self._last_good = 0

    async def _look(self) -> None:
        self.size, self.version = await self._status()

    async def _ask(self, start: int, stop: int) -> bytes:
        async with asyncio.timeout(LONGEST_REQUEST):
            data = await self._call("cat_file", self._path, start=start, end=stop)
            await self._look_again()
            return bytes(data)

    async def _look_again(self) -> None:
        """Ask for the status of the file, and refuse it if it is no longer the one that was opened.

        The bytes alone do not tell. Reads that end while a status is asked for share the next
        request for it: so there is one more request at a time, and not one for each read.
        """
        begun = self._looks
        async with self._looking:
            if self._last_good > begun:
                return
            self._looks = number = self._looks + 1
            self._check_same(*await self._status())
            self._last_good = number

    async def _status(self) -> tuple[int, str]:
        """Size and version of the file now."""
        self._fs.invalidate_cache(self._fs._parent(self._path))  # or a listing would answer
        info = await self._call("info", self._path)
        if info.get("type") == "directory":
            raise IsADirectoryError(f"{self.url}: it is a folder")
        if info.get("size") is None:
            raise ChangedError("the store does not say how large it is")
        return int(info["size"]), _version(info)

    async def _call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the filesystem; one that blocks, in a thread of the executor."""
        if self._fs.async_impl:
            return await getattr(self._fs, f"_{method}")(*args, **options)
        work = partial(getattr(self._fs, method), *args, **options)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


class S3File(FilesystemFile):
    """A file on S3, read by s3fs: its answers tell range and version."""

    async def _ask(self, start: int, stop: int) -> bytes:
        bucket, key, version = self._fs.split_path(self._path)
        wanted = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{stop - 1}"}
        if version:
            wanted["VersionId"] = version
        async with asyncio.timeout(LONGEST_REQUEST):
            answer = await self._fs._call_s3("get_object", **wanted)
            try:
                found = CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
                if found is None:
                    raise ChangedError("the answer to a range does not tell which bytes it has")
                self._check_same(int(found[3]), _version(answer))
                check_bounds(found, start, stop)
                data: bytes = await answer["Body"].read()
            finally:
                answer["Body"].close()
        return data


def _version(info: Mapping[str, Any]) -> str:
    """The version of a file by what a filesystem tells of it; "" if it tells nothing of use."""
    for name in _CONTENTS:
        if info.get(name):
            return str(info[name])
    times = [str(info[name]) for name in _WRITINGS if info.get(name)]
    return ", ".join(times) or str(info.get(_CREATION) or "")
