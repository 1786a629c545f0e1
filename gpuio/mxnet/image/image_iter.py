"""`ImageIter`: batches of images from a .rec, or from files in a list, by a list of augmenters.

A batch is made in one of two ways. Lists of augmenters that kernels can run (see `compiled.py`),
such as those of `CreateAugmenter`, run on all cores, some chunks ahead: see `chunks.py`. Other
lists run in Python, image by image: see `decode_queue.py`. There, a list with a user's callable
runs in worker threads; lists of this package's augmenters alone, and the methods of a derived
class, run in the calling thread, so that they draw their values in MXNet's order.

Unlike MXNet 1.9.1 on purpose:

* A last batch is filled up from the start of the sequence as often as that takes. MXNet goes to the
  start once, and the rest of the batch is zeros, with random labels.
* `last_batch_handle` is checked.
* A .rec without .idx can be shuffled and read in parts: its records are found by a scan.
* A damaged image is an error when its batch is made, never later.
* It is always an error if a sample has another number of labels than `label_width`. MXNet repeats a
  single label.

Source: MXNet 1.9.1, python/mxnet/image/image.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import MutableSequence, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.extras import explained
from gpuio.core.guard import Ends
from gpuio.core.signatures import suggest, with_keywords_of
from gpuio.errors import FormatError, LabelError
from gpuio.formats.label_hint import label_hint
from gpuio.mxnet.image.augmenters import AugmenterOptions, CreateAugmenter, is_own, make_list
from gpuio.mxnet.image.decode_queue import BrokenImageError as BrokenImageError
from gpuio.mxnet.image.decode_queue import DecodeQueue, EncodedSample
from gpuio.mxnet.image.samples import NO_ROOT, KeyedSamples
from gpuio.mxnet.image.sequence import SampleSequence, part_of
from gpuio.mxnet.iterators.batch import DataBatch
from gpuio.mxnet.iterators.epochs import EpochIter
from gpuio.mxnet.ndarray import NDArray
from gpuio.storage import paths
from gpuio.storage.paths import PathLike as PathLike
from gpuio.storage.paths import check_path
from gpuio.storage.plain_file import read_plain

if TYPE_CHECKING:
    from gpuio.mxnet.image.chunks import ChunkPipeline

Image = npt.NDArray[Any]

_log = logging.getLogger(__name__)

_LABEL_DTYPES: Final = ("int32", "float32", "int64", "float64")


class ImageIter(EpochIter):
    """Batches of images, augmented by a list of callables.

    A new `for` loop goes through the batches that are left of the epoch; if none is left, it begins
    the next epoch (`reset`). As in MXNet, `next` itself continues after the end of an epoch whose
    last batch was not padded, and after an image that cannot be decoded. Any thread may call any
    method: each batch goes to one of the threads that call `next`, and `close` ends the wait of all
    of them.

    Args:
        batch_size: N, images in a batch.
        data_shape: 3, height, width of the output, in pixels.
        label_width: W, labels of every image.
        path_imgrec: A .rec.
        path_imglist: A .lst: of files under `path_root`; or, for a .rec with `path_imgidx`, of
            labels by key that replace those in the .rec.
        path_root: Folder of the files.
        path_imgidx: The .idx of the .rec.
        shuffle: Shuffle with `random.shuffle` now and at every reset.
        part_index: Which of `num_parts` parts of the sequence to read, from 0.
        num_parts: Parts of equal length; samples that are left over are in none.
        aug_list: Callables from an image to an image; those of `CreateAugmenter` if None.
        imglist: Samples [label, path] or [label, label, ..., path], or [[label, ...], path].
        data_name: Name of the images in `provide_data`.
        label_name: Name of the labels in `provide_label`.
        dtype: Type of the labels in the attribute `imglist`; the labels of a batch are float32.
        last_batch_handle: What happens to a last batch that is not full: "pad" fills it up from the
            start of the sequence, and counts; "discard" drops it; "roll_over" keeps it for the next
            epoch, where it is filled up, and what was added counted as `pad`.
        preprocess_threads: Threads that decode and augment; all cores that this process may use
            when None. With one, callables of your own draw in MXNet's order, too.
        **options: Keywords of `CreateAugmenter`, which have no effect beside `aug_list`.

    Attributes:
        seq: Keys of the samples, in the order of this epoch; None for a .rec read in order.
        cur: Place of the next sample in the sequence.
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

    _error_ends_epoch = False

    @suggest
    @with_keywords_of(CreateAugmenter)
    def __init__(  # noqa: PLR0913, PLR0917  MXNet's signature
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
        **options: Unpack[AugmenterOptions],
    ) -> None:
        super().__init__(p.integer("batch_size", batch_size, least=1))
        some = path_imgrec or path_imglist or isinstance(imglist, list)
        assert some, "one of path_imgrec, path_imglist and imglist (a list) is required"
        try:
            dtype = p.dtype_name("dtype", dtype, _LABEL_DTYPES)
        except ValueError as error:
            raise AssertionError(str(error)) from None  # as in mxnet
        paths.check_optional_path("path_imgrec", path_imgrec)
        paths.check_optional_path("path_imglist", path_imglist)
        paths.check_optional_path("path_imgidx", path_imgidx)
        if path_root is not None:
            check_path("path_root", path_root)
        self.check_data_shape(data_shape)
        _, height, width = p.shape("data_shape", data_shape, 3)
        self.data_shape = (3, height, width)
        self.label_width = p.integer("label_width", label_width, least=1)
        self.shuffle = shuffle
        self.last_batch_handle = last_batch_handle
        keyed = bool(shuffle or num_parts > 1)
        self._samples = KeyedSamples(
            path_imgrec, path_imgidx, path_imglist, imglist, path_root, dtype, keyed=keyed
        )
        self.imgrec, self.imgidx = self._samples.imgrec, self._samples.imgidx
        self.imglist, self.path_root = self._samples.imglist, self._samples.root
        keys = part_of(self._samples.keys, num_parts, part_index)
        self._sequence = SampleSequence(keys, self.batch_size, last_batch_handle)
        self.num_image = len(keys) if self._samples.keyed else None
        self.auglist: Sequence[Any] = make_list(CreateAugmenter, aug_list, self.data_shape, options)
        labels = (self.batch_size, label_width) if label_width > 1 else (self.batch_size,)
        self.provide_data = [(data_name, (self.batch_size, *self.data_shape))]
        self.provide_label: list[tuple[str, tuple[int, ...]]] = [(label_name, labels)]
        self._ends = Ends()
        self._kept: tuple[NDArray, NDArray, int] | None = None
        self._queue = DecodeQueue(preprocess_threads)
        self._threaded = False  # whether augmenters run in the threads of the queue
        self._kernels: ChunkPipeline | None = None
        self._kernel_augs: list[Any] | None = None  # what `_kernels` was made for
        self.reset()

    @property
    def seq(self) -> MutableSequence[Any] | None:
        return self._sequence.keys if self._samples.keyed else None

    @seq.setter
    def seq(self, keys: MutableSequence[Any]) -> None:
        self._sequence.keys, self._samples.keyed = keys, True

    @property
    def cur(self) -> int:
        return self._sequence.cur

    @cur.setter
    def cur(self, place: int) -> None:
        self._sequence.cur = place

    def _is_over(self) -> bool:
        if self._kept is not None:
            return False
        left = len(self._queue) + self._sequence.left
        return left < (1 if self.last_batch_handle == "pad" else self.batch_size)

    def _begin(self) -> None:
        """Begin the next epoch; samples that "roll_over" has kept come first."""
        if self._kernels is not None:
            self._kernels.stop()
        if self.shuffle and self._samples.keyed:
            self._sequence.shuffle()
        self._ends = Ends()
        if self._kept is None:
            self._queue.clear()
            self._sequence.rewind()

    def hard_reset(self) -> None:
        """Begin the next epoch and forget what was kept."""
        with self._guard:
            self._kept = None
            self.reset()

    def _interrupt(self) -> None:
        kernels = self._kernels
        if kernels is not None:
            kernels.interrupt()
        self._queue.interrupt()

    def _end(self) -> None:
        super()._end()
        self._queue.close()
        if self._kernels is not None:
            self._kernels.close()
        self._samples.close()

    def next_sample(self) -> tuple[Any, bytes]:
        """Label and encoded image of the next sample.

        Raises:
            StopIteration: The sequence is over.
            CorruptRecordError: The record cannot be read, or is no image record.
        """
        with self._guard:
            key = self._sequence.next_key()
            if self.imgrec is not None:
                return self._samples.read_record(key)
            assert self.imglist is not None
            label, name = self.imglist[key]
            return label, self.read_image(name)

    def next(self) -> DataBatch:
        """The next batch.

        Raises:
            StopIteration: The epoch is over.
            BrokenImageError: An image cannot be decoded; the next batch begins after it.
            LabelError: A sample has another number of labels than `label_width`.
            FormatError: The augmenters made an image of another shape than `data_shape`.
            BackendError: A thread cannot be started; the batch may be asked for again.
            PipelineClosedError: The iterator was closed, maybe while this waited for the batch.
        """
        with self._guard:
            if self._ends.take():
                raise StopIteration
            self._ended = False  # MXNet's goes on past an end, unless the last batch was padded
            try:
                return super().next()
            except StopIteration:
                self._ends.add()
                raise

    def _take(self) -> DataBatch:
        rolled_over = self._kept is not None
        data, label, count = self._kept or self._begin_batch()
        if not count:
            raise StopIteration
        pad = self.batch_size - count
        if pad and self.last_batch_handle == "discard":
            raise StopIteration
        if pad and self.last_batch_handle == "roll_over" and not rolled_over:
            self._kept = data, label, count
            raise StopIteration
        while count < self.batch_size and (more := self._fill(data, label, count)) > count:
            count = more
        if pad and self.last_batch_handle == "pad":
            self._sequence.end()
        self._kept = None
        return DataBatch([data], [label], pad=pad)

    def _begin_batch(self) -> tuple[NDArray, NDArray, int]:
        """A batch, full unless the sequence ends before, and how many samples it has."""
        kernels = self._find_kernels()
        if kernels is not None and self.batch_size <= self._sequence.left:
            return *kernels.take(self.batch_size), self.batch_size
        data, label = self._empty()
        return data, label, self._fill(data, label, 0)

    def _empty(self) -> tuple[NDArray, NDArray]:
        """Arrays for the data and labels of a batch."""
        data = np.zeros(self.provide_data[0][1], np.float32)
        label = np.zeros(self.provide_label[0][1], np.float32)
        return data.view(NDArray), label.view(NDArray)

    def _fill(self, data: NDArray, label: NDArray, start: int) -> int:
        """Put samples into a batch until it is full or the sequence ends.

        Returns:
            How many samples the batch has now; it had `start`.
        """
        kernels = self._find_kernels()
        if kernels is not None:
            return self._fill_by_kernels(kernels, data, label, start)
        self._threaded = self._has_default_hooks and not all(map(is_own, self.auglist))
        count, more = start, True
        while count < self.batch_size:
            missing = self.batch_size - count
            more = more and self._queue.read_ahead(self._read, self._decode, missing)
            taken = self._queue.take()
            if taken is None:
                break
            sample, image = taken
            with sample.named():
                count += self._put(data, label, count, sample.label, image)
        return count

    def _fill_by_kernels(
        self, kernels: ChunkPipeline, data: NDArray, label: NDArray, start: int
    ) -> int:
        missing, left = self.batch_size - start, self._sequence.left
        stop = start + min(missing, left)
        if stop > start:
            chunk = kernels.take(stop - start, filled=start, kept=self._kept is not None)
            data[start:stop], label[start:stop] = chunk
        if left < missing:
            self._sequence.wrap()
        return stop

    def _find_kernels(self) -> ChunkPipeline | None:
        """The pipeline that runs the augmenters as kernels; None where they run in Python."""
        if not self._has_default_hooks:
            return None
        augs, kernels = list(self.auglist), self._kernels
        if augs == self._kernel_augs and (kernels is None or kernels.pid == os.getpid()):
            return kernels
        with explained("ImageIter"):
            from gpuio.mxnet.image.chunks import ChunkPipeline
            from gpuio.mxnet.image.compiled import CompiledAugmenters
        if kernels is not None:
            kernels.close()
        self._kernel_augs, self._kernels = augs, None
        compiled = CompiledAugmenters.of(augs, self.data_shape)
        if compiled is not None and len(self._sequence.keys):
            self._kernels = ChunkPipeline(
                compiled, self._samples, self._sequence, self.label_width, self._queue.threads
            )
        return self._kernels

    @property
    def _has_default_hooks(self) -> bool:
        """Whether no derived class has replaced one of `_HOOKS`."""
        return all(getattr(type(self), name) is getattr(ImageIter, name) for name in _HOOKS)

    def _read(self) -> EncodedSample:
        return self._named(*self.next_sample())

    def _named(self, label: Any, encoded: bytes) -> EncodedSample:
        """What was read last; its name is only made for messages."""
        where = partial(self._samples.where, self._sequence.last_key)
        return EncodedSample(label, encoded, where)

    def _decode(self, sample: EncodedSample) -> Future[Image]:
        """Begin to decode an image, and to augment it if augmenters run in threads."""
        if type(self).imdecode is not ImageIter.imdecode:  # it may not be made for threads
            done: Future[Image] = Future()
            done.set_result(self.imdecode(sample.encoded))
            return done
        return self._queue.submit(sample, list(self.auglist) if self._threaded else [])

    def _put(self, data: NDArray, label: NDArray, place: int, raw: Any, image: Image) -> bool:
        """Augment one image, and put it and its `raw` label into a batch; False leaves it out."""
        if not self._threaded:
            try:
                self.check_valid_image(image)
            except RuntimeError as error:
                _log.debug("invalid image left out: %s", error)
                return False
            image = self.augmentation_transform(image)
        values = np.asarray(raw, np.float32).ravel()
        if values.size != self.label_width:
            hint = label_hint(values, image.nbytes, reader="ImageDetIter")
            raise LabelError(
                f"it has {values.size} labels, not label_width={self.label_width}{hint}"
            )
        data[place] = self._checked(self.postprocess_data(image))
        label[place] = values if self.label_width > 1 else values[0]
        return True

    def _checked(self, image: Image) -> Image:
        """The image, broadcast to `data_shape`.

        Raises:
            FormatError: It cannot be broadcast.
        """
        try:
            return np.broadcast_to(image, self.data_shape)
        except ValueError:
            raise FormatError(
                f"after augmentation the image has the shape {np.shape(image)}, not data_shape="
                f"{self.data_shape}: the augmenters must resize or crop it"
            ) from None

    def _where(self) -> str:
        """The sample that was read last: its name, its file and its place there."""
        return self._samples.where(self._sequence.last_key)

    def imdecode(self, s: bytes) -> NDArray:
        """The image in an encoded file, (H, W, 3) uint8 RGB.

        Raises:
            BrokenImageError: The file cannot be decoded.
        """
        return self._named(None, s).decode().view(NDArray)

    def read_image(self, fname: str) -> bytes:
        """The bytes of a file under `path_root`."""
        if self.path_root is None:
            raise TypeError(NO_ROOT)
        return read_plain(Path(self.path_root) / fname)

    def check_data_shape(self, data_shape: Sequence[int]) -> None:
        """Raise ValueError if a shape is not (3, height, width)."""
        channels, height, width = p.shape("data_shape", data_shape, 3)
        if channels != 3 or height < 1 or width < 1:
            raise ValueError(
                "data_shape must have 3 channels first, then sides of at least 1 pixel, got "
                f"{data_shape}"
            )

    def check_valid_image(self, data: Any) -> None:
        """Raise RuntimeError if an image has no pixels."""
        if not np.shape(data[0]):
            raise RuntimeError(f"data must be an image, got shape {np.shape(data)}")

    def augmentation_transform(self, data: Image) -> Image:
        """The image after all of `auglist`."""
        for aug in self.auglist:
            data = aug(data)
        return data

    def postprocess_data(self, datum: Image) -> Image:
        """(H, W, C) as (C, H, W).

        Raises:
            ValueError: It has other axes.
        """
        try:
            return np.transpose(datum, (2, 0, 1))
        except ValueError:
            raise ValueError(
                "augmenters must return an image of shape (height, width, channels), got "
                f"{type(datum).__name__} of shape {np.shape(datum)}"
            ) from None


_HOOKS: Final = (
    "next_sample",
    "imdecode",
    "read_image",
    "check_valid_image",
    "augmentation_transform",
    "postprocess_data",
    "_put",
)
"""Methods that a derived class may replace, and that kernels do not call."""
