"""The commands, run in this process: an exit status and words, never an exception."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gpuio.cli import main
from gpuio.errors import DecodeError, GpuioError
from gpuio.formats.codec import imdecode
from gpuio.formats.image_record import unpack
from gpuio.formats.index import Index
from gpuio.formats.recordio import RecordFile, scan

from .case import Case, Door, Wrong
from .formats import damage_image
from .iterator_doors import COUNT, frames, index_of
from .mutate import damage_frame, damage_lines
from .pictures import mixed

if TYPE_CHECKING:
    import random
    from pathlib import Path


class CommandError(GpuioError):
    """A command said why it failed, and exited with status 2."""


def command(*words: str) -> tuple[int, str]:
    """The exit status of `gpuio` and what it printed.

    Raises:
        CommandError: The status is 2; what it said.
        Wrong: It is none that is documented.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    if status == 2:
        raise CommandError(err.getvalue())
    if status not in (0, 1):
        raise Wrong(f"gpuio {words[0]} exits with {status}")
    return status, out.getvalue()


class FileCommand(Door):
    """Base of commands that look into a .rec."""

    count = 24

    def make(self, seed: int, rng: random.Random) -> Case:
        every = frames(mixed(self.count))
        clean = (*every, index_of(every))
        parts = list(clean)
        what = rng.choice(("rec", "rec", "idx", "both"))
        if what != "idx":
            for number in rng.sample(range(self.count), rng.choice((1, 2, 8))):
                parts[number] = damage_frame(rng, parts[number], every)
        if what != "rec":
            parts[-1] = damage_lines(rng, parts[-1])
        elif rng.random() < 0.7:
            parts[-1] = index_of(parts[:-1])
        return Case(self.name, seed, tuple(parts), clean, {"idx": rng.random() < 0.8})

    def write(self, case: Case, folder: Path) -> Path:
        rec = folder / "a.rec"
        rec.write_bytes(b"".join(case.parts[:-1]))
        if case.choices["idx"]:
            (folder / "a.idx").write_bytes(case.parts[-1])
        return rec


class Verify(FileCommand):
    """gpuio verify."""

    name = "verify"

    def run(self, case: Case, folder: Path) -> None:
        rec = self.write(case, folder)
        status, _ = command("verify", str(rec))
        heads = [k for k in case.damaged if k < self.count and _head_is_wrong(case.parts[k])]
        if heads and not status:
            raise Wrong(f"no damage is told, although heads of records {heads} are wrong")


def _head_is_wrong(frame: bytes) -> bool:
    return len(frame) >= 4 and frame[:4] != b"\x0a\x23\xd7\xce"


class Info(FileCommand):
    """gpuio info."""

    name = "info"

    def run(self, case: Case, folder: Path) -> None:
        command("info", str(self.write(case, folder)))


class Show(FileCommand):
    """gpuio show."""

    name = "show"

    def run(self, case: Case, folder: Path) -> None:
        command("show", str(self.write(case, folder)), "-o", str(folder / "sheet.png"), "--count=9")


class Rec2Idx(FileCommand):
    """gpuio rec2idx: the index it writes is that of the records which can be read."""

    name = "rec2idx"

    def make(self, seed: int, rng: random.Random) -> Case:
        case = super().make(seed, rng)
        return Case(
            case.door,
            seed,
            case.parts,
            case.clean,
            {"idx": False, "keys": rng.choice(("position", "id"))},
        )

    def run(self, case: Case, folder: Path) -> None:
        rec, idx = self.write(case, folder), folder / "new.idx"
        status, _ = command("rec2idx", str(rec), str(idx), "--keys", case.choices["keys"])
        if status == 0:
            found = Index.load(idx).offsets.tolist()
            if found != scan(rec).tolist():
                raise Wrong("the index is not that of the records")


class Im2Rec(Door):
    """gpuio im2rec, from damaged images and a damaged list; what it writes is whole."""

    name = "im2rec"
    count = 12

    def make(self, seed: int, rng: random.Random) -> Case:
        images = tuple(rng.sample(mixed(COUNT), self.count))
        lines = b"".join(b"%d\t%d.0\t%d.jpg\n" % (k, k % 3, k) for k in range(self.count))
        clean = (*images, lines)
        parts = list(clean)
        what = rng.choice(("images", "list", "both"))
        if what != "list":
            for number in rng.sample(range(self.count), rng.choice((1, 4, self.count))):
                parts[number] = damage_image(rng, parts[number])
        if what != "images":
            parts[-1] = damage_lines(rng, parts[-1])
        options = rng.choice(
            (
                (),
                ("--pass-through",),
                ("--pass-through", "--baseline", "--optimize"),
                ("--resize", "20"),
                ("--encoding", ".png"),
                ("--center-crop",),
            )
        )
        return Case(self.name, seed, tuple(parts), clean, {"options": options})

    def run(self, case: Case, folder: Path) -> None:
        root = folder / "images"
        root.mkdir()
        for number, part in enumerate(case.parts[:-1]):
            (root / f"{number}.jpg").write_bytes(part)
        (folder / "a.lst").write_bytes(case.parts[-1])
        try:
            command("im2rec", str(folder / "a"), str(root), *case.choices["options"])
        finally:
            rec = folder / "a.rec"
            left = sorted(p.name for p in folder.iterdir() if p.is_file())
            if [name for name in left if name not in ("a.lst", "a.rec", "a.idx")]:
                raise Wrong(f"files are left behind: {left}")
            if rec.exists():
                starts, index = scan(rec).tolist(), Index.load(folder / "a.idx")
                if index.offsets.tolist() != starts:
                    raise Wrong("the .idx is not that of the .rec")
                if "--baseline" in case.choices["options"] and self.count not in case.damaged:
                    self._check_pixels(case, rec)

    @staticmethod
    def _check_pixels(case: Case, rec: Path) -> None:
        """Check that images which were coded anew have the pixels of their files."""
        with RecordFile(rec) as file:
            for offset in scan(rec).tolist():
                header, stored = unpack(file.read(offset)[0])
                source = case.parts[header.id]
                if stored == source:
                    continue
                if not np.array_equal(_pixels(source), _pixels(stored)):
                    raise Wrong(f"image {header.id} was transcoded to other pixels")


def _pixels(data: bytes) -> npt.NDArray[np.uint8]:
    """What libjpeg makes of a JPEG, whatever it warns of."""
    try:
        return imdecode(data, tolerant=True)
    except DecodeError:
        return np.zeros(0, np.uint8)


DOORS: tuple[type[Door], ...] = (Verify, Info, Show, Rec2Idx, Im2Rec)
