"""How large a cache may become, and where it lies, as users write it: "8GB" or "gpu:20GB"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

_UNITS: Final = {"": 1000, "I": 1024}
_PREFIXES: Final = "KMGT"
_FORM: Final = re.compile(r"(gpu:)?\s*(\d+(?:\.\d+)?)\s*([KMGT])(I?)B", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CacheLimit:
    """The limit of a cache.

    Attributes:
        text: As the user has written it.
        nbytes: The most bytes that it takes.
        on_gpu: Whether it lies in the memory of the GPU that makes the batches, and not in RAM.
    """

    text: str
    nbytes: int
    on_gpu: bool

    @classmethod
    def parse(cls, text: object) -> Self:
        """The limit that a text stands for.

        Raises:
            ValueError: It stands for none.
        """
        found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
        nbytes = 0
        if found:
            power = _PREFIXES.index(found[3].upper()) + 1
            nbytes = int(float(found[2]) * _UNITS[found[4].upper()] ** power)
        if not found or not nbytes:
            raise ValueError(f"cache must be like '8GB' or 'gpu:20GB', got {text!r}")
        return cls(found[0], nbytes, bool(found[1]))

    def __str__(self) -> str:
        return self.text
