"""What happens to a sample that could not be read or decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from gpuio.errors import GpuioError

if TYPE_CHECKING:
    from gpuio.pipeline.read.reader import Samples

OnError = Literal["raise", "skip", "replace", "zero"]
POLICIES: tuple[str, ...] = get_args(OnError)
_KEPT = 100


@dataclass(slots=True)
class FaultLog:
    """How many samples could not be had, and the first of them.

    Attributes:
        count: Since the iterator was made.
        first: At most 100 errors, each with file, key, offset and reason.
    """

    count: int = 0
    first: list[GpuioError] = field(default_factory=list)

    def add(self, errors: list[GpuioError]) -> None:
        """Count `errors` in."""
        self.note(len(errors), errors)

    def note(self, count: int, errors: list[GpuioError]) -> None:
        """Count `count` errors in, of which `errors` are the first."""
        self.count += count
        self.first += errors[: _KEPT - len(self.first)]


def apply_error_policy(samples: Samples, policy: OnError) -> tuple[npt.NDArray[np.int64], int]:
    """Which sample each place of the batch gets, and how many at the end only fill it up.

    Args:
        samples: With their faults.
        policy: "raise" the first fault; "skip": the good samples move up, and the batch is
            filled with repeats of them; "replace": the next good sample of the batch takes the
            place; "zero": the place stays, with an image of zeros.

    Returns:
        (N,) int64 places, -1 for an image of zeros; and the new `pad`.

    Raises:
        GpuioError: A fault, if the policy is "raise" or no sample of the batch is good.
    """
    count = len(samples.ids)
    places = np.arange(count)
    if not samples.faults:
        return places, samples.pad
    if policy == "raise":
        raise samples.faults[min(samples.faults)]
    good = np.ones(count, bool)
    good[list(samples.faults)] = False
    if policy == "zero":
        return np.where(good, places, -1), samples.pad
    sound = np.flatnonzero(good)
    if not len(sound):
        error = samples.faults[min(samples.faults)]
        error.add_note(f"none of the {count} samples of this batch can be had")
        raise error
    if policy == "replace":
        return sound[np.searchsorted(sound, places) % len(sound)], samples.pad
    skipped = int((~good[: count - samples.pad]).sum())
    own = sound[sound < count - samples.pad]
    fill = own if len(own) else sound
    order = np.concatenate([own, np.resize(fill, count - len(own))])
    return order, samples.pad + skipped
