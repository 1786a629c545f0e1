"""Whether the JPEG engines of a GPU can be relied on, judged by what they make of batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MOST: Final = 2  # failures in a row before the engines are given up


class EngineHealth:
    """Counts batches with which the engines failed, and gives them up after two in a row.

    Attributes:
        failures: Batches of which the engines decoded nothing, and other codecs did.
        reason: Why the engines are not used any more; "" while they are.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.reason = ""
        self._in_a_row = 0

    def note(self, *, decoded: bool, rescued: bool, words: Sequence[str] = ()) -> bool:
        """Record a batch of which the engines took images.

        Args:
            decoded: Whether they decoded any of these.
            rescued: Whether other codecs then decoded any: where these failed too, the images are
                damaged, and not the engines.
            words: Messages of the library.

        Returns:
            Whether the engines are given up now.
        """
        if decoded:
            self._in_a_row = 0
        elif rescued:
            self.failures += 1
            self._in_a_row += 1
        if self._in_a_row < _MOST or self.reason:
            return False
        said = f": {'; '.join(words)}" if words else ""
        self.reason = f"they failed with {_MOST} batches in a row{said}"
        return True
