"""Errors for a missing package that say which extra of gpuio installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gpuio.errors import MissingPackageError

EXTRAS: Final = {
    "PIL": ("Pillow", "cpu"),
    "aiohttp": ("aiohttp", "remote"),
    "cupy": ("CuPy", "cuda13"),
    "fsspec": ("fsspec", "remote"),
    "jax": ("JAX", "jax"),
    "ml_dtypes": ("ml_dtypes", "cpu"),
    "numba": ("Numba", "cpu"),
    "numba_cuda": ("numba-cuda", "cuda13"),
    "ray": ("Ray", "ray"),
    "s3fs": ("s3fs", "remote"),
    "simplejpeg": ("simplejpeg", "cpu"),
    "torch": ("PyTorch", "torch"),
    "tqdm": ("tqdm", "cpu"),
}
"""By module: the name of its package, and the extra of gpuio that installs it."""


@contextmanager
def explained(purpose: str) -> Iterator[None]:
    """Turn a failed import in the `with` block into an error that says what to install.

    Args:
        purpose: What needs the import, for messages.

    Raises:
        MissingPackageError: A package that one of gpuio's extras installs is missing.
    """
    try:
        yield
    except MissingPackageError:
        raise
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        package, extra = EXTRAS[module]
        raise MissingPackageError(
            f"{purpose} needs {package}, which is not installed: pip install 'gpuio[{extra}]'",
            name=module,
        ) from None
