"""Many ranges of many files in flight at once, which can be ended at any time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar

from gpuio.core.threads import WorkerPool, cannot_start
from gpuio.errors import PipelineClosedError, RemoteError
from gpuio.storage.location import Location
from gpuio.storage.remote.cache import cached
from gpuio.storage.remote.opening import open_remote
from gpuio.storage.remote.remote_file import CONNECTIONS, RemoteFile

T = TypeVar("T")

_THREADS: Final = 32  # for filesystems that block


class Fetcher:
    """Reads files at URLs on fsspec's thread, for one reader.

    Raises:
        RemoteError: fsspec is not installed.
        BackendError: fsspec's thread cannot be started.
    """

    def __init__(self) -> None:
        self._loop = _io_loop()
        self._pid = os.getpid()
        self._executor = WorkerPool(_THREADS, "gpuio-remote")
        self._limit = asyncio.Semaphore(CONNECTIONS)
        self._lock = threading.RLock()  # `close` may be called by the garbage collector anywhere
        self._tasks: set[Future[Any]] = set()
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether this process made it: fsspec's thread does not exist in a forked child."""
        return self._pid == os.getpid()

    def open(self, urls: Sequence[Location]) -> Future[list[RemoteFile]]:
        """Open the files at `urls`, all at once."""

        async def one(url: Location) -> RemoteFile:
            async with self._limit:
                file = await open_remote(url, self._executor)
            return cached(file, self._executor)

        return self._start(lambda: _all(one(url) for url in urls))

    def into(self, ranges: Sequence[tuple[RemoteFile, int, memoryview]]) -> Future[list[None]]:
        """Fill memory from ranges of files.

        Args:
            ranges: For each range the file, the offset where it begins, and the memory to fill.
                Nothing is written to any memory once the future is done, failed or cancelled.
        """

        async def one(file: RemoteFile, start: int, memory: memoryview) -> None:
            async with self._limit:
                data = await file.read(start, start + len(memory))
                if not self._closed:
                    memory[:] = data

        return self._start(lambda: _all(one(*wanted) for wanted in ranges))

    def bytes_of(self, file: RemoteFile, start: int, stop: int) -> Future[bytes]:
        """The bytes of one range."""

        async def one() -> bytes:
            async with self._limit:
                return await file.read(start, stop)

        return self._start(one)

    def _start(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        with self._lock:
            if self._closed:
                raise PipelineClosedError("no more reads: the pipeline was closed")
            future = asyncio.run_coroutine_threadsafe(make(), self._loop)
            self._tasks.add(future)
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._tasks.discard(future)

    def close(self) -> None:
        """Cancel all reads, and return when no memory is written to any more.

        The threads for filesystems that block end with the request that they are waiting for.
        """
        with self._lock:
            self._closed, tasks = True, list(self._tasks)
        if not self.usable:
            return
        for task in tasks:
            task.cancel()
        if tasks and asyncio._get_running_loop() is not self._loop:
            # A task that was writing when this was closed is done once the loop runs this one.
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _io_loop() -> asyncio.AbstractEventLoop:
    try:
        from fsspec import asyn
    except ImportError as error:
        raise RemoteError("URLs need fsspec: install gpuio[remote]") from error
    try:
        loop: asyncio.AbstractEventLoop = asyn.get_loop()
    except RuntimeError as error:
        asyn.loop[0] = None  # fsspec would keep the one that no thread runs, and wait for it
        raise cannot_start("fsspecIO", error) from error
    return loop


def result(future: Future[T]) -> T:
    """The result of a future of a fetcher, waited for.

    Raises:
        PipelineClosedError: The fetcher was closed, now or while waiting.
    """
    try:
        return future.result()
    except CancelledError:
        raise PipelineClosedError("no more reads: the pipeline was closed") from None


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all; when one fails, all have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
