"""Files and bytes read without an iterator over images."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import gpuio
from gpuio import recordio
from gpuio.errors import GpuioError
from gpuio.formats import codec, saved_array
from gpuio.formats.image_list import ImageList, load_labels
from gpuio.formats.image_record import pack
from gpuio.formats.index import Index
from gpuio.sources.recordio.source import RecordIOSource

from .case import Case, Door, Wrong
from .formats import damage_image
from .iterator_doors import COUNT, Mean, frames, index_of
from .mutate import damage, damage_array, damage_frame, damage_lines
from .pictures import distinct, mixed

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path


class RecordIO(Door):
    """The readers of `recordio` over a damaged .rec, a damaged .idx or both."""

    name = "recordio"
    count = 24

    def make(self, seed: int, rng: random.Random) -> Case:
        every = frames(mixed(self.count))
        clean = (*every, index_of(every))
        parts = list(clean)
        what = rng.choice(("rec", "rec", "idx", "both"))
        if what != "idx":
            for number in rng.sample(range(self.count), rng.choice((1, 2, 5))):
                parts[number] = damage_frame(rng, parts[number], every)
        if what != "rec":
            parts[-1] = damage_lines(rng, parts[-1])
        elif rng.random() < 0.7:
            parts[-1] = index_of(parts[:-1])
        return Case(self.name, seed, tuple(parts), clean, {"key": rng.choice(("int", "str"))})

    def run(self, case: Case, folder: Path) -> None:
        rec, idx = folder / "a.rec", folder / "a.idx"
        rec.write_bytes(b"".join(case.parts[:-1]))
        idx.write_bytes(case.parts[-1])
        errors: list[Exception] = []
        for work in (self._in_order, self._all, self._by_key, self._by_position):
            try:
                work(case, rec, idx)
            except (GpuioError, OSError) as error:
                errors.append(error)
                if str(folder) not in str(error):
                    raise
        if errors:
            raise errors[0]

    def _in_order(self, case: Case, rec: Path, idx: Path) -> None:
        first = min(case.damaged, default=self.count)
        with recordio.MXRecordIO(rec, "r") as file:
            number = 0
            while (record := file.read()) is not None:
                if number < first and record != self._payload(case, number):
                    raise Wrong(f"read: record {number} is not what was written")
                number += 1

    def _all(self, case: Case, rec: Path, idx: Path) -> None:
        with recordio.MXRecordIO(rec, "r") as file:
            found = list(file)
            if len(file) != len(found) or file[:] != found:
                raise Wrong(f"len is {len(file)}, {len(found)} records came, or slices differ")

    def _by_key(self, case: Case, rec: Path, idx: Path) -> None:
        key_type: Callable[[Any], Any] = {"int": int, "str": str}[case.choices["key"]]
        with recordio.MXIndexedRecordIO(idx, rec, "r", key_type) as file:
            for key in list(file.keys):
                file.read_idx(key)
                file.seek(key)
                file.read()

    def _by_position(self, case: Case, rec: Path, idx: Path) -> None:
        with recordio.MXIndexedRecordIO(None, rec, "r") as file:
            for position in range(len(file)):
                file[position]

    @staticmethod
    def _payload(case: Case, number: int) -> bytes:
        length = struct.unpack_from("<I", case.clean[number], 4)[0]
        return case.clean[number][8 : 8 + length]


class ImDecode(Door):
    """Images as bytes."""

    name = "imdecode"
    names_file = False
    count = 16

    def make(self, seed: int, rng: random.Random) -> Case:
        clean = tuple(rng.sample(mixed(COUNT), self.count))
        parts = tuple(damage_image(rng, image) for image in clean)
        return Case(self.name, seed, parts, clean, {"flag": rng.choice((0, 1, -1))})

    def run(self, case: Case, folder: Path) -> None:
        last: Exception | None = None
        for part in case.parts:
            try:
                if case.choices["flag"] < 0:
                    codec.imdecode(part, -1)
                else:
                    gpuio.image.imdecode(part, case.choices["flag"])
            except (GpuioError, OSError) as error:
                last = error
        if last is not None:
            raise last


class Unpack(Door):
    """Payloads of records as bytes."""

    name = "unpack"
    names_file = False
    count = 16

    def make(self, seed: int, rng: random.Random) -> Case:
        images = mixed(COUNT)
        clean = tuple(
            pack((0, [1.0] * rng.randrange(1, 6), k, 0), rng.choice(images))
            for k in range(self.count)
        )
        parts = tuple(
            part[: rng.randrange(40)] if rng.random() < 0.1 else damage(rng, part, clean)
            for part in clean
        )
        return Case(self.name, seed, parts, clean, {})

    def run(self, case: Case, folder: Path) -> None:
        last: Exception | None = None
        for part in case.parts:
            for work in (recordio.unpack, recordio.unpack_img):
                try:
                    work(part)
                except (GpuioError, OSError) as error:
                    last = error
        if last is not None:
            raise last


class Load(Door):
    """Files of text and of arrays, loaded alone."""

    name = "load"

    def prepare(self, folder: Path) -> None:
        mean = Mean()
        mean.prepare(folder)
        self.array = mean.clean

    def make(self, seed: int, rng: random.Random) -> Case:
        what = rng.choice(("idx", "lst", "labels", "array", "dataset"))
        if what == "array":
            clean = self.array
            part = damage_array(rng, clean)
        elif what in ("idx", "dataset"):
            clean = index_of(frames(distinct(COUNT)))
            part = damage_lines(rng, clean)
        else:
            clean = b"".join(b"%d\t%d\t2.5\ta/%d.jpg\n" % (k, k, k) for k in range(40))
            part = damage_lines(rng, clean)
        return Case(self.name, seed, (part,), (clean,), {"what": what})

    def run(self, case: Case, folder: Path) -> None:
        what, path = case.choices["what"], folder / "a.file"
        path.write_bytes(case.parts[0])
        if what == "idx":
            Index.load(path)
        elif what == "lst":
            self._list(path)
        elif what == "labels":
            load_labels(path, 2)
        elif what == "array":
            saved_array.load(path)
        else:
            (folder / "a.rec").write_bytes(b"".join(frames(distinct(COUNT))))
            RecordIOSource.open(folder / "a.rec", path)

    @staticmethod
    def _list(path: Path) -> None:
        """What was loaded is the same after saving and loading."""
        first = ImageList.load(path)
        first.save(path)
        again = ImageList.load(path)
        if list(first.paths) != list(again.paths) or first.ids.tolist() != again.ids.tolist():
            raise Wrong("a saved list is not the one that was loaded")


DOORS: tuple[type[Door], ...] = (RecordIO, ImDecode, Unpack, Load)
