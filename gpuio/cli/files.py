"""The loop over several .rec files that `info` and `verify` share."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.cli import arguments
from gpuio.errors import FormatError, GpuioError, MissingPackageError
from gpuio.formats.recordio import MAGIC, Damage, first_bytes, other_kind, verify
from gpuio.storage.shards import find_files


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
    magic = MAGIC.to_bytes(4, "little")
    if damages and not len(offsets) and not (start := first_bytes(path)).startswith(magic):
        if kind := other_kind(start):
            raise FormatError(f"{path}: not a RecordIO file, but {kind}")
        found = f"it starts with {start[:8].hex(' ')}, not with {magic.hex(' ')}"
        raise FormatError(f"{path}: not a RecordIO file: {found}")
    return offsets, damages


def _plain(value: Any) -> Any:
    """`value` with None in place of infinite numbers and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
