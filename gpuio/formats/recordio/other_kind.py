"""What files that are not RecordIO files are, for messages."""

from __future__ import annotations

import re
from typing import Final

from gpuio.storage.opening import open_bytes

_KINDS: Final = {
    b"\xff\xd8\xff": "a JPEG",
    b"\x89PNG": "a PNG",
    b"GIF8": "a GIF",
    b"RIFF": "a WebP or another RIFF file",
    b"PK\x03\x04": "a zip",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard: unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file with `git lfs pull`",
    b"<": "HTML or XML: an error page in place of a download, perhaps",
}
_START: Final = 64  # bytes at the start of a file that tell its kind


def first_bytes(path: str) -> bytes:
    """The bytes at the start of a file that tell its kind.

    Raises:
        OSError: The file cannot be read.
    """
    with open_bytes(path) as file:
        return file.pread(_START, 0)


def other_kind(start: bytes) -> str:
    """What a file is that starts with these bytes, for a message; "" if no known kind does."""
    if re.match(rb"[^\t\n]+\t\d+\r?\n", start):
        return "an .idx: give the .rec beside it"
    if re.match(rb"\d+\t[^\n]+\t[^\n]*", start):
        return "a .lst: `gpuio im2rec` packs it"
    return next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), "")
