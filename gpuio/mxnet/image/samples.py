"""The samples of an `ImageIter` by their keys: records of a .rec, or files in a list."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from numbers import Real
from typing import Any, Final

import numpy as np

from gpuio.errors import CorruptRecordError, FormatError, LabelError
from gpuio.formats.image_list import ImageList, check_repeated, first_lines
from gpuio.formats.image_record import rounded_whole, rounding, unpack
from gpuio.formats.index import Index
from gpuio.mxnet.advice import warn
from gpuio.mxnet.ndarray import NDArray
from gpuio.mxnet.recordio import MXIndexedRecordIO
from gpuio.storage.paths import PathLike, absolute, check_path

NO_ROOT: Final = "path_root must be the folder of the files in the list, got None"

Entry = tuple[NDArray, str]
"""Label and path of a sample."""


class KeyedSamples:
    """Where samples come from, and how messages name them.

    The arguments are those of `ImageIter`, and `keyed`: whether users see the keys of a .rec that
    has no .idx.

    Attributes:
        rec: Absolute path of the .rec; "" if there is none.
        idx: Absolute path of the .idx; "" if there is none.
        root: Absolute path of the folder of the files, or None.
        imgrec: The open .rec, or None.
        imgidx: Keys of the .rec, or None.
        imglist: By key, label and path of each sample of a list; or None.
        keyed: Whether users see the keys.
        keys: All keys in order: of the .rec if there is one, otherwise of the list.
    """

    def __init__(
        self,
        path_imgrec: PathLike | None,
        path_imgidx: PathLike | None,
        path_imglist: PathLike | None,
        imglist: Sequence[Sequence[Any]] | None,
        path_root: PathLike | None,
        dtype: str,
        *,
        keyed: bool,
    ) -> None:
        # Absolute, because the current folder may be another one later.
        self.rec = absolute(os.fspath(path_imgrec)) if path_imgrec else ""
        self.idx = absolute(os.fspath(path_imgidx)) if path_imgidx else ""
        self.root = None if path_root is None else absolute(os.fspath(path_root))
        self.keyed = keyed or not self.rec or bool(self.idx)
        self.imglist: Mapping[Any, Entry] | None = None
        if path_imglist:
            self.imglist = ListFile(path_imglist, dtype)
        elif isinstance(imglist, list):
            numbered = enumerate(imglist, 1)
            self.imglist = {str(number): _entry(number, each, dtype) for number, each in numbered}
        self._list_name = os.fspath(path_imglist) if path_imglist else "imglist"
        self.imgrec: MXIndexedRecordIO | None = None
        self.imgidx: list[Any] | None = None
        self.keys: MutableSequence[Any] = list(self.imglist or ())
        if self.rec:
            self.imgrec = MXIndexedRecordIO(self.idx or None, self.rec, "r")
            self.keys = self.imgrec.keys
            if self.keyed:
                self.keys = self.imgidx = list(self.imgrec.keys)
                _check_keys(self.imgrec, self.idx)
        if self.imglist is not None and self.rec and not self.idx:
            warn("labels of a list need path_imgidx; those in the .rec are used")
            self.imglist = None

    def __str__(self) -> str:
        return self.rec or self._list_name

    def read_record(self, key: Any) -> tuple[Any, bytes]:
        """Label and encoded image of a record.

        Raises:
            CorruptRecordError: The record cannot be read, or is no image record.
        """
        assert self.imgrec is not None
        payload = self.imgrec.read_idx(key)
        try:
            header, image = unpack(payload)
        except FormatError as error:
            reason, offset = f"key {key}: {error}", int(self.imgrec.idx[key])
            raise CorruptRecordError(reason, path=self.imgrec.uri, offset=offset) from error
        return header.label if self.imglist is None else self.listed_label(key), image

    def listed_label(self, key: Any) -> NDArray:
        """The label that the list gives to a record.

        Raises:
            LabelError: The list has no such key.
        """
        assert self.imglist is not None
        if key not in self.imglist:
            raise LabelError(f"{self._place(key)}: {self._list_name} has no line for this key")
        return self.imglist[key][0]

    def name(self, key: Any) -> str:
        """A sample as MXNet names it in messages."""
        if not self.keyed:
            return "in a .rec read in order"
        return f"index: {key}" if self.imglist is None else f"filename: {self.imglist[key][1]}"

    def where(self, key: Any) -> str:
        """The name of a sample, its file, and its place there."""
        return f"{self.name(key)} ({self._place(key)})"

    def _place(self, key: Any) -> str:
        if self.imgrec is None:
            return f"key {key} of {self._list_name}"
        return f"{self.imgrec.uri}: record at byte {self.imgrec.idx[key]}, key {key}"

    def close(self) -> None:
        """Close the .rec."""
        if self.imgrec is not None:
            self.imgrec.close()


class ListFile(Mapping[int, Entry]):
    """The samples of a .lst by their ids; labels are made when they are asked for.

    Args:
        path: The .lst.
        dtype: Type of the labels.

    Raises:
        FormatError: The file is no list, or an id stands on two lines that differ.
    """

    def __init__(self, path: PathLike, dtype: str) -> None:
        images = ImageList.load(path)
        names = np.array(images.paths, object)
        for rows, what in ((images.labels, "labels"), (names, "paths")):
            check_repeated(os.fspath(path), images.ids, rows, what)
        self._images, self._dtype = images, dtype
        self._ids = images.ids.tolist()
        self._lines = {key: line for line, key in enumerate(self._ids)}

    def __getitem__(self, key: int) -> Entry:
        line = self._lines[key]
        start, stop = self._images.starts[line : line + 2]
        label = self._images.values[start:stop].astype(self._dtype)
        return label.view(NDArray), self._images.paths[line]

    def __iter__(self) -> Iterator[int]:
        """The ids in the order of the lines, repeated ones too."""
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def _entry(number: int, sample: Sequence[Any], dtype: str) -> Entry:
    """Label and path of a sample that is [label, path], [label, ..., path] or [[label, ...], path].

    Raises:
        FormatError: The sample is something else.
        LabelError: A label is a whole number that float32 would round.
    """
    try:
        *labels, name = sample
        check_path("path", name)
        label = labels[0] if len(labels) == 1 and not isinstance(labels[0], Real) else labels
        values = np.array(label, dtype).view(NDArray)
    except (TypeError, ValueError) as error:
        expected = "[label, path], [label, ..., path] or [[label, ...], path] expected"
        raise FormatError(f"imglist: sample {number}: {expected}, got {sample!r}") from error
    given = np.asarray(label).reshape(-1)
    place = rounded_whole(given)
    if place is not None:
        raise LabelError(f"imglist: sample {number}: {rounding(given[place])}")
    return values, name


def _check_keys(file: MXIndexedRecordIO, idx: str) -> None:
    """Check that no two records of a .idx have the same key.

    Raises:
        FormatError: A key stands for several records.
    """
    if not idx or len(file.idx) == len(file.keys):
        return
    index = Index.load(idx)
    clash = first_lines(index.keys, index.offsets)[1]
    if clash is not None:
        offsets = index.offsets[list(clash)].tolist()
        raise FormatError(
            f"{idx}: key {index.keys[clash[0]]} stands for the records at bytes {offsets[0]} and "
            f"{offsets[1]}, and ImageIter finds samples by their keys; write another index with "
            "`gpuio rec2idx`, or use ImageRecordIter, which needs no keys"
        )
