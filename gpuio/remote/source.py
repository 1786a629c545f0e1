"""One file at a URL, and a range of its bytes: over HTTP, or by whatever fsspec has for the URL.

S3 is read over HTTP, too, with URLs signed here: that takes a seventh of the processor time which
a request by botocore takes, and a Python process is busy with a thousand of those a second. Where
signing does not do (a request that a bucket's policy, a proxy or a header makes special), s3fs
reads.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from abc import ABC, abstractmethod
from concurrent.futures import Executor
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from gpuio.errors import RemoteError
from gpuio.location import Location
from gpuio.remote.patience import OPENING_TRIES, ChangedError, ShortReadError, passes, patiently

CONNECTIONS: Final = 256  # and requests in flight: with 20 ms each, 12,800 a second

_SIGNED_FOR: Final = 3600  # seconds
_SIGN_AFTER: Final = 300  # seconds: temporary credentials may end sooner than the signature
_SILENCE: Final = 30  # seconds without a byte, after which a connection is given up
_LONGEST: Final = 300  # seconds that a request may take
_RANGE: Final = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")
# What infos of fsspec's filesystems have that changes with the file, the best first.
_VERSIONS: Final = (
    "ETag",
    "etag",
    "generation",
    "content_md5",
    "md5Hash",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "modificationTime",
    "created",
)
# Of s3fs and botocore: what only they know how to respect.
_PLAIN_CLIENT: Final = {"endpoint_url", "region_name", "aws_access_key_id", "aws_secret_access_key"}
_PLAIN_CONFIG: Final = {"max_pool_connections", "signature_version", "s3", "retries"}


class Source(ABC):
    """A file that is opened for reading.

    Attributes:
        url: Its URL.
        size: Bytes in it.
        version: What changes with it: an etag, or a time; "" where the store has neither.
        copy: What of it lies on disk; None where nothing is kept.
    """

    url: Location
    size: int
    version: str
    copy: Any = None

    async def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`, which is in the file; asked for until they come.

        Raises:
            RemoteError: They cannot be had.
        """

        async def ask() -> bytes:
            data = await self._ask(start, stop)
            if len(data) < stop - start:
                raise ShortReadError(f"the body ended after {len(data)} bytes")
            if len(data) > stop - start:
                raise ChangedError(f"{len(data)} bytes came for {stop - start}")
            return data

        return await patiently(ask, f"{self.url}: bytes {start} to {stop - 1}")

    @abstractmethod
    async def _ask(self, start: int, stop: int) -> bytes:
        """The bytes, by one request."""


async def open_source(url: Location, executor: Executor) -> Source:
    """The file at `url`.

    Args:
        url: With what it takes to open it.
        executor: For filesystems that block.

    Raises:
        FileNotFoundError: There is no such file.
        RemoteError: The store cannot be reached, or does not let us in.
    """
    fs, path = filesystem(url, asks_again=False)
    schemes = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if schemes & {"http", "https"}:
        return await _HttpSource.open(url, fs, path)
    if "s3" in schemes and _is_plain(fs):
        try:
            return await _SignedSource.open(url, fs, path)
        except OSError as error:
            if error.__cause__ is not None and passes(error.__cause__):
                raise
            # s3fs knows better, or says what is wrong.
    return await _FilesystemSource.open(url, fs, path, executor)


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
        self.size, self.version, self._etag = 0, "", ""

    @classmethod
    async def open(cls, url: Location, fs: Any, path: str) -> Source:
        source = cls(url, fs, path)
        await patiently(source._look, url, tries=OPENING_TRIES)
        return source

    async def _look(self) -> None:
        """Find out size and version, with the answer to a range of one byte."""
        status, headers, _ = await self._get(0, 1)
        found = _RANGE.match(headers.get("Content-Range", ""))
        if found is None:
            raise ChangedError(f"HTTP {status} for a range: the server does not serve ranges")
        self.size, self._etag = int(found[1]), _strong(headers)
        self.version = headers.get("ETag", "") or headers.get("Last-Modified", "")

    async def _ask(self, start: int, stop: int) -> bytes:
        status, headers, body = await self._get(start, stop)
        found = _RANGE.match(headers.get("Content-Range", ""))
        etag = _strong(headers)
        if status == 416 or (found and int(found[1]) != self.size) or etag != self._etag:
            raise ChangedError("the file has changed since it was opened")
        if found is None:
            raise ChangedError(f"HTTP {status} for a range: the server does not serve ranges")
        return body

    async def _get(self, start: int, stop: int) -> tuple[int, Any, bytes]:
        session, address = await self._client.set_session(), await self._signed()
        headers = {"Range": f"bytes={start}-{stop - 1}", **self._headers}
        async with session.get(address, headers=headers, **self._given) as answer:
            if answer.status >= 400 and answer.status != 416:
                code = _CODE.search(await answer.content.read(2000))
                answer.reason = code[1].decode() if code else answer.reason
                answer.raise_for_status()
            if answer.status == 200:  # the whole file, which may be large: do not read it
                answer.close()
                return 200, answer.headers, b""
            return answer.status, answer.headers, await answer.read()

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

    @classmethod
    async def open(cls, url: Location, fs: Any, path: str, executor: Executor) -> Source:
        source = cls(url, fs, path, executor)
        await patiently(source._look, url, tries=OPENING_TRIES)
        return source

    async def _look(self) -> None:
        if self._fs.async_impl:
            info = await self._fs._info(self._path)
        else:
            info = await self._elsewhere(self._fs.info, self._path)
        if info.get("type") == "directory":
            raise IsADirectoryError(f"{self.url}: it is a folder")
        if info.get("size") is None:
            raise ChangedError("the store does not say how large it is")
        self.size = int(info["size"])
        self.version = next((str(info[name]) for name in _VERSIONS if info.get(name)), "")

    async def _ask(self, start: int, stop: int) -> bytes:
        async with asyncio.timeout(_LONGEST):
            if self._fs.async_impl:
                return await self._fs._cat_file(self._path, start=start, end=stop)
            return await self._elsewhere(self._fs.cat_file, self._path, start, stop)

    async def _elsewhere(self, work: Any, *args: Any) -> Any:
        """What `work` returns, called by another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)


def _strong(headers: Any) -> str:
    """The etag, if it is of the bytes themselves."""
    etag: str = headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag


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
