"""Starting threads where the system may refuse: a clear error, and pools that work with fewer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from gpuio.core.guard import Guard, entered
from gpuio.errors import BackendError

P = ParamSpec("P")
T = TypeVar("T")


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        BackendError: The system refuses this process another thread.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise cannot_start(thread.name, error) from error


def cannot_start(name: str, error: RuntimeError) -> BackendError:
    """The error for a thread that could not be started, with the reason."""
    return BackendError(
        f"thread {name!r} cannot be started: {error}; this process has {threading.active_count()} "
        "threads of Python: let fewer run at once, or raise the limit of the system (see "
        "'ulimit -u', and the limit of processes of the container), then try again"
    )


class WorkerPool(Executor):
    """A pool of threads, started as they are needed.

    If a thread cannot be started, the others do its work.

    Args:
        threads: Largest number of threads.
        name: Prefix of the names of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, name)
        self._name = name
        self._started = False

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have one of the threads call `work(*args, **kwargs)`.

        Raises:
            BackendError: The pool has no thread, and none can be started; `work` is not called.
            RuntimeError: The pool was shut down.
        """
        future: Future[T] = Future()
        try:
            queued = self._pool.submit(_run, entered.get(), future, work, args, kwargs)
            self._started = True
            queued.add_done_callback(lambda done: done.cancelled() and future.cancel())
        except RuntimeError as error:
            if "schedule" in str(error):  # shut down, or the interpreter ends
                raise
            # The pool has kept what it was given, for its other threads.
            if not self._started:
                future.cancel()
                raise cannot_start(self._name, error) from error
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads; see `concurrent.futures.Executor`."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _run(
    guards: tuple[Guard, ...],
    future: Future[Any],
    work: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    entered.set(guards)
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
