"""Batches in NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.interop.loader import Loader


class NumpyLoader(Loader):
    """`(images, labels)` in NumPy arrays; images on a GPU are copied to the host."""

    def _taken(self, array: Any) -> npt.NDArray[Any]:
        taken: npt.NDArray[Any] = array.asnumpy()
        return taken

    def _brought(self, array: npt.NDArray[Any], images: np.ndarray[Any, Any]) -> npt.NDArray[Any]:
        return array
