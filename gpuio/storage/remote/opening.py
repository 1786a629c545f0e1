"""Which client reads the file at a URL.

S3 is read over HTTP, too, with URLs signed here: that takes a seventh of the processor time of a
request by botocore, which keeps a Python process busy at a thousand requests a second. Where a
signed URL is not enough (a bucket's policy, a proxy or a header makes requests special), s3fs is
the client.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, Final

from gpuio.errors import RemoteError
from gpuio.storage.location import Location
from gpuio.storage.remote.filesystem import FilesystemFile, S3File, filesystem
from gpuio.storage.remote.http import HttpFile, SignedFile
from gpuio.storage.remote.remote_file import RemoteFile, changed
from gpuio.storage.remote.retry import ChangedError, is_retryable

# Options that a signed URL respects; of others only s3fs and botocore know what they mean.
_PLAIN_CLIENT: Final = {"endpoint_url", "region_name", "aws_access_key_id", "aws_secret_access_key"}
_PLAIN_CONFIG: Final = {"max_pool_connections", "signature_version", "s3", "retries"}


async def open_remote(url: Location, executor: Executor) -> RemoteFile:
    """Open the file at `url`.

    Args:
        url: The URL, which knows the options of its filesystem.
        executor: Runs the methods of a filesystem that blocks.

    Raises:
        FileNotFoundError: There is no such file.
        RemoteError: The store cannot be reached, denies access, or has another file than when
            this URL was opened before with the same `storage`.
    """
    fs, path = filesystem(url, asks_again=False)
    file = await _open(url, fs, path, executor)
    now = file.size, file.version
    if (before := url.storage.seen.setdefault(str(url), now)) != now:
        raise RemoteError(f"{url}: {changed(before, now)}")
    return file


async def _open(url: Location, fs: Any, path: str, executor: Executor) -> RemoteFile:
    schemes = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if schemes & {"http", "https"}:
        return await HttpFile(url, fs, path).open()
    if "s3" not in schemes:
        return await FilesystemFile(url, fs, path, executor).open()
    if _is_plain(fs):
        try:
            return await SignedFile(url, fs, path).open()
        except OSError as error:
            cause = error.__cause__
            if cause is not None and (is_retryable(cause) or isinstance(cause, ChangedError)):
                raise
            # s3fs succeeds where that is possible, or says what is wrong.
    return await S3File(url, fs, path, executor).open()


def _is_plain(fs: Any) -> bool:
    """Whether a signed URL leads to the same bytes as s3fs with these options."""
    client, config = set(fs.client_kwargs), set(fs.config_kwargs)
    special = fs.req_kw or fs.s3_additional_kwargs or fs.version_aware
    return client <= _PLAIN_CLIENT and config <= _PLAIN_CONFIG and not special
