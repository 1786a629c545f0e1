"""Parameters as MXNet's scripts give them: checked, converted, and named when they are wrong."""

from __future__ import annotations

import functools
import inspect
import operator
from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, field, fields
from typing import Any, Final, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gpuio.core.extras import explained
from gpuio.core.suggestions import suggestion

P = ParamSpec("P")
R = TypeVar("R")
Reader = Callable[[str, Any], Any]
"""Takes the name of an option and what is given for it; returns the value in its type.

Raises a ValueError that names the option.
"""
Amount = int
"""A type of option: a whole number that `amount` reads."""
Float32 = float
"""A type of option: a number that `single` reads."""
REQUIRED: Final = object()
"""The default of an option that has none."""

_LARGEST = float(np.finfo(np.float32).max)
_MOST = 1 << 15  # pixels, degrees, levels


def suggest(function: Callable[P, R]) -> Callable[P, R]:
    """Make an unknown keyword a TypeError that says what to use instead, where that is known."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        unknown = [name for name in kwargs if name not in signature.parameters]
        if unknown:
            owner = function.__qualname__.removesuffix(".__init__")
            known = [name for name in signature.parameters if name != "self"]
            hints = [f"{name!r}{suggestion(name, known)}" for name in unknown]
            raise TypeError("\n".join(f"{owner} has no parameter {hint}" for hint in hints))
        return function(*args, **kwargs)

    return checked


def with_keywords_of(maker: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Show the parameters of `maker`, but its first one, in the place of `**options`."""
    options = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(inspect.signature(maker).parameters.values())[1:]
    ]

    def shown(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [q for q in signature.parameters.values() if q.kind is not q.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=own + options)  # type: ignore[attr-defined]
        return function

    return shown


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


def amount(name: str, value: Any) -> int:
    """A whole number of pixels, degrees or levels, no more than can be worked with."""
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


def single(name: str, value: Any) -> float:
    """A finite number as MXNet reads it: whole and decimal part, each a float32, and their sum.

    That may differ from the nearest float32 in the last bit, and so move a pixel of a warp.

    Source: dmlc-core, include/dmlc/strtonum.h.
    """
    exact = number(name, value)
    whole, _, decimals = str(exact).partition(".")
    if not (whole.lstrip("-").isdigit() and decimals.isdigit()):
        return exact  # an exponent
    part = np.float32(int(decimals) / 10 ** len(decimals))
    return float(np.copysign(np.float32(abs(int(whole))) + part, exact))


def nearest_single(name: str, value: Any) -> float:
    """A number that float32 can hold, or the text of one, rounded to the nearest float32."""
    return float(np.float32(number(name, value)))


def shape(name: str, value: Any, length: int) -> tuple[int, ...]:
    """`length` whole numbers: a tuple, a list, or the text of one."""
    given = value
    if isinstance(value, str):
        try:
            given = literal_eval(value)
        except (SyntaxError, ValueError):
            given = None
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != length:
        raise ValueError(f"{name} must be {length} integers, got {value!r}")
    return tuple(amount(name, side) for side in given)


def element(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """A NumPy dtype, also that of "bfloat16", which ml_dtypes brings, or of a torch.dtype.

    Raises:
        TypeError: It is none.
    """
    dtype = untorched(dtype)
    if isinstance(dtype, str) and dtype == "bfloat16":
        with explained("bfloat16"):
            import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def untorched(dtype: Any) -> Any:
    """The name of a torch.dtype, "float16" for torch.float16; anything else as it is."""
    name = str(dtype)
    return name.removeprefix("torch.") if name.startswith("torch.") else dtype


def dtype_name(name: str, value: Any, allowed: Sequence[str]) -> str:
    """The name of a dtype; None is float32."""
    if value is None:
        return "float32"
    try:
        found = element(value).name
    except (TypeError, ValueError):
        found = repr(value)
    if found not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {found}")
    return found


def device(name: str, value: Any) -> str | None:
    """The name of a device: text, or what a torch.device or a `Context` is; None is none."""
    if value is None:
        return None
    if type(value).__module__.partition(".")[0] == "torch":
        value = str(value)
    elif hasattr(value, "device_type") and hasattr(value, "device_id"):
        value = f"cuda:{value.device_id}" if value.device_type == "gpu" else "cpu"
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004  a wrong value, as for all of them
            f"{name} must be 'cpu', 'cuda', 'cuda:N' or a torch.device, got {value!r}"
        )
    return "cpu" if value.startswith("cpu:") else value  # PyTorch numbers its only one


def integers(name: str, value: Any) -> tuple[int, ...]:
    """Whole numbers: a sequence of them, or text with commas between; none for "" and None."""
    if value is None:
        return ()
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, Sequence | np.ndarray):
        raise ValueError(f"{name} must be a list of integers, got {value!r}")  # noqa: TRY004  a wrong value, as for all of them
    return tuple(amount(name, part) for part in parts)


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Finite numbers: one, a sequence of them, or the text of either."""
    given = value
    if isinstance(value, str):
        try:
            given = literal_eval(value)
        except (SyntaxError, ValueError):
            raise ValueError(f"{name} must be numbers, got {value!r}") from None
    if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str):
        given = (given,)
    return tuple(number(name, part) for part in given)


def text(name: str, value: Any) -> str:
    """Text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {value!r}")  # noqa: TRY004  a wrong value, as for all of them
    return value


def choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a value that is not one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def optional(read: Reader) -> Reader:
    """A reader that also takes None."""
    return lambda name, value: None if value is None else read(name, value)


READERS: Final[Mapping[str, Reader]] = {
    "bool": boolean,
    "int": integer,
    "int | None": optional(integer),
    "Amount": amount,
    "float": number,
    "Float32": single,
    "Float32 | None": optional(nearest_single),  # MXNet reads these in another way
    "str": text,
    "tuple[int, int, int]": functools.partial(shape, length=3),
    "tuple[int, ...]": integers,
    "tuple[float, ...]": numbers,
}
"""What reads the values of options, by their types; values of other types are taken as given."""


def option(default: object, description: str, *, read: Reader | None = None) -> Any:
    """A field of a dataclass that users give as a keyword.

    Args:
        default: Its default; `REQUIRED` if there is none.
        description: What it means, in sentences, for docstrings, commands and the documentation.
        read: Reads what users give; by default the one of `READERS` for the type of the field.
    """
    metadata = {"description": description, "read": read}
    if default is REQUIRED:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def options(group: type) -> list[Field[Any]]:
    """The fields of a dataclass that were made by `option`."""
    return [field for field in fields(cast("Any", group)) if "description" in field.metadata]


def description(option: Field[Any]) -> str:
    """What a field made by `option` means."""
    return option.metadata["description"]


def read(option: Field[Any], value: Any) -> Any:
    """What users give for a field made by `option`, in its type.

    Raises:
        ValueError: It is not of that type.
    """
    reader: Reader | None = option.metadata["read"] or READERS.get(str(option.type))
    return value if reader is None else reader(option.name, value)
