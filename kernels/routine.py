"""Functions with machine code of their own, compiled when they are first wanted and kept on disk.

What is kept is an object file and the name of its function. Loading it takes LLVM alone, without
Numba's compiler, which takes half a second to be ready.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

from llvmlite import binding
from numba.core import compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.typing.ctypes_utils import to_ctypes

from gpuio.kernels import code_cache
from gpuio.kernels.native import kernel_flags

_lock = threading.RLock()  # taken before Numba's own
_names: set[str] = set()


def _lock_for_fork():
    """Wait for what another thread compiles: its locks would stay locked in a forked child."""
    _lock.acquire()
    global_compiler_lock.acquire()


def _unlock_after_fork():
    global_compiler_lock.release()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock_for_fork,
        after_in_parent=_unlock_after_fork,
        after_in_child=_unlock_after_fork,
    )


class Routine:
    """A function with machine code of its own, which kernels call by its address.

    It is compiled when its address is first wanted. A kernel that
    called it by name would contain its code, and all kernels that do would compile it again.

    Args:
        body: A function. It neither allocates nor raises, and its code refers to no object of this
            process, so that it works in others.
        signature: Numba's types of its result and arguments, 64 bits each.
        key: What tells it from other routines of a function that makes several.
        cached: Whether the code is kept on disk.
        nogil: Whether Python's threads may run while Python calls it.

    Raises:
        ValueError: Another routine has its name and key.
    """

    def __init__(
        self, body: Any, signature: Any, key: str = "", *, cached: bool = True, nogil: bool = True
    ) -> None:
        self.__doc__ = body.__doc__
        self.__name__ = body.__name__
        self._body, self._signature, self._nogil = body, signature, nogil
        module = body.__module__.removeprefix("gpuio.kernels.")
        # No cached properties, whose locks a fork would leave locked.
        self._address: int | None = None
        self._function: Any = None
        self._file: str | None = None
        if cached:
            self._file = f"{module}.{body.__name__}{key and '-' + key}.o"
            if self._file in _names:
                raise ValueError(f"{self._file}: two routines would be kept under this name")
            _names.add(self._file)

    @property
    def address(self) -> int:
        """Address of the compiled function."""
        if self._address is None:
            with _lock:
                if self._address is None:  # no other thread was quicker
                    self._address = self._found()
        return self._address

    def _found(self) -> int:
        """The address of code that is kept, or that is compiled now."""
        kept = None if self._file is None else code_cache.load(self._file)
        if kept is not None:
            return self._load(kept)
        name, library = self._compiled
        address = int(library.get_pointer_to_function(name))
        if self._file is not None:
            _, _, (code, _) = library.serialize_using_object_code()
            code_cache.save(self._file, name.encode() + b"\0" + code)
        return address

    @property
    def is_kept(self) -> bool:
        """Whether the function was compiled before, so that nothing has to be compiled for it."""
        return self._address is not None or (
            self._file is not None and code_cache.load(self._file) is not None
        )

    def compile(self) -> None:
        """Compile the function, or load its code, if that was not done before."""
        assert self.address

    def __call__(self, *args: int) -> int:
        """Run the function in the calling thread; what it returns, 0 if that is nothing."""
        if self._function is None:
            self._function = self._made_function()
        return self._function(*args) or 0

    def _made_function(self) -> Any:
        make = ctypes.CFUNCTYPE if self._nogil else ctypes.PYFUNCTYPE
        kinds = [to_ctypes(kind) for kind in self._signature.args]
        return make(to_ctypes(self._signature.return_type), *kinds)(self.address)

    @cached_property
    def _compiled(self) -> tuple[str, Any]:
        """The name of the function, and Numba's library of its code."""
        signature, flags = self._signature, kernel_flags(True)
        contexts = cpu_target.typing_context, cpu_target.target_context
        types_ = signature.args, signature.return_type
        with global_compiler_lock, _no_garbage_collection():
            made = compiler.compile_extra(*contexts, self._body, *types_, flags, {})
            # All code goes into what C calls, which then knows that nothing is ever raised.
            made.library.get_function(made.fndesc.llvm_func_name).linkage = "internal"
            made.library.finalize()
        return made.fndesc.llvm_cfunc_wrapper_name, made.library

    def _load(self, kept: bytes) -> int:
        name, _, code = kept.partition(b"\0")
        # An engine of its own: names of different processes might be the same.
        machine = _target().create_target_machine(jit=True)  # the engine's own
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        return int(self._engine.get_function_address(name.decode()))


@cache
def _target() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Without garbage collection, as it takes a tenth of the time of compiling."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
