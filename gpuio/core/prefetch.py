"""Run an iterator ahead of its consumer, in a thread of its own; pools are in `threads.py`."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Generic, Protocol, TypeVar

from gpuio.core.compile_notice import while_wanted
from gpuio.core.guard import Guard, entered, left_behind_error
from gpuio.core.threads import start
from gpuio.core.timing import Meter
from gpuio.errors import BackendError, PipelineClosedError

T = TypeVar("T")

_COLLECT_TIMEOUT: Final = 2.0  # seconds that the garbage collector waits for a thread to end


class Closable(Protocol):
    """Something that threads wait for."""

    def close(self) -> None:
        """Wake every thread that waits."""


class Prefetch(Generic[T]):
    """An iterator over `source`, which runs in a thread of its own, up to `depth` items ahead.

    Items keep their order, and each goes to exactly one of the threads that ask. When `source`
    raises, the items before the failure come first, then the same exception, once. `close` (also
    at interpreter exit) stops `source` at its next item and joins the thread, so every `finally`
    upstream has run when it returns; items that were not taken are dropped, and threads that wait
    or ask for one get a PipelineClosedError. The same happens when the iterator is garbage
    collected, except that the thread gets two seconds to end: it may need a lock that the
    collecting thread holds.

    Args:
        source: Consumed only by the thread; closed by it too, where it has a `close`.
        depth: Items that may wait to be taken, at least 1.
        name: Thread name, as debuggers and profilers show it.
        scope: Makes a context that the thread enters for its whole life, such as `device.scope`.
        waits: Objects that `source` may wait for; `close` closes them first.
        meter: Measures where the time goes; a new one when None.

    Attributes:
        meter: The meter.

    Raises:
        BackendError: The thread cannot be started; `source` is closed then.
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
        thread = threading.Thread(
            target=_work,
            args=(source, self._exchange, scope, entered.get()),
            name=name,
            daemon=True,
        )
        self._end = end = _End(self._exchange, tuple(waits), thread)
        self._finalizer = weakref.finalize(self, end, _COLLECT_TIMEOUT)
        self._finalizer.atexit = False  # `_close_all` comes earlier
        _running[thread] = end
        _threads.add(thread)
        try:
            start(thread)
        except BackendError:
            del _running[thread]
            self._finalizer.detach()
            if isinstance(source, Generator | Prefetch):
                source.close()
            raise

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        self._check_process()
        return self._exchange.take()

    def is_over(self) -> bool:
        """Whether no item and no failure is left; waits until that is known.

        Raises:
            PipelineClosedError: The iterator was closed, before or while this waited.
        """
        self._check_process()
        return self._exchange.is_over()

    def is_spent(self) -> bool:
        """Whether no item and no failure is left, as far as is known without waiting."""
        return self._exchange.is_spent()

    def _check_process(self) -> None:
        if os.getpid() != self._end.pid:
            raise left_behind_error()

    def interrupt(self) -> None:
        """Wake all threads that wait, as `close` does, but do not wait for the producing thread."""
        self._end.interrupt()

    def close(self) -> None:
        """Stop the source and join the thread; a second call has no effect."""
        self._end()
        self._finalizer.detach()


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
        """Wait until an item fits and add `item`; False if the buffer was closed."""
        with self._changed:
            if not self._has_space():
                with self.meter.blocked:
                    self._changed.wait_for(self._has_space)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def is_open(self) -> bool:
        """Whether items are still wanted."""
        return not self._closed

    def _has_space(self) -> bool:
        return len(self._items) < self._depth or self._closed

    def _has_news(self) -> bool:
        return bool(self._items) or self._ended or self._closed

    def end(self, failure: BaseException | None) -> None:
        with self._changed:
            self._ended = True
            if not self._closed:
                self._failure = failure
            self._changed.notify_all()

    def _await_news(self) -> None:
        if not self._has_news():
            with self.meter.awaited:
                self._changed.wait_for(self._has_news)
        if self._closed:
            raise PipelineClosedError("this iterator was closed")

    def is_over(self) -> bool:
        with self._changed:
            self._await_news()
            return self.is_spent()

    def is_spent(self) -> bool:
        with self._changed:
            return self._ended and not self._items and self._failure is None

    def take(self) -> T:
        with self._changed:
            self._await_news()
            if self._before is not None:
                self.meter.first += self.meter.awaited.read() - self._before
                self._before = None
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            failure, self._failure = self._failure, None
        if failure is None:
            raise StopIteration
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, which would keep it alive

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._failure = None
            self._changed.notify_all()


class _End:
    """Ends a thread; holds no reference to the iterator that the thread works for.

    In a forked child, which does not have the thread, it does nothing.

    Attributes:
        pid: The process of the thread.
    """

    def __init__(
        self, exchange: _Exchange[Any], waits: tuple[Closable, ...], thread: threading.Thread
    ) -> None:
        self._exchange, self._waits, self._thread = exchange, waits, thread
        self.pid = os.getpid()

    def interrupt(self) -> None:
        """Wake all threads that wait; the producing thread ends at its next item."""
        if os.getpid() != self.pid:
            return
        self._exchange.close()
        for wait in self._waits:
            wait.close()

    def __call__(self, timeout: float | None = None) -> None:
        """End the thread, and wait until it has ended, for `timeout` seconds at most."""
        self.interrupt()
        if os.getpid() != self.pid or self._thread.ident is None:  # it was never started
            return
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)


def _work(
    source: Iterable[T],
    exchange: _Exchange[T],
    scope: Callable[[], AbstractContextManager[None]],
    guards: tuple[Guard, ...],
) -> None:
    entered.set(guards)
    failure: BaseException | None = None
    items: Iterator[T] = iter(())
    try:
        with scope(), while_wanted(exchange.is_open):
            items = iter(source)
            while True:
                try:
                    with exchange.meter.making:
                        item = next(items)
                except StopIteration:
                    break
                if not exchange.offer(item):
                    break
                del item  # only the consumer decides how long it lives
    except BaseException as error:
        error.add_note(f"raised in thread {threading.current_thread().name!r}")
        failure = error
    finally:
        if isinstance(items, Generator | Prefetch):
            items.close()
        exchange.end(failure)
        del failure  # its traceback holds this frame, which would keep its objects alive
        _running.pop(threading.current_thread(), None)


_running: dict[threading.Thread, _End] = {}
"""The threads that run, and what ends each of them."""
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)


# At exit, functions are called in reverse order, and `weakref` registers its own with the first
# finalizer. That one destroys what our threads use, so it has to come after `_close_all`.
weakref.finalize(Prefetch, bool).detach()


@atexit.register
def _close_all() -> None:
    for end in list(_running.values()):
        end()
    for thread in list(_threads):  # one may be about to return
        if thread.is_alive():
            thread.join()
