"""What an `ImageIter` knows of its samples before it reads them: lists, keys and labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuio.errors import CorruptRecordError, FormatError, LabelError
from gpuio.formats.image_list import ImageList, first_lines, repeated_id
from gpuio.formats.image_record import rounded_whole, rounding
from gpuio.formats.index import Index
from gpuio.mxnet.ndarray import NDArray
from gpuio.mxnet.recordio import IRHeader, MXIndexedRecordIO, unpack
from gpuio.storage.paths import PathLike

if TYPE_CHECKING:
    import numpy.typing as npt

Entry = tuple[NDArray, str]
"""Label and path of a sample."""


class ListFile(Mapping[int, Entry]):
    """The samples of a .lst by their ids; labels are made when they are asked for.

    Args:
        path: The .lst.
        dtype: Of the labels.

    Raises:
        FormatError: The file is no list, or an id stands on two lines that differ.
    """

    def __init__(self, path: PathLike, dtype: str) -> None:
        images = ImageList.load(path)
        names = np.array(images.paths, object)
        for rows, what in ((images.labels, "labels"), (names, "paths")):
            clash = first_lines(images.ids, rows)[1]
            if clash is not None:
                raise repeated_id(os.fspath(path), *clash, int(images.ids[clash[0]]), what)
        self._images, self._dtype = images, dtype
        self._ids = images.ids.tolist()
        self._lines = {key: line for line, key in enumerate(self._ids)}

    def __getitem__(self, key: int) -> Entry:
        line = self._lines[key]
        starts = self._images.starts
        label = self._images.values[starts[line] : starts[line + 1]].astype(self._dtype)
        return label.view(NDArray), self._images.paths[line]

    def __iter__(self) -> Iterator[int]:
        """The ids in the order of the lines, repeated ones too."""
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def entries(imglist: Sequence[Sequence[Any]], dtype: str) -> dict[str, Entry]:
    """Label and path of each sample of `imglist`, under the keys "1", "2" and so on.

    Raises:
        LabelError: A label is a whole number that float32 would round.
    """
    found = {}
    for number, sample in enumerate(imglist, 1):
        *labels, name = sample
        label = labels[0] if len(labels) == 1 and not isinstance(labels[0], Real) else labels
        values = np.asarray(label).reshape(-1)
        place = rounded_whole(values)
        if place is not None:
            raise LabelError(f"imglist: sample {number}: {rounding(values[place])}")
        found[str(number)] = np.array(label, dtype).view(NDArray), name
    return found


def check_keys(file: MXIndexedRecordIO, idx: PathLike | None) -> None:
    """Find out whether each key of a .idx stands for one record.

    Raises:
        FormatError: A key stands for several records.
    """
    if idx is None or len(file.idx) == len(file.keys):
        return
    index = Index.load(idx)
    clash = first_lines(index.keys, index.offsets)[1]
    if clash is not None:
        offsets = index.offsets[list(clash)].tolist()
        raise FormatError(
            f"{os.fspath(idx)}: key {index.keys[clash[0]]} stands for the records at bytes "
            f"{offsets[0]} and {offsets[1]}, and ImageIter finds samples by their keys; write "
            "another index with `gpuio rec2idx`, or use ImageRecordIter, which goes by places"
        )


def read_record(file: MXIndexedRecordIO, key: Any) -> tuple[IRHeader, bytes]:
    """Header and image of the record with a key.

    Raises:
        CorruptRecordError: The record cannot be read, or is no image record.
    """
    payload = file.read_idx(key)
    try:
        return unpack(payload)
    except FormatError as error:
        reason, offset = f"key {key}: {error}", int(file.idx[key])
        raise CorruptRecordError(reason, path=file.uri, offset=offset) from error


class RecordNumbers:
    """Numbers of records by their keys; a repeated key stands for the last of its records.

    Args:
        keys: (N,) keys in the order of the records.
    """

    def __init__(self, keys: npt.NDArray[Any]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __call__(self, keys: Sequence[Any]) -> npt.NDArray[np.int64]:
        """(M,) int64 numbers of the records with M keys."""
        wanted = np.asarray(keys, self._keys.dtype)
        places = np.searchsorted(self._keys, wanted, side="right") - 1
        numbers: npt.NDArray[np.int64] = self._order[places]
        return numbers
