"""`ImageIter`: batches of images from a .rec, or from files in a list, by a list of augmenters.

There are two ways to make a batch. Lists that `Compiled` takes, as `CreateAugmenter` makes them,
run as kernels on all cores, some chunks ahead: see `ahead.py`. Other lists run in Python, image by
image: callables of others in worker threads; augmenters of this package alone, and the
methods of a derived class, in the calling thread, so that what they draw comes in MXNet's order.

Unlike MXNet 1.9.1 on purpose:

* A last batch is filled up from the start of the sequence as often as that takes; there, once, and
  what is left are zeros and random labels.
* `last_batch_handle` is checked.
* A .rec without .idx can be shuffled and parted: its records are found by a scan.
* A damaged image is an error when its batch is made, never later.
* Labels of another length than `label_width` are always an error; there, one is repeated.

Source: MXNet 1.9.1, python/mxnet/image/image.py.
"""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpuio import recordio
from gpuio.core import parameters as p
from gpuio.core.extras import explained
from gpuio.core.guard import Ends, Guard
from gpuio.core.threads import WorkerPool
from gpuio.errors import (
    BackendError,
    CorruptRecordError,
    DecodeError,
    FormatError,
    LabelError,
    PipelineClosedError,
)
from gpuio.formats.image_list import ImageList, first_lines, repeated_id
from gpuio.formats.image_record import rounded_whole, rounding
from gpuio.formats.index import Index
from gpuio.formats.label_hint import label_hint
from gpuio.mxnet.advice import advise_list
from gpuio.mxnet.image.augmenters import Augmenter, CreateAugmenter
from gpuio.mxnet.image.functions import imdecode, read_file
from gpuio.mxnet.iterators.batch import DataBatch, DataIter
from gpuio.mxnet.ndarray import NDArray
from gpuio.storage import paths
from gpuio.storage.location import PathLike as PathLike
from gpuio.storage.location import absolute, check_path

if TYPE_CHECKING:
    import numpy.typing as npt

    from gpuio.mxnet.image.ahead import Ahead, Reader, Run
    from gpuio.pipeline.executor import Batch
    from gpuio.sources.recordio.source import RecordIOSource

    Image = npt.NDArray[Any]
    Entry = tuple[NDArray, str]

_log = logging.getLogger(__name__)

_LAST_BATCH: Final = ("pad", "discard", "roll_over")
_LABEL_DTYPES: Final = ("int32", "float32", "int64", "float64")
_AHEAD: Final = 4  # images per thread that may wait to be augmented
_OWN: Final = __name__.rpartition(".")[0] + "."


class BrokenImageError(DecodeError, RuntimeError):
    """An image of a data set cannot be decoded; also the RuntimeError that MXNet raises."""


