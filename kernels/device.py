"""What a kernel of a CUDA device is, and how it is compiled, cached and launched.

The kernels take STEP tables in device memory, and do together what the CPU's `resample` and
`finish` do. TAPS of `device_taps.py` makes the tables of resizes; `window` of `device_output.py`
and `strips` of `device_resize.py` make the pixels of steps and write them into the batch or into
scratch memory; COLOR of `device_color.py` changes the colours of pictures in scratch memory. For
decoders, `device_canary.py` checks what was written, and `device_yuv.py` makes pixels of planes.

Only devices import this; it needs numba-cuda, but no driver before `compile_device`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import cuda


@dataclass(frozen=True, eq=False)  # each is itself: to find one in a table takes no comparison
class DeviceKernel:
    """A kernel and how it is launched.

    Attributes:
        name: For messages; in capitals the name of the kernel in the module of `body`, unless the
            kernel has a `key`.
        body: What one thread does, a function of a module, so that its code is kept on disk.
        signature: Numba's types of the arguments of `body`.
        block: Threads of a block, along x, y and z.
        pixels: Columns and rows of a window that a thread makes, if the kernel makes windows.
        synchronises: Whether the threads of a block wait for each other.
        key: The arguments with which the function `name` of its module makes the kernel again.
        kept: Whether its code is kept on disk.
    """

    name: str
    body: Callable[..., None]
    signature: Any
    block: tuple[int, int, int]
    pixels: tuple[int, int] = (1, 1)
    synchronises: bool = False
    key: tuple[int, ...] = ()
    kept: bool = True


def compile_device(kernel):
    """A `DeviceKernel` for the current device: `compiled[grid, kernel.block, stream](*arguments)`.

    Code is kept on disk for each kind of device.
    """
    # Without optimisation across libraries it is, for each capability, what `ptx` gives.
    return cuda.jit(kernel.signature, cache=kernel.kept, lto=False)(kernel.body)


def ptx(kernel, capability):
    """A `DeviceKernel` as PTX for a compute capability such as (9, 0); this takes no driver."""
    text, _ = cuda.compile_ptx(kernel.body, kernel.signature, cc=capability)
    return text


def machine_code(kernel, capability):
    """A `DeviceKernel` for a compute capability as it is launched; this takes no driver.

    Returns:
        The code, an ELF file in bytes, and what the linker says of registers and memory.
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(ptx(kernel, capability).encode()), options=options)
    return bytes(linker.link("cubin").code), linker.get_info_log()
