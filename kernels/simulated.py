"""The kernels of kernels/device*.py in Python, on memory of the caller, for tests without a GPU.

`load` gives a namespace of its own: what `numba` compiles elsewhere is plain Python there, and
loads and stores go to the caller's memory, which can check every one of them. Nothing outside of
the namespace is changed, so real kernels, and real CUDA, work beside it. `simulate` runs a kernel
there.

Integers are as wide as Numba makes them, or as NumPy's; where these would overflow, or a kernel
would divide by zero, that is an error.
"""

from __future__ import annotations

import builtins
import struct
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, Protocol

import numpy as np

from gpuio.kernels.simulated_cuda import Place, SimulatedCuda
from gpuio.kernels.steps import FIRST_PIXEL_STEP, PIXEL_STEPS

_PACKAGE = "gpuio.kernels"
_IN_PYTHON = (
    "arithmetic",
    "color",
    "axis_taps",
    "device",
    "device_pixels",
    "device_output",
    "device_taps",
    "device_target",
    "device_resize",
    "device_color",
    "device_canary",
    "device_yuv",
)  # in the order of their imports


class Memory(Protocol):
    """Bytes by address."""

    def load(self, address: int, nbytes: int) -> bytes:
        """The bytes there; an error where none belong to the caller."""

    def store(self, address: int, data: bytes) -> None:
        """Write them; an error where none belong to the caller."""


def load(memory: Memory) -> ModuleType:
    """kernels/device*.py in Python; loads and stores are those of `memory`.

    Its attribute `modules` holds, by name, all modules that are in Python.
    """
    modules: dict[str, Any] = {
        "numba": _plain_numba(),
        f"{_PACKAGE}.native": _native(memory),
    }

    def find(
        name: str, scope: Any = None, local: Any = None, wanted: Any = (), level: int = 0
    ) -> Any:
        return modules.get(name) or builtins.__import__(name, scope, local, wanted, level)

    for name in _IN_PYTHON:
        full = f"{_PACKAGE}.{name}"
        spec = find_spec(full)
        assert spec is not None
        assert spec.origin is not None
        module = ModuleType(full, f"{full}, in Python.")
        module.__file__ = spec.origin
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": find}
        modules[full] = module
        # Dataclasses look their module up by its name.
        code = import_module(full).__spec__.loader.get_code(full)  # type: ignore[union-attr]
        exec(code, module.__dict__)
    device: ModuleType = modules[f"{_PACKAGE}.device"]
    vars(device)["modules"] = modules
    return device


def same_kernel(namespace: ModuleType, kernel: Any) -> Any:
    """A kernel, made anew in a namespace of `load`."""
    module = namespace.modules[kernel.body.__module__]
    if not kernel.key:
        return getattr(module, kernel.name.upper())
    make, key = getattr(module, kernel.name), kernel.key
    if not kernel.kept:
        (kind,) = key
        pixel = PIXEL_STEPS[kind - FIRST_PIXEL_STEP].pixel
        return make(kind, _in_python(pixel, namespace.modules))
    return make(*key)


def _in_python(function: Any, modules: dict[str, Any]) -> Any:
    """A function that uses `modules`, by name, and plain Python in place of compiled functions."""
    scope = dict(function.__globals__)
    for name in function.__code__.co_names:
        value: Any = scope.get(name)
        module = modules.get(getattr(value, "__module__", None) or "")
        if module is not None:
            scope[name] = getattr(module, value.__name__)
        elif hasattr(value, "py_func"):
            scope[name] = _in_python(value.py_func, modules)
    return FunctionType(function.__code__, scope, function.__name__, None, function.__closure__)


def simulate(
    kernel: Any, grid: Sequence[int], args: Sequence[int], *, backwards: bool = False
) -> None:
    """Run a kernel to its end. Not two kernels of a namespace at once.

    Args:
        kernel: A `DeviceKernel` of a namespace that `load` made; its block may be smaller.
        grid: Blocks along x, y and z.
        args: As `kernel.signature` says.
        backwards: Whether of threads that wait for each other the last has its turn first.
    """
    kinds = {"uint64": np.uint64, "int32": np.int32}
    given = [kinds[str(kind)](arg) for kind, arg in zip(kernel.signature.args, args, strict=True)]
    cuda: SimulatedCuda = kernel.body.__globals__["cuda"]

    def run() -> None:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            kernel.body(*given)

    sizes = Place(*grid), Place(*kernel.block)
    if kernel.synchronises:
        cuda.run_together(run, *sizes, backwards=backwards)
    else:
        cuda.run(run, *sizes)


def _plain_numba() -> Any:
    """What the kernels import of `numba`, doing nothing."""

    def njit(*functions: Any, **options: Any) -> Any:
        return functions[0] if functions else lambda function: function

    from numba import types

    return SimpleNamespace(njit=njit, types=types, cuda=SimulatedCuda())


def _native(memory: Memory) -> Any:
    """kernels/native.py in Python."""

    def loader(format_: str, kind: Any) -> Any:
        nbytes = struct.calcsize(format_)
        return lambda at: kind(struct.unpack(format_, memory.load(int(at), nbytes))[0])

    def storer(format_: str, mask: int) -> Any:
        return lambda at, value: memory.store(int(at), struct.pack(format_, int(value) & mask))

    load_long = loader("<q", np.int64)
    store_long = storer("<Q", 2**64 - 1)

    def fetch_add(at: Any, amount: Any) -> Any:
        before = load_long(at)
        store_long(at, before + amount)
        return before

    return SimpleNamespace(
        fetch_add=fetch_add,
        load8=loader("<B", np.uint8),
        load32=loader("<i", np.int32),
        load64=loader("<Q", np.uint64),
        load_float=loader("<f", np.float32),
        store8=storer("<B", 0xFF),
        store16=storer("<H", 0xFFFF),
        store32=storer("<I", 0xFFFFFFFF),
        store_two_words=lambda at, *words: memory.store(
            int(at), struct.pack("<2i", *map(int, words))
        ),
        store_four_words=lambda at, *words: memory.store(
            int(at), struct.pack("<4i", *map(int, words))
        ),
        narrow_float16=lambda value, emulated: emulated,
        narrow_bfloat16=lambda value, emulated: emulated,
        store_float=lambda at, value: memory.store(int(at), np.float32(value).tobytes()),
        mul_rn_double=lambda a, b: a * b,
        mul_rn=lambda a, b: np.float32(a) * np.float32(b),
        bits=lambda value: np.float32(value).view(np.uint32),
        device_function=lambda *signatures, inline=True: lambda function: function,
    )
