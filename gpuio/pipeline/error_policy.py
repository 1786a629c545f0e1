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
    """How many samples could not be read or decoded, and the first errors.

    Attributes:
        count: The number of faults since the iterator was made.
        first: The first errors, at most 100, each with file, key, offset and reason.
    """

    count: int = 0
    first: list[GpuioError] = field(default_factory=list)

    def add(self, errors: list[GpuioError]) -> None:
        """Add `errors`."""
        self.note(len(errors), errors)

    def note(self, count: int, errors: list[GpuioError]) -> None:
        """Add `count` errors, of which `errors` are the first."""
        self.count += count
        self.first += errors[: _KEPT - len(self.first)]


def apply_error_policy(samples: Samples, policy: OnError) -> tuple[npt.NDArray[np.int64], int]:
    """Which sample each place of the batch gets, and how many places at the end only fill it up.

    Args:
        samples: The samples of the batch, with their faults.
        policy: "raise" raises the first fault. "skip" moves the valid samples up, and fills the
            batch with repeats of them. "replace" puts the next valid sample of the batch into the
            place. "zero" leaves the place to an image of zeros.

    Returns:
        (N,) int64 places, -1 for an image of zeros; and the new `pad`.

    Raises:
        GpuioError: There is a fault and the policy is "raise", or no sample is valid and the policy
            needs one.
    """
    count = len(samples.ids)
    places = np.arange(count)
    if not samples.faults:
        return places, samples.pad
    if policy == "raise":
        error = samples.faults[min(samples.faults)]
        error.add_note("on_error='skip' continues without such images")
        raise error
    is_valid = np.ones(count, bool)
    is_valid[list(samples.faults)] = False
    if policy == "zero":
        return np.where(is_valid, places, -1), samples.pad
    valid = np.flatnonzero(is_valid)
    if not len(valid):
        error = samples.faults[min(samples.faults)]
        error.add_note(f"none of the {count} samples of this batch could be read and decoded")
        raise error
    if policy == "replace":
        return valid[np.searchsorted(valid, places) % len(valid)], samples.pad
    skipped = int((~is_valid[: count - samples.pad]).sum())
    own = valid[valid < count - samples.pad]
    fill = own if len(own) else valid
    order = np.concatenate([own, np.resize(fill, count - len(own))])
    return order, samples.pad + skipped
