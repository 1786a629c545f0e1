"""Images of .rec files, or of another source, by number: for `torch.utils.data.DataLoader`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch.utils.data import Dataset as TorchDataset

from gpuio.core import parameters as p
from gpuio.core.signatures import suggest
from gpuio.errors import DecodeError, FormatError, LabelError
from gpuio.formats.codec import decode_rgb
from gpuio.interop import labels
from gpuio.sources.base import RecordSource
from gpuio.sources.registry import open_source
from gpuio.storage import paths
from gpuio.storage.paths import PathLike, absolute_paths


class RecordDataset(TorchDataset[tuple[Any, torch.Tensor]]):  # type: ignore[misc]
    """Pairs `(image, label)` by number, decoded one at a time in whichever process asks for them.

    An image is an (H, W, C) uint8 tensor, a label a scalar tensor or one of (label_width,). No file
    is open between two images, and only the arguments are pickled, so that workers may be forked or
    spawned; spawned ones read the index again.

    Args:
        path_imgrec: A .rec file; or several, as one data set: joined with ";", in a list, as
            braces (`train-{00000..00127}-of-00128.rec`), as a glob or a folder. Also a folder of
            images, or files that `gpuio.register_source` knows.
        path_imgidx: The .idx files, given the same way; by default those beside the .rec files.
        raw: Return the stored bytes of an image, not pixels.
        channels: Channels of a decoded image: 1 gray, 3 RGB or 4 RGBA.
        label_width: Number of labels of every image.
        label_dtype: float32, int32 or int64; None is int64 for one label, a class, and float32
            for several.
        transform: Function that is applied to each image.

    Raises:
        ValueError: An argument has a wrong value.
        FileNotFoundError: A file is missing.
        FormatError: A file is damaged.
    """

    @suggest
    def __init__(
        self,
        path_imgrec: PathLike | Sequence[PathLike],
        path_imgidx: PathLike | Sequence[PathLike] = "",
        *,
        raw: bool = False,
        channels: int = 3,
        label_width: int = 1,
        label_dtype: npt.DTypeLike | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if channels not in (1, 3, 4):
            raise ValueError(f"channels must be 1, 3 or 4, got {channels!r}")
        self.label_width = p.integer("label_width", label_width, least=1)
        self.raw, self.channels, self.transform = raw, channels, transform
        self._label_dtype = labels.label_dtype(label_dtype, single=label_width == 1)
        paths.check_paths("path_imgrec", path_imgrec, required=True)
        paths.check_paths("path_imgidx", path_imgidx)
        self._path_imgrec = absolute_paths(path_imgrec)
        self._path_imgidx = absolute_paths(path_imgidx)
        records = open_source(self._path_imgrec, self._path_imgidx)
        self._records: RecordSource | None = records
        self._count = len(records)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_records": None}

    def __len__(self) -> int:
        """Records in all files."""
        return self._count

    def __getitem__(self, number: int) -> tuple[Any, torch.Tensor]:
        """The image and the label of a record, counted from 0.

        Raises:
            IndexError: There is no such record.
            TypeError: `number` is no integer.
            FormatError, DecodeError, LabelError: The record is damaged; the error names its place.
        """
        records = self._open()
        place = operator.index(number)
        if not -len(self) <= place < len(self):
            raise IndexError(f"record {number} of {len(self)} records")
        record = place % len(self)
        found = records.read(record)
        if len(found.labels) != self.label_width:
            reason = f"it has {len(found.labels)} labels, not label_width={self.label_width}"
            raise LabelError(f"{records.where(record)}: {reason}{records.hint(record)}")
        try:
            label = labels.convert(found.labels, self._label_dtype)
            image: Any = found.image
            if not self.raw:
                image = torch.from_numpy(decode_rgb(found.image, self.channels))
        except (DecodeError, LabelError) as error:
            raise type(error)(f"{records.where(record)}: {error}") from error
        if self.transform is not None:
            image = self.transform(image)
        return image, torch.tensor(label[0] if self.label_width == 1 else label)

    def _open(self) -> RecordSource:
        """The records, opened where this process has not done so."""
        if self._records is None:
            records = open_source(self._path_imgrec, self._path_imgidx)
            if len(records) != self._count:
                raise FormatError(
                    f"{records}: there are {len(records)} records, and there were "
                    f"{self._count} when the data set was opened first"
                )
            self._records = records
        return self._records
