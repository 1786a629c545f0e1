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


def use_default_stream() -> None:
    """Let the consumer's stream be the default one: CuPy does not know its own without CUDA."""
    cuda_array._current = lambda device: SimpleNamespace(ptr=0)


def read(path: str, device: str, look: Any = lambda loader, batch: None, **options: object) -> Any:
    """Read a file of `COUNT` images as one batch and close the loader; what `look` says of it."""
    use_default_stream()
    options = {"decoder": "portable", "contrast": 0.3, "mean_r": 3, **options}
    try:
        with gpuio.ImageRecordIter(Path(path), SHAPE, COUNT, device=device, **options) as loader:
            for batch in loader:
                found = look(loader, batch)
            del batch
    finally:
        loader = None
        gc.collect()
    return found
