"""Where memory is short: what there is none for is named, and what is free goes to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

from gpuio.errors import BackendError


def give_back() -> None:
    """Let the system have memory that is free, of which the C library may keep much for itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:  # glibc
        trim(0)


@contextmanager
def naming_batch(what: str, numbers: npt.NDArray[Any]) -> Iterator[None]:
    """Turn a lack of memory into an error that names the batch.

    Args:
        what: Which numbers these are.
        numbers: (N,) those of the samples.

    Raises:
        BackendError: What was done inside raised a MemoryError.
    """
    try:
        yield
    except MemoryError as error:
        raise BackendError(
            f"no memory for the batch of {len(numbers)} samples with {what} {numbers[0]} to "
            f"{numbers[-1]}: {str(error) or 'an allocation failed'}; a smaller batch_size or fewer "
            "preprocess_threads take less"
        ) from error
