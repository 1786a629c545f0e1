"""Many ranges of many files in flight at once, which can be ended at any time."""

from __future__ import annotations

import asyncio
import os
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
        self._tasks: set[asyncio.Task[Any]] = set()  # of fsspec's thread alone
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
        if self._closed:
            raise _closed_error()
        return asyncio.run_coroutine_threadsafe(self._run(make), self._loop)

    async def _run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._closed:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await make()
        finally:
            self._tasks.discard(task)

    def interrupt(self) -> None:
        """Have all reads cancelled, and do not wait for that.

        It takes no lock, so the garbage collector may call it in any thread, also within a call.
        The threads for filesystems that block end with the request that they are waiting for.
        """
        was_closed, self._closed = self._closed, True
        if not was_closed and self.usable:
            self._loop.call_soon_threadsafe(self._end)

    def close(self) -> None:
        """Have all reads cancelled, and return when no memory is written to any more."""
        self.interrupt()
        if self.usable:
            # A task that was writing when this was closed is done once the loop runs this one.
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()

    def _end(self) -> None:
        """End tasks and threads, in fsspec's thread."""
        for task in self._tasks:
            task.cancel()
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
        raise _closed_error() from None


def _closed_error() -> PipelineClosedError:
    return PipelineClosedError("no more reads: the pipeline was closed")


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all; when one fails, all have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
