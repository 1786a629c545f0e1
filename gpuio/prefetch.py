"""The only Python thread in the library: run an iterator ahead of its consumer."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, Protocol, TypeVar

from gpuio.compiling import while_wanted
from gpuio.errors import PipelineClosedError
from gpuio.meter import Meter

T = TypeVar("T")


class Closable(Protocol):
    """Something whose waiters can be sent home."""

    def close(self) -> None:
        """Make every wait end."""


class Prefetch(Generic[T]):
    """An iterator over `source`, which runs in a thread of its own, up to `depth` items ahead.

    Items keep their order. When `source` raises, the items before the failure come first, then
    the same exception, once. `close` (also when garbage is collected, and at interpreter exit)
    stops `source` at its next item and joins the thread, so every `finally` upstream has run when
    it returns; what was not taken is dropped.

    Args:
        source: Consumed only by the thread; closed by it too, where it has a `close`.
        depth: Items that may wait to be taken, at least 1.
        name: Thread name, as debuggers and profilers show it.
        scope: Makes what the thread enters around its whole life, such as `backend.scope`.
        waits: Closed first on close, so that `source` does not wait on them for ever.
        meter: Says where the time goes; a new one when None.

    Attributes:
        meter: As given.
    """

    def __init__(
        self,
        source: Iterable[T],
        depth: int,
        *,
        name: str,
        scope: Callable[[], AbstractContextManager[None]] = nullcontext,
        waits: Iterable[Closable] = (),
        meter: Meter | None = None,
    ) -> None:
        self.meter = Meter(name) if meter is None else meter
        self._exchange: _Exchange[T] = _Exchange(depth, self.meter)
        self._pid = os.getpid()
        thread = threading.Thread(
            target=_work, args=(source, self._exchange, scope), name=name, daemon=True
        )
        end = _End(self._exchange, tuple(waits), thread)
        self._finalizer = weakref.finalize(self, end)
        self._finalizer.atexit = False  # `_close_all` comes earlier
        _running.add(end)
        thread.start()

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        if os.getpid() != self._pid:
            raise PipelineClosedError(
                "this iterator was made before a fork and its threads stayed with the parent: "
                "make a new one in the child process"
            )
        return self._exchange.take()

    def close(self) -> None:
        """Stop the source and join the thread; again is allowed."""
        if os.getpid() == self._pid:
            self._finalizer()


class _Exchange(Generic[T]):
    """A bounded buffer that both sides can close."""

    def __init__(self, depth: int, meter: Meter) -> None:
        self.meter = meter
        self._before: float | None = meter.awaited.read()  # None once an item was asked for
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._closed = self._ended = False
        self._failure: BaseException | None = None

    def offer(self, item: T) -> bool:
        """Wait for room and leave `item` there; False once closed."""
        with self._changed:
            if not self._has_room():
                with self.meter.blocked:
                    self._changed.wait_for(self._has_room)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def is_open(self) -> bool:
        """Whether items are still wanted."""
        return not self._closed

    def _has_room(self) -> bool:
        return len(self._items) < self._depth or self._closed

    def _has_news(self) -> bool:
        return bool(self._items) or self._ended or self._closed

    def end(self, failure: BaseException | None) -> None:
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def take(self) -> T:
        with self._changed:
            if not self._has_news():
                with self.meter.awaited:
                    self._changed.wait_for(self._has_news)
            if self._before is not None:
                self.meter.first += self.meter.awaited.read() - self._before
                self._before = None
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise StopIteration

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._failure = None
            self._changed.notify_all()


class _End:
    """All it takes to end a thread, without the iterator that it works for."""

    def __init__(
        self, exchange: _Exchange[Any], waits: tuple[Closable, ...], thread: threading.Thread
    ) -> None:
        self._exchange, self._waits, self._thread = exchange, waits, thread

    def __call__(self) -> None:
        self._exchange.close()
        for wait in self._waits:
            wait.close()
        if self._thread is not threading.current_thread():
            self._thread.join()


def _work(
    source: Iterable[T],
    exchange: _Exchange[T],
    scope: Callable[[], AbstractContextManager[None]],
) -> None:
    failure: BaseException | None = None
    items = iter(source)
    try:
        with scope(), while_wanted(exchange.is_open):
            while True:
                try:
                    with exchange.meter.making:
                        item = next(items)
                except StopIteration:
                    break
                if not exchange.offer(item):
                    break
                del item  # the consumer alone decides how long it lives
    except BaseException as error:
        error.add_note(f"raised in thread {threading.current_thread().name!r}")
        failure = error
    finally:
        if isinstance(items, Generator | Prefetch):
            items.close()
        exchange.end(failure)


_running: weakref.WeakSet[_End] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for end in list(_running):
        end()
