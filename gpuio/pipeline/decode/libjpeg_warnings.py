"""libjpeg's warnings of damage, as they are printed inside nvImageCodec.

libjpeg goes on where pixel data is damaged: it makes up what is missing, and warns. nvImageCodec
does not report that, but its codec module prints the first warning of each image to stderr, with
the C library's `fprintf`. The address of that function is in a table of the module, where the
dynamic linker has written it. Here it is replaced by a compiled function of ours, which records
the warning for the thread that decodes the image. That costs nothing as long as nothing is damaged,
and no warning is missed.

Source: System V Application Binary Interface, chapters 4 and 5 (sections, symbols, relocations);
libjpeg-turbo 3, jerror.c (emit_message, output_message).
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import threading
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import HostArray
from gpuio.errors import BackendError
from gpuio.kernels.codec_messages import LISTENER, warned

SIDE: Final = 8  # pixels
_HEAD: Final = b"".join((
    b"\xff\xd8",
    b"\xff\xdb\0\x43\0" + b"\x01" * 64,  # quantisation
    b"\xff\xc0\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0",  # 8 x 8 pixels of gray
    b"\xff\xc4\0\x14\0\x01" + bytes(16),  # Huffman codes: the bit 0 for no difference
    b"\xff\xc4\0\x14\x10\x01" + bytes(16),  # and for the end of a block
    b"\xff\xda\0\x08\x01\x01\0\0\x3f\0",
))  # fmt: skip
VALID: Final = _HEAD + b"\x3f\xff\xd9"
"""A JPEG of 8 x 8 gray pixels."""
DAMAGED: Final = _HEAD + b"\xff\xd9"
"""The same JPEG without pixel data."""

_MODULE: Final = "*jpeg_turbo_ext*"
_ENTRY: Final = b"nvimgcodecExtensionModuleEntry"
_PRINT, _STREAM = b"fprintf", b"stderr"
_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"
_HEAD_NBYTES: Final = 64
_SYMBOLS, _RELOCATIONS = 11, 4  # types of sections
_READ_WRITE: Final = 3  # of mprotect

_SECTION = np.dtype("u4,u4,u8,u8,u8,u8,u4,u4,u8,u8")
_SECTION.names = (
    "name", "type", "flags", "address", "offset", "size", "link", "info", "align", "each",
)  # fmt: skip
_SYMBOL = np.dtype("u4,u2,u2,u8,u8")
_SYMBOL.names = ("name", "kind", "section", "value", "size")
_RELOCATION = np.dtype("u8,u4,u4,i8")
_RELOCATION.names = ("offset", "type", "symbol", "addend")


_once: Final = threading.Lock()  # one thread changes the module, once


def warning_count(warnings: npt.NDArray[np.void] | None) -> int:
    """How often libjpeg has warned in threads that do not `listen`; 0 without a `listener`."""
    return 0 if warnings is None else int(warnings["unheard"][0])


def listener(extensions: Path) -> npt.NDArray[np.void]:
    """What `codec_calls.decode` needs to see warnings; the module is changed once in a process.

    Args:
        extensions: Folder of nvImageCodec's codec modules; the one for JPEG is loaded.

    Returns:
        (1,) LISTENER, as `codec_messages.warned` takes it.

    Raises:
        BackendError: The module is not built as we expect it.
    """
    with _once:
        return _listen(extensions)


@cache
def _listen(extensions: Path) -> npt.NDArray[np.void]:
    path = next(iter(extensions.glob(_MODULE)), None)
    if path is None:
        raise BackendError(f"{extensions}: no module {_MODULE} is there; reinstall gpuio[cpu]")
    slots = _slots(path)
    ways = np.zeros(1, LISTENER)
    process, key = ctypes.CDLL(None), ctypes.c_uint()
    if process.pthread_key_create(ctypes.byref(key), None):
        raise BackendError("pthread_key_create: no key for thread-local data is left")
    ways["get"] = _address(process.pthread_getspecific)
    ways["set"] = _address(process.pthread_setspecific)
    ways["key"] = key.value
    stream = np.array([ways.ctypes.data], np.uint64)  # stands for the variable `stderr`
    values = {_PRINT: warned.address, _STREAM: stream.ctypes.data}
    before = [(slot, _replace(slot, values[name])) for name, slot in slots]
    atexit.register(_restore, before, (ways, stream))
    return ways


def _slots(path: Path) -> list[tuple[bytes, int]]:
    """The names `fprintf` and `stderr`, and where a loaded module keeps their addresses.

    Raises:
        BackendError: The module does not use them, or is not a 64-bit ELF file.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_NBYTES)
        if not head.startswith(_ELF64_LITTLE) or len(head) < _HEAD_NBYTES:
            raise BackendError(
                f"{path}: warnings of libjpeg are seen in 64-bit ELF modules only; "
                "tolerate='warnings' does without"
            )
        start, count = np.frombuffer(head, "u8", 1, 40)[0], np.frombuffer(head, "u2", 1, 60)[0]
        file.seek(int(start))
        sections = np.frombuffer(file.read(int(count) * _SECTION.itemsize), _SECTION)
        (table,) = sections[sections["type"] == _SYMBOLS]
        strings = _content(file, sections[table["link"]])
        symbols = np.frombuffer(_content(file, table), _SYMBOL)
        changed = [_content(file, each) for each in sections[sections["type"] == _RELOCATIONS]]
    names = [strings[at : strings.index(b"\0", at)] for at in symbols["name"].tolist()]
    entry = _address(ctypes.CDLL(str(path))[_ENTRY.decode()])
    base = entry - int(symbols["value"][names.index(_ENTRY)])
    found = []
    for relocations in changed:
        for relocation in np.frombuffer(relocations, _RELOCATION):
            name = names[relocation["symbol"]]
            if name in (_PRINT, _STREAM):
                found.append((name, base + int(relocation["offset"])))
    if {name for name, _ in found} != {_PRINT, _STREAM}:
        raise BackendError(f"{path}: it does not print libjpeg's warnings as expected")
    return found


def _content(file: BinaryIO, section: npt.NDArray[np.void]) -> bytes:
    file.seek(int(section["offset"]))
    return file.read(int(section["size"]))


def _replace(slot: int, value: int) -> int:
    """Write an address into a module's table; the address that was there before."""
    page = slot & -mmap.PAGESIZE
    process = ctypes.CDLL(None, use_errno=True)
    length = ctypes.c_size_t(slot + 8 - page)
    if process.mprotect(ctypes.c_void_p(page), length, _READ_WRITE):
        raise BackendError(f"memory of a module cannot be written, error {ctypes.get_errno()}")
    word = ctypes.c_uint64.from_address(slot)
    before, word.value = word.value, value
    return before


def _restore(slots: list[tuple[int, int]], _kept: tuple[HostArray, ...]) -> None:
    """Put the former addresses back before our compiled function is gone."""
    for slot, value in slots:
        ctypes.c_uint64.from_address(slot).value = value


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
