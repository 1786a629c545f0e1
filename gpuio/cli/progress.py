"""A progress bar on the standard error, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, unit: str, label: str) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of steps that were done since the last call.

    The bar shows steps done, total, rate and time left. Without a terminal, or without tqdm,
    nothing is shown.

    Args:
        total: Number of steps.
        unit: What a step is, in one word.
        label: Text in front of the bar.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda _: None
        return
    hidden = not sys.stderr.isatty()
    with tqdm(total=total, desc=label, unit=f" {unit}", disable=hidden, dynamic_ncols=True) as bar:
        yield bar.update
