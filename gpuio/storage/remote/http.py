"""Files on web servers that serve ranges, and on S3 by URLs that carry a signature."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from gpuio.storage.location import Location
from gpuio.storage.remote.remote_file import (
    CONNECTIONS,
    CONTENT_RANGE,
    LONGEST_REQUEST,
    StoredFile,
    check_bounds,
)
from gpuio.storage.remote.retry import ChangedError

_SIGNED_FOR: Final = 3600  # seconds
_SIGN_AFTER: Final = 300  # seconds: temporary credentials may end sooner than the signature
_SILENCE: Final = 30  # seconds without a byte, after which a connection is given up
# Content-Encodings that aiohttp undoes, so that the bytes are no longer those of a range.
_COMPRESSED: Final = {"gzip", "x-gzip", "deflate", "br", "zstd", "compress"}
_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")


class HttpFile(StoredFile):
    """A file on a web server that serves ranges.

    Args:
        url: The URL.
        client: fsspec's filesystem for HTTP, which has the session.
        address: The address to ask, as the filesystem has it.
    """

    def __init__(self, url: Location, client: Any, address: str) -> None:
        import aiohttp

        self.url, self._client = url, client
        self._address = client.encode_url(address)
        limits = aiohttp.ClientTimeout(LONGEST_REQUEST, sock_connect=_SILENCE, sock_read=_SILENCE)
        self._request_options = {"timeout": limits, **client.kwargs}
        self._headers = {"Accept-Encoding": "identity", **self._request_options.pop("headers", {})}

    async def _look(self) -> None:
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
        async with session.get(address, headers=headers, **self._request_options) as answer:
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


class SignedFile(HttpFile):
    """A file on S3, read by URLs that carry a signature.

    Args:
        url: The URL.
        fs: s3fs's filesystem, which signs.
        path: The path in it.
    """

    def __init__(self, url: Location, fs: Any, path: str) -> None:
        from fsspec import filesystem

        super().__init__(url, filesystem("http", encoded=True, get_client=new_session), "")
        self._fs, self._path, self._until = fs, path, 0.0
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            self._request_options["ssl"] = _trust(bundle)

    async def _signed(self) -> Any:
        if time.monotonic() > self._until:
            address = await self._fs._url(self._path, expires=_SIGNED_FOR)
            # aiohttp would look for proxies at every request, and in a thread.
            self._request_options["proxy"] = _proxy(address)
            self._address = self._client.encode_url(address)
            self._until = time.monotonic() + _SIGN_AFTER
        return self._address


def _content_range(answer: Any) -> re.Match[str] | None:
    return CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())


def _size(answer: Any) -> int:
    """Bytes in the file, as the answer to a range tells.

    Raises:
        ChangedError: The answer does not tell.
    """
    found = _content_range(answer)
    if found is None:
        reason = f"HTTP {answer.status} for a range: the server does not serve ranges"
        raise ChangedError(f"{reason}, or does not say how large the file is")
    return int(found[3])


def _check_range(answer: Any, start: int, stop: int) -> None:
    """Raise ChangedError if an answer has not the bytes of a range as they are in the file."""
    if answer.status != 206:
        raise ChangedError(f"HTTP {answer.status} for a range: the server does not serve ranges")
    found = _content_range(answer)
    if found is None:
        raise ChangedError("the answer to a range does not tell which bytes it has")
    check_bounds(found, start, stop)
    encoding = answer.headers.get("Content-Encoding", "")
    if _COMPRESSED & {word.strip().lower() for word in encoding.split(",")}:
        reason = f"the answer is compressed (Content-Encoding: {encoding}), which was not asked for"
        raise ChangedError(f"{reason}; let the server send this file as it is")
    expected, length = stop - start, answer.content_length
    if length is not None and length != expected:
        raise ChangedError(f"the answer has {length} bytes (Content-Length) for {expected}")


async def _body(answer: Any, nbytes: int) -> bytes:
    """The body of an answer; reading stops once it is longer than `nbytes`.

    Raises:
        ChangedError: The body is longer.
    """
    parts, found = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        found += len(part)
        if found > nbytes:
            raise ChangedError(f"more than {nbytes} bytes came for {nbytes}")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _validator(headers: Any) -> str:
    """The version of a file by the headers of an answer; "" if they have none.

    A strong ETag changes with the bytes. A weak one may stay when they change, so the time of the
    last change is part of the version, too.
    """
    etag = headers.get("ETag", "").strip()
    if etag and not etag.startswith("W/"):
        return str(etag)
    return ", ".join(filter(None, (etag, headers.get("Last-Modified", "").strip())))


async def new_session(**options: Any) -> Any:
    """A session of aiohttp that opens up to `CONNECTIONS` connections; the default is 100."""
    import aiohttp

    options.pop("loop", None)
    options.setdefault("connector", aiohttp.TCPConnector(limit=CONNECTIONS))
    return aiohttp.ClientSession(**options)


def _proxy(address: str) -> str | None:
    """The proxy that the environment names for an address; None for none."""
    parts = urlsplit(address)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


@lru_cache
def _trust(bundle: str) -> ssl.SSLContext:
    """A context that trusts a bundle of certificates, as botocore does, and those of the system."""
    return ssl.create_default_context(cafile=bundle)
