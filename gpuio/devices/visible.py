"""The number of GPUs, by the CUDA driver itself, so that no other library is needed."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@cache
def visible_gpus() -> int:
    """Number of GPUs that the CUDA driver shows to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
        return count.value
    return 0
