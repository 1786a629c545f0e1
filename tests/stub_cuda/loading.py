"""An epoch of a loader in the stub's child."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpuio
from gpuio.devices import cuda_array

SHAPE = (3, 12, 14)
COUNT = 4
"""Images of a batch, and of the file."""


def read(path: str, device: str, look: Any = lambda loader, batch: None) -> Any:
    """Read a file of `COUNT` images as one batch and close the loader; what `look` says of it.

    The consumer's stream is the legacy default one, as CuPy's own is not known without CUDA.
    """
    cuda_array._current = lambda device: SimpleNamespace(ptr=0)
    options = {"device": device, "decoder": "portable", "contrast": 0.3, "mean_r": 3}
    try:
        with gpuio.ImageRecordIter(Path(path), SHAPE, COUNT, **options) as loader:
            for batch in loader:
                found = look(loader, batch)
            del batch
    finally:
        loader = None
        gc.collect()
    return found
