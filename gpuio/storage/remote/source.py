"""One file at a URL, and a range of its bytes: over HTTP, or by whatever fsspec has for the URL.

S3 is read over HTTP, too, with URLs signed here: that takes a seventh of the processor time which
a request by botocore takes, and a Python process is busy with a thousand of those a second. Where
signing does not do (a request that a bucket's policy, a proxy or a header makes special), s3fs
reads.

Every answer is compared with what was asked for (status, range, length) and with the file as it was
when it was opened (size and version), as far as the store tells.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from gpuio.errors import RemoteError
from gpuio.storage.location import Location
from gpuio.storage.remote.retry import (
    OPENING_TRIES,
    ChangedError,
    ShortReadError,
    is_retryable,
    with_retries,
)

CONNECTIONS: Final = 256  # and requests in flight: with 20 ms each, 12,800 a second

_SIGNED_FOR: Final = 3600  # seconds
_SIGN_AFTER: Final = 300  # seconds: temporary credentials may end sooner than the signature
_SILENCE: Final = 30  # seconds without a byte, after which a connection is given up
_LONGEST: Final = 300  # seconds that a request may take
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
# Of Content-Encoding, what aiohttp undoes, so that the bytes are none of a range any more.
_COMPRESSED: Final = {"gzip", "x-gzip", "deflate", "br", "zstd", "compress"}
_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")
# What infos of fsspec's filesystems have that changes with the content of a file,
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
# or with its writing or replacement, of which all count,
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
_CREATION: Final = "created"  # or, where there is nothing else, with this.
# Of s3fs and botocore: what only they know how to respect.
_PLAIN_CLIENT: Final = {"endpoint_url", "region_name", "aws_access_key_id", "aws_secret_access_key"}
_PLAIN_CONFIG: Final = {"max_pool_connections", "signature_version", "s3", "retries"}


class Source(ABC):
    """A file that is opened for reading.

    Attributes:
        url: Its URL.
        size: Bytes in it.
        version: What changes with it: an etag, or a time; "" where the store has neither, and the
            size alone tells one file from another.
        copy: What of it lies on disk; None where nothing is kept.
    """

    url: Location
    size: int
    version: str
    copy: Any = None

    async def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`, which is in the file; asked for until they come.

        Raises:
            RemoteError: The bytes could not be read, or the file is not the one that was opened.
        """

        async def ask() -> bytes:
            data = await self._ask(start, stop)
            if len(data) < stop - start:
                raise ShortReadError(f"the body ended after {len(data)} bytes")
            if len(data) > stop - start:
                raise ChangedError(f"{len(data)} bytes came for {stop - start}")
            return data

        return await with_retries(ask, f"{self.url}: bytes {start} to {stop - 1}")

    @abstractmethod
    async def _ask(self, start: int, stop: int) -> bytes:
        """The bytes, by one request, of the file that was opened.

        Raises:
            ChangedError: It is another file now, or another range came.
        """

    def _check_same(self, size: int, version: str) -> None:
        """Find out whether a file of this size and version is the one that was opened."""
        if (size, version) != (self.size, self.version):
            raise ChangedError(_changed((self.size, self.version), (size, version)))


async def open_source(url: Location, executor: Executor) -> Source:
    """The file at `url`.

    Args:
        url: With what it takes to open it.
        executor: For filesystems that block.

    Raises:
        FileNotFoundError: There is no such file.
        RemoteError: The store cannot be reached, does not let us in, or has another file than when
            this URL was opened before with the same `storage`.
    """
    fs, path = filesystem(url, asks_again=False)
    source = await _open(url, fs, path, executor)
    now = source.size, source.version
    if (before := url.storage.seen.setdefault(str(url), now)) != now:
        raise RemoteError(f"{url}: {_changed(before, now)}")
    return source


async def _open(url: Location, fs: Any, path: str, executor: Executor) -> Source:
    schemes = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if schemes & {"http", "https"}:
        return await _HttpSource.open(url, fs, path)
    if "s3" not in schemes:
        return await _FilesystemSource.open(url, fs, path, executor)
    if _is_plain(fs):
        try:
            return await _SignedSource.open(url, fs, path)
        except OSError as error:
            cause = error.__cause__
            if cause is not None and (is_retryable(cause) or isinstance(cause, ChangedError)):
                raise
            # s3fs knows better, or says what is wrong.
    return await _S3Source.open(url, fs, path, executor)


