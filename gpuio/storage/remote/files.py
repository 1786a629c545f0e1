"""Which files there are at URLs, how large they are, and copies of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from glob import has_magic
from io import FileIO
from typing import Final

from gpuio.errors import RemoteError
from gpuio.storage.location import Location
from gpuio.storage.remote.fetch import Fetcher, result
from gpuio.storage.remote.filesystem import filesystem
from gpuio.storage.remote.remote_bytes import RemoteBytes
from gpuio.storage.remote.retry import summarize

_PIECE: Final = 4 << 20  # bytes


def find(url: Location, suffix: str) -> list[Location]:
    """The files that a URL stands for, sorted by name; one that names a file is not looked up.

    Args:
        url: A file, that ends with `suffix`; a glob pattern; or a folder, for all files in it.
        suffix: Suffix of the files to take from a folder.

    Raises:
        RemoteError: The store cannot be reached, or denies access.
    """
    if url.endswith(suffix) and not has_magic(url):
        return [url]
    fs, path = filesystem(url)
    pattern = path if has_magic(path) else f"{path.rstrip('/')}/*{suffix}"
    try:
        found = sorted(fs.glob(pattern))
        if not found and pattern != path and fs.isfile(path):
            return [url]
    except FileNotFoundError:
        found = []
    except Exception as error:
        reason = "check the URL, the credentials and storage_options="
        raise RemoteError(f"{url}: it cannot be listed: {summarize(error)}; {reason}") from error
    return [url.at(fs.unstrip_protocol(name)) for name in found]


def sizes(urls: Sequence[Location]) -> list[int]:
    """Bytes in each of many files, asked for at once.

    Raises:
        FileNotFoundError: One is missing.
        RemoteError: The store cannot be reached, or denies access.
    """
    fetcher = Fetcher()
    try:
        return [source.size for source in result(fetcher.open(urls))]
    finally:
        fetcher.close()


def download(url: str) -> FileIO:
    """A temporary copy of a whole file, open for reading; it is removed when it is closed.

    Raises:
        FileNotFoundError: There is no such file.
        RemoteError: It cannot be read.
    """
    copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  the caller closes it
    try:
        _copy(url, copy)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


def _copy(url: str, into: FileIO) -> None:
    with RemoteBytes(url) as file:
        for start in range(0, file.size, _PIECE):
            into.write(file.pread(_PIECE, start))
