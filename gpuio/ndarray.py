"""The array that iterators hand out: a NumPy array with the few methods of MXNet's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class NDArray(np.ndarray[Any, np.dtype[Any]]):
    """A NumPy array that also answers `asnumpy()`."""

    def asnumpy(self) -> npt.NDArray[Any]:
        """The same memory as a plain NumPy array."""
        return self.view(np.ndarray)
