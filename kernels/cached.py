"""Functions that Python calls with arrays, whose code is kept where that of routines is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from gpuio.kernels import code_cache


class _Locator(_CacheLocator):
    """The folder of code_cache.py, whose name says of which sources the code is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator | None:
        folder = code_cache.writable_folder()
        return None if folder is None else cls(folder)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return "array"


class _Impl(CompileResultCacheImpl):
    _locator_classes: list[Any] = [_Locator]  # noqa: RUF012  as in the base class


class _Cache(FunctionCache):
    _impl_class = _Impl


def cached_njit(**options: Any) -> Callable[[Any], Any]:
    """As `numba.njit`, with code that is kept on disk if there is a place for it."""

    def decorate(function: Any) -> Any:
        compiled = njit(**options)(function)
        if code_cache.writable_folder() is not None:
            compiled._cache = _Cache(function)
        return compiled

    return decorate
