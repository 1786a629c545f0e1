"""One damaged input, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from pathlib import Path

# What a case may come to. All but the first two are faults of gpuio.
OK = "ok"
ERROR = "named error"
EXCEPTION = "exception"
NAMELESS = "no file named"
WRONG = "wrong values"
LEAK = "leak"
CRASH = "crash"
HANG = "hang"
GOOD = (OK, ERROR)
VERDICTS = (OK, ERROR, EXCEPTION, NAMELESS, WRONG, LEAK, CRASH, HANG)


@dataclass(frozen=True)
class Case:
    """What a door is given.

    Attributes:
        door: Its name.
        seed: That this was made from.
        parts: What is damaged, each on its own: an image, a frame, a whole file.
        clean: What each was before.
        choices: All else that was drawn: options, policies.
    """

    door: str
    seed: int
    parts: tuple[bytes, ...]
    clean: tuple[bytes, ...]
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def damaged(self) -> frozenset[int]:
        """Numbers of the parts that are not what they were."""
        return frozenset(
            k for k, (a, b) in enumerate(zip(self.parts, self.clean, strict=True)) if a != b
        )

    def with_part(self, number: int, part: bytes) -> Case:
        """The same, but for one part."""
        return replace(self, parts=(*self.parts[:number], part, *self.parts[number + 1 :]))


@dataclass(frozen=True)
class Verdict:
    """What a case came to.

    Attributes:
        kind: One of `VERDICTS`.
        text: Why, with the place in the code for an exception.
    """

    kind: str
    text: str = ""

    @property
    def bad(self) -> bool:
        return self.kind not in GOOD


class Wrong(Exception):  # noqa: N818  no fault of the harness
    """What came out is not what is right."""


class Door:
    """A way into gpuio.

    Attributes:
        name: Of the door.
        names_file: Whether an error must name the file.
        documented: Types of errors besides GpuioError and OSError that its docstring promises.
    """

    name = ""
    names_file = True
    documented: tuple[type[BaseException], ...] = ()

    def prepare(self, folder: Path) -> None:
        """Do once what takes long: compile kernels, compute the values of undamaged images."""

    def make(self, seed: int, rng: random.Random) -> Case:
        """The case of a seed."""
        raise NotImplementedError

    def run(self, case: Case, folder: Path) -> None:
        """Take a case through the door.

        Args:
            case: Made by `make`, or a part of one.
            folder: An empty one, for files.

        Raises:
            Wrong: What came out is not right.
            Exception: Whatever gpuio raises.
        """
        raise NotImplementedError
