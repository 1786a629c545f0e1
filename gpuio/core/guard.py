"""Sharing an iterator: one thread at a time, in one process, until it is closed."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token

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
        if not self.is_mine():
            self._lock = threading.RLock()

    def is_mine(self) -> bool:
        """Whether the calling thread holds it."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]


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
    thread is about to get. Only `close` does not wait. Threads that work for the iterator stay
    outside: who waits for them has the lock.

    Attributes:
        lock: The lock that threads take.
        closed: Whether `close` was called.
    """

    def __init__(self) -> None:
        self.lock = SharedLock()
        self.closed = False
        self._ended = False
        self._pid: int | None = None
        self._entered: list[Token[tuple[Guard, ...]]] = []

    def begin(self) -> None:
        """Note that threads of this process work for the iterator from now on."""
        self._pid = os.getpid()

    def __enter__(self) -> None:
        self.check_caller()
        self.lock.__enter__()
        try:
            self.check()
            self._entered.append(entered.set((*entered.get(), self)))
        except BaseException:
            self.lock.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        entered.reset(self._entered.pop())
        self.lock.__exit__()

    @property
    def left_behind(self) -> bool:
        """Whether this is a forked child of the process whose threads work for the iterator."""
        return self._pid is not None and self._pid != os.getpid()

    def check(self) -> None:
        """Check the caller, and that the iterator is open.

        Raises:
            PipelineClosedError: It was closed, or belongs to the parent process.
            RuntimeError: As `check_caller` says.
        """
        self.check_caller()
        if self.closed:
            raise PipelineClosedError("this iterator was closed")

    def check_caller(self) -> None:
        """Check that the calling thread may wait for the lock.

        Raises:
            PipelineClosedError: The iterator belongs to the parent process.
            RuntimeError: The thread works for the iterator.
        """
        if self.left_behind:
            raise left_behind_error()
        if self in entered.get() and not self.lock.is_mine():
            raise RuntimeError(
                "an iterator was used by a thread that works for it, and would wait for itself: "
                "augmenters, decoders and sources must not call methods of their iterator; raise "
                "an error there, and close the iterator where its batches are taken"
            )

    def close(self, interrupt: Callable[[], None], end: Callable[[], None]) -> None:
        """Close the iterator, from any thread; a second call has no effect.

        Args:
            interrupt: Wakes threads that wait for a batch; may be called at any time and again.
            end: Ends threads and frees memory; called once, when no other thread is inside.

        Raises:
            RuntimeError: A thread that works for the iterator calls it.
        """
        if self.left_behind:
            self.closed = True
            return
        self.check_caller()
        self.closed = True
        interrupt()
        with self.lock:
            ended, self._ended = self._ended, True
            if not ended:
                end()


entered: ContextVar[tuple[Guard, ...]] = ContextVar("gpuio.guards", default=())
"""Guards that this thread has entered, or had been entered where its work was asked for."""


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
