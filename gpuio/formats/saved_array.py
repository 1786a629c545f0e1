"""Files of arrays saved by MXNet, as far as mean images need them: dense arrays on the CPU.

    uint64 0x112 | uint64 0 | uint64 count | arrays | uint64 names | (uint64 length, bytes) a name
    array: uint32 0xF993FAC9 | int32 0 | uint32 ndim | int64 a side | int32 1 | int32 0
           | int32 dtype | data

All values are little-endian; data is in C order.

Source: MXNet 1.9.1, src/ndarray/ndarray.cc (NDArray::Save).
"""

from __future__ import annotations

import os
import struct
from math import prod
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.storage.atomic import write_file
from gpuio.storage.byte_source import LocalBytes

_LIST: Final = 0x112
_ARRAY: Final = 0xF993FAC9
_DTYPES: Final = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")
_HEAD_NBYTES: Final = 24
_LEAST_ARRAY_NBYTES: Final = 24  # the head and dtype of an array without sides and numbers
_MAX_SIDES: Final = 32  # the limit of MXNet, and of NumPy 1


def load(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays in a file by name; by "0", "1", ... where they have no names.

    Raises:
        FormatError: The file is damaged or of another kind; the message names the byte.
    """
    with _Cursor(path) as cursor:
        magic, _, count = cursor.take("QQQ", "the head of saved arrays")
        if magic != _LIST:
            raise cursor.error(-_HEAD_NBYTES, f"magic {_LIST:#x}", f"{magic:#x}")
        if count * _LEAST_ARRAY_NBYTES > cursor.left:
            most = cursor.left // _LEAST_ARRAY_NBYTES
            found = f"{cursor.left} bytes, which can be {most} at most"
            raise cursor.error(-8, f"{count} arrays", found)
        arrays = [_load_array(cursor) for _ in range(count)]
        (names_count,) = cursor.take("Q", "the number of names")
        if names_count not in (0, count):
            raise cursor.error(-8, f"0 names or one for each of {count} arrays", str(names_count))
        names = [_load_name(cursor) for _ in range(names_count)]
    return dict(zip(names or map(str, range(count)), arrays, strict=True))


def load_mean(path: str | os.PathLike[str], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The mean image in a file, its first array, as float32.

    Args:
        path: A file that MXNet or `save` wrote.
        shape: Shape that the image must have, (C, H, W).

    Raises:
        FormatError: The file is damaged or of another kind, or its first array has another shape.
    """
    arrays = [*load(path).values()]
    if not arrays:
        raise FormatError(f"{path}: a mean image of shape {shape} expected, found no array")
    if arrays[0].shape != shape:
        raise FormatError(
            f"{path}: mean_img must be of shape {shape}, got {arrays[0].shape}; give another file, "
            "or remove it to have the mean of these images computed"
        )
    return arrays[0].astype(np.float32)


class _Cursor:
    """Reads a file from its start; checks that bytes are there before it takes memory for them."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._file = LocalBytes(path)
        except OSError as error:
            if error.errno is not None:
                raise
            raise FormatError(f"{error}; not a file of saved arrays") from None
        self._position, self._size = 0, self._file.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def left(self) -> int:
        """Bytes up to the end of the file."""
        return self._size - self._position

    def bytes_of(self, nbytes: int, what: str) -> bytes:
        """The next bytes; `what` names them in the error if fewer are left."""
        found = self.left
        if nbytes <= found:
            data = self._file.pread(nbytes, self._position)
            if (found := len(data)) == nbytes:
                self._position += nbytes
                return data
        raise self.error(0, f"{nbytes} bytes of {what}", str(found))

    def take(self, form: str, what: str) -> tuple[Any, ...]:
        """The next numbers, little-endian, as `struct` writes them."""
        return struct.unpack(f"<{form}", self.bytes_of(struct.calcsize(f"<{form}"), what))

    def error(self, at: int, expected: str, found: str) -> FormatError:
        """The error for a place `at` bytes from here."""
        place = f"byte {self._position + at} of {self._size}"
        hint = "the file is damaged, cut short, or not a file of saved arrays"
        where = f"{self._file.path}: {place}"
        return FormatError(f"{where}: expected {expected}, found {found}; {hint}")


def _load_array(cursor: _Cursor) -> npt.NDArray[Any]:
    kind, storage, ndim = cursor.take("IiI", "the head of an array")
    if kind != _ARRAY or storage != 0:
        found = f"magic {kind:#x} and storage {storage}"
        raise cursor.error(-12, f"a dense array (magic {_ARRAY:#x}, storage 0)", found)
    if ndim > _MAX_SIDES:
        raise cursor.error(-4, f"at most {_MAX_SIDES} sides of an array", str(ndim))
    shape = cursor.take(f"{ndim}q", f"{ndim} sides of an array")
    if min(shape, default=0) < 0:
        raise cursor.error(-8 * ndim, "sides of at least 0", str(shape))
    _, _, code = cursor.take("iii", "the context and dtype of an array")
    if not 0 <= code < len(_DTYPES):
        raise cursor.error(-4, f"a dtype from 0 to {len(_DTYPES) - 1}", str(code))
    dtype = np.dtype(_DTYPES[code])
    data = cursor.bytes_of(prod(shape) * dtype.itemsize, f"an array of shape {shape} and {dtype}")
    try:
        return np.frombuffer(data, dtype).reshape(shape).copy()
    except ValueError as error:  # a side of 0 beside others that NumPy cannot count
        raise cursor.error(-12 - 8 * ndim, "sides that NumPy can have", str(shape)) from error


def _load_name(cursor: _Cursor) -> str:
    (nbytes,) = cursor.take("Q", "the length of a name")
    name = cursor.bytes_of(nbytes, "a name")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise cursor.error(-nbytes, "a name in UTF-8", repr(name[:80])) from None


def save(path: str | os.PathLike[str], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write arrays under their names; an older file is replaced once the new one is complete."""
    parts = [struct.pack("<QQQ", _LIST, 0, len(arrays))]
    for array in arrays.values():
        code = next(i for i, dtype in enumerate(_DTYPES) if np.dtype(dtype) == array.dtype)
        parts.append(struct.pack("<IiI", _ARRAY, 0, array.ndim))
        parts.append(struct.pack(f"<{array.ndim}qiii", *array.shape, 1, 0, code))
        parts.append(np.ascontiguousarray(array).tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        parts += (struct.pack("<Q", len(name.encode())), name.encode())
    # All processes of a training may write the same mean image at the same time.
    write_file(path, b"".join(parts), lock=False)
