"""Iterators over batches of images: epochs, MXNet's interface, saved states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from gpuio import parameters as p
from gpuio.augment.augmenter import Augmenter, Batch
from gpuio.augment.faults import POLICIES, FaultLog, OnError
from gpuio.augment.normalise import OUTPUTS, Normalisation
from gpuio.augment.plan import Options, Plan, make_plan
from gpuio.backends import make_backend
from gpuio.batch import DataBatch, DataDesc, DataIter
from gpuio.decode import make_decoder
from gpuio.errors import PipelineClosedError, StateError
from gpuio.format import saved_array
from gpuio.format.image_list import load_labels
from gpuio.ndarray import NDArray
from gpuio.pipeline import Pipeline
from gpuio.prefetch import Prefetch
from gpuio.reader.dataset import Dataset, PathLike
from gpuio.reader.order import LastBatch, Order, Selection
from gpuio.reader.reader import RecordReader, Relabel

_STATE_VERSION = 1
_LAST_BATCH = ("pad", "short", "drop")


class ImageRecordIter(DataIter):
    """Batches of decoded, augmented images from .rec files, with MXNet's parameters.

    An iterator is at the start of an epoch, inside one, or at its end. `next` at the end raises
    StopIteration; `reset`, and a new `for` loop, begin the next epoch there.

    Args:
        path_imgrec: A .rec file; several joined with ";" or in a list; a folder; or a glob.
        data_shape: Channels (1 gray, 3 RGB, 4 RGBA), height, width of the output, in pixels.
        batch_size: N, images in a batch.
        path_imgidx: The .idx files; without them the .rec files are gone through once.
        path_imglist: A .lst whose labels replace those in the records, by id.
        label_width: W, labels of every image.
        num_parts: Readers that share the data set, each with a part of it.
        part_index: This reader, in [0, num_parts).
        shuffle: A new exact permutation of all records in every epoch; False keeps file order.
        seed: Of the permutation, and of the augmentation unless `seed_aug` is given.
        seed_aug: Of the augmentation.
        round_batch: True fills the last batch up with records of this part, counted in `pad`;
            False leaves it short.
        last_batch: "pad", "short" or "drop"; replaces `round_batch`.
        preprocess_threads: CPU threads; all cores that this process may use when None.
        prefetch_buffer: Finished batches that may wait, at least 1.
        dtype: float32 (also None), float16, int8 or uint8.
        layout: "NCHW" or "NHWC".
        device: "cpu".
        decoder: "auto", "nvimgcodec" or "portable".
        on_error: What happens to an image that cannot be had: "raise"; "skip" it and fill the
            batch up; "replace" it by another one of the batch; "zero" its pixels.
        resize: Length of the shorter edge, in pixels, before anything else; -1 leaves it.
        inter_method: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos, 9 by size, 10 random.
        max_rotate_angle: Turn by -v to v whole degrees.
        rotate: Turn by this angle, counter-clockwise; -1 and 0 are off.
        rotate_list: Turn by one of these angles.
        max_shear_ratio: Shear by -v to v.
        max_aspect_ratio: Stretch to a ratio from `min_aspect_ratio` to this; where that is None,
            from 1 - v to 1 + v.
        min_aspect_ratio: See `max_aspect_ratio`.
        max_random_scale: Scale by `min_random_scale` to this.
        min_random_scale: See `max_random_scale`.
        max_img_size: Longest side that scaling may give, in pixels.
        min_img_size: Shortest side that scaling may give.
        pad: Border on every side, in pixels.
        fill_value: Of the border, and of what is turned in; the fourth channel gets 0.
        rand_crop: Crop at a random place, not in the middle. Too small images are enlarged.
        max_crop_size: Crop a square of `min_crop_size` to this, and resize it to the output.
        min_crop_size: See `max_crop_size`.
        random_resized_crop: Crop a window of random area and aspect ratio, and resize it.
        max_random_area: Largest part of the area, for `random_resized_crop`.
        min_random_area: Smallest part of the area.
        brightness: Times 1 - v to 1 + v; with `contrast` and `saturation` in random order.
        contrast: About the mean gray, likewise.
        saturation: About each pixel's gray, likewise.
        random_h: Hue plus -v to v, in half degrees.
        random_s: HLS saturation plus -v to v, in levels.
        random_l: Lightness plus -v to v, in levels.
        pca_noise: Standard deviation of noise along the principal components of colour.
        rand_gray: Which part of the images become gray.
        mirror: Mirror every image.
        rand_mirror: Mirror one half of them.
        max_random_contrast: Multiply what is normalised by 1 - v to 1 + v.
        max_random_illumination: Add -v to v levels to what is normalised.
        aug_seq: "aug_default".
        mean_img: File with a (C, H, W) mean image; made by one pass over the data if missing.
        mean_r: Mean of red, or gray, of 0 to 255; `mean_g`, `mean_b` and `mean_a` likewise.
        std_r: Standard deviation of red, or gray; `std_g`, `std_b` and `std_a` likewise.
        scale: Multiplies the normalised values.
        data_name: In `provide_data`.
        label_name: In `provide_label`.
        verbose: Accepted for MXNet's scripts, without effect; so are `ctx`, `device_id` and
            `shuffle_chunk_size`, `shuffle_chunk_seed` (a shuffle is always over all records).

    Attributes:
        batch_size: As given.
        plan: What is done to every image; prints itself.
        provide_data: Description of `batch.data`.
        provide_label: Description of `batch.label`.
        epoch: Number of the epoch under way, from 0.
        faults: Images that could not be had: how many, and the first errors.

    Raises:
        ValueError: A parameter has a wrong value.
        TypeError: A parameter has an unknown name.
        FileNotFoundError: A file is missing.
        FormatError: A file is not what it should be.
    """

    _dtype = "float32"

    @p.suggest
    def __init__(
        self,
        path_imgrec: PathLike | list[PathLike],
        data_shape: Sequence[int],
        batch_size: int,
        *,
        path_imgidx: PathLike = "",
        path_imglist: PathLike = "",
        label_width: int = 1,
        num_parts: int = 1,
        part_index: int = 0,
        shuffle: bool = False,
        seed: int = 0,
        seed_aug: int | None = None,
        round_batch: bool = True,
        last_batch: LastBatch | None = None,
        preprocess_threads: int | None = None,
        prefetch_buffer: int = 2,
        dtype: npt.DTypeLike | None = None,
        layout: str = "NCHW",
        device: str = "cpu",
        decoder: str = "auto",
        on_error: str = "raise",
        resize: int = -1,
        inter_method: int = 1,
        rand_crop: bool = False,
        mirror: bool = False,
        rand_mirror: bool = False,
        mean_img: PathLike = "",
        mean_r: float = 0,
        mean_g: float = 0,
        mean_b: float = 0,
        mean_a: float = 0,
        std_r: float = 1,
        std_g: float = 1,
        std_b: float = 1,
        std_a: float = 1,
        scale: float = 1,
        data_name: str = "data",
        label_name: str = "softmax_label",
        aug_seq: str = "aug_default",
        max_rotate_angle: int = 0,
        rotate: int = -1,
        rotate_list: Sequence[int] | str = "",
        max_shear_ratio: float = 0,
        max_aspect_ratio: float = 0,
        min_aspect_ratio: float | None = None,
        max_random_scale: float = 1,
        min_random_scale: float = 1,
        max_img_size: float = 1e10,
        min_img_size: float = 0,
        pad: int = 0,
        fill_value: int = 255,
        max_crop_size: int = -1,
        min_crop_size: int = -1,
        random_resized_crop: bool = False,
        max_random_area: float = 1,
        min_random_area: float = 1,
        brightness: float = 0,
        contrast: float = 0,
        saturation: float = 0,
        random_h: int = 0,
        random_s: int = 0,
        random_l: int = 0,
        pca_noise: float = 0,
        rand_gray: float = 0,
        max_random_contrast: float = 0,
        max_random_illumination: float = 0,
        shuffle_chunk_size: int = 0,
        shuffle_chunk_seed: int = 0,
        ctx: str = "gpu",
        device_id: int = 0,
        verbose: bool = True,
    ) -> None:
        given = dict(locals())
        super().__init__(p.integer("batch_size", batch_size, least=1))
        label_width = p.integer("label_width", label_width, least=1)
        seed = p.integer("seed", seed)
        if last_batch is None:
            last_batch = "pad" if p.boolean("round_batch", round_batch) else "short"
        p.choice("last_batch", last_batch, _LAST_BATCH)
        p.choice("on_error", on_error, POLICIES)
        p.choice("aug_seq", aug_seq, ("aug_default",))
        self._on_error = cast("OnError", on_error)
        self._seed_aug = seed if seed_aug is None else p.integer("seed_aug", seed_aug)
        given["dtype"] = p.dtype_name("dtype", dtype or self._dtype, tuple(OUTPUTS))
        plan = make_plan(_options(given), _normalisation(given))
        threads = preprocess_threads
        if threads is not None:
            threads = p.integer("preprocess_threads", threads, least=1)
        self._depth = p.integer("prefetch_buffer", prefetch_buffer, least=1)
        self._backend = make_backend(device, threads)
        self._dataset = Dataset.open(path_imgrec, path_imgidx)
        self._order = Order(
            len(self._dataset),
            self.batch_size,
            shuffle=p.boolean("shuffle", shuffle),
            seed=seed,
            num_parts=p.integer("num_parts", num_parts),
            part_index=p.integer("part_index", part_index),
            last_batch=last_batch,
        )
        self._relabel = _relabel(path_imglist, label_width) if path_imglist else None
        self._label_width = label_width
        self._decoder_name = decoder
        if mean_img:
            image = self._mean_image(Path(mean_img), plan)
            plan = make_plan(_options(given), replace(plan.normalisation, image=image))
        self.plan = plan
        self._pipeline = self._assemble(plan)
        self._batches: Prefetch[Batch] | None = None
        self._current: Batch | None = None
        self._ended = self._closed = False
        self.epoch, self._start, self._done = 0, 0, 0
        label_shape = (self.batch_size,) if label_width == 1 else (self.batch_size, label_width)
        data = plan.output_shape(self.batch_size)
        self.provide_data = [DataDesc(data_name, data, np.dtype(plan.dtype).type, layout)]
        self.provide_label = [DataDesc(label_name, label_shape, np.float32, "NCHW")]

    def _assemble(self, plan: Plan) -> Pipeline:
        backend = self._backend
        read = RecordReader(
            self._dataset, backend, label_width=self._label_width, relabel=self._relabel
        )
        decode = make_decoder(self._decoder_name, backend, plan.shape[0], self._dataset)
        augment = Augmenter(
            plan,
            self.batch_size,
            backend,
            seed=self._seed_aug,
            on_error=self._on_error,
            # What waits, what is being made, what the consumer has and what it has just dropped.
            keep=self._depth + 3,
        )
        return Pipeline(read, decode, augment, backend, depth=self._depth)

    def _mean_image(self, path: Path, plan: Plan) -> npt.NDArray[np.float32]:
        """The mean image in a file, or the mean of the augmented images, which it then holds."""
        if path.exists():
            image = next(iter(saved_array.load(path).values()))
            return image.astype(np.float32)
        plain = replace(plan, dtype="float32", layout="NCHW", normalisation=Normalisation())
        pipeline = self._assemble(plain)
        total, count = np.zeros(plan.shape), 0
        try:
            for batch in pipeline.batches(self._order.batches(0), epoch=0):
                own = len(batch.data) - batch.pad
                total += batch.data[:own].sum(axis=0, dtype=np.float64)
                count += own
        finally:
            pipeline.close()
        image = (total / count).astype(np.float32)
        saved_array.save(path, {"mean_img": image})
        return image

    def __len__(self) -> int:
        """Batches in an epoch, the same for every part."""
        return self._order.length()

    @property
    def num_records(self) -> int:
        """Records of all parts together."""
        return len(self._dataset)

    @property
    def faults(self) -> FaultLog:
        return self._pipeline.augment.faults

    def __iter__(self) -> Iterator[DataBatch]:
        """This iterator, at the start of the next epoch if one has just ended."""
        if self._ended:
            self.reset()
        return self

    def reset(self) -> None:
        """Begin the next epoch; nothing changes at the start of one."""
        self._check_open()
        if self._ended or self._done or self._start:
            self.set_epoch(self.epoch + 1)

    def hard_reset(self) -> None:
        """Begin epoch 0 again."""
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch: the same number gives the same batches."""
        self._check_open()
        self._go_to(p.integer("epoch", epoch, least=0), 0, 0)

    def _go_to(self, epoch: int, start: int, done: int) -> None:
        self._pipeline.stop()
        self._batches = self._current = None
        self._ended = False
        self.epoch, self._start, self._done = epoch, start, done

    def iter_next(self) -> bool:
        """Move on to the next batch; False when the epoch is over."""
        self._check_open()
        if self._ended:
            return False
        if self._batches is None:
            selections = self._order.batches(self.epoch, self._start, self._done)
            self._batches = self._pipeline.batches(selections, epoch=self.epoch)
        self._current = None
        try:
            batch = next(self._batches)
        except StopIteration:
            self._ended = True
            return False
        batch.ready.wait()
        self._current = batch
        self._done += self.batch_size
        return True

    def next(self) -> DataBatch:
        """The next batch, with its `augmentation`.

        Raises:
            StopIteration: The epoch is over; `reset` begins another.
        """
        if not self.iter_next():
            raise StopIteration
        return self._wrap(self._batch)

    def _wrap(self, batch: Batch) -> DataBatch:
        labels = batch.labels[:, 0] if self._label_width == 1 else batch.labels
        return DataBatch(
            [batch.data.view(NDArray)],
            [labels.view(NDArray)],
            batch.pad,
            batch.keys,
            augmentation=batch.drawn,
        )

    def getdata(self) -> list[NDArray]:
        return cast("list[NDArray]", self._wrap(self._batch).data)

    def getlabel(self) -> list[NDArray]:
        return cast("list[NDArray]", self._wrap(self._batch).label)

    def getindex(self) -> npt.NDArray[np.int64]:
        """(N,) int64 keys of the records: of the .idx, else the ids in the record headers."""
        return self._batch.keys

    def getpad(self) -> int:
        return self._batch.pad

    @property
    def _batch(self) -> Batch:
        if self._current is None:
            raise RuntimeError("there is no current batch: call next() or iter_next() first")
        return self._current

    def replay(self, augmentation: Mapping[str, npt.ArrayLike]) -> DataBatch:
        """The images of a batch once more, as its `augmentation` says they were made.

        The table may be changed: "record" says which records, all else what they get; what it
        does not say is drawn for the epoch under way.

        Args:
            augmentation: `batch.augmentation`, from this iterator or one like it, also when it
                comes from a file: (N, ...) arrays by name.

        Raises:
            ValueError: There is no "record", or the arrays are not equally long.
        """
        self._check_open()
        given = {name: np.asarray(values) for name, values in augmentation.items()}
        if "record" not in given:
            raise ValueError("augmentation has no 'record': which images it is about")
        ids = given.pop("record").astype(np.int64)
        for name, values in given.items():
            if len(values) != len(ids):
                raise ValueError(
                    f"augmentation has {len(values)} of {name!r} for {len(ids)} records"
                )
        if len(ids) and not (ids.min() >= 0 and ids.max() < self.num_records):
            raise ValueError(f"records must be in [0, {self.num_records}), got {ids.tolist()}")
        pipeline = self._assemble(self.plan)
        try:
            selection = Selection(ids, 0)
            return self._wrap(next(pipeline.batches([selection], epoch=self.epoch, given=given)))
        finally:
            pipeline.close()

    def state_dict(self) -> dict[str, Any]:
        """Where the iterator is: a few integers, to be given to `load_state_dict`.

        The batch that follows is the one after the last batch handed out; after the last batch of
        an epoch it is the first one of the next.
        """
        order = self._order
        epoch, start, done = self.epoch, self._start, self._done
        if self._ended or done >= -(-(order.count - start) // order.num_parts):
            epoch, start, done = epoch + 1, 0, 0
        return {
            "version": _STATE_VERSION,
            "epoch": epoch,
            "start": start,
            "done": done,
            "num_parts": order.num_parts,
            "seed": order.seed,
            "shuffle": order.shuffle,
            "records": order.count,
            "nbytes": self._nbytes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved state, also one of another batch size, or another number of parts.

        Raises:
            StateError: The state is of another data set, seed or order; or was saved in mid-epoch
                without shuffling by another number of parts.
        """
        self._check_open()
        order = self._order
        mine = {
            "version": _STATE_VERSION,
            "seed": order.seed,
            "shuffle": order.shuffle,
            "records": order.count,
            "nbytes": self._nbytes,
        }
        for name in (*mine, "epoch", "start", "done", "num_parts"):
            if name not in state:
                raise StateError(f"state has no {name!r}: it was not made by state_dict()")
        for name, value in mine.items():
            if state[name] != value:
                raise StateError(f"state has {name}={state[name]!r}, this iterator {value!r}")
        start, done = order.resume(state["start"], state["done"], state["num_parts"])
        if start >= order.count:
            self._go_to(state["epoch"] + 1, 0, 0)
        else:
            self._go_to(state["epoch"], start, done)

    @property
    def _nbytes(self) -> int:
        return int(self._dataset.ends[self._dataset.first[1:] - 1].sum())

    def stats(self) -> dict[str, Any]:
        """Where the time goes.

        Of the epoch under way, in seconds: `stages` has for "read" (records and headers) and
        "decode" (decoding and augmentation) how long it was `busy`, `starved` for lack of input
        and `blocked` because its output was full; `waited` is how long the consumer waited.
        Since the iterator was made: `decoding` and `augmenting`, seconds of all threads together;
        `decoded_in_part`, images of which only a window was decoded; `decoded_by_portable`, those
        that the decoder left to the portable codec; `faults`.
        """
        return self._pipeline.stats()

    def close(self) -> None:
        """End all threads and give memory back; batches handed out stay as they are."""
        if not self._closed:
            self._closed = True
            self._batches = self._current = None
            self._pipeline.close()

    def _check_open(self) -> None:
        if self._closed:
            raise PipelineClosedError("this iterator was closed")

    def __enter__(self) -> Self:
        return self


class ImageRecordUInt8Iter(ImageRecordIter):
    """`ImageRecordIter` with dtype uint8, which is never normalised."""

    _dtype = "uint8"


class ImageRecordInt8Iter(ImageRecordIter):
    """`ImageRecordIter` with dtype int8: values less their rounded means."""

    _dtype = "int8"


def _relabel(path: PathLike, label_width: int) -> Relabel:
    """Labels by id, from a .lst."""
    ids, labels = load_labels(path, label_width)
    order = np.argsort(ids)
    ids, labels = ids[order], labels[order]

    def lookup(wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        found = np.full((len(wanted), label_width), np.nan, np.float32)
        if len(ids):
            places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
            known = ids[places] == wanted
            found[known] = labels[places[known]]
        return found

    return lookup


def _options(given: dict[str, Any]) -> Options:
    """The augmentation keywords among `given`, in the types of `Options`."""
    values: dict[str, Any] = {}
    for field in fields(Options):
        value = given[field.name]
        if field.name == "data_shape":
            value = p.shape("data_shape", value, 3)
        elif field.name == "rotate_list":
            value = p.integers("rotate_list", value)
        elif field.name == "min_aspect_ratio":
            value = None if value is None else p.number("min_aspect_ratio", value)
        elif field.type == "bool":
            value = p.boolean(field.name, value)
        elif field.type == "int":
            value = p.integer(field.name, value)
        elif field.type == "float":
            value = p.number(field.name, value)
        values[field.name] = value
    return Options(**values)


def _normalisation(given: dict[str, Any]) -> Normalisation:
    mean, std = (
        tuple(p.number(f"{kind}_{c}", given[f"{kind}_{c}"]) for c in "rgba")
        for kind in ("mean", "std")
    )
    for channel, value in zip("rgba", std, strict=True):
        if value == 0:
            raise ValueError(f"std_{channel} must not be 0")
    return Normalisation(mean, std, p.number("scale", given["scale"]))
