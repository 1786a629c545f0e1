"""MXNet's iterators over text and over MNIST's files, with damaged ones."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

import gpuio

from .case import Case, Door, Wrong
from .mutate import TEXTS, damage, overwrite

if TYPE_CHECKING:
    import random
    from pathlib import Path

_ROWS, _WIDTH = 24, 4
_CSV = b"".join(b"%d.5,1,-2.25,%d\n" % (k, k) for k in range(_ROWS))
_SVM = b"".join(b"%d 0:%d.5 2:1 3:-2e3\n" % (k % 3, k) for k in range(_ROWS))
_IMAGES = struct.pack(">4I", 2051, _ROWS, 5, 4) + bytes(range(20)) * _ROWS
_LABELS = struct.pack(">2I", 2049, _ROWS) + bytes(k % 10 for k in range(_ROWS))


class Text(Door):
    """Base of doors for files of text."""

    clean = b""

    def make(self, seed: int, rng: random.Random) -> Case:
        part = self.clean
        if rng.random() < 0.7:
            number = rng.choice(list(re.finditer(rb"[-\d.e]+", part)))
            part = part[: number.start()] + rng.choice(TEXTS) + part[number.end() :]
        else:
            part = damage(rng, part)
        return Case(self.name, seed, (part,), (self.clean,), {})

    def run(self, case: Case, folder: Path) -> None:
        path = folder / "a.txt"
        path.write_bytes(case.parts[0])
        it = self.open(path)
        try:
            rows = sum(batch.data[0].shape[0] - batch.pad for batch in it)
        finally:
            it.close()
        lines = case.parts[0].count(b"\n") + case.parts[0].count(b"\r") + 1
        if rows > lines:
            raise Wrong(f"{rows} rows come of {lines} lines")

    def open(self, path: Path) -> Any:
        raise NotImplementedError


class Csv(Text):
    """gpuio.io.CSVIter."""

    name, clean = "csv", _CSV

    def open(self, path: Path) -> Any:
        return gpuio.io.CSVIter(path, (_WIDTH,), 8)


class LibSvm(Text):
    """gpuio.io.LibSVMIter."""

    name, clean = "libsvm", _SVM

    def open(self, path: Path) -> Any:
        return gpuio.io.LibSVMIter(path, (_WIDTH,), 8)


class Mnist(Door):
    """gpuio.io.MNISTIter."""

    name = "mnist"

    def make(self, seed: int, rng: random.Random) -> Case:
        clean = (_IMAGES, _LABELS)
        parts = list(clean)
        which = rng.randrange(2)
        if rng.random() < 0.5:
            head = bytearray(parts[which])
            overwrite(rng, head, rng.randrange(16))
            parts[which] = bytes(head)
        else:
            parts[which] = damage(rng, parts[which])
        return Case(self.name, seed, tuple(parts), clean, {})

    def run(self, case: Case, folder: Path) -> None:
        image, label = folder / "images", folder / "labels"
        image.write_bytes(case.parts[0])
        label.write_bytes(case.parts[1])
        it = gpuio.io.MNISTIter(image, label, 8, shuffle=False)
        try:
            list(it)
        finally:
            it.close()


DOORS: tuple[type[Door], ...] = (Csv, LibSvm, Mnist)
