"""The loop over several .rec files that `info` and `verify` share."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.cli import arguments
from gpuio.errors import FormatError, GpuioError, MissingPackageError
from gpuio.formats.recordio import MAGIC, Damage, verify
from gpuio.storage.opening import open_bytes
from gpuio.storage.shards import find_files

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


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        type=arguments.path,
        metavar="FILE",
        help='a .rec; or a folder, a pattern ("train-*.rec") or braces, for all that it names',
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON instead: an array with an object for each file, described below",
    )


def run(args: argparse.Namespace, work: Callable[[str], tuple[dict[str, Any], int]]) -> int:
    """Call `work` for each file and return the largest exit status.

    A file that cannot be used is reported with status 2, and the next file follows.

    Args:
        args: The arguments that `configure` added.
        work: Takes the path of a .rec, returns its JSON report and an exit status.
    """
    reports, status = [], 0
    for path in find_files(args.files, ".rec"):
        try:
            report, own = work(path)
        except MissingPackageError:
            raise
        except (GpuioError, OSError) as error:
            report, own = {"file": path, "error": str(error)}, 2
            print(f"gpuio: {error}", file=sys.stderr)
        reports.append(report)
        status = max(status, own)
    if args.json:
        print(json.dumps(_plain(reports), indent=1))
    return status


def scan(path: str) -> tuple[npt.NDArray[np.int64], list[Damage]]:
    """(N,) int64 byte offsets of the whole records of a .rec, and its damaged places.

    Raises:
        FormatError: The file is no RecordIO file.
        OSError: The file cannot be read.
    """
    offsets, damages = verify(path)
    if damages and not len(offsets) and (kind := _other_kind(path)):
        raise FormatError(f"{path}: not a RecordIO file{kind}")
    return offsets, damages


def _other_kind(path: str) -> str:
    """What a file without any whole record is, for a message; "" if it starts like a record."""
    with open_bytes(path) as file:
        start = file.pread(_START, 0)
    if start.startswith(MAGIC.to_bytes(4, "little")):
        return ""
    if re.match(rb"[^\t\n]+\t\d+\r?\n", start):
        return ", but an .idx: give the .rec beside it"
    if re.match(rb"\d+\t[^\n]+\t[^\n]*", start):
        return ", but a .lst: `gpuio im2rec` packs it"
    for magic, kind in _KINDS.items():
        if start.startswith(magic):
            return f", but {kind}"
    return f": it starts with {start[:8].hex(' ')}, not with {MAGIC.to_bytes(4, 'little').hex(' ')}"


def _plain(value: Any) -> Any:
    """`value` with None in place of infinite numbers and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
