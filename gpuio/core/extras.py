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
"""By module: the name of its package, and the extra of gpuio that brings it."""


@contextmanager
def explained(purpose: str) -> Iterator[None]:
    """Around imports: say which package is missing, and how it is installed.

    Args:
        purpose: What needs it, for messages.

    Raises:
        MissingPackageError: A package is missing that an extra brings.
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
