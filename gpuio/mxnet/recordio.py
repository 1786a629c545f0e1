"""RecordIO files under the names of mxnet.recordio: one import line is all that changes.

    from gpuio import recordio

    with recordio.MXIndexedRecordIO("train.idx", "train.rec", "r") as records:
        header, image = recordio.unpack(records.read_idx(7))
        first_ten = records[:10]

Files are byte for byte those that MXNet 1.9.1 writes. Beyond MXNet, any thread may call any method,
and any number of them read at once; `len`, indexing by position, slices and iteration work, and an
index is made by a scan where there is none. It differs from MXNet on purpose in this:

* Pickling leaves a reader open, and unpickling a writer goes on at the end of its file; MXNet
  closes the one and empties the file of the other. A file that has since changed is an error.
* `read_idx` works after `read` has met the end of the file.
* A split record without its last part is an error, not the end of the file.
* An index that does not belong to its .rec is an error at once, not when a record is read.
* `reset` of a reader keeps the index, unless the file was replaced or written to.
* A closed file stays closed until `open` or `reset` is called; in MXNet `read_idx` opens it again.
* A record and its line in the index are in their files when `write_idx` returns, or neither is.

Paths may be URLs, as in "s3://bucket/train.rec". A file at a URL appears when its writer is closed,
the index last; it does not appear if the writer is left by an exception or is never closed.

Only NumPy is needed; `pack_img` and `unpack_img` also need a codec.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from gpuio.errors import DecodeError
from gpuio.formats.image_record import IRHeader, pack, unpack
from gpuio.formats.mapping import numbers
from gpuio.formats.recordio import RecordFile, scan
from gpuio.mxnet.record_access import RecordAccess, path_text
from gpuio.mxnet.record_index import load_index
from gpuio.storage.appender import Appender
from gpuio.storage.identity import FileIdentity, identity_of
from gpuio.storage.paths import absolute


class MXRecordIO(RecordAccess):
    """Reads or writes the records of a .rec one after the other.

    Args:
        uri: Path or URL of the .rec.
        flag: "r" to read, "w" to write; "w" empties a file that is there.

    Attributes:
        uri: The path, a str.
        flag: "r" or "w".
        writable: True for "w".
        is_open: False after `close`.
        pid: The process that opened the file, None after `close`.

    Raises:
        ValueError: `flag` is neither "r" nor "w".
        OSError: The file cannot be opened.
    """

    def __init__(self, uri: str | os.PathLike[str], flag: Literal["r", "w"]) -> None:
        self._offsets: npt.NDArray[np.int64] | None = None
        self._identity: FileIdentity | None = None  # of the file that was scanned for `_offsets`
        super().__init__(uri, flag)

    def open(self) -> None:
        """Open the file, at its first record; a writer empties it."""
        with self._position_lock, self._open_lock:
            super().open()
            if not self.writable and (identity := identity_of(self._rec)) != self._identity:
                self._offsets, self._identity = None, identity

    def write(self, buf: bytes) -> None:
        """Add a record.

        Raises:
            TypeError: `buf` is not bytes.
            RuntimeError: The file is closed, or was opened by another process.
            OSError: The disk is full, for example; the file ends with the record before.
        """
        with self._position_lock:
            self._checked_writer().write(buf)

    def read(self) -> bytes | None:
        """The next record; None at the end of the file.

        Raises:
            CorruptRecordError: There is no whole record where the last one ended.
            RuntimeError: The file is closed, or was opened by another process.
        """
        with self._position_lock:
            if self.pid != os.getpid():
                self._check_process()
            record, self._position = self._with_reader(self._read_on)
        return record

    def _read_on(self, reader: RecordFile) -> tuple[bytes | None, int]:
        """The record where `read` goes on, None at the end, and where the next one starts."""
        at = self._position
        return (None, at) if at == reader.size else reader.read(at)

    def __len__(self) -> int:
        """Number of records; the first call scans the file."""
        return len(self._places())

    def __bool__(self) -> bool:
        # Without this, `if record:` would count the records.
        return True

    def __iter__(self) -> Iterator[bytes]:
        """All records in order, from the first, wherever `read` stands."""
        position = 0
        while position < self._with_reader(lambda reader: reader.size):
            record, position = self._read_at(position)
            yield record

    @overload
    def __getitem__(self, position: int) -> bytes: ...
    @overload
    def __getitem__(self, position: slice) -> list[bytes]: ...
    def __getitem__(self, position: int | slice) -> bytes | list[bytes]:
        """The record at a position, counted from 0, or those of a slice."""
        places = self._places()
        if isinstance(position, slice):
            return [self._read_at(place)[0] for place in places[position].tolist()]
        number = operator.index(position)
        if not -len(places) <= number < len(places):
            raise IndexError(f"position {number} of {len(places)} records")
        return self._read_at(int(places[number]))[0]

    def _places(self) -> npt.NDArray[np.int64]:
        self._checked_reader()
        offsets = self._offsets
        if offsets is None:
            offsets = self._offsets = scan(self._rec)
        return offsets

    def _read_at(self, position: int) -> tuple[bytes, int]:
        """The record there, and where the next one starts."""
        return self._with_reader(lambda reader: reader.read(position))


class MXIndexedRecordIO(MXRecordIO):
    """Reads or writes the records of a .rec by key.

    Args:
        idx_path: Path or URL of the .idx. None, for reading, finds the records by a scan; keys are
            then 0, 1, 2 and so on.
        uri: Path or URL of the .rec.
        flag: "r" to read, "w" to write; "w" empties files that are there.
        key_type: Makes a key from its text when reading, and from what is given when writing.

    Attributes:
        idx: Mapping from key to offset in bytes. The last line of a repeated key counts.
        keys: The keys in the order of the .idx, repeated ones too; `records[0]` has the first.
        idx_path: The path as given, a str.
        key_type: The function that makes keys.

    Raises:
        FormatError: The .idx cannot be parsed, or belongs to another .rec than `uri`.
        OSError: A file cannot be opened.
    """

    def __init__(
        self,
        idx_path: str | os.PathLike[str] | None,
        uri: str | os.PathLike[str],
        flag: Literal["r", "w"],
        key_type: Callable[[Any], Any] = int,
    ) -> None:
        self.idx_path = None if idx_path is None else path_text("idx_path", idx_path)
        self._idx = None if self.idx_path is None else absolute(self.idx_path)
        self.idx: Mapping[Any, int] = {}
        self.keys: MutableSequence[Any] = []
        self.key_type = key_type
        if flag == "w" and idx_path is None:
            raise ValueError("idx_path must be a path to write, got None")
        super().__init__(uri, flag)

    def open(self) -> None:
        """Open both files; a writer empties them."""
        with self._position_lock, self._open_lock:
            super().open()
            if self.writable:
                self.idx, self.keys = {}, []
            elif self._offsets is None:
                try:
                    index = load_index(self._rec, self._idx, self.key_type)
                except BaseException:
                    self.close()
                    raise
                self.keys, self.idx, self._offsets = index

    @property
    def fidx(self) -> Appender | None:
        """The open .idx of a writer, otherwise None."""
        return None if self._writer is None else self._writer.idx

    def seek(self, idx: Any) -> None:
        """Make `read` go on with the record of key `idx`.

        Raises:
            KeyError: There is no such key.
        """
        with self._position_lock:
            self._checked_reader()
            self._position = self.idx[idx]

    def tell(self) -> int:
        """Where the next record will be written, in bytes.

        Raises:
            RuntimeError: The file is closed, or was opened by another process.
        """
        return self._checked_writer().rec.position

    def read_idx(self, idx: Any) -> bytes:
        """The record of key `idx`; `read` goes on after it. Threads may call this at once.

        Raises:
            KeyError: There is no such key.
            CorruptRecordError: There is no whole record where the index says.
        """
        record, self._position = self._with_reader(lambda reader: reader.read(self.idx[idx]))
        return record

    def write_idx(self, idx: Any, buf: bytes) -> None:
        """Add a record under a key.

        Raises:
            TypeError: `buf` is not bytes.
            ValueError: `idx` is an integer of more than 64 bits, or text that no .idx can hold.
            RuntimeError: The file is closed, or was opened by another process.
            OSError: The disk is full, for example; neither file has a trace of the record.
        """
        key = self.key_type(idx)
        if self.key_type is int:
            if not -(1 << 63) <= key < 1 << 63:
                raise ValueError(f"{self.idx_path}: key {key} must be an integer of 64 bits")
        elif not (text := str(key)) or text != text.strip() or "\t" in text or "\n" in text:
            found = f"a line of text without tabs and outer blanks expected, got {text!r}"
            raise ValueError(f"{self.idx_path}: key: {found}")
        with self._position_lock:
            offset = self._checked_writer().write_keyed(key, buf)
            assert isinstance(self.idx, dict)
            self.idx[key] = offset
            self.keys.append(key)

    def __len__(self) -> int:
        """Number of lines of the index."""
        return len(self.keys)

    def __iter__(self) -> Iterator[bytes]:
        """All records in the order of the index, wherever `read` stands."""
        places = self._places()
        return (self._read_at(place)[0] for place in numbers(places))

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if self.idx_path is not None and self.is_open and not self.writable:
            # The file says the same in a fraction of the bytes a pickle would take.
            state.update(idx={}, keys=[], _offsets=None)
        return state


def pack_img(
    header: IRHeader | Sequence[Any],
    img: npt.NDArray[np.uint8],
    quality: int = 95,
    img_fmt: str = ".jpg",
) -> bytes:
    """The payload of an image record, from pixels.

    Args:
        header: As for `pack`.
        img: (H, W, 3) BGR or (H, W) gray uint8.
        quality: 1 to 100 for JPEG; the compression level for PNG.
        img_fmt: Extension that names the format, such as ".jpg" or ".png".

    Raises:
        GpuioError: The image cannot be encoded.
    """
    from gpuio.formats.encoding import imencode

    return pack(header, imencode(img_fmt, img, quality))


def unpack_img(s: bytes, iscolor: int = -1) -> tuple[IRHeader, npt.NDArray[np.uint8] | None]:
    """Header and pixels of an image record.

    The pixels are (H, W, 3) BGR or (H, W) gray uint8, or None where they cannot be decoded.

    Args:
        s: The payload.
        iscolor: -1 for the channels of the file, 0 for gray, 1 for color, as in OpenCV.

    Raises:
        FormatError: `s` is too short for a header and its labels.
        DecodeError: There is no image, only a header.
    """
    from gpuio.formats import codec

    header, data = unpack(s)
    if not data:
        raise DecodeError(f"record of id {header.id} has no image, only a header")
    try:
        return header, codec.imdecode(data, iscolor)
    except DecodeError:
        return header, None
