"""The smallest damage that still causes a fault: parts are restored, then bytes of the others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .case import Case


def minimise(case: Case, still_bad: Callable[[Case], bool], seconds: float) -> Case:
    """The smallest case found, in a limited time, for which `still_bad` holds.

    Args:
        case: A bad one.
        still_bad: Runs a case; whether it is as bad.
        seconds: After which no other one is tried.
    """
    search = _Search(case, still_bad, time.monotonic() + seconds)
    search.restore_parts()
    for number in sorted(search.best.damaged):
        search.restore_bytes(number)
        search.cut(number)
    return search.best


class _Search:
    def __init__(self, case: Case, still_bad: Callable[[Case], bool], deadline: float) -> None:
        self.best, self._still_bad, self._deadline = case, still_bad, deadline

    def _try(self, case: Case) -> bool:
        if time.monotonic() > self._deadline or not self._still_bad(case):
            return False
        self.best = case
        return True

    def restore_parts(self) -> None:
        """Restore as many parts as possible: halves first, then each."""
        step = len(self.best.damaged) // 2
        while step:
            damaged = sorted(self.best.damaged)
            for start in range(0, len(damaged), step):
                case = self.best
                for number in damaged[start : start + step]:
                    case = case.with_part(number, case.clean[number])
                if case.damaged:
                    self._try(case)
            step //= 2

    def restore_bytes(self, number: int) -> None:
        """Restore stretches of a part whose length has not changed."""
        clean = self.best.clean[number]
        if len(clean) != len(self.best.parts[number]):
            return
        step = len(clean) // 2
        while step:
            for start in range(0, len(clean), step):
                part = bytearray(self.best.parts[number])
                if part[start : start + step] != clean[start : start + step]:
                    part[start : start + step] = clean[start : start + step]
                    if bytes(part) != clean:
                        self._try(self.best.with_part(number, bytes(part)))
            step //= 2

    def cut(self, number: int) -> None:
        """Drop stretches of a part, large ones first."""
        step = len(self.best.parts[number]) // 2
        while step >= 8 and time.monotonic() < self._deadline:
            start = 0
            while start < len(self.best.parts[number]):
                part = self.best.parts[number]
                if not self._try(self.best.with_part(number, part[:start] + part[start + step :])):
                    start += step
            step //= 2
