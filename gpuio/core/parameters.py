"""Values of parameters: converted from the forms that MXNet's scripts use, and checked.

Each function takes the name of a parameter, for messages, and its value; a ValueError names both.
"""

from __future__ import annotations

import operator
from ast import literal_eval
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core.extras import explained

_LARGEST = float(np.finfo(np.float32).max)
_LONGEST = int(np.iinfo(np.int64).max)
_MOST = 1 << 15


def boolean(name: str, value: Any) -> bool:
    """True or False; also 0, 1 and the words "true" and "false" in any case."""
    if isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false", "0", "1"):
        return value.lower() in ("true", "1")
    raise ValueError(f"{name} must be True or False, got {value!r}")


def integer(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """A whole number, or the text of one."""
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an integer, got {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def bounded_integer(name: str, value: Any) -> int:
    """A whole number of pixels, degrees or levels: one from -32768 to 32768."""
    return integer(name, value, least=-_MOST, most=_MOST)


def number(name: str, value: Any) -> float:
    """A number that float32 can hold, or the text of one."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not abs(result) <= _LARGEST:
        raise ValueError(f"{name} must be finite in float32, got {value!r}")
    return result


def mxnet_float(name: str, value: Any) -> float:
    """A number as MXNet reads it: the float32 sum of its whole part and its decimals.

    The sum may differ from the nearest float32 in the last bit, and so move a pixel of a warp.

    Source: dmlc-core, include/dmlc/strtonum.h.
    """
    exact = number(name, value)
    whole, _, decimals = str(exact).partition(".")
    if not (whole.lstrip("-").isdigit() and decimals.isdigit()):
        return exact  # an exponent
    part = np.float32(int(decimals) / 10 ** len(decimals))
    return float(np.copysign(np.float32(abs(int(whole))) + part, exact))


def float32(name: str, value: Any) -> float:
    """The float32 nearest to a number, or to the text of one."""
    return float(np.float32(number(name, value)))


def shape(name: str, value: Any, length: int) -> tuple[int, ...]:
    """A given number of integers: a sequence of them, or the text of one."""
    wanted = f"{length} integers"
    given = _parsed(name, value, wanted)
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != length:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return tuple(bounded_integer(name, side) for side in given)


def sides(name: str, value: Any) -> tuple[int, ...]:
    """The lengths of axes, each at least 1: a number, a sequence of them, or the text of either."""
    given = _parsed(name, value, "integers")
    parts = given if isinstance(given, Sequence | np.ndarray) else (given,)
    lengths = tuple(integer(name, part, most=_LONGEST) for part in parts)
    if not lengths or min(lengths) < 1:
        raise ValueError(f"{name} must be integers of at least 1, got {value!r}")
    return lengths


def mapping(name: str, value: Any) -> Any:
    """A mapping, or the text of a dict. It may hold secrets, so errors do not show it."""
    try:
        return _parsed(name, value, "a dict")
    except ValueError:
        raise ValueError(f"{name} must be a dict, got a text that is none") from None


def _parsed(name: str, value: Any, wanted: str) -> Any:
    """A value, or the one that a text stands for."""
    if not isinstance(value, str):
        return value
    try:
        return literal_eval(value)
    except (SyntaxError, ValueError):
        raise ValueError(f"{name} must be {wanted}, got {value!r}") from None


def as_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The NumPy dtype of a dtype, of a torch.dtype, or of "bfloat16" (with ml_dtypes).

    Raises:
        TypeError: `dtype` is not a dtype.
    """
    dtype = without_torch(dtype)
    if isinstance(dtype, str) and dtype == "bfloat16":
        with explained("bfloat16"):
            import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def without_torch(dtype: Any) -> Any:
    """The name of a torch.dtype, as "float16" for torch.float16; other values as they are."""
    name = str(dtype)
    return name.removeprefix("torch.") if name.startswith("torch.") else dtype


def dtype_name(name: str, value: Any, allowed: Sequence[str]) -> str:
    """The name of a dtype, which is one of those `allowed`; "float32" for None."""
    if value is None:
        return "float32"
    try:
        found = as_dtype(value).name
    except (TypeError, ValueError):
        found = repr(value)
    if found not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {found}")
    return found


def device_name(name: str, value: Any) -> str | None:
    """The name of a device, of a torch.device or of a `Context`; None for None."""
    if value is None:
        return None
    if type(value).__module__.partition(".")[0] == "torch":
        value = str(value)
    elif hasattr(value, "device_type") and hasattr(value, "device_id"):
        value = f"cuda:{value.device_id}" if value.device_type == "gpu" else "cpu"
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004
            f"{name} must be 'cpu', 'cuda', 'cuda:N' or a torch.device, got {value!r}"
        )
    return "cpu" if value.startswith("cpu:") else value  # PyTorch's name may be "cpu:0"


def integers(name: str, value: Any) -> tuple[int, ...]:
    """Integers: a sequence of them, or text with commas between; no integer for "" and None."""
    if value is None:
        return ()
    parts = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(parts, str):
        parts = [part for part in parts.split(",") if part.strip()]
    if not isinstance(parts, Sequence):
        raise ValueError(f"{name} must be a list of integers, got {value!r}")  # noqa: TRY004
    return tuple(bounded_integer(name, part) for part in parts)


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Numbers: a single one, a sequence of them, or the text of either."""
    given = value.tolist() if isinstance(value, np.ndarray) else _parsed(name, value, "numbers")
    if not isinstance(given, Sequence) or isinstance(given, str):
        given = (given,)
    return tuple(number(name, part) for part in given)


def text(name: str, value: Any) -> str:
    """Text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {value!r}")  # noqa: TRY004
    return value


def choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a value that is not one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