def filesystem(url: Location, *, asks_again: bool = True) -> tuple[Any, str]:
    """Fsspec's filesystem for a URL, and the path in it.

    Args:
        url: With what it takes to open it.
        asks_again: Whether the client may repeat requests by itself, where that can be told.

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
        options.setdefault("get_client", _client)
    try:
        fs, path = url_to_fs(str(url), **options)
    except (ImportError, ValueError, TypeError) as error:
        hint = "install gpuio[remote], or what this kind of URL needs; check storage_options="
        raise RemoteError(f"{url}: {error}; {hint}") from error
    return fs, path


class _HttpSource(Source):
    """A file on a web server that serves ranges."""

    def __init__(self, url: Location, client: Any, address: str) -> None:
        import aiohttp

        self.url, self._client = url, client
        self._address = client.encode_url(address)
        limits = aiohttp.ClientTimeout(_LONGEST, sock_connect=_SILENCE, sock_read=_SILENCE)
        self._given = {"timeout": limits, **client.kwargs}  # of every request
        self._headers = {"Accept-Encoding": "identity", **self._given.pop("headers", {})}
        self.size, self.version = 0, ""

    @classmethod
    async def open(cls, url: Location, fs: Any, path: str) -> Source:
        source = cls(url, fs, path)
        await with_retries(source._look, url, tries=OPENING_TRIES)
        return source

    async def _look(self) -> None:
        """Find out size and version, with the answer to a range of one byte."""
        async with self._get(0, 1) as answer:
            size = _size(answer)
            if answer.status != 416 or size:  # 416 is right for an empty file
                _check_range(answer, 0, 1)
            self.size, self.version = size, _validator(answer.headers)

    async def _ask(self, start: int, stop: int) -> bytes:
        async with self._get(start, stop) as answer:
            if answer.status != 200:
                self._check_same(_size(answer), _validator(answer.headers))
            _check_range(answer, start, stop)
            return await _body(answer, stop - start)

    @asynccontextmanager
    async def _get(self, start: int, stop: int) -> AsyncIterator[Any]:
        """The answer to a request for a range, whose body is not read yet."""
        session, address = await self._client.set_session(), await self._signed()
        headers = {"Range": f"bytes={start}-{stop - 1}", **self._headers}
        async with session.get(address, headers=headers, **self._given) as answer:
            if answer.status >= 400 and answer.status != 416:
                code = _CODE.search(await answer.content.read(2000))
                answer.reason = code[1].decode() if code else answer.reason
                answer.raise_for_status()
            try:
                yield answer
            except ChangedError:
                answer.close()  # the rest may be the whole file: do not read it
                raise

    async def _signed(self) -> Any:
        """The address to ask, a yarl.URL."""
        return self._address


class _SignedSource(_HttpSource):
    """A file on S3, by URLs that carry a signature."""

    def __init__(self, url: Location, fs: Any, path: str) -> None:
        from fsspec import filesystem

        super().__init__(url, filesystem("http", encoded=True, get_client=_client), "")
        self._fs, self._path, self._until = fs, path, 0.0
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            self._given["ssl"] = _trust(bundle)

    async def _signed(self) -> Any:
        if time.monotonic() > self._until:
            address = await self._fs._url(self._path, expires=_SIGNED_FOR)
            # aiohttp would look for proxies at every request, and in a thread.
            self._given["proxy"] = _proxy(address)
            self._address = self._client.encode_url(address)
            self._until = time.monotonic() + _SIGN_AFTER
        return self._address


class _FilesystemSource(Source):
    """A file of any filesystem that fsspec has."""

    def __init__(self, url: Location, fs: Any, path: str, executor: Executor) -> None:
        self.url, self._fs, self._path, self._executor = url, fs, path, executor
        self.size, self.version = 0, ""

        self._looking = asyncio.Lock()
        self._looks = self._last_good = 0

    @classmethod
    async def open(cls, url: Location, fs: Any, path: str, executor: Executor) -> Source:
        source = cls(url, fs, path, executor)
        await with_retries(source._look, url, tries=OPENING_TRIES)
        return source

    async def _look(self) -> None:
        self.size, self.version = await self._status()

    async def _ask(self, start: int, stop: int) -> bytes:
        async with asyncio.timeout(_LONGEST):
            data = await self._call("cat_file", self._path, start=start, end=stop)
            await self._look_again()
            return bytes(data)

    async def _look_again(self) -> None:
        """Find out whether the file is still the one that was opened, by a look that begins now.

        What was read says nothing of that itself. Reads that end while a look is under way share
        the next one: so there is one request more at a time, and not one for each read.
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
        """What a method of the filesystem returns; one that blocks is called by another thread."""
        if self._fs.async_impl:
            return await getattr(self._fs, f"_{method}")(*args, **options)
        work = partial(getattr(self._fs, method), *args, **options)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


