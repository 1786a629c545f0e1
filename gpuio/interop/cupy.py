"""Batches in CuPy arrays."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np
import numpy.typing as npt

from gpuio.interop.loader import Loader


class CupyLoader(Loader):
    """`(images, labels)` in CuPy arrays: images on a GPU as they are, others copied to one."""

    def _taken(self, array: Any) -> Any:
        return cupy.asarray(array) if isinstance(array, np.ndarray) else array

    def _brought(self, array: npt.NDArray[Any], images: Any) -> Any:
        with images.device:
            return cupy.asarray(array)
