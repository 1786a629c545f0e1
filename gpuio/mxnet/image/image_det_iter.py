"""`ImageDetIter`: batches of images and the boxes of their objects.

Unlike MXNet 1.9.1 on purpose: objects with different numbers of values are an error when the
iterator is made; `draw_next` draws with Pillow, always in the colour given, and opens no window.

Source: MXNet 1.9.1, python/mxnet/image/detection.py.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from gpuio.core.extras import explained
from gpuio.core.signatures import suggest, with_keywords_of
from gpuio.errors import LabelError
from gpuio.mxnet.image.augmenters import make_list, statistics
from gpuio.mxnet.image.detection import CreateDetAugmenter, DetAugmenterOptions, have_area
from gpuio.mxnet.image.image_iter import ImageIter, PathLike
from gpuio.mxnet.ndarray import NDArray

Image = npt.NDArray[Any]
Label = npt.NDArray[Any]

_log = logging.getLogger(__name__)

_LEAST = 7  # values: two of header and five of an object


class InvalidLabelError(LabelError, RuntimeError):
    """A sample has no valid object; also the RuntimeError that MXNet raises."""


class ImageDetIter(ImageIter):
    """Batches of images with their objects, augmented by a list of callables.

    The label of a sample is [A, B, more header, object, object, ...]: A values of header, with A
    and B among them, then objects of B values each: class, xmin, ymin, xmax, ymax, and further
    ones; coordinates are fractions of the width and height. An object is valid if xmin < xmax and
    ymin < ymax. The constructor looks at all samples, and one without a valid object is an error
    there; samples that lose their last object to augmentation are left out of batches.

    Args:
        batch_size: N, images in a batch.
        data_shape: 3, height, width of the output, in pixels.
        path_imgrec: As for `ImageIter`, like all that is not explained here.
        path_imglist: A .lst.
        path_root: Folder of the files.
        path_imgidx: The .idx of the .rec.
        shuffle: Shuffle with `random.shuffle`, at every reset and, as in MXNet, three times now.
        part_index: Which of `num_parts` parts to read, from 0.
        num_parts: Parts of equal length.
        aug_list: Callables from image and label to both; those of `CreateDetAugmenter` if None.
        imglist: Samples [[label, ...], path].
        data_name: Name of the images in `provide_data`.
        label_name: Name of the labels in `provide_label`.
        last_batch_handle: "pad", "discard" or "roll_over".
        preprocess_threads: Threads that decode.
        **options: Keywords of `CreateDetAugmenter`, which have no effect beside `aug_list`.

    Attributes:
        label_shape: The largest number of objects of a sample, and the values of an object.
        provide_label: [(name, (N, *label_shape))]; rows without an object are -1.

    Raises:
        InvalidLabelError: A sample has no valid object, or a label of another form.
    """

    @suggest
    @with_keywords_of(CreateDetAugmenter)
    def __init__(  # noqa: PLR0913, PLR0917  MXNet's signature
        self,
        batch_size: int,
        data_shape: Sequence[int],
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
        label_name: str = "label",
        last_batch_handle: str = "pad",
        *,
        preprocess_threads: int | None = None,
        **options: Unpack[DetAugmenterOptions],
    ) -> None:
        super().__init__(
            batch_size,
            data_shape,
            path_imgrec=path_imgrec,
            path_imglist=path_imglist,
            path_root=path_root,
            path_imgidx=path_imgidx,
            shuffle=shuffle,
            part_index=part_index,
            num_parts=num_parts,
            aug_list=[],
            imglist=imglist,
            data_name=data_name,
            label_name=label_name,
            last_batch_handle=last_batch_handle,
            preprocess_threads=preprocess_threads,
        )
        self.auglist = make_list(CreateDetAugmenter, aug_list, self.data_shape, options)
        self.label_shape = self._estimate_label_shape()
        self.provide_label = [(label_name, (self.batch_size, *self.label_shape))]

    def _estimate_label_shape(self) -> tuple[int, int]:
        """The largest number of objects of a sample, and the values of an object."""
        self.reset()
        most = width = 0
        first = ""
        for found, _ in self._rest():
            where = self._where()
            try:
                label = self._parse_label(found)
            except InvalidLabelError as error:
                raise InvalidLabelError(f"{where}: {error}") from error
            most = max(most, len(label))
            if width not in (0, label.shape[1]):
                raise InvalidLabelError(
                    f"{where}: objects must have the same number of values, got "
                    f"{label.shape[1]} here and {width} in {first}"
                )
            first, width = first or where, label.shape[1]
        self.reset()
        if not width:
            raise InvalidLabelError(f"{self._samples}: no sample in it, so no label")
        return most, width

    def _rest(self) -> Iterator[tuple[Any, bytes]]:
        """The samples up to the end of the sequence."""
        with suppress(StopIteration):
            while True:
                yield self.next_sample()

    def _parse_label(self, label: Any) -> Label:
        """(objects, B) float32, the valid objects of a sample."""
        raw = np.asarray(label, np.float32).ravel()
        if raw.size < _LEAST:
            raise InvalidLabelError(f"label must have {_LEAST} values or more, got {raw.size}")
        header, width = (int(v) if np.isfinite(v) else 0 for v in raw[:2])
        if header < 2 or width < 5 or (raw.size - header) % width:
            found = f"{raw.size} values with {raw[0]:g} of header and {raw[1]:g} of an object"
            raise InvalidLabelError(f"label must be a header and whole objects, got {found}")
        objects = raw[header:].reshape(-1, width)
        wrong = np.flatnonzero(~np.isfinite(objects[:, :5]).all(axis=1))
        if len(wrong):
            found = ", ".join(f"{v:g}" for v in objects[wrong[0], :5].tolist())
            raise InvalidLabelError(f"objects must be finite numbers, object {wrong[0]} is {found}")
        objects = objects[have_area(objects)]
        if not len(objects):
            raise InvalidLabelError("sample without an object of positive size")
        return objects

    def _check_valid_label(self, label: Label) -> None:
        if label.ndim != 2 or label.shape[1] < 5:
            raise InvalidLabelError(f"label must be (objects, 5 or more), got {label.shape}")
        if not (have_area(label) & (label[:, 0] >= 0)).any():
            raise InvalidLabelError("sample without an object of a class and of positive size")

    def _empty(self) -> tuple[NDArray, NDArray]:
        data, label = super()._empty()
        label[...] = -1
        return data, label

    def _put(self, data: NDArray, label: NDArray, place: int, raw: Any, image: Image) -> bool:
        try:
            self.check_valid_image([image])
            pixels, objects = self.augmentation_transform(image, self._parse_label(raw))
            self._check_valid_label(objects)
        except RuntimeError as error:
            _log.debug("invalid sample left out: %s", error)
            return False
        data[place] = self._checked(self.postprocess_data(pixels))
        label[place, : len(objects)] = objects
        label[place, len(objects) :] = -1
        return True

    def augmentation_transform(self, data: Image, label: Label) -> tuple[Image, Label]:  # type: ignore[override]
        """Image and label after all of `auglist`."""
        for aug in self.auglist:
            data, label = aug(data, label)
        return data, label

    def check_label_shape(self, label_shape: Sequence[int]) -> None:
        """Raise ValueError unless a shape is (as many objects or more, values of an object)."""
        if len(label_shape) != 2:
            raise ValueError(f"label_shape must have 2 sides, got {label_shape}")
        count, width = self.label_shape
        if label_shape[0] < count:
            raise ValueError(f"label_shape must have {count} objects or more, got {label_shape[0]}")
        if label_shape[1] != width:
            raise ValueError(f"label_shape must have objects of {width}, got {label_shape[1]}")

    def reshape(
        self, data_shape: Sequence[int] | None = None, label_shape: Sequence[int] | None = None
    ) -> None:
        """Change the shapes of batches; the augmenters stay as they are.

        Args:
            data_shape: 3, height, width; the augmenters must make such images.
            label_shape: The number of objects, not smaller than before, and the values of an
                object, as before.

        Raises:
            ValueError: A shape does not fit.
        """
        if data_shape is not None:
            self.check_data_shape(data_shape)
            _, height, width = data_shape
            self.data_shape = (3, height, width)
            self.provide_data = [(self.provide_data[0][0], (self.batch_size, *self.data_shape))]
        if label_shape is not None:
            self.check_label_shape(label_shape)
            self.label_shape = (label_shape[0], label_shape[1])
            self.provide_label = [(self.provide_label[0][0], (self.batch_size, *self.label_shape))]

    def sync_label_shape(self, it: ImageDetIter, verbose: bool = False) -> ImageDetIter:
        """`it`, after the larger `label_shape` was given to both iterators."""
        assert isinstance(it, ImageDetIter), f"it must be an ImageDetIter, got {type(it).__name__}"
        assert self.label_shape[1] == it.label_shape[1], "objects have different widths"
        shape = (max(self.label_shape[0], it.label_shape[0]), self.label_shape[1])
        if verbose and self.label_shape != it.label_shape:
            _log.info("label_shape is now %s", shape)
        self.reshape(label_shape=shape)
        it.reshape(label_shape=shape)
        return it

    def draw_next(  # noqa: PLR0917  MXNet's signature
        self,
        color: Sequence[float] | None = None,
        thickness: int = 2,
        mean: Any = None,
        std: Any = None,
        clip: bool = True,
        waitKey: int | None = None,
        window_name: str = "draw_next",
        id2labels: Mapping[int, str] | None = None,
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """The next augmented samples as pictures to look at.

        Args:
            color: Red, green, blue of the boxes; random for each box if None.
            thickness: Width of the lines, in pixels.
            mean: Mean that was subtracted, which is added again; True for ImageNet's.
            std: Standard deviation that was divided by; True for ImageNet's.
            clip: Limit values to 0 to 255; otherwise they wrap.
            waitKey: Ignored, with a warning: no window is opened.
            window_name: Ignored.
            id2labels: Names of classes, which are written into the boxes.

        Yields:
            (H, W, 3) uint8 BGR, as OpenCV shows and writes it.
        """
        if waitKey is not None:
            warnings.warn("draw_next opens no window: show what it yields", stacklevel=2)
        mean, std = statistics(mean, std)
        for found, encoded in self._rest():
            image = self.imdecode(encoded)
            try:
                self.check_valid_image([image])
                label = self._parse_label(found)
            except RuntimeError as error:
                _log.debug("invalid sample left out: %s", error)
                continue
            pixels, label = self.augmentation_transform(image, label)
            pixels = np.asarray(pixels, np.float32)
            pixels = pixels * (1 if std is None else std) + (0 if mean is None else mean)
            if clip:
                pixels = np.clip(pixels, 0, 255)
            drawn = _draw(pixels.astype(np.uint8), label, color, thickness, id2labels or {})
            yield np.ascontiguousarray(drawn[..., ::-1])


def _draw(
    pixels: npt.NDArray[np.uint8],
    label: Label,
    color: Sequence[float] | None,
    thickness: int,
    names: Mapping[int, str],
) -> npt.NDArray[np.uint8]:
    """An RGB image with the boxes of its objects."""
    with explained("drawing boxes"):
        from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    height, width = pixels.shape[:2]
    for row in np.asarray(label):
        x1, y1, x2, y2 = (row[1:5] * (width, height, width, height)).astype(int).tolist()
        if x1 < 0:
            continue
        shade = np.random.rand(3) * 255 if color is None else color  # noqa: NPY002  as in mxnet
        red, green, blue = (int(value) for value in shade)
        draw.rectangle((x1, y1, x2, y2), outline=(red, green, blue), width=thickness)
        if int(row[0]) in names:
            draw.text((x1 + 5, y1 + 5), names[int(row[0])], fill=(255, 255, 255))
    return np.asarray(picture)
