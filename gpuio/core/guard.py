"""Sharing an iterator: one thread at a time, in one process, until it is closed."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from gpuio.errors import PipelineClosedError


class SharedLock:
    """A reentrant lock that is free in a forked child.

    The thread that held it in the parent does not exist in the child, so it would never release it.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[SharedLock], tuple[()]]:
        return SharedLock, ()  # a copy is free

    def renew(self) -> None:
        """Free the lock if a thread that stayed in the parent holds it."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock = threading.RLock()


_locks: weakref.WeakSet[SharedLock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


def left_behind_error() -> PipelineClosedError:
    """The error of an iterator whose threads are those of the parent process."""
    return PipelineClosedError(
        "this iterator was made before a fork and its threads stayed with the parent: "
        "make a new one in the child process"
    )


class Guard:
    """Lets one thread at a time into an iterator, while it is open and in its own process.

    `with guard:` is around every change of the iterator, and around waiting for a batch. So each
    batch goes to exactly one of several threads, and `reset` waits for the batch that another
    thread is about to get. Only `close` does not wait.

    Attributes:
        lock: The lock that threads take.
        closed: Whether `close` was called.
    """

    def __init__(self) -> None:
        self.lock = SharedLock()
        self.closed = False
        self._ended = False
        self._pid: int | None = None

    def begin(self) -> None:
        """Note that threads of this process work for the iterator from now on."""
        self._pid = os.getpid()

    def __enter__(self) -> None:
        self.lock.__enter__()
        try:
            self.check()
        except BaseException:
            self.lock.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.lock.__exit__()

    @property
    def left_behind(self) -> bool:
        """Whether this is a forked child of the process whose threads work for the iterator."""
        return self._pid is not None and self._pid != os.getpid()

    def check(self) -> None:
        """Raise PipelineClosedError if the iterator is closed or belongs to the parent process."""
        self.check_process()
        if self.closed:
            raise PipelineClosedError("this iterator was closed")

    def check_process(self) -> None:
        """Raise PipelineClosedError if the iterator belongs to the parent process."""
        if self.left_behind:
            raise left_behind_error()

    def close(self, interrupt: Callable[[], None], end: Callable[[], None]) -> None:
        """Close the iterator, from any thread; a second call has no effect.

        Args:
            interrupt: Wakes threads that wait for a batch; may be called at any time and again.
            end: Ends threads and frees memory; called once, when no other thread is inside.
        """
        self.closed = True
        if self.left_behind:
            return
        interrupt()
        with self.lock:
            ended, self._ended = self._ended, True
            if not ended:
                end()


class Ends:
    """Tells each thread once that an epoch is over, where `next` itself begins the next one."""

    def __init__(self) -> None:
        self._count = 0
        self._told = threading.local()

    def __reduce__(self) -> tuple[type[Ends], tuple[()]]:
        return Ends, ()

    def take(self) -> bool:
        """Whether this thread has still to be told of an end that another thread met."""
        told = getattr(self._told, "count", 0)
        self._told.count = self._count
        return bool(told < self._count)

    def add(self) -> None:
        """Count an end that this thread has met."""
        self._count += 1
        self._told.count = self._count