class ImageIter(DataIter):
    """Batches of images, augmented by a list of callables.

    A new `for` loop goes on with what is left of the epoch, and begins the next one (`reset`) where
    nothing is left. Any thread may call any method: threads that call `next` share the batches
    out, and `close` also ends the wait of another one.

    Args:
        batch_size: N, images in a batch.
        data_shape: 3, height, width of the output, in pixels.
        label_width: W, labels of every image.
        path_imgrec: A .rec.
        path_imglist: A .lst: of files under `path_root`; or of other labels, by key, for a .rec
            with `path_imgidx`.
        path_root: Folder of the files.
        path_imgidx: The .idx of the .rec.
        shuffle: Shuffle with `random.shuffle` now and at every reset.
        part_index: Which of `num_parts` parts of the sequence to read, from 0.
        num_parts: Parts of equal length; what is left over is left out.
        aug_list: Callables from an image to an image; those of `CreateAugmenter` if None.
        imglist: Samples [label, path] or [label, label, ..., path], or [[label, ...], path].
        data_name: Of the images, in `provide_data`.
        label_name: Of the labels, in `provide_label`.
        dtype: Of the labels of a list, in `imglist`; those of a batch are float32.
        last_batch_handle: What happens to a last batch that is not full: "pad" fills it up from the
            start of the sequence, and counts; "discard" drops it; "roll_over" keeps it for the next
            epoch, where it is filled up, and what was added counted as `pad`.
        preprocess_threads: Threads that decode and augment; all cores that this process may use
            when None. With one, callables of others draw in MXNet's order, too.
        resize: This and what follows as of `CreateAugmenter`; without effect with `aug_list`.
        rand_crop: Crop at a random place.
        rand_resize: Crop a part of random area and aspect ratio; with `rand_crop`.
        rand_mirror: Mirror one image in two.
        mean: To subtract; True for that of ImageNet.
        std: To divide by, likewise.
        brightness: Largest jitter.
        contrast: Largest jitter.
        saturation: Largest jitter.
        hue: Largest jitter.
        pca_noise: Standard deviation of the lighting.
        rand_gray: Probability of gray.
        inter_method: Of resizing.

    Attributes:
        seq: Keys of the samples, in the order of this epoch; None for a .rec read in order.
        cur: Where in the sequence the next sample is.
        num_image: Samples in `seq`, or None.
        imgrec: The open .rec, or None.
        imgidx: Keys of the .rec, or None.
        imglist: By key, label and path of each sample of a list; or None.
        auglist: The augmenters.
        provide_data: [(name, (N, 3, height, width))].
        provide_label: [(name, (N,) or (N, W))].

    Raises:
        FormatError: A file is not what it should be.
        OSError: A file cannot be read.
        ValueError: An argument has a wrong value.
    """

    @p.suggest
    def __init__(
        self,
        batch_size: int,
        data_shape: Sequence[int],
        label_width: int = 1,
        path_imgrec: PathLike | None = None,
        path_imglist: PathLike | None = None,
        path_root: PathLike | None = None,
        path_imgidx: PathLike | None = None,
        shuffle: bool = False,
        part_index: int = 0,
        num_parts: int = 1,
        aug_list: Sequence[Any] | None = None,
        imglist: Sequence[Sequence[Any]] | None = None,
        data_name: str = "data",
        label_name: str = "softmax_label",
        dtype: str = "float32",
        last_batch_handle: str = "pad",
        *,
        preprocess_threads: int | None = None,
        resize: int = 0,
        rand_crop: bool = False,
        rand_resize: bool = False,
        rand_mirror: bool = False,
        mean: Any = None,
        std: Any = None,
        brightness: float = 0,
        contrast: float = 0,
        saturation: float = 0,
        hue: float = 0,
        pca_noise: float = 0,
        rand_gray: float = 0,
        inter_method: int = 2,
    ) -> None:
        super().__init__(p.integer("batch_size", batch_size, least=1))
        given = path_imgrec or path_imglist or isinstance(imglist, list)
        assert given, "one of path_imgrec, path_imglist and imglist (a list) is required"
        try:
            dtype = p.dtype_name("dtype", dtype, _LABEL_DTYPES)
        except ValueError as error:
            raise AssertionError(str(error)) from None  # as in mxnet
        p.choice("last_batch_handle", last_batch_handle, _LAST_BATCH)
        paths.check_optional("path_imgrec", path_imgrec)
        paths.check_optional("path_imglist", path_imglist)
        paths.check_optional("path_imgidx", path_imgidx)
        if path_root is not None:
            check_path("path_root", path_root)
        self.check_data_shape(data_shape)
        self.data_shape = tuple(data_shape)
        self.label_width = label_width
        self.shuffle = shuffle
        self.last_batch_handle = last_batch_handle
        self.path_root = None if path_root is None else absolute(os.fspath(path_root))
        self.imglist: Mapping[Any, Entry] | None = None
        if path_imglist:
            self.imglist = _listed(path_imglist, dtype)
        elif isinstance(imglist, list):
            self.imglist = _entries(imglist, dtype)
        self.imgrec: recordio.MXIndexedRecordIO | None = None
        self.imgidx: list[Any] | None = None
        # Later the current folder may be another one.
        path_imgrec = path_imgrec and absolute(os.fspath(path_imgrec))
        path_imgidx = path_imgidx and absolute(os.fspath(path_imgidx))
        self._paths = path_imgrec, path_imgidx
        self._list_name = os.fspath(path_imglist) if path_imglist else "imglist"
        if path_imgrec:
            self._open(
                path_imgrec, path_imgidx, shown=bool(path_imgidx or shuffle or num_parts > 1)
            )
        keys = self.imgidx if path_imgrec else list(self.imglist or ())
        if num_parts > 1 and keys is not None:
            assert part_index < num_parts, f"part_index must be below {num_parts}, got {part_index}"
            count = len(keys) // num_parts
            keys = keys[part_index * count : (part_index + 1) * count]
        self.seq = keys
        self.num_image = None if keys is None else len(keys)
        made = {
            "resize": resize,
            "rand_crop": rand_crop,
            "rand_resize": rand_resize,
            "rand_mirror": rand_mirror,
            "mean": mean,
            "std": std,
            "brightness": brightness,
            "contrast": contrast,
            "saturation": saturation,
            "hue": hue,
            "pca_noise": pca_noise,
            "rand_gray": rand_gray,
            "inter_method": inter_method,
        }
        if aug_list is not None:
            advise_list(made, CreateAugmenter)
        self.auglist: Sequence[Any] = (
            CreateAugmenter(self.data_shape, **made) if aug_list is None else aug_list
        )
        labels = (self.batch_size, label_width) if label_width > 1 else (self.batch_size,)
        self.provide_data = [(data_name, (self.batch_size, *self.data_shape))]
        self.provide_label: list[tuple[str, tuple[int, ...]]] = [(label_name, labels)]
        self.cur = 0
        self._guard, self._ends = Guard(), Ends()
        self._allow_read = True
        self._begun = self._over = False  # whether something, and the end, was met in this epoch
        self._sample: tuple[Any, bytes] | None = None  # the next one, where no thread could take it
        self._kept: tuple[NDArray, NDArray, int] | None = None
        self._workers = _Workers(preprocess_threads)
        self._waiting: deque[tuple[Any, str, Future[Image]]] = deque()
        self._ahead: Ahead | None = None
        self._compiled_from: list[Any] | None = None
        self._at = 0  # where the chunk that `_ahead` will give begins
        self.reset()

    def _open(self, rec: PathLike, idx: PathLike | None, *, shown: bool) -> None:
        """Open the .rec, by its index or a scan; `shown` says whether users see its keys."""
        self.imgrec = recordio.MXIndexedRecordIO(idx or None, rec, "r")
        if shown:
            self.imgidx = list(self.imgrec.keys)
            _check_keys(self.imgrec, idx)
        if self.imglist is not None and not idx:
            warnings.warn(
                "labels of a list need path_imgidx; those in the .rec are used", stacklevel=4
            )
            self.imglist = None

    def __iter__(self) -> Iterator[DataBatch]:
        """This iterator, at the start of the next epoch if nothing is left of this one."""
        self._guard.check()
        if self._at_end():  # else there is no need to wait for the loop of another thread
            with self._guard:
                if self._at_end():
                    if not self._over:
                        with suppress(StopIteration):
                            self.next()  # "roll_over" keeps the samples that are left
                    self.reset()
        return self

    def _at_end(self) -> bool:
        return self._over or (self._begun and self._is_over())

    def _is_over(self) -> bool:
        """Whether an epoch that was begun has no other batch."""
        if self._kept is not None:
            return False
        left = len(self._waiting) + (self._sample is not None)
        if self._allow_read:
            left += len(self._order) - self.cur
        return left < (1 if self.last_batch_handle == "pad" else self.batch_size)

    def reset(self) -> None:
        """Begin the next epoch; samples that "roll_over" has kept come first."""
        with self._guard:
            self._shuffle()
            if self._kept is None:
                self._rewind()

    def hard_reset(self) -> None:
        """Begin the next epoch and forget what was kept."""
        with self._guard:
            self._shuffle()
            self._kept = None
            self._rewind()

    def _shuffle(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()
        if self.seq is not None and self.shuffle:
            random.shuffle(self.seq)
        self._begun = self._over = False
        self._ends = Ends()

    def _rewind(self) -> None:
        self._waiting.clear()
        self._sample = None
        self.cur = 0
        self._allow_read = True

    def close(self) -> None:
        """End the threads and close the .rec; batches handed out stay as they are."""
        self._guard.close(self._interrupt, self._end)

    def _interrupt(self) -> None:
        ahead = self._ahead
        if ahead is not None:
            ahead.interrupt()
        self._workers.interrupt()

    def _end(self) -> None:
        self._waiting.clear()
        self._workers.close()
        self._drop_ahead()
        if self.imgrec is not None:
            self.imgrec.close()

    @property
    def _order(self) -> Sequence[Any]:
        """Keys in the order of this epoch."""
        if self.seq is not None:
            return self.seq
        assert self.imgrec is not None
        return self.imgrec.keys

    def next_sample(self) -> tuple[Any, bytes]:
        """Label and encoded image of the next sample.

        Raises:
            StopIteration: The sequence is over.
            CorruptRecordError: The record cannot be read, or is no image record.
        """
        with self._guard:
            if not self._allow_read:
                raise StopIteration
            if self.cur >= len(self._order):
                self._begin_again()
                raise StopIteration
            key = self._order[self.cur]
            self.cur += 1
            if self.imgrec is not None:
                header, image = _unpack(self.imgrec, key)
                return header.label if self.imglist is None else self.imglist[key][0], image
            assert self.imglist is not None
            label, name = self.imglist[key]
            return label, self.read_image(name)

    def _begin_again(self) -> None:
        """The end of the sequence was seen: what is asked for next begins at its start."""
        if self.last_batch_handle != "discard":
            self.cur = 0

    def next(self) -> DataBatch:
        """The next batch.

        Raises:
            StopIteration: The epoch is over.
            BrokenImageError: An image cannot be decoded; the next batch begins after it.
            LabelError: An image has not `label_width` labels.
            FormatError: The augmenters gave an image of another shape than `data_shape`.
            BackendError: A thread cannot be started; the batch may be asked for again.
            PipelineClosedError: The iterator was closed, maybe while this waited for the batch.
        """
        with self._guard:
            if self._ends.take():
                raise StopIteration
            self._begun, self._over = True, False
            try:
                return self._next()
            except StopIteration:
                self._over = True
                self._ends.add()
                raise
            except CancelledError:
                raise PipelineClosedError("this iterator was closed") from None

    def _next(self) -> DataBatch:
        if self._kept is not None:
            data, label, count = self._kept
        else:
            data, label, count = self._begin()
            if not count:
                raise StopIteration
        pad = self.batch_size - count
        if pad:
            if self.last_batch_handle == "discard":
                raise StopIteration
            if self.last_batch_handle == "roll_over" and self._kept is None:
                self._kept = data, label, count
                raise StopIteration
            while count < self.batch_size and (more := self._fill(data, label, count)) > count:
                count = more
            if self.last_batch_handle == "pad":
                self._allow_read = False
            self._kept = None
        return DataBatch([data], [label], pad=pad)

    def _begin(self) -> tuple[NDArray, NDArray, int]:
        """A batch with the samples up to the end of the sequence, and how many those are."""
        if self._compiled() and self.batch_size <= len(self._order) - self.cur:
            chunk = self._take(self.batch_size, 0) if self._allow_read else None
            if chunk is not None:
                return *self._arrays(chunk), self.batch_size
        data, label = self._empty()
        return data, label, self._fill(data, label, 0)

    def _empty(self) -> tuple[NDArray, NDArray]:
        """Room for the data and labels of a batch."""
        data = np.zeros(self.provide_data[0][1], np.float32)
        label = np.zeros(self.provide_label[0][1], np.float32)
        return data.view(NDArray), label.view(NDArray)

    def _fill(self, data: NDArray, label: NDArray, start: int) -> int:
        """Put the samples up to the end of the sequence, or of the batch, into it.

        Returns:
            How many samples there are now; there were `start`.
        """
        if self._compiled():
            return self._fill_compiled(data, label, start)
        count, ended = start, False
        while count < self.batch_size:
            ended = ended or not self._read_ahead(self.batch_size - count)
            if not self._waiting:
                break
            found, where, image = self._waiting.popleft()
            pixels = image.result()
            with _naming(where):
                count += self._put(data, label, count, found, pixels)
        return count

    def _fill_compiled(self, data: NDArray, label: NDArray, start: int) -> int:
        room, left = self.batch_size - start, len(self._order) - self.cur
        if not self._allow_read:
            return start
        count = min(room, left)
        if count:
            images, labels = self._arrays(self._take(count, start))
            data[start : start + count], label[start : start + count] = images, labels
        if left < room:
            self._begin_again()
        return start + count

    def _arrays(self, chunk: Batch) -> tuple[NDArray, NDArray]:
        labels = chunk.labels if self.label_width > 1 else chunk.labels[:, 0]
        return chunk.data.view(NDArray), labels.view(NDArray)

    def _take(self, count: int, start: int) -> Batch:
        """The next `count` samples of the sequence, for the places of a batch from `start` on."""
        ahead = self._ahead
        assert ahead is not None
        if self._at != self.cur:
            ahead.stop()
        try:
            chunk = ahead.take()
            if chunk is None:
                kept, order = self._kept is not None, self._order
                handle = self.last_batch_handle
                runs = _runs(self.cur, start, len(order), self.batch_size, handle, kept=kept)
                ahead.start(runs, order, self._ids_of)
                chunk = ahead.take()
        except (BackendError, PipelineClosedError):  # that is not because of a sample
            ahead.stop()
            raise
        except Exception as error:
            place = ahead.failed()
            ahead.stop()
            self.cur += count if place is None else place + 1
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            if isinstance(error, DecodeError):
                raise BrokenImageError(f"Broken image {self._name()}: {error}") from error
            raise
        assert chunk is not None
        self.cur += count
        self._at = self.cur % len(self._order)
        return chunk

    def _compiled(self) -> bool:
        """Whether batches are made by kernels, which are then ready to be asked for some."""
        augs = list(self.auglist)
        if self._ahead is not None and self._ahead.pid != os.getpid():
            self._ahead = self._compiled_from = None  # its threads stayed with the parent
        if augs != self._compiled_from:
            self._drop_ahead()
            self._compiled_from = augs
            if all(getattr(type(self), name) is getattr(ImageIter, name) for name in _HOOKS):
                self._ahead = self._compile(augs)
        return self._ahead is not None

    def _compile(self, augs: Sequence[Any]) -> Ahead | None:
        with explained("ImageIter"):
            from gpuio.mxnet.image.ahead import Ahead
            from gpuio.mxnet.image.compiled import Compiled

        channels, height, width = self.data_shape
        compiled = Compiled.of(augs, (channels, height, width))
        if compiled is None or not len(self._order):
            return None
        label_width = max(self.label_width, 1)
        read, self._ids_of = self._reader(label_width)
        labels = None if self.imglist is None else _labels_by_key(self.imglist)
        size = self.batch_size
        return Ahead(read, compiled, size, label_width, labels, self._workers.threads)

    def _reader(self, label_width: int) -> tuple[Reader, Callable[[Sequence[Any]], Any]]:
        """The first room, and what gives the numbers of its records from keys."""
        from gpuio.pipeline.read.reader import RecordReader
        from gpuio.sources.folder import FolderSource
        from gpuio.sources.labels import no_labels

        rec, idx = self._paths
        if rec:
            index = (Index.load(idx) if idx else Index.scan(rec)).sorted()
            relabel = None if self.imglist is None else no_labels(label_width)
            read = RecordReader(
                _source(os.fspath(rec), index),
                label_width=label_width,
                relabel=relabel,
            )
            return read, _Numbers(index.keys)
        assert self.imglist is not None
        if self.path_root is None:
            raise TypeError(_NO_ROOT)
        keys = sorted(set(self.imglist))
        paths = [self.imglist[key][1] for key in keys]
        zeros = np.broadcast_to(np.float32(0), (len(paths), label_width))
        files = FolderSource(paths, zeros, root=self.path_root)
        return RecordReader(files, label_width=label_width), _Numbers(np.array(keys))

    def _drop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = None

    def _put(self, data: NDArray, label: NDArray, place: int, found: Any, image: Image) -> bool:
        """Put one image into its place in the batch; False if it is left out."""
        if not self._threaded:
            try:
                self.check_valid_image(image)
            except RuntimeError as error:
                _log.debug("invalid image left out: %s", error)
                return False
            image = self.augmentation_transform(image)
        values = np.asarray(found, np.float32).ravel()
        if values.size != max(self.label_width, 1):
            hint = label_hint(values, image.nbytes, reader="ImageDetIter")
            raise LabelError(
                f"it has {values.size} labels, not label_width={self.label_width}{hint}"
            )
        data[place] = self._checked(self.postprocess_data(image))
        label[place] = values if self.label_width > 1 else values[0]
        return True

    def _checked(self, image: Image) -> Image:
        """An image for the batch, which must have `data_shape`, or one that becomes it."""
        try:
            return np.broadcast_to(image, self.data_shape)
        except ValueError:
            raise FormatError(
                f"after augmentation the image has the shape {np.shape(image)}, not data_shape="
                f"{self.data_shape}: the augmenters must resize or crop it"
            ) from None

    def _read_ahead(self, wanted: int) -> bool:
        """Have some of the next `wanted` samples decoded; False once the sequence is over.

        Those that a failure leaves behind come first in the next batch.
        """
        while len(self._waiting) < min(wanted, self._workers.ahead):
            try:
                self._sample = self._sample or self.next_sample()
            except StopIteration:
                return False
            label, encoded = self._sample
            self._waiting.append((label, self._where(), self._decode(encoded)))
            self._sample = None
        return True

    def _decode(self, encoded: bytes) -> Future[Image]:
        """An image on its way; augmented, where augmenters run in threads."""
        if type(self).imdecode is not ImageIter.imdecode:  # it may not be made for threads
            done: Future[Image] = Future()
            done.set_result(self.imdecode(encoded))
            return done
        augs = list(self.auglist) if self._threaded else []
        return self._workers.submit(encoded, self._where(), augs)

    @property
    def _threaded(self) -> bool:
        """Whether augmenters run in worker threads."""
        own = all(getattr(type(self), name) is getattr(ImageIter, name) for name in _HOOKS)
        return own and not all(map(_is_own, self.auglist))

    def _name(self) -> str:
        """The sample that was read last, as MXNet names it."""
        if self.seq is None:
            return "in a .rec read in order"
        key = self.seq[self.cur - 1]
        return f"index: {key}" if self.imglist is None else f"filename: {self.imglist[key][1]}"

    def _where(self) -> str:
        """The sample that was read last: its file, its place there and its key."""
        key = self._order[self.cur - 1]
        if self.imgrec is not None:
            place = f"{self.imgrec.uri}: record at byte {self.imgrec.idx[key]}, key {key}"
        else:
            place = f"key {key} of {self._list_name}"
        return f"{self._name()} ({place})"

    def imdecode(self, s: bytes) -> NDArray:
        """The image in an encoded file, (H, W, 3) uint8 RGB.

        Raises:
            BrokenImageError: There is none.
        """
        return _decode_one(s, self._where()).view(NDArray)

    def read_image(self, fname: str) -> bytes:
        """The bytes of a file under `path_root`."""
        if self.path_root is None:
            raise TypeError(_NO_ROOT)
        return read_file(Path(self.path_root) / fname)

    def check_data_shape(self, data_shape: Sequence[int]) -> None:
        """Refuse what is not (3, height, width).

        Raises:
            ValueError: It is not.
        """
        channels, *_ = p.shape("data_shape", data_shape, 3)
        if channels != 3:
            raise ValueError(f"data_shape must have 3 channels first, got {data_shape}")

    def check_valid_image(self, data: Any) -> None:
        """Refuse an image without pixels.

        Raises:
            RuntimeError: It has none.
        """
        if not np.shape(data[0]):
            raise RuntimeError(f"data must be an image, got shape {np.shape(data)}")

    def augmentation_transform(self, data: Image) -> Image:
        """The image after all of `auglist`."""
        for aug in self.auglist:
            data = aug(data)
        return data

    def postprocess_data(self, datum: Image) -> Image:
        """(H, W, C) as (C, H, W)."""
        return np.transpose(datum, (2, 0, 1))


_HOOKS: Final = (
    "next_sample",
    "imdecode",
    "read_image",
    "check_valid_image",
    "augmentation_transform",
    "postprocess_data",
    "_put",
)
"""Methods that a derived class may replace, and which kernels would pass by."""
_NO_ROOT: Final = "path_root must be the folder of the files in the list, got None"


def _runs(
    at: int, start: int, count: int, batch_size: int, last_batch_handle: str, *, kept: bool
) -> Iterator[Run]:
    """What chunks an epoch is made of, up to the batch that ends it.

    Args:
        at: Where the first chunk begins in the sequence.
        start: Places of its batch that are taken.
        count: Samples in the sequence.
        batch_size: Samples in a batch.
        last_batch_handle: Of the iterator.
        kept: Whether the batch has what "roll_over" kept, and so is filled up.
    """
    ending = False
    while at < count:
        size = min(batch_size - start, count - at)
        yield at, size
        at, start = at + size, start + size
        if start == batch_size:
            if ending:
                return
            start, kept = 0, False
        elif last_batch_handle == "pad" or kept:
            at, ending = 0, not kept
        else:
            return


def _unpack(file: recordio.MXIndexedRecordIO, key: Any) -> tuple[recordio.IRHeader, bytes]:
    """Header and image of the record of a key.

    Raises:
        CorruptRecordError: It cannot be read, or is no image record.
    """
    payload = file.read_idx(key)
    try:
        return recordio.unpack(payload)
    except FormatError as error:
        reason, offset = f"key {key}: {error}", int(file.idx[key])
        raise CorruptRecordError(reason, path=file.uri, offset=offset) from error


def _source(path: str, index: Index) -> RecordIOSource:
    """Exactly the records of an index, also where another one lies beside the .rec."""
    from gpuio.sources.recordio.source import RecordIOSource

    return RecordIOSource.of_index(path, index)


class _Numbers:
    """Numbers of records by their keys; of equal keys, the last one's.

    Args:
        keys: (N,) keys in the order of the records.
    """

    def __init__(self, keys: npt.NDArray[Any]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __call__(self, keys: Sequence[Any]) -> npt.NDArray[np.int64]:
        wanted = np.asarray(keys, self._keys.dtype)
        numbers: npt.NDArray[np.int64] = self._order[
            np.searchsorted(self._keys, wanted, side="right") - 1
        ]
        return numbers


def _labels_by_key(imglist: Mapping[Any, Entry]) -> Callable[[Any], Any]:
    return lambda key: imglist[key][0]


def _is_own(aug: Any) -> bool:
    """Whether an augmenter, and all that are in it, are of this package."""
    own = isinstance(aug, Augmenter) and type(aug).__module__.startswith(_OWN)
    return own and all(map(_is_own, getattr(aug, "ts", ())))


class _Workers:
    """Threads that decode and augment, started when first needed, anew in a child process."""

    def __init__(self, threads: int | None) -> None:
        from gpuio.core.threads import available_cores

        if threads is not None:
            threads = p.integer("preprocess_threads", threads, least=1)
        self.threads = threads or available_cores()
        self._pool: WorkerPool | None = None
        self._pid = 0
        self._closed = False

    @property
    def ahead(self) -> int:
        """How many images may wait."""
        return self.threads * _AHEAD

    def submit(self, encoded: bytes, where: str, augs: Sequence[Any]) -> Future[Image]:
        """An encoded image decoded, and taken through `augs`.

        Raises:
            BackendError: No thread can be started.
            PipelineClosedError: `interrupt` was called.
        """
        if self._pool is None or self._pid != os.getpid():
            self._pool = WorkerPool(self.threads, "gpuio-image")
            self._pid = os.getpid()
        try:
            return self._pool.submit(_decode_one, encoded, where, augs)
        except RuntimeError as error:
            if self._closed:
                raise PipelineClosedError("this iterator was closed") from error
            raise

    def interrupt(self) -> None:
        """Drop what no thread has begun with; `close` is to follow. For any thread."""
        self._closed = True
        pool = self._pool
        if pool is not None and self._pid == os.getpid():
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        if self._pool is not None and self._pid == os.getpid():
            self._pool.shutdown(cancel_futures=True)
        self._pool = None


def _listed(path: PathLike, dtype: str) -> _Listed:
    """The samples of a .lst.

    Raises:
        FormatError: It is no list, or an id stands on two lines that differ.
    """
    images = ImageList.load(path)
    names = np.array(images.paths, object)
    for rows, what in ((images.labels, "labels"), (names, "paths")):
        clash = first_lines(images.ids, rows)[1]
        if clash is not None:
            raise repeated_id(os.fspath(path), *clash, int(images.ids[clash[0]]), what)
    return _Listed(images, dtype)


def _check_keys(file: recordio.MXIndexedRecordIO, idx: PathLike | None) -> None:
    """Find out whether each key of an index means one record.

    Raises:
        FormatError: A key stands for several records.
    """
    if idx is None or len(file.idx) == len(file.keys):
        return
    index = Index.load(idx)
    clash = first_lines(index.keys, index.offsets)[1]
    if clash is not None:
        places = index.offsets[list(clash)].tolist()
        raise FormatError(
            f"{os.fspath(idx)}: key {index.keys[clash[0]]} stands for the records at bytes "
            f"{places[0]} and {places[1]}, and ImageIter finds samples by their keys; write "
            "another index with `gpuio rec2idx`, or use ImageRecordIter, which goes by places"
        )


class _Listed(Mapping[int, "tuple[NDArray, str]"]):
    """Label and path of each line of a .lst, by key, made when asked for."""

    def __init__(self, images: ImageList, dtype: str) -> None:
        self._images, self._dtype = images, dtype
        self._lines = {key: line for line, key in enumerate(images.ids.tolist())}
        self._keys = images.ids.tolist()

    def __getitem__(self, key: int) -> tuple[NDArray, str]:
        line = self._lines[key]
        starts = self._images.starts
        label = self._images.values[starts[line] : starts[line + 1]].astype(self._dtype)
        return label.view(NDArray), self._images.paths[line]

    def __iter__(self) -> Iterator[int]:
        """The keys in the order of the lines, repeated ones too."""
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _entries(imglist: Sequence[Sequence[Any]], dtype: str) -> dict[str, tuple[NDArray, str]]:
    """Label and path of each sample, under "1", "2" and so on."""
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


def _decode_one(encoded: bytes, where: str, augs: Sequence[Any] = ()) -> Image:
    try:
        image: Image = imdecode(encoded)
    except (DecodeError, ValueError) as error:
        raise BrokenImageError(f"Broken image {where}: {error}") from error
    with _naming(where):
        for aug in augs:
            image = aug(image)
    return image


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Add the file and place of a sample to what it makes fail: to the text, or in a note."""
    try:
        yield
    except Exception as error:
        kind = _NAMED.get(type(error))
        if kind is not None:
            raise kind(f"{where}: {error}") from error
        error.add_note(f"raised for {where}")
        raise


_NAMED: Final[dict[type[Exception], type[Exception]]] = {
    LabelError: LabelError,
    FormatError: FormatError,
    ValueError: FormatError,
}
