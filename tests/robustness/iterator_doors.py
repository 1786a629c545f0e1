"""Iterators over damaged records: what is sound comes out exactly as from a sound file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import gpuio
from gpuio.errors import GpuioError
from gpuio.formats import saved_array
from gpuio.formats.image_record import pack
from gpuio.formats.recordio import frame
from gpuio.testing import draw, encode, write_rec

from .case import Case, Door, Wrong
from .formats import damage_image
from .mutate import damage, damage_array, damage_frame, damage_labels, damage_lines
from .pictures import distinct, images, mixed

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence
    from pathlib import Path

COUNT, BATCH = 80, 16
SHAPE = (3, 32, 36)
SETTINGS: tuple[dict[str, Any], ...] = (
    {"dtype": "uint8"},
    {"resize": 40, "dtype": "uint8", "shuffle": True},
    {"resize": 40, "rand_crop": True, "rand_mirror": True, "mean_r": 99.0, "std_g": 3.0},
    {"random_resized_crop": True, "min_random_area": 0.3, "max_aspect_ratio": 0.3},
    {"max_rotate_angle": 20, "max_shear_ratio": 0.1, "pad": 2, "layout": "NHWC"},
    {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "random_h": 20, "pca_noise": 0.1},
    {"resize": 36, "inter_method": 2},
    {"resize": 36, "inter_method": 3, "max_random_scale": 1.5, "min_random_scale": 0.7},
)
DECODERS = ("nvimgcodec", "portable")
POLICIES = ("raise", "skip", "replace", "zero")
PLAIN = {"resize": 40, "dtype": "uint8"}  # draws nothing, so that any record can be told by pixels


@dataclass(frozen=True)
class Values:
    """What sound records give, by record: pixels and labels; `there`, whether it has an image."""

    data: np.ndarray
    labels: np.ndarray
    there: np.ndarray


def open_iter(rec: Path, **options: Any) -> gpuio.ImageRecordIter:
    return gpuio.ImageRecordIter(rec, SHAPE, BATCH, device="cpu", preprocess_threads=2, **options)


def epoch(batches: Iterable[Any]) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Keys, data and labels of each batch, without padding."""
    for batch in batches:
        count = len(batch.data[0]) - batch.pad
        yield batch.index[:count], batch.data[0][:count], batch.label[0][:count]


def values(it: Any, count: int) -> Values:
    """What an iterator over `count` sound records gives; those of the policy zero are not there."""
    with it:
        rows = list(epoch(it))
    keys = np.concatenate([keys for keys, _, _ in rows])
    order = np.argsort(keys)
    assert (keys[order] == np.arange(count)).all()
    data = np.concatenate([data for _, data, _ in rows])[order]
    labels = np.concatenate([labels for _, _, labels in rows])[order]
    return Values(data, labels, data.reshape(count, -1).any(axis=1))


def check_by_key(it: Any, want: Values, sound: Iterable[int], *, complete: bool) -> None:
    """Every sound record has its own pixels and labels, and none is missing."""
    seen: set[int] = set()
    expected = np.zeros(len(want.there), bool)
    expected[list(sound)] = True
    expected &= want.there
    for keys, data, labels in epoch(it):
        if keys.min(initial=0) < 0 or keys.max(initial=0) >= len(expected):
            raise Wrong(f"keys {keys.tolist()} are not all of this file")
        ours = expected[keys]
        mine = keys[ours]
        for name, got, right in (("pixels", data, want.data), ("labels", labels, want.labels)):
            differ = (got[ours] != right[mine]).reshape(len(mine), -1).any(axis=1)
            if differ.any():
                raise Wrong(f"{name} of sound records {mine[differ].tolist()} are wrong")
        seen.update(mine.tolist())
    missing = set(np.flatnonzero(expected).tolist()) - seen
    if complete and missing:
        raise Wrong(f"sound records {sorted(missing)} are missing")


def check_by_pixels(it: Any, want: Values, sound: Iterable[int], strangers: int) -> set[int]:
    """Every image is one of the sound file, with its label, or zeros; the records that came.

    Args:
        it: Gives data and labels as `want` has them, whatever the keys are.
        want: What sound records give.
        sound: Records whose labels are theirs.
        strangers: How many images may be none of these.
    """
    numbers = {image.tobytes(): k for k, image in enumerate(want.data) if want.there[k]}
    sound = set(sound)
    seen: set[int] = set()
    unknown = 0
    for _, data, labels in epoch(it):
        for image, label in zip(data, labels, strict=True):
            number = numbers.get(image.tobytes())
            if number is None:
                unknown += bool(np.any(image))
                continue
            seen.add(number)
            if number in sound and (label != want.labels[number]).any():
                right = want.labels[number]
                raise Wrong(f"record {number} has labels {label.tolist()}, not {right.tolist()}")
    if unknown > strangers:
        raise Wrong(f"{unknown} images are of no record of the file, for {strangers} damaged ones")
    return seen


