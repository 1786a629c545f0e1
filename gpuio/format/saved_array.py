"""The file in which MXNet saves arrays, as far as mean images need it: float arrays on the CPU.

    uint64 0x112 | uint64 0 | uint64 count | arrays | uint64 names | (uint64 length, bytes) a name
    array: uint32 0xF993FAC9 | int32 0 | uint32 ndim | int64 a side | int32 1 | int32 0
           | int32 dtype | data

All values are little-endian; data is in C order.

Source: MXNet 1.9.1, src/ndarray/ndarray.cc (NDArray::Save).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError

_LIST: Final = 0x112
_ARRAY: Final = 0xF993FAC9
_DTYPES: Final = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")


def load(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays in a file by name; by "0", "1", ... where they have none.

    Raises:
        FormatError: It is no such file.
    """
    data, position = Path(path).read_bytes(), 0

    def take(form: str) -> tuple[Any, ...]:
        nonlocal position
        values = struct.unpack_from(f"<{form}", data, position)
        position += struct.calcsize(f"<{form}")
        return values

    try:
        magic, _, count = take("QQQ")
        if magic != _LIST:
            raise FormatError(f"{path}: magic is {magic:#x}, not {_LIST:#x}: not saved arrays")
        arrays = []
        for _ in range(count):
            kind, storage, ndim = take("IiI")
            if kind != _ARRAY or storage != 0:
                raise FormatError(f"{path}: array at byte {position - 12} is not a dense array")
            sides = take(f"{ndim}q")
            _, _, code = take("iiI")
            dtype, size = np.dtype(_DTYPES[code]), int(np.prod(sides))
            arrays.append(np.frombuffer(data, dtype, size, position).reshape(sides).copy())
            position += size * dtype.itemsize
        names = []
        for _ in range(take("Q")[0]):
            (length,) = take("Q")
            names.append(take(f"{length}s")[0].decode())
        if len(names) not in (0, count):
            raise FormatError(f"{path}: {len(names)} names for {count} arrays")
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        reason = f"cut short or damaged at byte {position} of {len(data)}: {error}"
        raise FormatError(f"{path}: saved arrays {reason}") from error
    return dict(zip(names or map(str, range(count)), arrays, strict=True))


def save(path: str | os.PathLike[str], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write arrays under their names; a file of that name is replaced once all is written."""
    parts = [struct.pack("<QQQ", _LIST, 0, len(arrays))]
    for array in arrays.values():
        code = next(i for i, dtype in enumerate(_DTYPES) if np.dtype(dtype) == array.dtype)
        parts.append(struct.pack("<IiI", _ARRAY, 0, array.ndim))
        parts.append(struct.pack(f"<{array.ndim}qiii", *array.shape, 1, 0, code))
        parts.append(np.ascontiguousarray(array).tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        parts += (struct.pack("<Q", len(name.encode())), name.encode())
    partial = Path(f"{os.fspath(path)}.partial")
    partial.write_bytes(b"".join(parts))
    partial.replace(path)
