"""Work done by threads, its results in the order of the work."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from gpuio.core.threads import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

_AHEAD: Final = 16  # results per thread that may wait for an earlier one

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, name: str
) -> Generator[Result, None, None]:
    """`work(item)` for each of `items`, done by `threads` threads a little ahead of the caller.

    What `work` raises is raised in its place. Closing the generator drops what has not begun; what
    has goes on, and nobody waits for it, so that an interrupt is heard also while a read hangs.

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
