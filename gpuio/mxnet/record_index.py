"""The index of an `MXIndexedRecordIO`: keys of any type, from a .idx or a scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableSequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.formats.index import Index
from gpuio.formats.index_fit import advice, check_fit
from gpuio.formats.mapping import KeyList, KeyOffsets
from gpuio.storage.opening import open_file


def load_index(
    rec: str, idx: str | None, key_type: Callable[[str], Any]
) -> tuple[MutableSequence[Any], Mapping[Any, int], npt.NDArray[np.int64]]:
    """The index of a .rec.

    Args:
        rec: The .rec.
        idx: Its .idx; None finds the records by a scan, with the keys 0, 1, 2 and so on.
        key_type: Makes a key from its text in the .idx.

    Returns:
        The keys; the offset of each key, in bytes, of a repeated one the last; (N,) int64 offsets.

    Raises:
        FormatError: The .idx cannot be parsed, or is not that of the .rec.
        OSError: A file cannot be opened.
    """
    keys: list[Any] | None = None
    if idx is None:
        index = Index.scan(rec)
    else:
        try:
            if key_type is int:
                index = Index.load(idx)
            else:
                keys, offsets = _load_keys(idx, key_type)
                index = Index(np.arange(len(offsets)), offsets)
        except FileNotFoundError as error:
            error.add_note("pass None as idx_path to find the records by a scan")
            raise
        coverage = check_fit(index, rec, idx)
        if coverage.end < coverage.size:
            from gpuio.mxnet.advice import warn  # `import gpuio.recordio` is to be fast

            warn(
                f"{idx} names no record in the last {coverage.size - coverage.end} bytes of "
                f"{rec}; if it should, make a new one with {advice(rec, idx)}"
            )
    if keys is None:
        return KeyList(index.keys), KeyOffsets(index.keys, index.offsets), index.offsets
    return keys, dict(zip(keys, index.offsets.tolist(), strict=True)), index.offsets


def _load_keys(
    path: str, key_type: Callable[[str], Any]
) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Keys and (N,) int64 offsets of a .idx whose keys are not integers."""
    keys: list[Any] = []
    offsets: list[int] = []
    with open_file(path) as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            key, _, offset = line.strip().partition(b"\t")
            try:
                keys.append(key_type(key.decode()))
                offsets.append(int(np.int64(int(offset))))
            except Exception as error:  # `key_type` may be anything
                found = ascii(line.strip()[:80].decode(errors="backslashreplace"))
                reason = f"a key and a 64-bit integer separated by a tab expected, found {found}"
                raise FormatError(f"{path}: line {number}: {reason}") from error
    return keys, np.array(offsets, np.int64)
