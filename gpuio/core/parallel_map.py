"""A parallel `map` whose results keep the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Final, TypeVar

from gpuio.core.threads import WorkerPool

_AHEAD: Final = 16  # results per thread that may wait for an earlier one

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, name: str
) -> Generator[Result, None, None]:
    """`work(item)` for each of `items`, computed by `threads` threads a little ahead of the caller.

    An exception of `work` is raised in the place of its result. Closing the generator drops items
    that have not begun; it does not wait for those that have, so that an interrupt is not delayed
    by a read that hangs.

    Raises:
        BackendError: No thread can be started.
    """
    pool = WorkerPool(threads, name)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == threads * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