def some(rng: random.Random, count: int) -> list[int]:
    """Which of `count` parts are damaged: one or two, or every second one."""
    return rng.sample(range(count), rng.choice((1, 2, count // 4, count // 2)))


class RecordDoor(Door):
    """Base of doors that take parts of one .rec."""

    def prepare(self, folder: Path) -> None:
        write_rec(folder / "clean.rec", mixed(COUNT))
        self.want: dict[tuple[int, str], Values] = {}
        for number, setting in enumerate(SETTINGS):
            for decoder in DECODERS:
                it = open_iter(folder / "clean.rec", decoder=decoder, on_error="zero", **setting)
                self.want[number, decoder] = values(it, COUNT)

    def choices(self, rng: random.Random) -> dict[str, Any]:
        return {
            "setting": rng.randrange(len(SETTINGS)),
            "decoder": rng.choice(DECODERS),
            "policy": rng.choice(POLICIES),
        }

    def check(self, case: Case, rec: Path, **options: Any) -> None:
        number, decoder, policy = (case.choices[k] for k in ("setting", "decoder", "policy"))
        sound = set(range(COUNT)) - case.damaged
        chosen = SETTINGS[number] | options
        with open_iter(rec, decoder=decoder, on_error=policy, **chosen) as it:
            check_by_key(it, self.want[number, decoder], sound, complete=policy != "raise")


class Images(RecordDoor):
    """Damaged images in sound records."""

    name = "images"

    def make(self, seed: int, rng: random.Random) -> Case:
        parts = list(mixed(COUNT))
        for number in some(rng, COUNT):
            parts[number] = damage_image(rng, parts[number])
        return Case(self.name, seed, tuple(parts), mixed(COUNT), self.choices(rng))

    def run(self, case: Case, folder: Path) -> None:
        write_rec(folder / "a.rec", case.parts)
        self.check(case, folder / "a.rec")


class Frames(RecordDoor):
    """Damaged frames and headers, with an index that leads to them."""

    name = "frames"

    def make(self, seed: int, rng: random.Random) -> Case:
        clean = frames(mixed(COUNT))
        parts = list(clean)
        for number in some(rng, COUNT):
            parts[number] = damage_frame(rng, parts[number], clean)
        return Case(self.name, seed, tuple(parts), clean, self.choices(rng))

    def run(self, case: Case, folder: Path) -> None:
        # No record can begin elsewhere than at a multiple of 4 bytes.
        write_frames(folder / "a.rec", [part + bytes(-len(part) % 4) for part in case.parts])
        self.check(case, folder / "a.rec", path_imgidx=folder / "a.idx")


@cache
def frames(images: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Records of images as they lie in a file, with labels and ids 0, 1, 2, ..."""
    return tuple(frame(pack((0, k, k, 0), image)) for k, image in enumerate(images))


def write_frames(rec: Path, parts: Sequence[bytes]) -> None:
    """A .rec of frames, and a .idx that says where each begins."""
    rec.write_bytes(b"".join(parts))
    rec.with_suffix(".idx").write_bytes(index_of(parts))


def index_of(parts: Sequence[bytes]) -> bytes:
    starts = [0, *np.cumsum([len(part) for part in parts]).tolist()]
    return b"".join(b"%d\t%d\n" % (k, start) for k, start in enumerate(starts[:-1]))


class PlainDoor(Door):
    """Base of doors where records are told by their pixels, whatever has become of their keys."""

    def prepare(self, folder: Path) -> None:
        write_rec(folder / "clean.rec", distinct(COUNT))
        it = open_iter(folder / "clean.rec", decoder="portable", on_error="zero", **PLAIN)
        self.want = values(it, COUNT)

    def policy(self, rng: random.Random) -> dict[str, Any]:
        return {"policy": rng.choice(POLICIES)}

    def open(self, case: Case, rec: Path, **options: Any) -> gpuio.ImageRecordIter:
        policy = case.choices["policy"]
        return open_iter(rec, decoder="portable", on_error=policy, **PLAIN, **options)


class Scan(PlainDoor):
    """A damaged .rec without an index."""

    name = "scan"

    def make(self, seed: int, rng: random.Random) -> Case:
        clean = frames(distinct(COUNT))
        parts = list(clean)
        for number in rng.sample(range(COUNT), rng.choice((1, 1, 2, 5))):
            parts[number] = damage_frame(rng, parts[number], clean)
        return Case(self.name, seed, tuple(parts), clean, self.policy(rng))

    def run(self, case: Case, folder: Path) -> None:
        (folder / "a.rec").write_bytes(b"".join(case.parts))
        sound = set(range(COUNT)) - case.damaged
        with self.open(case, folder / "a.rec") as it:
            check_by_pixels(it, self.want, sound, strangers=2 * len(case.damaged))


class Idx(PlainDoor):
    """A damaged .idx beside a sound .rec."""

    name = "idx"

    def make(self, seed: int, rng: random.Random) -> Case:
        clean = index_of(frames(distinct(COUNT)))
        return Case(self.name, seed, (damage_lines(rng, clean),), (clean,), self.policy(rng))

    def run(self, case: Case, folder: Path) -> None:
        write_rec(folder / "a.rec", distinct(COUNT))
        (folder / "a.idx").write_bytes(case.parts[0])
        with self.open(case, folder / "a.rec") as it:
            seen = check_by_pixels(it, self.want, range(COUNT), strangers=0)
        if case.choices["policy"] == "raise":
            return
        # Lines that are as they were lead to their records.
        lines = case.parts[0].split(b"\n")
        kept = {k for k, line in enumerate(case.clean[0].split(b"\n")[:-1]) if line in lines}
        lost = {k for k in kept if self.want.there[k]} - seen
        if lost:
            raise Wrong(f"records {sorted(lost)}, whose lines are sound, are missing")


class Lst(PlainDoor):
    """Labels from a damaged .lst."""

    name = "lst"

    def make(self, seed: int, rng: random.Random) -> Case:
        clean = b"".join(b"%d\t%d.5\tpictures/%d.jpg\n" % (k, 7 * k, k) for k in range(COUNT))
        return Case(self.name, seed, (damage_lines(rng, clean),), (clean,), self.policy(rng))

    def run(self, case: Case, folder: Path) -> None:
        write_rec(folder / "a.rec", distinct(COUNT))
        lst = folder / "a.lst"
        lst.write_bytes(case.parts[0])
        with self.open(case, folder / "a.rec", path_imglist=lst) as it:
            rows = list(epoch(it))
        lines = case.parts[0].split(b"\n")
        intact = {k for k, line in enumerate(case.clean[0].split(b"\n")[:-1]) if line in lines}
        claimed = [_integer(line) for line in lines]
        for keys, data, labels in rows:
            for key, image, label in zip(keys.tolist(), data, labels, strict=True):
                if image.any() and (image != self.want.data[key]).any():
                    raise Wrong(f"pixels of record {key} are wrong")
                if key in intact and claimed.count(key) == 1 and label != 7 * key + 0.5:
                    raise Wrong(f"label of {key} is {label.tolist()}, not {7 * key + 0.5}")


def _integer(line: bytes) -> int | None:
    try:
        return int(line.decode(errors="replace").split()[0])
    except (ValueError, IndexError):
        return None


class Mean(PlainDoor):
    """A damaged mean image."""

    name = "mean"

    def make(self, seed: int, rng: random.Random) -> Case:
        clean = self.clean
        part = damage_array(rng, clean)
        return Case(self.name, seed, (part,), (clean,), self.policy(rng))

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        image = np.linspace(0, 255, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
        saved_array.save(folder / "mean.bin", {"mean_img": image})
        self.clean = (folder / "mean.bin").read_bytes()
        self.mean = image

    def run(self, case: Case, folder: Path) -> None:
        write_rec(folder / "a.rec", distinct(BATCH))
        (folder / "mean.bin").write_bytes(case.parts[0])
        options = {"resize": 40, "mean_img": folder / "mean.bin", "decoder": "portable"}
        with open_iter(folder / "a.rec", on_error="zero", **options) as it:
            list(it)


class Detection(Door):
    """Pictures with objects whose labels are damaged."""

    name = "detection"
    documented = (ValueError,)  # label_pad_width has no room for the widest label
    count = 32

    def prepare(self, folder: Path) -> None:
        jpegs = [encode(draw(40 + k, 50 - k, seed=k), "JPEG", quality=85) for k in range(8)]
        labels = [
            [2, 5, k % 3, 0.1, 0.2, 0.6, 0.8, 1, 0.3, 0.1, 0.9, 0.5] for k in range(self.count)
        ]
        self.clean = tuple(pack((0, label, k, 0), jpegs[k % 8]) for k, label in enumerate(labels))
        self._write(folder / "clean.rec", self.clean)
        self.want = values(self._open(folder / "clean.rec", "zero"), self.count)

    def make(self, seed: int, rng: random.Random) -> Case:
        parts = list(self.clean)
        for number in rng.sample(range(self.count), rng.choice((1, 1, 2, 8))):
            count = struct.unpack_from("<I", parts[number])[0]
            labels = struct.unpack_from(f"<{count}f", parts[number], 24)
            image = parts[number][24 + 4 * count :]
            kind = rng.randrange(3)
            if kind == 0:
                parts[number] = damage(rng, parts[number], self.clean)
            else:
                new = np.array(damage_labels(rng, labels), np.float32)
                parts[number] = pack((0, new, number, 0), image)
        choices = {"policy": rng.choice(POLICIES)}
        return Case(self.name, seed, tuple(parts), self.clean, choices)

    def run(self, case: Case, folder: Path) -> None:
        self._write(folder / "a.rec", case.parts)
        sound = set(range(self.count)) - case.damaged
        with self._open(folder / "a.rec", case.choices["policy"]) as it:
            complete = case.choices["policy"] != "raise"
            check_by_key(it, self.want, sound, complete=complete)

    @staticmethod
    def _write(rec: Path, payloads: Sequence[bytes]) -> None:
        write_frames(rec, [frame(payload) for payload in payloads])

    @staticmethod
    def _open(rec: Path, policy: str) -> gpuio.ImageDetRecordIter:
        return gpuio.ImageDetRecordIter(
            rec,
            SHAPE,
            8,
            device="cpu",
            preprocess_threads=2,
            on_error=policy,
            label_pad_width=40,
            rand_crop_prob=0.5,
            rand_mirror_prob=0.5,
        )


class Masks(Door):
    """Damaged masks beside sound images."""

    name = "masks"
    count = 16

    def prepare(self, folder: Path) -> None:
        pictures = [draw(40 + k, 50 - k, seed=k) for k in range(self.count)]
        write_rec(folder / "images.rec", [encode(p, "JPEG", quality=85) for p in pictures])
        self.images = folder / "images.rec"
        self.clean = tuple(encode(p[..., :1] // 32, "PNG") for p in pictures)
        write_rec(folder / "clean.rec", self.clean)
        self.want, self.masks = self._read(folder / "clean.rec", "zero")

    def make(self, seed: int, rng: random.Random) -> Case:
        parts = list(self.clean)
        for number in some(rng, self.count):
            parts[number] = damage(rng, parts[number], self.clean)
        choices = {"policy": rng.choice(POLICIES)}
        return Case(self.name, seed, tuple(parts), self.clean, choices)

    def run(self, case: Case, folder: Path) -> None:
        write_rec(folder / "a.rec", case.parts)
        images, masks = self._read(folder / "a.rec", case.choices["policy"])
        for key in set(range(self.count)) - case.damaged:
            if key not in images:
                raise Wrong(f"sound record {key} is missing")
            if (images[key] != self.want[key]).any() or (masks[key] != self.masks[key]).any():
                raise Wrong(f"pixels or mask of sound record {key} are wrong")

    def _read(self, masks: Path, policy: str) -> tuple[dict[int, Any], dict[int, Any]]:
        with gpuio.ImageRecordIter(
            self.images, SHAPE, 8, device="cpu", masks=masks, on_error=policy, rand_crop=True
        ) as it:
            images, found = {}, {}
            for batch in it:
                images.update(zip(batch.index.tolist(), batch.data[0], strict=True))
                found.update(zip(batch.index.tolist(), batch.masks, strict=True))
        return images, found


class ImageIter(PlainDoor):
    """`mx.image.ImageIter`, compiled and with an augmenter of others."""

    name = "image-iter"
    count = 16

    def prepare(self, folder: Path) -> None:
        self.clean = mixed(self.count)
        write_rec(folder / "clean.rec", self.clean)
        self.wants = []
        for own in (False, True):
            rows = []
            for number, image in enumerate(self.clean):
                write_rec(folder / "one.rec", [image], labels=[number])
                try:
                    rows.append(self._read(folder / "one.rec", own, 1)[0][1][0])
                except (GpuioError, RuntimeError):
                    rows.append(np.zeros(SHAPE, np.float32))
            data = np.array(rows)
            there = data.reshape(self.count, -1).any(axis=1)
            self.wants.append(Values(data, np.arange(self.count, dtype=np.float32), there))

    def make(self, seed: int, rng: random.Random) -> Case:
        clean = tuple(pack((0, k, k, 0), image) for k, image in enumerate(self.clean))
        parts = list(clean)
        for number in rng.sample(range(self.count), rng.choice((1, 1, 2, 3))):
            image = self.clean[number]
            if rng.random() < 0.4:
                parts[number] = damage(rng, parts[number], clean)
            else:
                parts[number] = pack((0, number, number, 0), damage_image(rng, image))
        return Case(self.name, seed, tuple(parts), clean, {"own": rng.random() < 0.5})

    def run(self, case: Case, folder: Path) -> None:
        write_frames(folder / "a.rec", [frame(part) for part in case.parts])
        want = self.wants[case.choices["own"]]
        for label, data in self._read(folder / "a.rec", case.choices["own"], 4):
            for number, image in zip(label.ravel().tolist(), data, strict=True):
                if number not in range(self.count) or int(number) in case.damaged:
                    continue
                if (image != want.data[int(number)]).any():
                    raise Wrong(f"pixels of sound record {number} are wrong")

    @staticmethod
    def _read(rec: Path, own: bool, batch: int) -> list[tuple[Any, Any]]:
        chosen: dict[str, Any] = {"resize": 40}
        if own:
            force = gpuio.image.ForceResizeAug(SHAPE[:0:-1])
            chosen = {"aug_list": [force, lambda image: image.astype(np.float32)]}
        it = gpuio.image.ImageIter(batch, SHAPE, path_imgrec=rec, preprocess_threads=2, **chosen)
        try:
            return [(b.label[0].asnumpy().copy(), b.data[0].asnumpy().copy()) for b in it]
        finally:
            it.close()


class ImageDetIter(Detection):
    """`mx.image.ImageDetIter`, which checks all labels when it is made."""

    name = "image-det-iter"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        self.folder = folder

    def run(self, case: Case, folder: Path) -> None:
        self._write(folder / "a.rec", case.parts)
        it = gpuio.image.ImageDetIter(8, SHAPE, path_imgrec=folder / "a.rec", preprocess_threads=2)
        try:
            for batch in it:
                batch.data[0].asnumpy()
        finally:
            it.close()


class Agreement(PlainDoor):
    """All decoders take and refuse the same JPEGs."""

    name = "agreement"

    def make(self, seed: int, rng: random.Random) -> Case:
        jpegs = images()["JPEG"]
        clean = tuple(jpegs[k % len(jpegs)] for k in range(COUNT))
        parts = list(clean)
        for number in rng.sample(range(COUNT), COUNT // 2):
            parts[number] = damage_image(rng, parts[number])
        return Case(self.name, seed, tuple(parts), clean, {})

    def run(self, case: Case, folder: Path) -> None:
        first, second = (
            self._values(folder / "a.rec", case.parts, decoder) for decoder in DECODERS
        )
        differ = np.flatnonzero(first.there != second.there)
        if not len(differ):
            return
        # What comes behind the last pixel is not looked at by all.
        clean = self._values(folder / "clean.rec", case.clean, DECODERS[1])
        taken = np.where(first.there, first.data.T, second.data.T).T
        differ = [k for k in differ.tolist() if (taken[k] != clean.data[k]).any()]
        if differ:
            by = f"{DECODERS[0]} takes {first.there[differ].tolist()}, {DECODERS[1]} the others"
            raise Wrong(f"records {differ}: {by}")

    @staticmethod
    def _values(rec: Path, images: Sequence[bytes], decoder: str) -> Values:
        write_rec(rec, images)
        return values(open_iter(rec, decoder=decoder, on_error="zero", **PLAIN), len(images))


DOORS: tuple[type[Door], ...] = (
    Images,
    Frames,
    Scan,
    Idx,
    Lst,
    Mean,
    Detection,
    Masks,
    ImageIter,
    ImageDetIter,
    Agreement,
)
