"""How an iterator is shared: one thread at a time, in one process, until it is closed."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from gpuio.errors import PipelineClosedError


class SharedLock:
    """A lock that a thread may take again, and that is free in a forked child.

    The thread that held it in the parent does not exist in the child, and would never let go.
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
        return SharedLock, ()  # a copy is held by nobody

    def renew(self) -> None:
        """Take it away from a thread that was left behind in the parent."""
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

    `with guard:` stands around every change of the iterator, waiting for a batch included. So each
    batch goes to exactly one of several threads, and `reset` waits for the batch that another
    thread is about to get. Only `close` does not wait its turn.

    Attributes:
        lock: What threads wait for.
        closed: Whether `close` was called.
    """

    def __init__(self) -> None:
        self.lock = SharedLock()
        self.closed = False
        self._ended = False
        self._pid: int | None = None

    def begin(self) -> None:
        """Say that threads work for the iterator from now on, so that it stays in this process."""
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
        """Whether this is a forked child, and the threads are those of its parent."""
        return self._pid is not None and self._pid != os.getpid()

    def check(self) -> None:
        """Refuse to work for an iterator that is closed, or is that of the parent process.

        Raises:
            PipelineClosedError: The iterator is closed, or that of the parent process.
        """
        self.check_process()
        if self.closed:
            raise PipelineClosedError("this iterator was closed")

    def check_process(self) -> None:
        """Refuse to work for the iterator of the parent process.

        Raises:
            PipelineClosedError: The iterator is that of the parent process.
        """
        if self.left_behind:
            raise left_behind_error()

    def close(self, interrupt: Callable[[], None], end: Callable[[], None]) -> None:
        """Close the iterator, from whichever thread; again is allowed.

        Args:
            interrupt: Wakes whoever waits for a batch; may be called at any time, more than once.
            end: Gives everything back; called once, when no other thread is in the iterator.
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
    """Tells each of several threads once that an epoch is over, where `next` itself begins anew."""

    def __init__(self) -> None:
        self._count = 0
        self._told = threading.local()

    def __reduce__(self) -> tuple[type[Ends], tuple[()]]:
        return Ends, ()

    def take(self) -> bool:
        """Whether this thread was not yet told of an end that another one met."""
        told = getattr(self._told, "count", 0)
        self._told.count = self._count
        return bool(told < self._count)

    def add(self) -> None:
        """Count an end that this thread has met."""
        self._count += 1
        self._told.count = self._count


def interrupt(iterator: Any) -> None:
    """Close an iterator of this package while another thread may be waiting for its batch.

    Iterators of others may not be made for that; they are left as they are.
    """
    if isinstance(getattr(iterator, "_guard", None), Guard):
        iterator.close()