class _S3Source(_FilesystemSource):
    """A file on S3, read by s3fs, whose answers tell range and version."""

    async def _ask(self, start: int, stop: int) -> bytes:
        bucket, key, version = self._fs.split_path(self._path)
        wanted = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{stop - 1}"}
        if version:
            wanted["VersionId"] = version
        async with asyncio.timeout(_LONGEST):
            answer = await self._fs._call_s3("get_object", **wanted)
            try:
                found = _RANGE.fullmatch(answer.get("ContentRange", ""))
                if found is None:
                    raise ChangedError("the answer to a range does not tell which bytes it has")
                self._check_same(int(found[3]), _version(answer))
                _check_bounds(found, start, stop)
                data: bytes = await answer["Body"].read()
            finally:
                answer["Body"].close()
        return data


def _changed(before: tuple[int, str], now: tuple[int, str]) -> str:
    """The message for a file of another size and version than it had."""
    then, later = (f"{size} bytes, {version or 'no version'}" for size, version in (before, now))
    hint = "open it anew, and give a file that changes another name"
    return f"the file has changed since it was opened: it was {then}, and is {later}; {hint}"


def _size(answer: Any) -> int:
    """Bytes in the file, by the answer to a range.

    Raises:
        ChangedError: The server does not say.
    """
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if found is None:
        reason = f"HTTP {answer.status} for a range: the server does not serve ranges"
        raise ChangedError(f"{reason}, or does not say how large the file is")
    return int(found[3])


def _check_range(answer: Any, start: int, stop: int) -> None:
    """Find out whether an answer has the bytes that were asked for, as they are.

    Raises:
        ChangedError: It has not.
    """
    if answer.status != 206:
        raise ChangedError(f"HTTP {answer.status} for a range: the server does not serve ranges")
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if found is None:
        raise ChangedError("the answer to a range does not tell which bytes it has")
    _check_bounds(found, start, stop)
    encoding = answer.headers.get("Content-Encoding", "")
    if _COMPRESSED & {word.strip().lower() for word in encoding.split(",")}:
        reason = f"the answer is compressed (Content-Encoding: {encoding}), which was not asked for"
        raise ChangedError(f"{reason}; let the server send this file as it is")
    expected, told = stop - start, answer.content_length
    if told is not None and told != expected:
        raise ChangedError(f"the answer has {told} bytes (Content-Length) for {expected}")


def _check_bounds(found: re.Match[str], start: int, stop: int) -> None:
    if found[1] is None or (int(found[1]), int(found[2])) != (start, stop - 1):
        reason = f"asked for bytes {start} to {stop - 1}, the server says it sent {found[0]!r}"
        raise ChangedError(f"{reason}; see what lies between (a proxy, a cache) and the file")


async def _body(answer: Any, nbytes: int) -> bytes:
    """The body of an answer, which is not read on once it is too long."""
    parts, found = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        found += len(part)
        if found > nbytes:
            raise ChangedError(f"more than {nbytes} bytes came for {nbytes}")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _validator(headers: Any) -> str:
    """What changes with a file on a web server, as far as that tells; "" if it does not.

    A strong ETag is of the bytes themselves. A weak one may stay as it is when they change, so the
    time counts, too.
    """
    etag = headers.get("ETag", "").strip()
    if etag and not etag.startswith("W/"):
        return str(etag)
    return ", ".join(filter(None, (etag, headers.get("Last-Modified", "").strip())))


def _version(info: Mapping[str, Any]) -> str:
    """What changes with a file, as far as a filesystem of fsspec tells; "" if it does not."""
    for name in _CONTENTS:
        if info.get(name):
            return str(info[name])
    times = [str(info[name]) for name in _WRITINGS if info.get(name)]
    return ", ".join(times) or str(info.get(_CREATION) or "")


def _is_plain(fs: Any) -> bool:
    """Whether a signed URL gets what s3fs would get."""
    client, config = set(fs.client_kwargs), set(fs.config_kwargs)
    special = fs.req_kw or fs.s3_additional_kwargs or fs.version_aware
    return client <= _PLAIN_CLIENT and config <= _PLAIN_CONFIG and not special


async def _client(**options: Any) -> Any:
    """A session that opens as many connections as we use: 100 would be the most by default."""
    import aiohttp

    options.pop("loop", None)
    options.setdefault("connector", aiohttp.TCPConnector(limit=CONNECTIONS))
    return aiohttp.ClientSession(**options)


def _proxy(address: str) -> str | None:
    """What the environment says to ask instead of a server."""
    parts = urlsplit(address)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


@lru_cache
def _trust(bundle: str) -> ssl.SSLContext:
    """What botocore trusts besides the certificates of the system."""
    return ssl.create_default_context(cafile=bundle)
