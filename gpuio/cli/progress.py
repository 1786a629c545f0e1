"""A progress bar on the standard error, where that is a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress_bar(total: int, unit: str, label: str) -> Iterator[Callable[[int], object]]:
    """Call what this gives with the number of steps done since the last call.

    Shows done and total, rate and time left. Nothing is shown without a terminal, or without tqdm.

    Args:
        total: Number of steps.
        unit: What a step is, in one word.
        label: What stands before the bar.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda _: None
        return
    hidden = not sys.stderr.isatty()
    with tqdm(total=total, desc=label, unit=f" {unit}", disable=hidden, dynamic_ncols=True) as bar:
        yield bar.update
