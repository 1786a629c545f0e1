"""Out of memory: errors name the batch, and free memory is given back to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from gpuio.errors import BackendError


def give_back() -> None:
    """Give free memory that the C library keeps back to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:  # glibc
        trim(0)


@contextmanager
def naming_batch(what: str, numbers: npt.NDArray[np.int64 | np.uint64]) -> Iterator[None]:
    """Turn a lack of memory into an error that names the batch.

    Args:
        what: The kind of `numbers`, for the message: "keys" or "record numbers".
        numbers: (N,) integers, keys or record numbers of the samples in the batch.

    Raises:
        BackendError: The body of the `with` raised a MemoryError.
    """
    try:
        yield
    except MemoryError as error:
        raise BackendError(
            f"no memory for the batch of {len(numbers)} samples with {what} {numbers[0]} to "
            f"{numbers[-1]}: {str(error) or 'an allocation failed'}; a smaller batch_size or fewer "
            "preprocess_threads take less"
        ) from error
