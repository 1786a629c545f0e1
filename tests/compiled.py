"""Device functions, compiled so that Python can call them."""

from __future__ import annotations

import inspect

from numba import njit


def compiled(function):
    """A function of `device_function` as a function of Numba's, with the same parameters."""
    names = ", ".join(inspect.signature(function.py_func).parameters)
    return njit(eval(f"lambda {names}: function({names})", {"function": function}))
